"""Workers that end before they can work: one may be chance, a whole row of them has one reason."""

from __future__ import annotations

import signal
import time

from fastpool._core._segment import Segment
from fastpool._runtime.postmortem import Findings
from fastpool._runtime.start import Worker
from fastpool.errors import describe_exit

#: A worker that crashes within so many seconds, before it had a task, has crashed at its start.
INSTANT = 1.0


class StillbornRow:
    """How many there were in a row.

    Parameters
    ----------
    segment : Segment
    processes : int
        So many, but at least three, may end like this: all workers may meet the same mishap once.
    """

    def __init__(self, segment: Segment, processes: int) -> None:
        self._segment = segment
        self._most = max(3, processes)
        self._count = 0

    def has(self, worker: Worker) -> bool:
        """Whether a dead worker, not settled yet, never got so far as to work.

        One that was killed from outside soon after it had started is none.
        """
        _, state, ticket, tasks, _, _ = self._segment.worker_report(worker.place.slot)
        if state == "starting":
            return True
        by_itself = worker.process.exitcode not in (0, -signal.SIGKILL, -signal.SIGTERM)
        young = time.monotonic() - worker.started < INSTANT
        return by_itself and young and ticket == 0 and tasks == 0 and not worker.replaced

    def end(self) -> None:
        """A worker ended that had worked."""
        self._count = 0

    def add(self, exitcode: int | None, findings: Findings) -> RuntimeError | None:
        """One more; returns the error of the pool if they are too many."""
        self._count += 1
        if self._count <= self._most:
            return None
        return RuntimeError(
            f"{self._count} workers in a row ended before they could start to work; "
            f"the last one {describe_exit(exitcode)}"
            + (f"\n\n{findings.stack.rstrip()}" if findings.stack else "")
        )
