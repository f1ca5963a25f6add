"""Tasks whose results the worker holds, too, and may change before they are sent."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers import tasks


@dataclasses.dataclass
class Account:
    balance: int
    history: list[int]


class Node:
    """Refers to the one before it; compared by its attributes."""

    def __init__(self, value: int, before: Node | None) -> None:
        self.value = value
        self.before = before

    def __reduce__(self) -> Any:
        return Account, (self.value, [] if self.before is None else [self.before.value])


@dataclasses.dataclass
class World:
    """What a worker keeps from item to item."""

    log: list[Any] = dataclasses.field(default_factory=list)
    table: dict[Any, Any] = dataclasses.field(default_factory=dict)
    array: Any = dataclasses.field(default_factory=lambda: np.zeros(50))
    large: Any = dataclasses.field(default_factory=lambda: np.zeros(20_000))
    account: Account = dataclasses.field(default_factory=lambda: Account(0, []))
    pair: tuple[Any, Any] = dataclasses.field(default_factory=lambda: ([], {}))
    seen: set[int] = dataclasses.field(default_factory=set)
    last: list[Any] = dataclasses.field(default_factory=list)
    text: str = "text that is shared " * 50
    recent: Any = dataclasses.field(default_factory=lambda: collections.deque(maxlen=3))
    raw: bytearray = dataclasses.field(default_factory=lambda: bytearray(100))
    counter: Iterator[list[int]] = dataclasses.field(default_factory=lambda: counting())
    chain: Node | None = None
    kept: list[Any] = dataclasses.field(default_factory=list)


def counting() -> Iterator[list[int]]:
    """A generator that hands out its own state."""
    state = [0]
    while True:
        yield state
        state[0] += 1


world = World()


def reset() -> None:
    global world
    world = World()
    cached.cache_clear()


def grow(i: int) -> Any:
    world.log.append(i)
    return world.log


def enter(i: int) -> Any:
    world.table[i] = [i]
    return world.table


def change(i: int) -> Any:
    world.array[i] += 1
    return world.array


def change_large(i: int) -> Any:
    world.large[i] += 1
    return world.large


def view(i: int) -> Any:
    world.array[:] += 1
    return world.array[i : i + 3]


def large_view(i: int) -> Any:
    world.large += 1
    return world.large[i:]


def book(i: int) -> Any:
    world.account.balance += i
    world.account.history.append(i)
    return world.account


def add_to_pair(i: int) -> Any:
    world.pair[0].append(i)
    world.pair[1][i] = str(i)
    return world.pair


def part_of_pair(i: int) -> Any:
    world.pair[0].append(i)
    return world.pair[0] if i % 2 else (world.pair[0], i)


def change_the_last(i: int) -> Any:
    """A new list; the last item's is changed."""
    if world.last:
        world.last.append(("later", i))
    world.last = [i]
    return world.last


def keep_fresh(i: int) -> Any:
    """Nobody changes it; but the worker keeps it."""
    world.kept.append([i, [i]])
    return world.kept[-1]


def link(i: int) -> Any:
    world.chain = Node(i, world.chain)
    return world.chain


@functools.cache
def cached(key: int) -> list[int]:
    return [key]


def mark_seen(i: int) -> Any:
    world.seen.add(i)
    return world.seen


def fill_raw(i: int) -> Any:
    world.raw[i] = i + 1
    return world.raw


def remember(i: int) -> Any:
    world.recent.append(i)
    return world.recent


def twice(i: int) -> Any:
    inner = [i]
    return [inner, inner]


def cyclic(i: int) -> Any:
    outer: list[Any] = [i]
    outer.append(outer)
    return outer


CASES: dict[str, Callable[[int], Any]] = {
    "an int": int,
    "a float": float,
    "a fresh list": lambda i: [i, [i]],
    "a fresh large array": lambda i: np.full(10_000, i),
    "a fresh set": lambda i: {i, -1 - i},
    "one list that grows": grow,
    "one dict that grows": enter,
    "one array that changes": change,
    "one large array that changes": change_large,
    "a view of an array": view,
    "a view of a large array": large_view,
    "one dataclass": book,
    "two of a tuple": add_to_pair,
    "a part of a tuple": part_of_pair,
    "a mutable of the last item": change_the_last,
    "a list that the worker keeps": keep_fresh,
    "what a cache holds": lambda i: cached(i % 3),
    "a tuple with what a cache holds": lambda i: (i, cached(i % 2)),
    "state of a generator": lambda i: next(world.counter),
    "a linked object": link,
    "one set": mark_seen,
    "a fresh large array with one set": lambda i: [np.full(10_000, i), mark_seen(i)],
    "a fresh large array with one list": lambda i: (np.full(10_000, i), grow(i)),
    "many fresh large arrays": lambda i: [np.full(9_000, i + k) for k in range(5)],
    "one bytearray": fill_raw,
    "one deque": remember,
    "one str for all": lambda i: world.text,
    "one part twice": twice,
    "what contains itself": cyclic,
    "a NumPy scalar of a shared array": lambda i: world.array[i % 50],
    "None": lambda i: None,
}


def run(item: tuple[str, int]) -> Any:
    name, index = item
    return CASES[name](index)


def run_args(name: str, index: int) -> Any:
    return CASES[name](index)


def run_or_die(item: tuple[str, int, str | None]) -> Any:
    """With a directory: die the first time."""
    name, index, directory = item
    if directory is not None and not os.listdir(directory):
        tasks.mark(directory, "died")
        tasks.die(9)
    return CASES[name](index)
