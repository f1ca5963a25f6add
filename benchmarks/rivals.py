"""The pools that are compared, and how one is opened warm and alone."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

import timing
import workloads

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Side:
    """One implementation of `multiprocessing.Pool` under one configuration.

    Attributes
    ----------
    name : str
        The module it comes from, as the table shows it.
    pool_class : type
        What is called to make a pool.
    processes : int
        Workers.
    start_method : str
        As `multiprocessing.get_context` takes it.
    """

    name: str
    pool_class: type[Pool]
    processes: int
    start_method: str

    def open(self) -> Pool:
        """Create the pool; the caller leaves it by a ``with`` block."""
        context = multiprocessing.get_context(self.start_method)
        return self.pool_class(self.processes, context=context)

    @contextmanager
    def warm_pool(self) -> Iterator[Pool]:
        """Open a pool whose workers have all started and have nothing left to do.

        A measurement has its pool to itself: one that is alive beside it might spin, or keep
        threads that want the GIL.
        """
        with self.open() as pool:
            pids = set(pool.map(workloads.process_id, range(64), chunksize=1))
            if os.getpid() in pids:
                raise timing.WrongValueError("a task ran in the parent")
            yield pool


def load_side(module: str, processes: int, start_method: str) -> Side:
    """Find the ``Pool`` class of a module.

    Parameters
    ----------
    module : str
        ``fastpool``, or ``multiprocessing.pool``, or any other that has a ``Pool``.
    processes : int
        Workers.
    start_method : str
        As `multiprocessing.get_context` takes it.

    Returns
    -------
    Side
    """
    pool_class = importlib.import_module(module).Pool
    return Side(module.removesuffix(".pool"), pool_class, processes, start_method)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a command line what makes a `Side`: ``processes``, ``start_method``, ``subject``."""
    add = parser.add_argument
    add("--processes", type=int, default=2, help="workers (default 2)")
    add("--start-method", default="fork", choices=["fork", "spawn", "forkserver"])
    add(
        "--subject",
        default="fastpool",
        metavar="MODULE",
        help="whose Pool to compare; with multiprocessing.pool every speedup has to come out "
        "as 1x, up to the noise of this machine",
    )


def idle_cpu_percent(side: Side, seconds: float) -> float:
    """Measure what a pool costs that has worked and now waits.

    Parameters
    ----------
    side : Side
        Whose pool.
    seconds : float
        How long it waits.

    Returns
    -------
    float
        CPU time of this process and all its descendants, in percent of one CPU.
    """
    with side.warm_pool() as pool:
        timing.expect(pool.map(workloads.successor, range(1000)), list(range(1, 1001)))
        family = _family(os.getpid())
        before = sum(map(_cpu_seconds, family))
        start = timing.clock()
        time.sleep(seconds)
        spent = sum(map(_cpu_seconds, family)) - before
        return 100 * spent / (timing.clock() - start)


def _family(root: int) -> list[int]:
    """The process and all its descendants: workers may be children of a helper process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while it is walked
        found += children.get(pid, [])
    return found


def _cpu_seconds(pid: int) -> float:
    """CPU time of all threads so far: in nanoseconds where the kernel tells, else in ticks."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return 1e-9 * sum(int((t / "schedstat").read_text().split()[0]) for t in threads)
    except OSError:
        fields = _stat_fields(pid)
        return (int(fields[11]) + int(fields[12])) * TICK if fields else 0.0


def _stat_fields(pid: int) -> list[str]:
    """``/proc/PID/stat`` from its third field on; the second may hold spaces and parentheses."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
