"""A callable with state: every chunk gets it as it is in the parent, and keeps it to itself."""

from __future__ import annotations

import functools
import pickle
import random
from collections.abc import Iterable
from typing import Any

import pytest
from helpers import tasks


class Diary:
    """Its methods remember what they were called with."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, *items: Any) -> list[Any]:
        self.seen.append(items if len(items) > 1 else items[0])
        return list(self.seen)

    __call__ = note


def draw(generator: random.Random, *items: Any) -> tuple[Any, ...]:
    return (*items, generator.random())


def diary_method() -> Any:
    return Diary().note


def partial_over_a_generator() -> Any:
    return functools.partial(draw, random.Random(1))


def partial_over_a_list() -> Any:
    return functools.partial(tasks.append_and_return, [])


CALLABLES = {
    "a bound method": diary_method,
    "a callable object": Diary,
    "a partial over a random generator": partial_over_a_generator,
    "a partial over a list": partial_over_a_list,
}
SUBMISSIONS: dict[str, Any] = {
    "map": lambda pool, f, items, size: pool.map(f, items, size),
    "map_async": lambda pool, f, items, size: pool.map_async(f, items, size).get(10),
    "imap": lambda pool, f, items, size: list(pool.imap(f, items, size)),
    "imap of an iterator": lambda pool, f, items, size: list(pool.imap(f, iter(items), size)),
    "imap_unordered": lambda pool, f, items, size: sorted(pool.imap_unordered(f, items, size)),
    "starmap": lambda pool, f, items, size: pool.starmap(f, [(i,) for i in items], size),
    "starmap_async": lambda pool, f, items, size: pool.starmap_async(
        f, [(i,) for i in items], size
    ).get(10),
}
EVERY_SUBMISSION = pytest.mark.parametrize("kind", SUBMISSIONS)
EVERY_CALLABLE = pytest.mark.parametrize("what", CALLABLES)


def expected(func: Any, items: Iterable[int], size: int) -> list[Any]:
    """The results when each chunk has a fresh copy of `func`, used by all items of that chunk."""
    items = list(items)
    results: list[Any] = []
    for begin in range(0, len(items), size):
        # In a chunk the state goes on.
        copy = pickle.loads(pickle.dumps(func))
        results += [copy(item) for item in items[begin : begin + size]]
    return results


@EVERY_CALLABLE
@EVERY_SUBMISSION
@pytest.mark.parametrize("chunksize", [1, 2, 5, 7, 100])
def test_every_chunk_begins_with_the_state_of_the_parent(
    pool: Any, kind: str, what: str, chunksize: int
) -> None:
    func = CALLABLES[what]()
    want = expected(func, range(20), chunksize)
    if kind == "imap_unordered":
        want.sort()
    # Twice: neither the parent's object nor what a worker keeps of it has changed meanwhile.
    assert SUBMISSIONS[kind](pool, func, range(20), chunksize) == want
    assert SUBMISSIONS[kind](pool, func, range(20), chunksize) == want


@EVERY_CALLABLE
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_number_of_workers_does_not_matter(
    pool_factory: Any, what: str, processes: int, chunksize: int
) -> None:
    pool = pool_factory(processes)
    func = CALLABLES[what]()
    want = expected(func, range(50), chunksize)
    for kind in ("map", "imap", "starmap"):
        assert SUBMISSIONS[kind](pool, func, range(50), chunksize) == want


@pytest.mark.parametrize("processes", [1, 2])
def test_every_apply_begins_with_the_state_of_the_parent(pool_factory: Any, processes: int) -> None:
    pool = pool_factory(processes)
    diary, generator = Diary(), partial_over_a_generator()
    first = partial_over_a_generator()(0)
    for i in range(5):
        assert pool.apply(diary.note, (i,)) == [i]
        assert pool.apply(generator, (0,)) == first
    results = [pool.apply_async(diary.note, (i,)) for i in range(20)]
    assert [result.get(10) for result in results] == [[i] for i in range(20)]
    assert diary.seen == []


@EVERY_SUBMISSION
@pytest.mark.parametrize("chunksize", [1, 4])
def test_what_the_parent_changes_between_calls_is_seen(
    pool: Any, kind: str, chunksize: int
) -> None:
    diary = Diary()
    for change in ("one", "two", "three"):
        diary.seen.append(change)
        want = expected(diary.note, range(8), chunksize)
        assert want[0][:-1] == diary.seen
        assert SUBMISSIONS[kind](pool, diary.note, range(8), chunksize) == want
    assert diary.seen == ["one", "two", "three"]


def test_what_the_parent_changes_between_applies_is_seen(pool: Any) -> None:
    diary = Diary()
    for change in ("one", "two", "three"):
        diary.seen.append(change)
        assert pool.apply(diary.note, ("x",)) == [*diary.seen, "x"]
    generator = random.Random(1)
    func = functools.partial(draw, generator)
    drawn = [pool.apply(func), pool.apply(func)]
    assert drawn[0] == drawn[1]
    assert func() == drawn[0]  # the parent's own generator goes on only now
    assert pool.apply(func) != drawn[0]
