"""What is timed in each row of the data benchmark, as seconds per call or per item.

Every function takes a `Side`, opens a pool of its own, and checks each value that comes back,
outside the clock. Arrays change between the calls, so that a stale copy would be noticed.
"""

from __future__ import annotations

import functools
import itertools
import math
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import data_machine
import data_workloads
import numpy as np
from data_workloads import MEGABYTE_OF_DOUBLES, Doubles, Record
from measures import Load, Measure, in_warm_pool
from rivals import Side

from fastpool.bench import workloads
from fastpool.bench.timing import expect, time_each

MANY_RECORDS = 200_000
MANY_DOUBLES = 1_000_000
MANY_LINES = 200_000


@in_warm_pool
def apply_array(pool: Pool, load: Load) -> float:
    """``apply`` with 8 MB, of which a float comes back."""
    array = np.arange(8 * MEGABYTE_OF_DOUBLES, dtype=np.float64)
    call = functools.partial(pool.apply, data_workloads.ends, (array,))
    return time_each(
        call,
        right=0.0,
        count=load.calls,
        between=lambda: _increment_ends(array),
        view=lambda value: value - data_workloads.ends(array),
    )


@in_warm_pool
def apply_for_array(pool: Pool, load: Load) -> float:
    """``apply`` with a float, for which 8 MB come back; another value each time."""
    sent = 0.0

    def change() -> None:
        nonlocal sent
        sent += 1

    return time_each(
        lambda: pool.apply(data_workloads.full, (sent,)),
        right=((8 * MEGABYTE_OF_DOUBLES,), np.dtype(np.float64), 0.0, 0.0),
        count=load.calls,
        between=change,
        view=lambda array: (array.shape, array.dtype, array.min() - sent, array.max() - sent),
    )


@in_warm_pool
def apply_echo(pool: Pool, load: Load) -> float:
    """``apply`` with 64 KB, which come back."""
    array = np.arange(64 * 1024 // 8, dtype=np.float64)
    call = functools.partial(pool.apply, workloads.identity, (array,))
    return time_each(
        call,
        right=True,
        count=load.calls,
        between=lambda: _increment_ends(array),
        view=lambda value: value is not array and np.array_equal(value, array),
    )


def _with_large_array(call: Callable[[Pool, Doubles, int], list[float]]) -> Measure:
    """Time calls whose tasks all get the same 80 MB; per task.

    Only a call of two tasks goes before: multiprocessing copies 80 MB for each.
    """

    def measure(side: Side, load: Load) -> float:
        array = np.arange(80 * MEGABYTE_OF_DOUBLES, dtype=np.float64)

        def time_calls(pool: Pool, calls: int, items: int) -> float:
            return time_each(
                lambda: call(pool, array, items),
                right=True,
                count=calls,
                between=lambda: _increment_ends(array),
                view=lambda values: (
                    values == [data_workloads.pick(array, index) for index in range(items)]
                ),
            )

        with side.warm_pool() as pool:
            time_calls(pool, 1, 2)
            return time_calls(pool, load.calls, load.items) / load.items

    return measure


@_with_large_array
def map_partial(pool: Pool, array: Doubles, items: int) -> list[float]:
    """``map`` of a function that carries the array."""
    return pool.map(functools.partial(data_workloads.pick, array), range(items))


@_with_large_array
def starmap_array(pool: Pool, array: Doubles, items: int) -> list[float]:
    """``starmap`` of tuples each of which has the array in it."""
    pairs = [(array, index) for index in range(items)]
    return pool.starmap(data_workloads.pick, pairs, chunksize=1)


def _map_many(
    func: Callable[[Any], object], items: Callable[[], Any], count: int
) -> tuple[Measure, Callable[[Side], float]]:
    """``map`` of `func` over `count` cached items, in a pool and by the builtin ``map``; per item.

    The type of every result is checked, too: a NumPy scalar equals a float, but isn't one.
    """

    @functools.cache
    def right() -> tuple[object, ...]:
        return look(list(map(func, items())))

    def look(values: list[object]) -> tuple[object, ...]:
        return type(values), set(map(type, values)), values

    @in_warm_pool
    def in_pool(pool: Pool, load: Load) -> float:
        call = functools.partial(pool.map, func, items())
        return time_each(call, right(), load.calls, view=look) / count

    def serially(_: Side) -> float:
        xs = items()
        return time_each(lambda: list(map(func, xs)), right(), 3, view=look) / count

    return in_pool, serially


@functools.cache
def _records() -> list[Record]:
    return [(number, number / 7, f"name{number % 1000}") for number in range(MANY_RECORDS)]


@functools.cache
def _doubles() -> Doubles:
    return np.arange(MANY_DOUBLES, dtype=np.float64)


@functools.cache
def _lines() -> list[str]:
    """Lines of the standard library: its documentation texts first, then its sources.

    Always the same with one version of Python; all over again if there are too few.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = [*library.glob("pydoc_data/*.py"), *sorted(library.glob("*.py"))]
    packages = sorted(library.glob("[a-z]*/*.py"))
    files += [file for file in packages if file.parent.name not in ("site-packages", "test")]

    def read() -> Iterator[str]:
        for file in files:
            yield from file.read_text(encoding="utf-8", errors="replace").splitlines()

    return list(itertools.islice(_endlessly(read), MANY_LINES))


def _endlessly(read: Callable[[], Iterable[str]]) -> Iterator[str]:
    while True:
        yield from read()


#: Small tuples in, small tuples out.
map_records, map_records_serially = _map_many(data_workloads.rearrange, _records, MANY_RECORDS)

#: An array as the iterable: its items are NumPy scalars.
map_doubles, map_doubles_serially = _map_many(math.sqrt, _doubles, MANY_DOUBLES)

#: Text in, lists of words out.
map_lines, map_lines_serially = _map_many(data_workloads.tokens, _lines, MANY_LINES)


@in_warm_pool
def map_blocks(pool: Any, load: Load) -> float:
    """``map_blocks`` over a shared million of doubles, by a function that does nothing to them."""
    shared = pool.zeros((MANY_DOUBLES,), np.float64)
    pool.map_blocks(data_workloads.increment, shared)
    expect((shared.min(), shared.max()), (1.0, 1.0))
    call = functools.partial(pool.map_blocks, workloads.nothing, shared)
    return time_each(call, None, load.calls, view=lambda _: None)


def map_nothing(side: Side) -> float:
    """``map`` of two empty tasks: what `map_blocks` can't be faster than."""

    @in_warm_pool
    def measure(pool: Pool, load: Load) -> float:
        call = functools.partial(pool.map, workloads.nothing, range(2))
        return time_each(call, [None, None], load.calls)

    return measure(side, Load(1000))


def two_copies(size: int) -> Callable[[Side], float]:
    """Make a reference: two plain copies, what a pool at half the speed of memcpy takes."""
    return lambda _: 2 * data_machine.copy_warm(size)


def of_one_task(measure: Measure, tasks: int) -> Callable[[Side], float]:
    """Make a reference: one and a half times a call of one task only, divided by `tasks`.

    One task takes one copy at least, so a call of many that takes no longer makes one in all; two
    copies, one for each worker, would show.
    """
    return lambda side: 1.5 * measure(side, Load(5, 1)) / tasks


def full_and_two_copies(_: Side) -> float:
    """Make 8 MB as the task does, and copy them twice."""
    size = 8_000_000
    making = time_each(lambda: data_workloads.full(1.0), None, 10, view=lambda _: None)
    return making + 2 * data_machine.copy_warm(size)


def _increment_ends(array: Doubles) -> None:
    array[0] += 1
    array[-1] += 1
