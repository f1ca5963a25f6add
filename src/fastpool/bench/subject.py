"""One pool under one configuration: what a measurement is handed, and what it hands back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

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
    _open: dict[int, Contender] = field(default_factory=dict, init=False)  # one at a time

    def few(self, quick: float, full: float) -> float:
        """One figure or the other."""
        return quick if self.quick else full

    def warm(self, processes: int = 0) -> Contender:
        """A pool whose workers have all started and have nothing left to do.

        It stays open for whoever asks for as many workers next: some pools take a second to leave.
        """
        workers = processes or self.processes
        if workers < self.contender.fewest:
            raise NotOffered(f"needs {self.contender.fewest} workers")
        if workers not in self._open:
            self.leave()
            self._open[workers] = self.contender(workers, method=self.method)
        pool = self._open[workers]
        pids = set(pool.mapping(workloads.process_id, range(64), 1)())
        if (os.getpid() in pids) is self.contender.has_processes:
            raise timing.WrongValueError("the tasks did not run where they should")
        return pool

    def leave(self) -> bool:
        """Leave the pool that stayed open; whether there was one."""
        is_open = bool(self._open)
        if is_open:
            self._open.popitem()[1].leave()
        return is_open
