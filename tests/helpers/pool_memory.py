"""A pool's memory, as it says itself and as the system sees it."""

from __future__ import annotations

import gc
import os
from typing import Any

from helpers import procs
from helpers.build import SEGMENT


def collect(*_ignored: Any) -> None:
    gc.collect()


def visit_all_workers(pool: Any) -> None:
    """Give every worker something trivial to do: with that it reports what it has dropped."""
    pool.map(collect, range(4 * len(procs.worker_pids(pool))), 1)


def settled_bytes(pool: Any, most: int, timeout: float = 10.0) -> int:
    """Wait until no more than `most` bytes are in use; what is in use then."""

    def look() -> bool:
        collect()
        visit_all_workers(pool)
        return pool.stats().bytes_in_use <= most

    procs.wait_until(look, timeout, lambda: f"in use: {pool.stats()}; expected at most {most}")
    return pool.stats().bytes_in_use


class Resident:
    """What the segments of the pools that are made from now on occupy, whoever maps them.

    Only /proc tells: a test needs `helpers.build.PROC`.
    """

    def __init__(self) -> None:
        self._others = set(self._segments())

    def bytes(self) -> int:
        found = self._segments()
        return sum(size for inode, size in found.items() if inode not in self._others)

    @staticmethod
    def _segments() -> dict[int, int]:
        """Inode and size of each segment that this process has open."""
        found = {}
        for entry in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{entry}"
            try:
                if SEGMENT in os.readlink(path):
                    status = os.stat(path)
                    found[status.st_ino] = status.st_blocks * 512
            except OSError:
                continue  # closed meanwhile
        return found


def resident_shared(pid: int) -> int:
    """Shared memory that this process has touched and that is still there; only /proc tells."""
    text = procs.status_field(pid, "RssShmem")
    return int(text.split()[0]) * 1024 if text else 0
