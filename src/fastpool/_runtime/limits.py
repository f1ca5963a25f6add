"""Stops tasks that run too long, or that nobody wants any more."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from fastpool._core._recover import CANCEL, TIMEOUT, Recovery
from fastpool._core._submit import Dispatcher
from fastpool._runtime.crash import crash_point
from fastpool._runtime.start import Worker
from fastpool._runtime.worker import STOP_SIGNAL

#: How long a task that was asked to stop may take before its worker is killed, in seconds.
GRACE = 0.5

_GRACE_NS = int(GRACE * 1e9)

#: How long to wait until a worker has said which task it has taken.
_BEGINNING_NS = 1_000_000


class Sentence:
    """A worker that was asked to stop what it runs."""

    def __init__(self, ticket: int, since: int | None, verdict: int) -> None:
        self.ticket = ticket
        self.since = since  # when the item began; None: whatever it runs of the task
        self.verdict = verdict
        self.kill_at = 0  # ns; 0: it has not been asked yet
        self.killed = False


class Stopper:
    """Asks workers to stop a task, and kills those that don't.

    First a signal, whose handler raises an exception in the task; when that changes nothing,
    because the task is in a library's C code or catches everything, SIGKILL. The handler looks
    whether it still finds the task it was sent for, so a signal that comes late does no harm.

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
        if slot in self._workers:
            self._sentences[slot] = Sentence(ticket, since, verdict)
            self._look_at(slot, time.monotonic_ns())

    def _ask(self, slot: int, sentence: Sentence, now: int) -> int:
        """Ask a worker to stop; returns when to look whether it did."""
        recovery: Recovery = self._dispatcher.recovery
        recovery.condemn(slot, sentence.ticket, sentence.since, sentence.verdict)
        sentence.kill_at = now + _GRACE_NS
        crash_point("stop.begin")
        self._workers[slot].send(STOP_SIGNAL)
        crash_point("stop.signalled")
        return sentence.kill_at

    def look(self) -> int | None:
        """Stop what is over its time, kill what was asked to stop and has not.

        Returns
        -------
        int or None
            When to look again, in ns on the monotonic clock; None: there is nothing to look after.
        """
        dispatcher, now = self._dispatcher, time.monotonic_ns()
        shortest = dispatcher.watch()
        if shortest is None and not self._sentences:
            return None
        times = [] if shortest is None else [now + shortest]
        for slot in list(self._workers):
            at = self._look_at(slot, now)
            if at is not None:
                times.append(at)
        return min(times, default=None)

    def _look_at(self, slot: int, now: int) -> int | None:
        recovery: Recovery = self._dispatcher.recovery
        sentence = self._sentences.get(slot)
        if sentence is not None and sentence.killed:
            return None
        if sentence is not None and not recovery.is_running(slot, sentence.ticket, sentence.since):
            if not sentence.kill_at and recovery.is_held_by(slot, sentence.ticket):
                return now + _BEGINNING_NS  # it has taken the task, and not said so yet
            del self._sentences[slot]  # it has stopped, or had ended before
            sentence = None
        if sentence is not None:
            if not sentence.kill_at:
                return self._ask(slot, sentence, now)
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
        sentence = self._sentences[slot] = Sentence(ticket, since, TIMEOUT)
        return self._ask(slot, sentence, now)

    def last_words(self, slot: int) -> tuple[int, bool]:
        """Forget a worker that is dead, and say what we had to do with that.

        Returns
        -------
        overdue : int
            The ticket of the task of which an item was late; 0 when none was, or when the worker
            got over that item and died in another one.
        spare : bool
            It got over what it was killed for: what it ran instead has no part in its death.
        """
        sentence = self._sentences.pop(slot, None)
        if sentence is None:
            return 0, False
        recovery: Recovery = self._dispatcher.recovery
        if not recovery.is_running(slot, sentence.ticket, sentence.since):
            return 0, sentence.killed
        return sentence.ticket if sentence.verdict == TIMEOUT else 0, False
