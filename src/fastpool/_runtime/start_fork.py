"""Starting workers by ``fork``: through the zygote, as copies of the parent."""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess

from fastpool._core._segment import Segment
from fastpool._runtime import worker
from fastpool._runtime.births import Births
from fastpool._runtime.crash import crash_point
from fastpool._runtime.forks import has_threads_of_the_program
from fastpool._runtime.seeds import forget_parents_streams
from fastpool._runtime.start import Outfit, Worker, start_process
from fastpool._runtime.worker import Place
from fastpool._runtime.zygote import Zygote, ZygotePopen

#: How many workers may be ordered and not yet noted: few enough for any socket's buffer.
ORDERS_AHEAD = 8


class ForkStarter:
    """Starts workers as copies of the parent at the time when the pool was made."""

    def __init__(self, outfit: Outfit) -> None:
        self._outfit = outfit
        self._parent = os.getpid()
        self._zygote: Zygote | None = None
        self._zygotes = 0
        self._births = Births(outfit.segment)

    def start(self, places: Sequence[Place]) -> Iterator[Worker]:
        # These objects are what the parent sees; _make_worker makes the ones that run.
        make_process = self._outfit.make_process
        waiting = deque(
            (place, worker.prepare(make_process(target=_run_elsewhere), self._outfit.daemon))
            for place in places
        )
        if self._zygote is None:
            # Not earlier: now the first order can follow at once.
            self._zygote = Zygote()
            self._fork(self._zygote)
        try:
            for started in self._start_by(self._zygote, waiting):
                self._births.expect(started)
                yield started
        except ChildProcessError:
            crash_point("respawn.begin")
            self._zygote.close()
            crash_point("respawn.closed")
            self._zygote = None
            raise

    def _fork(self, zygote: Zygote) -> None:
        if self._zygotes == 0:  # later ones are our affair
            _warn_of_threads()
        _heir.segment = self._outfit.segment
        self._zygotes += 1
        try:
            zygote.fork(self._make_worker)
        except BaseException:
            zygote.close()
            self._zygote = None
            raise
        finally:
            _heir.segment = None

    @staticmethod
    def _start_by(zygote: Zygote, waiting: deque[tuple[Place, BaseProcess]]) -> Iterator[Worker]:
        ordered = 0
        try:
            while waiting:
                # Some orders ahead: it forks one worker while we take note of the one before.
                while ordered < min(len(waiting), ORDERS_AHEAD):
                    place, process = waiting[ordered]
                    zygote.order(place, process.name, process._identity)
                    ordered += 1
                    crash_point("start.ordered")
                place, process = waiting[0]
                # Process.start() asks itself for its way to start: what it checks and keeps stays.
                process._Popen = functools.partial(ZygotePopen, zygote)  # type: ignore[attr-defined]
                ordered -= 1
                crash_point("start.begin")
                start_process(process)
                crash_point("start.done")
                del process._Popen  # type: ignore[attr-defined]
                waiting.popleft()
                popen: ZygotePopen = process._popen  # type: ignore[attr-defined]
                yield Worker(process, place, popen.watch)
        finally:
            for _ in range(ordered):  # something went wrong: nobody waits for these any more
                zygote.cancel_next()
                crash_point("start.taken_back")

    def _make_worker(self, place: Place, name: str, identity: tuple[int, ...]) -> BaseProcess:
        """In the new worker: the process object that the parent's one stands for."""
        crash_point("make.begin")
        worker.settle_signals()
        crash_point("make.signals")
        forget_parents_streams()
        # What the program held at a later fork was made private (see forks), also for this process.
        make_process, segment, plan, daemon, crashes_fd, mail_fd = self._outfit
        if self._zygotes > 1:
            segment = segment.reopen()
        args = (segment, place, plan, crashes_fd, mail_fd)
        process = worker.prepare(make_process(target=worker.run, args=args), daemon)
        process.name = name
        process._identity = identity
        process._parent_pid = self._parent  # type: ignore[attr-defined]
        crash_point("make.done")
        return process

    def look(self) -> float | None:
        return self._births.look()

    def ended(self, worker: Worker) -> None:
        if self._births.failed(worker) and self._zygote is not None:
            self._zygote.kill()  # what is asked of it then fails, and that makes the next one

    def end(self) -> None:
        self._births.forget()
        if self._zygote is not None:
            self._zygote.kill()

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()

    def disown(self) -> None:
        if self._zygote is not None:
            self._zygote.abandon()


#: Which segment a thread that forks a zygote right now means it to serve. Each thread has its own:
#: without a GIL, the lock of a dict of all might be another thread's at the moment of the fork.
_heir = threading.local()


def inherits(segment: Segment) -> bool:
    """In a child, right after the fork: is it this segment's zygote, and needs its descriptors?"""
    return getattr(_heir, "segment", None) is segment


def is_zygote() -> bool:
    """In a child, right after the fork: is it the zygote of any?"""
    return getattr(_heir, "segment", None) is not None


def _warn_of_threads() -> None:
    """Say what ``os.fork()`` says since Python 3.12, and what becomes an error only since 3.15."""
    if sys.version_info < (3, 12) or not has_threads_of_the_program():
        return
    try:
        warnings.warn(
            f"This process (pid={os.getpid()}) is multi-threaded, "
            "use of fork() may lead to deadlocks in the child.",
            DeprecationWarning,
            stacklevel=2,
        )
    except DeprecationWarning:
        if sys.version_info >= (3, 15):
            raise


def _run_elsewhere() -> None:
    raise AssertionError("this process object only stands for one that the zygote started")
