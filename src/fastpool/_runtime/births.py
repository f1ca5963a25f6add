"""Workers that were forked and do not come to life: then the copy they were forked from is no good.

A zygote is a copy of a process whose other threads may be in the middle of anything: in libraries,
and without a GIL in the interpreter. What they left half done, or locked, is so in every worker of
that zygote, and none of them gets to our first line; those of the next one will.
"""

from __future__ import annotations

import signal
import time

from fastpool._core._segment import Segment
from fastpool._runtime.start import Worker

#: How long a worker may take from its fork to our first line, in seconds; usual is a millisecond.
PATIENCE = 10.0

_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE}


class Births:
    """Which forked workers have not come to life yet.

    Parameters
    ----------
    segment : Segment
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._living: set[Worker] = set()
        self._expected: set[Worker] = set()

    def expect(self, worker: Worker) -> None:
        """It was forked right now."""
        self._living.add(worker)
        self._expected.add(worker)

    def look(self) -> float | None:
        """Kill those that take too long; returns in how many seconds to look again, if at all."""
        times = []
        for worker in tuple(self._expected):
            left = worker.started + PATIENCE - time.monotonic()
            if self._has_begun(worker):
                self._expected.discard(worker)
            elif left > 0:
                times.append(left)
            else:
                worker.send(signal.SIGKILL)  # and `failed` is asked when it has ended
                times.append(PATIENCE)
        return min(times, default=None)

    def failed(self, worker: Worker) -> bool:
        """Whether a worker that has ended, and whose place is still its own, speaks for a bad copy.

        Not if another one lives, or if somebody killed it. The garbage collector may end the pool
        at any line of this, and all is forgotten.
        """
        self._living.discard(worker)
        if worker not in self._expected:
            return False
        self._expected.discard(worker)
        if self._has_begun(worker):
            return False
        late = time.monotonic() - worker.started >= PATIENCE
        return (late or worker.process.exitcode in _CRASHES) and not any(
            self._has_begun(other) for other in tuple(self._living)
        )

    def forget(self) -> None:
        """Nobody looks after workers any more."""
        self._living.clear()
        self._expected.clear()

    def _has_begun(self, worker: Worker) -> bool:
        return self._segment.worker_report(worker.place.slot)[0] != 0
