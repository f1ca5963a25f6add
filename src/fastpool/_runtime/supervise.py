"""The one background thread: callbacks, deaths, replacements, and tasks that nobody waits for."""

from __future__ import annotations

import select
from typing import Protocol

from fastpool._core._segment import Segment
from fastpool._core._submit import Dispatcher
from fastpool._runtime.crash import crash_point
from fastpool._runtime.forks import OwnThread
from fastpool._runtime.results import run_callbacks


class Engine(Protocol):
    """What the thread looks after."""

    segment: Segment
    dispatcher: Dispatcher

    def step(self) -> bool:
        """Take what is due; returns whether all is over."""
        ...

    def patience(self) -> float | None:
        """Look after what has a time; returns how many ms to sleep at most, None: for ever."""
        ...

    def rouse(self) -> None:
        """Have sleeping workers look around, whom somebody could not wake."""
        ...

    def worker_ended(self, watch: int) -> None:
        """Settle and replace the worker behind this watch, which has ended."""
        ...

    def collapse(self, error: BaseException) -> None:
        """Give this error to every call, and leave nothing behind."""
        ...

    def release(self) -> None:
        """Leave nothing behind."""
        ...


class Supervisor(OwnThread):
    """Sleeps in one ``poll`` on watches of the workers and the bell.

    There is no timer as long as no call has a timeout, no task is being stopped, and the system has
    not refused a worker.

    Workers ring the bell only when asked to: for results when somebody is to be told of one, by a
    callback or in an event loop, or the pool is closing; for a task queue that runs low when more
    tasks wait; and when a result ring is full.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__("supervisor")
        self._engine = engine
        self._poller = select.poll()
        self._poller.register(engine.segment.poll_fd, select.POLLIN)

    def watch(self, watch: int) -> None:
        """Have the end of this process noticed."""
        self._poller.register(watch, select.POLLIN)

    def run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            # A defect of ours, or a system that refuses to have it wait, must not leave callers
            # waiting for a thread that is gone.
            self._engine.collapse(error)
            run_callbacks(self._engine.dispatcher.done)
            raise
        finally:
            del self._engine  # which knows this thread: no cycle of what has ended

    def _loop(self) -> None:
        engine = self._engine
        dispatcher = engine.dispatcher
        while True:
            more = dispatcher.service()
            run_callbacks(dispatcher.done)
            crash_point("supervisor.served")
            if engine.step():
                break
            patience = engine.patience()
            for fd, _ in self._poller.poll(0 if more else patience):
                if fd == engine.segment.poll_fd:
                    unheard = engine.segment.clear_bell()
                    crash_point("supervisor.called")
                    if unheard:
                        engine.rouse()
                else:
                    self._poller.unregister(fd)
                    crash_point("supervisor.death_seen")
                    engine.worker_ended(fd)
        engine.release()
        crash_point("supervisor.released")
        run_callbacks(dispatcher.done)  # what another thread's terminate() failed in the meantime
