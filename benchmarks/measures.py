"""What is timed in each row: how one pool does one thing, as seconds per call or per item.

Every function takes a `Side`, opens a pool of its own, and checks each value that comes back.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import Pool

from rivals import Side

from fastpool.bench import skew, timing, workloads
from fastpool.bench.timing import time_each

IDLE_SECONDS = 30e-3
OWN_WORK_SECONDS = 500e-6
MANY_ITEMS = 500_000


@dataclass(frozen=True)
class Load:
    """How much one side does in one round.

    Attributes
    ----------
    calls : int
        How many calls are timed, of which the median counts.
    items : int
        The tasks in each call; the time is divided by it.
    """

    calls: int
    items: int = 1

    def scaled(self, factor: float) -> Load:
        """The same calls, but fewer or more of them."""
        return Load(max(1, round(self.calls * factor)), self.items)


Measure = Callable[[Side, Load], float]


def in_warm_pool(measure: Callable[[Pool, Load], float]) -> Measure:
    """Give a measurement a warm pool, and a short first run that doesn't count."""

    @functools.wraps(measure)
    def measure_side(side: Side, load: Load) -> float:
        with side.warm_pool() as pool:
            measure(pool, load.scaled(0.1))
            return measure(pool, load)

    return measure_side


@in_warm_pool
def apply_int(pool: Pool, load: Load) -> float:
    """``apply`` with the smallest of arguments."""
    return time_each(functools.partial(pool.apply, workloads.successor, (1,)), 2, load.calls)


@in_warm_pool
def apply_dict(pool: Pool, load: Load) -> float:
    """``apply`` with an argument, and a result, that have to be pickled."""
    argument = {"xs": [1, 2, 3], "name": "abc"}
    call = functools.partial(pool.apply, workloads.identity, (argument,))
    return time_each(call, argument, load.calls)


@in_warm_pool
def apply_after_idle(pool: Pool, load: Load) -> float:
    """``apply`` after a rest in which workers go to sleep, and their CPUs too."""
    call = functools.partial(pool.apply, workloads.successor, (1,))
    return time_each(call, 2, load.calls, between=lambda: time.sleep(IDLE_SECONDS))


@in_warm_pool
def map_two(pool: Pool, load: Load) -> float:
    """``map`` of two tasks, again and again."""
    call = functools.partial(pool.map, workloads.successor, range(2))
    return time_each(call, [1, 2], load.calls)


@in_warm_pool
def map_two_after_work(pool: Pool, load: Load) -> float:
    """``map`` of two tasks, while the caller has work of its own between the calls."""
    call = functools.partial(pool.map, workloads.successor, range(2))
    work = functools.partial(timing.busy_wait, OWN_WORK_SECONDS)
    return time_each(call, [1, 2], load.calls, between=work)


@in_warm_pool
def starmap_pairs(pool: Pool, load: Load) -> float:
    """``starmap`` of a list of pairs."""
    pairs = [(i, 2 * i) for i in range(64)]
    right = list(itertools.starmap(workloads.add, pairs))
    return time_each(functools.partial(pool.starmap, workloads.add, pairs), right, load.calls)


@in_warm_pool
def map_single(pool: Pool, load: Load) -> float:
    """``map`` of many tasks, each a chunk of its own."""
    xs = list(range(load.items))
    call = functools.partial(pool.map, workloads.successor, xs, chunksize=1)
    return time_each(call, _successors(load), load.calls) / load.items


@in_warm_pool
def apply_async_all(pool: Pool, load: Load) -> float:
    """``apply_async`` of many tasks, then ``get`` of each."""

    def call() -> list[int]:
        results = [pool.apply_async(workloads.successor, (x,)) for x in range(load.items)]
        return [result.get() for result in results]

    return time_each(call, _successors(load), load.calls) / load.items


@in_warm_pool
def imap_ordered(pool: Pool, load: Load) -> float:
    """``imap`` of many tasks, each a chunk of its own, in order."""

    def call() -> list[int]:
        return list(pool.imap(workloads.successor, range(load.items)))

    return time_each(call, _successors(load), load.calls) / load.items


@in_warm_pool
def imap_unordered(pool: Pool, load: Load) -> float:
    """``imap_unordered`` of many tasks, each a chunk of its own."""

    def call() -> list[int]:
        return list(pool.imap_unordered(workloads.successor, range(load.items)))

    return time_each(call, _successors(load), load.calls, view=sorted) / load.items


def _map_many(func: Callable[[int], object]) -> tuple[Measure, Callable[[Side], float]]:
    """``map`` of a trivial function over many ints, in a pool and by the builtin ``map``."""

    @functools.cache
    def right() -> list[object]:
        return list(map(func, _many_items()))

    @in_warm_pool
    def in_pool(pool: Pool, load: Load) -> float:
        call = functools.partial(pool.map, func, _many_items())
        return time_each(call, right(), load.calls) / MANY_ITEMS

    def serially(_: Side) -> float:
        xs = _many_items()
        return time_each(lambda: list(map(func, xs)), right(), 5) / MANY_ITEMS

    return in_pool, serially


#: A no-op: makes no results, so that the call is all there is.
map_nothing, map_nothing_serially = _map_many(workloads.nothing)

#: A pool must make new ints of the results, where the serial loop hands its own ones on.
map_identity, map_identity_serially = _map_many(workloads.identity)

#: Both make new ints.
map_successor, map_successor_serially = _map_many(workloads.successor)


def map_skewed(side: Side, load: Load) -> float:
    """``map`` of tasks that get longer and longer: the makespan as a multiple of the ideal one."""
    tasks, right = skew.tasks()
    with side.warm_pool() as pool:
        call = functools.partial(pool.map, workloads.burn, tasks)
        return statistics.median(
            skew.quotient(call, right, side.processes) for _ in range(load.calls)
        )


def create_map_leave(side: Side, load: Load) -> float:
    """A program that uses its pool once."""

    def call() -> list[int]:
        with side.open() as pool:
            return pool.map(workloads.successor, range(2))

    return time_each(call, [1, 2], load.calls)


def _successors(load: Load) -> list[int]:
    return list(range(1, load.items + 1))


@functools.cache
def _many_items() -> list[int]:
    return list(range(MANY_ITEMS))
