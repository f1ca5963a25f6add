"""fastpool's executor beside the standard library's, in one run, round by round.

    python benchmarks/bench_executor.py [--quick]

Two workers started by fork, warm. Prints the best round of each and the ratio, and says whether it
reaches the goal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, as_completed
from concurrent.futures import ProcessPoolExecutor as Standard
from typing import Any, NamedTuple

import fastpool

WORKERS = 2

Measure = Callable[[Executor, int], float]


def identity(value: Any) -> Any:
    return value


def round_trip(executor: Executor, count: int) -> float:
    """Seconds of one ``submit(...).result()``."""
    start = time.perf_counter()
    for n in range(count):
        if executor.submit(identity, n).result() != n:
            raise AssertionError(n)
    return (time.perf_counter() - start) / count


def many_futures(executor: Executor, count: int) -> float:
    """Seconds for each of many futures, submitted at once and taken as they complete."""
    start = time.perf_counter()
    futures = [executor.submit(identity, n) for n in range(count)]
    total = sum(future.result() for future in as_completed(futures))
    seconds = time.perf_counter() - start
    if total != count * (count - 1) // 2:
        raise AssertionError(total)
    return seconds / count


def mapped(executor: Executor, count: int) -> float:
    """Seconds for each item of ``map`` with a chunksize of 1."""
    start = time.perf_counter()
    if list(executor.map(identity, range(count))) != list(range(count)):
        raise AssertionError
    return (time.perf_counter() - start) / count


class Row(NamedTuple):
    """One line: what is measured, how many calls a round has, and how many rounds there are."""

    what: str
    measure: Measure
    ours: int
    theirs: int
    rounds: int
    goal: float | None


ROWS = [
    Row("submit(f, x).result()", round_trip, 300, 100, 60, 50.0),
    Row("10 000 futures, as_completed", many_futures, 10_000, 10_000, 6, 10.0),
    Row("map, chunksize 1", mapped, 2000, 500, 20, None),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    quick = parser.parse_args().quick
    context = multiprocessing.get_context("fork")
    missed = False
    print(f"{'per call':32}{'fastpool':>12}{'standard':>12}{'ratio':>8}{'goal':>7}")
    with (
        fastpool.ProcessPoolExecutor(WORKERS, context) as ours,
        Standard(WORKERS, context) as theirs,
    ):
        for row in ROWS:
            best = [float("inf"), float("inf")]
            for _ in range(row.rounds // 3 if quick else row.rounds):
                best[0] = min(best[0], row.measure(ours, row.ours))
                best[1] = min(best[1], row.measure(theirs, row.theirs))
            ratio = best[1] / best[0]
            missed |= row.goal is not None and ratio < row.goal
            goal = "" if row.goal is None else f"{row.goal:7.0f}"
            print(f"{row.what:32}{best[0] * 1e6:9.2f} us{best[1] * 1e6:9.2f} us{ratio:8.1f}{goal}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
