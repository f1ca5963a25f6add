"""The hot paths of a pool, run for a while under perf; a program of its own.

    python benchmarks/hot_paths.py NAME SECONDS FIFOS

`hot_profile.py` runs it. FIFOS is the folder with the two through which `perf record` is switched.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastpool.bench.workloads import nothing

CALLS_BETWEEN_LOOKS = 200  # of a path whose calls take a microsecond


def one_call(pool: Any) -> int:
    """`apply`, one after the other."""
    for _ in range(CALLS_BETWEEN_LOOKS):
        pool.apply(nothing, (1,))
    return CALLS_BETWEEN_LOOKS


def calls_ahead(pool: Any) -> int:
    """`apply_async` 500 times, then `get` of all."""
    for job in [pool.apply_async(nothing, (1,)) for _ in range(500)]:
        job.get()
    return 500


def two_tasks(pool: Any) -> int:
    """`map` of one task for each of two workers: fork and join."""
    for _ in range(CALLS_BETWEEN_LOOKS):
        pool.map(nothing, (1, 2), 1)
    return CALLS_BETWEEN_LOOKS


def single_items(pool: Any) -> int:
    """`map` with chunks of one item."""
    pool.map(nothing, range(5000), 1)
    return 5000


def stream(pool: Any) -> int:
    """`imap` with chunks of one item."""
    for _ in pool.imap(nothing, range(5000)):
        pass
    return 5000


def long_map(pool: Any) -> int:
    """`map` of a function that returns None over 100 000 ints."""
    pool.map(nothing, range(100_000))
    return 100_000


TEXT = [f"the quick brown fox jumps over the lazy dog {number}" for number in range(20_000)]


def long_text(pool: Any) -> int:
    """`map` of `str.upper` over 20 000 lines."""
    pool.map(str.upper, TEXT)
    return len(TEXT)


PATHS: dict[str, tuple[int, Callable[[Any], int]]] = {
    "apply": (1, one_call),
    "apply_async, get": (2, calls_ahead),
    "map of two tasks": (2, two_tasks),
    "map, chunksize 1": (2, single_items),
    "imap": (2, stream),
    "map, no-op": (2, long_map),
    "map, str.upper": (2, long_text),
}
"""By name: how many workers, and what runs again and again; it returns how many items it did."""


def run_path(name: str, seconds: float, fifos: Path) -> None:
    """Be the program that is sampled; print how many items were done."""
    from fastpool import Pool

    workers, path = PATHS[name]
    items = 0
    with Pool(workers) as pool:
        path(pool)
        command_perf(fifos, "enable")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            items += path(pool)
        command_perf(fifos, "disable")
    print(json.dumps([os.getpid(), items]))


def command_perf(fifos: Path, command: str) -> None:
    """Tell `perf record`, and wait until it has done so."""
    (fifos / "control").write_text(f"{command}\n")
    with open(fifos / "answer", "rb") as answer:
        answer.readline()


if __name__ == "__main__":
    run_path(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
