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
from typing import Any

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


# (what, measure, calls a round of ours, calls a round of the standard library's, goal)
ROWS: list[tuple[str, Measure, int, int, float | None]] = [
    ("submit(f, x).result()", round_trip, 2000, 500, 50.0),
    ("10 000 futures, as_completed", many_futures, 10_000, 10_000, 10.0),
    ("map, chunksize 1", mapped, 10_000, 2000, None),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds instead of ten")
    rounds = 3 if parser.parse_args().quick else 10
    context = multiprocessing.get_context("fork")
    missed = False
    print(f"{'per call':32}{'fastpool':>12}{'standard':>12}{'ratio':>8}{'goal':>7}")
    with (
        fastpool.ProcessPoolExecutor(WORKERS, context) as ours,
        Standard(WORKERS, context) as theirs,
    ):
        for what, measure, n_ours, n_theirs, goal in ROWS:
            best = [float("inf"), float("inf")]
            for _ in range(rounds):
                best[0] = min(best[0], measure(ours, n_ours))
                best[1] = min(best[1], measure(theirs, n_theirs))
            ratio = best[1] / best[0]
            missed |= goal is not None and ratio < goal
            print(
                f"{what:32}{best[0] * 1e6:9.2f} us{best[1] * 1e6:9.2f} us{ratio:8.1f}"
                f"{'' if goal is None else format(goal, '7.0f')}"
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
