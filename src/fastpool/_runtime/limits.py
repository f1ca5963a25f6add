"""Stops tasks that run too long, or that nobody wants any more."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fastpool._core._recover import CANCEL, TIMEOUT, Recovery
from fastpool._core._submit import Dispatcher
from fastpool._runtime.crash import crash_point
from fastpool._runtime.start import Worker
from fastpool._runtime.worker import STOP_SIGNAL

#: How long a task that was asked to stop may take before its worker is killed, in seconds.
GRACE = 0.5

_GRACE_NS = int(GRACE * 1e9)


@dataclass
class Sentence:
    """A worker that was asked to stop what it runs."""

    ticket: int
    since: int | None  # when the item began; None: whatever it runs of the task
    verdict: int
    kill_at: int  # ns
    killed: bool = False


class Stopper:
    """Asks workers to stop a task, and kills those that don't.

    First a signal, whose handler raises an exception in the task; when that changes nothing, because
    the task is in a library's C code or catches everything, SIGKILL. The handler looks whether it
    still finds the task it was sent for, so a signal that comes late does no harm.

    Parameters
    ----------
    dispatcher : Dispatcher
    workers : mapping
        Slot to worker, kept up to date by the owner.
    """

    def __init__(self, dispatcher: Dispatcher, workers: Mapping[int, Worker]) -> None:
        self._dispatcher = dispatcher
        self._workers = workers
        self._sentences: dict[int, Sentence] = {}

    def stop(self, slot: int, ticket: int, since: int | None = None, verdict: int = CANCEL) -> None:
        """Have the worker of a slot stop a task, or only the item of it that began at `since`."""
        worker = self._workers.get(slot)
        recovery: Recovery = self._dispatcher.recovery
        if worker is None or not recovery.is_running(slot, ticket, since):
            return
        recovery.condemn(slot, ticket, since, verdict)
        kill_at = time.monotonic_ns() + _GRACE_NS
        self._sentences[slot] = Sentence(ticket, since, verdict, kill_at)
        crash_point("stop.begin")
        worker.send(STOP_SIGNAL)
        crash_point("stop.signalled")

    def look(self) -> int | None:
        """Stop what is over its time, kill what was asked to stop and has not.

        Returns
        -------
        int or None
            When to look again, in ns on the monotonic clock; None: there is nothing to look after.
        """
        dispatcher, now = self._dispatcher, time.monotonic_ns()
        # In this order: who adds a limit looks at the mark after that.
        dispatcher.watched = False
        watching = dispatcher.timed > 0
        dispatcher.watched = watching
        if not watching and not self._sentences:
            return None
        times = [now + dispatcher.shortest] if watching else []
        for slot in list(self._workers):
            at = self._look_at(slot, now)
            if at is not None:
                times.append(at)
        return min(times, default=None)

    def _look_at(self, slot: int, now: int) -> int | None:
        recovery: Recovery = self._dispatcher.recovery
        sentence = self._sentences.get(slot)
        if sentence is not None and not recovery.is_running(slot, sentence.ticket, sentence.since):
            del self._sentences[slot]  # it has stopped, or had ended before
            sentence = None
        if sentence is not None:
            if sentence.killed:
                return None
            if now < sentence.kill_at:
                return sentence.kill_at
            sentence.killed = True
            self._workers[slot].send(signal.SIGKILL)
            crash_point("stop.killed")
            return None
        running = recovery.running(slot)
        if running is None:
            return None
        ticket, since, limit = running
        if now < since + limit:
            return since + limit
        self.stop(slot, ticket, since, TIMEOUT)
        return now + _GRACE_NS

    def overdue(self, slot: int) -> int:
        """Forget a worker that is dead; returns the ticket of the task that it was stopped for being late.

        0 when it was not.
        """
        sentence = self._sentences.pop(slot, None)
        return 0 if sentence is None or sentence.verdict != TIMEOUT else sentence.ticket
