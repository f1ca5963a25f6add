"""The pools that the goal tables compare, and how one is opened warm and alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool

from fastpool.bench import processes, timing, workloads
from fastpool.bench.contenders import CONTENDERS, MultiprocessingPool

SUBJECTS = [name for name, pool in CONTENDERS.items() if issubclass(pool, MultiprocessingPool)]


@dataclass(frozen=True)
class Side:
    """One implementation of `multiprocessing.Pool` under one configuration.

    Attributes
    ----------
    contender : type
        What makes its pools.
    processes : int
        Workers.
    start_method : str
        As `multiprocessing.get_context` takes it.
    """

    contender: type[MultiprocessingPool]
    processes: int
    start_method: str

    @property
    def name(self) -> str:
        """As the table shows it."""
        return self.contender.name

    @property
    def pool_class(self) -> type[Pool]:
        """Of the pools."""
        found: type[Pool] = self.contender.pool_class()
        return found

    def open(self) -> Pool:
        """Create the pool; the caller leaves it by a ``with`` block."""
        pool: Pool = self.contender(self.processes, method=self.start_method).pool
        return pool

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


def load_side(name: str, processes: int, start_method: str) -> Side:
    """Find a pool that has multiprocessing's interface.

    Parameters
    ----------
    name : str
        One of `SUBJECTS`.
    processes : int
        Workers.
    start_method : str
        As `multiprocessing.get_context` takes it.

    Returns
    -------
    Side
    """
    contender = CONTENDERS[name]
    assert issubclass(contender, MultiprocessingPool)
    if contender.version() is None:
        raise ImportError(f"{name} is not installed")
    return Side(contender, processes, start_method)


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
        return processes.idle_percent(seconds)
