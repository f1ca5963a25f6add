"""One pool in one section: what a measurement is handed, and what it hands back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastpool.bench import timing, workloads
from fastpool.bench.contender import Contender, NotOffered


@dataclass(frozen=True)
class Record:
    """What one case gave in one round.

    Attributes
    ----------
    case : str
        Which; the same for all pools.
    values : list of float
        All samples, in the unit of the section.
    x : float, optional
        Where on the axis, if the case is a curve.
    """

    case: str
    values: list[float]
    x: float | None = None


@dataclass(frozen=True)
class Subject:
    """A pool under one configuration.

    Attributes
    ----------
    contender : type
        The pool.
    processes : int
        Workers.
    method : str, optional
        The start method; as the pool likes it, if None.
    quick : bool
        Whether seconds count more than digits.
    """

    contender: type[Contender]
    processes: int
    method: str | None
    quick: bool

    def few(self, quick: float, full: float) -> float:
        """One figure or the other."""
        return quick if self.quick else full

    @contextmanager
    def cold(self, processes: int = 0) -> Iterator[Contender]:
        """Open a pool, and leave it whatever happens."""
        workers = processes or self.processes
        if workers < self.contender.fewest:
            raise NotOffered(f"needs {self.contender.fewest} workers")
        pool = self.contender(workers, method=self.method)
        try:
            yield pool
        finally:
            pool.leave()

    @contextmanager
    def warm(self, processes: int = 0) -> Iterator[Contender]:
        """Open a pool whose workers have all started and have nothing left to do."""
        with self.cold(processes) as pool:
            pids = set(pool.mapping(workloads.process_id, range(64), 1)())
            if (os.getpid() in pids) is self.contender.has_processes:
                raise timing.WrongValueError("the tasks did not run where they should")
            yield pool
