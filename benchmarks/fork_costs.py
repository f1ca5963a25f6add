"""What a pool's life costs beside the bare forks that it consists of.

    python benchmarks/fork_costs.py                        # a parent with NumPy
    python benchmarks/fork_costs.py --import pandas scipy  # and with these: a larger parent
    python benchmarks/fork_costs.py --rounds 100

The larger the parent, the more a fork costs, and the end of a process as much again: its page
tables are copied, and torn down. So the bare forks are measured in the very parent that makes the
pools: ``forks`` are two children that end at once, as under ``multiprocessing.Pool``; ``chain`` is
a child that forks the two, as under fastpool, and ends after them.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import multiprocessing.pool
import os
import random
from collections.abc import Callable
from typing import NoReturn

import fastpool
from fastpool.bench.arguments import positive
from fastpool.bench.timing import clock, expect, interleave, summarise

WORKERS = 2


def children(inside: Callable[[], object]) -> None:
    """Fork as many processes as a pool has workers, and wait until they have ended."""
    pids = [fork(inside) for _ in range(WORKERS)]
    for pid in pids:
        os.waitpid(pid, 0)


def fork(inside: Callable[[], object]) -> int:
    """Fork a process that calls `inside` and ends."""
    pid = os.fork()
    if pid == 0:
        end_after(inside)
    return pid


def end_after(inside: Callable[[], object]) -> NoReturn:
    """In a child: end whatever happens, and run nothing of the parent's."""
    try:
        inside()
    finally:
        os._exit(0)


def nothing() -> None:
    """End at once."""


def forks() -> None:
    """Two children of this process."""
    children(nothing)


def chain() -> None:
    """A child of this process that has two."""
    os.waitpid(fork(forks), 0)


def pool_of(kind: Callable[[int], multiprocessing.pool.Pool]) -> Callable[[], None]:
    """Create a pool, call it once, and leave it."""

    def life() -> None:
        with kind(WORKERS) as pool:
            expect(pool.map(abs, [-1, -2, -3, -4]), [1, 2, 3, 4])

    return life


def timed(call: Callable[[], None]) -> Callable[[], float]:
    """The seconds that a call takes."""

    def measure() -> float:
        begin = clock()
        call()
        return clock() - begin

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--import", nargs="+", dest="modules", default=["numpy"], metavar="MODULE")
    parser.add_argument("--rounds", type=positive, default=60)
    arguments = parser.parse_args()
    for module in arguments.modules:
        importlib.import_module(module)
    context = multiprocessing.get_context("fork")
    rivals: dict[str, Callable[[], None]] = {
        "forks": forks,
        "chain": chain,
        "multiprocessing.Pool": pool_of(context.Pool),
        "fastpool.Pool": pool_of(lambda n: fastpool.Pool(n, context=context)),
    }
    measures = {name: timed(call) for name, call in rivals.items()}
    rounds = interleave(measures, arguments.rounds, random.Random())
    for name, figures in rounds.figures.items():
        summary = summarise(figures)
        print(f"{name:21} {summary.median * 1e3:6.2f} ms  ±{summary.spread:.0%}")
    print(f"others took {rounds.others:.0f} % of a CPU")


if __name__ == "__main__":
    main()
