"""Whether a long stream keeps the memory of its reader flat: runs in a process of its own.

    python benchmarks/data_stream.py fastpool 2 fork 1000000 10000000

sends as many items through ``imap_unordered`` as the last number says, and prints as JSON what
memory this process had taken when each of the numbers had come back. A fresh process, and one
without NumPy, since the peak of a process that has done other things before says nothing.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rivals import Side, load_side

from fastpool.bench import timing, workloads

MEBIBYTE = 2**20
CHUNK = 1000
LIMIT_SECONDS = 500  # less than what a row gets, so that this process never outlives the benchmark


@dataclass(frozen=True)
class Mark:
    """What the reader of a stream had taken of memory after some items.

    Attributes
    ----------
    items : int
        How many had come back.
    peak : int
        The most that was resident at any time so far, in bytes, shared memory included.
    shared : int
        How much shared memory was resident then, in bytes.
    """

    items: int
    peak: int
    shared: int


@functools.cache  # two rows show figures of one run
def run_stream(side: Side, marks: tuple[int, ...]) -> tuple[Mark, ...]:
    """Stream in a process of its own.

    Parameters
    ----------
    side : Side
        Whose pool.
    marks : tuple of int
        After how many items to look; growing. The stream ends with the last.

    Returns
    -------
    tuple of Mark
        As many as `marks`.
    """
    setting = (side.name, side.processes, side.start_method, *marks)
    output = subprocess.run(
        [sys.executable, __file__, *map(str, setting)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return tuple(Mark(**record) for record in json.loads(output))


def stream(side: Side, marks: tuple[int, ...]) -> list[Mark]:
    """Stream in this process, and look at its memory on the way.

    Parameters
    ----------
    side : Side
        Whose pool.
    marks : tuple of int
        After how many items to look; growing. The stream ends with the last.

    Returns
    -------
    list of Mark
    """
    found: list[Mark] = []
    total = count = 0
    with side.warm_pool() as pool:
        for value in pool.imap_unordered(workloads.successor, _numbers(marks[-1]), CHUNK):
            total += value
            count += 1
            if count == marks[len(found)]:
                found.append(look(count))
    timing.expect((count, total), (marks[-1], marks[-1] * (marks[-1] + 1) // 2))
    return found


def look(items: int) -> Mark:
    """Read the memory of this process from ``/proc``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    peak, shared = (1024 * int(fields[name].split()[0]) for name in ("VmHWM", "RssShmem"))
    return Mark(items, peak, shared)


def _numbers(count: int) -> Iterator[int]:
    """A generator, so that no pool can know its length."""
    yield from range(count)


def main(pool: str, processes: str, start_method: str, *marks: str) -> None:
    """Stream, and print the marks; the arguments are those of the command line."""
    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    side = load_side(pool, int(processes), start_method)
    found = stream(side, tuple(map(int, marks)))
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps([dataclasses.asdict(mark) for mark in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
