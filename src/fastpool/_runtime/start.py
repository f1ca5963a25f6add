"""Starting workers: through the zygote for ``fork``, through the context's own ways otherwise."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import popen_fork, reduction, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from fastpool._core._segment import Segment
from fastpool._core._system import (
    BY_PIPE,
    lend_line,
    let_go,
    reap,
    send_signal,
    take_line,
    watch_id,
    watch_kind,
    watch_self,
)
from fastpool._runtime import worker
from fastpool._runtime.crash import crash_point, crash_role
from fastpool._runtime.options import WorkerPlan
from fastpool._runtime.seeds import forget_parents_streams
from fastpool._runtime.thread_limits import EarlyName
from fastpool._runtime.unpicklable import PICKLE_ERRORS, Explainer
from fastpool._runtime.worker import Place
from fastpool._runtime.zygote import Zygote, ZygotePopen

#: How many workers may be ordered and not yet noted: few enough for any socket's buffer.
ORDERS_AHEAD = 8

#: How long a worker may take to end after all of its descriptors are closed, in seconds.
_EXIT_SECONDS = 1.0

#: Makes a process object: called like ``multiprocessing.Process``.
ProcessFactory = Callable[..., BaseProcess]


class Worker:
    """A started worker, as the parent knows it."""

    def __init__(self, process: BaseProcess, place: Place, watch: int, owns_watch: bool) -> None:
        self.process = process
        self.place = place
        self.watch = watch
        self.owns_watch = owns_watch
        self.started = time.monotonic()
        self.replaced = False  # it will leave by itself, and its successor has been started
        self.surplus = False  # it will leave by itself, and has no successor

    def send(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(OSError):
            send_signal(self.watch, self.process.pid or 0, signum)

    def reap(self) -> int | None:
        """Join the process, which has ended; returns its peak memory in bytes, if it is known."""
        popen: Any = self.process._popen  # type: ignore[attr-defined]
        peak = None
        if isinstance(popen, popen_fork.Popen) and popen.method in ("fork", "spawn"):
            peak = _wait_for(popen)
        self.process.join(_EXIT_SECONDS)
        if self.process.is_alive():
            self.process.kill()  # likewise, of the forkserver
            self.process.join()
        if isinstance(popen, ZygotePopen):
            peak = popen.peak_memory
        return peak

    def close(self) -> None:
        """Close the watch, if it is ours and not the process object's."""
        watch, self.watch = self.watch, -1
        if self.owns_watch and watch >= 0:
            os.close(watch)


class Starter(Protocol):
    """A way of starting workers."""

    def start(self, places: Sequence[Place]) -> Iterator[Worker]:
        """Start a worker in each of these places; yields each one that has started.

        Raises
        ------
        ChildProcessError
            When what starts them has died, and its workers with it; the next call has another one.
            A worker that has not been yielded may have taken a task.
        """
        ...

    def end(self) -> None:
        """Every worker has ended, and none will be started: begin to end what started them."""
        ...

    def close(self) -> None:
        """Wait for that, and leave nothing behind."""
        ...

    def disown(self) -> None:
        """This process is a fork of the owner."""
        ...


def _wait_for(popen: Any) -> int | None:
    """Take the exit status of a child of ours, with what the system says of its memory."""
    if popen.returncode is not None:
        return None
    deadline = time.monotonic() + _EXIT_SECONDS
    try:
        # Its descriptors are closed some time before its exit status is there.
        while (ended := reap(popen.pid)) is None:
            if time.monotonic() > deadline:
                popen.kill()  # it has closed what it is watched by, and lives: see fp_os.h
            time.sleep(0.001)
    except ChildProcessError:
        return None  # somebody's os.wait() took it
    status, peak = ended
    popen.returncode = os.waitstatus_to_exitcode(status)
    return peak


def _start(process: BaseProcess) -> None:
    """``process.start()``, with a hint where that refuses."""
    try:
        process.start()
    except AssertionError as error:
        if "daemonic" not in str(error):
            raise
        raise AssertionError(
            f"{error}; make the pool that this worker belongs to with daemon=False"
        ) from None


class ForkStarter:
    """Starts workers as copies of the parent at the time when the pool was made."""

    def __init__(
        self,
        make_process: ProcessFactory,
        segment: Segment,
        plan: WorkerPlan,
        daemon: bool,
        crashes_fd: int,
        mail_fd: int,
    ) -> None:
        self._make_process = make_process
        self._segment = segment
        self._plan = plan
        self._daemon = daemon
        self._crashes_fd = crashes_fd
        self._mail_fd = mail_fd
        self._parent = os.getpid()
        self._zygote: Zygote | None = None
        self._zygotes = 0

    def start(self, places: Sequence[Place]) -> Iterator[Worker]:
        # These objects are what the parent sees; _make_worker makes the ones that run.
        waiting = deque(
            (place, worker.prepare(self._make_process(target=_run_elsewhere), self._daemon))
            for place in places
        )
        if self._zygote is None:
            # Not earlier: now the first order can follow at once.
            self._zygote = self._fork_zygote()
        try:
            yield from self._start_by(self._zygote, waiting)
        except ChildProcessError:
            crash_point("respawn.begin")
            self._zygote.close()
            crash_point("respawn.closed")
            self._zygote = None
            raise

    def _fork_zygote(self) -> Zygote:
        if self._zygotes == 0:  # later ones are our affair
            _warn_of_threads()
        thread = threading.get_ident()
        _heirs[thread] = self._segment
        self._zygotes += 1
        try:
            return Zygote(self._make_worker)
        finally:
            del _heirs[thread]

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
                _start(process)
                crash_point("start.done")
                del process._Popen  # type: ignore[attr-defined]
                waiting.popleft()
                popen: ZygotePopen = process._popen  # type: ignore[attr-defined]
                yield Worker(process, place, popen.sentinel, owns_watch=False)
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
        segment = self._segment if self._zygotes == 1 else self._segment.reopen()
        args = (segment, place, self._plan, self._crashes_fd, self._mail_fd)
        process = worker.prepare(self._make_process(target=worker.run, args=args), self._daemon)
        process.name = name
        process._identity = identity
        process._parent_pid = self._parent  # type: ignore[attr-defined]
        crash_point("make.done")
        return process

    def end(self) -> None:
        if self._zygote is not None:
            self._zygote.kill()

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()

    def disown(self) -> None:
        if self._zygote is not None:
            self._zygote.abandon()


#: Which segment each thread that forks a zygote right now means it to serve.
_heirs: dict[int, Segment] = {}


def inherits(segment: Segment) -> bool:
    """In a child, right after the fork: is it this segment's zygote, and needs its descriptors?"""
    return _heirs.get(threading.get_ident()) is segment


def _warn_of_threads() -> None:
    """Say what ``os.fork()`` says since Python 3.12, and what becomes an error only since 3.15."""
    if sys.version_info < (3, 12) or threading.active_count() == 1:
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


class SpawnStarter:
    """Starts workers as the context does: ``spawn``, ``forkserver``, or a context of the user's."""

    def __init__(
        self,
        make_process: ProcessFactory,
        segment: Segment,
        plan: WorkerPlan,
        daemon: bool,
        crashes_fd: int,
        mail_fd: int,
    ) -> None:
        self._make_process = make_process
        self._plan = plan
        self._daemon = daemon
        self._kind = watch_kind()
        self._handles = Handles(segment, crashes_fd, mail_fd, *watch_self(self._kind))

    def start(self, places: Sequence[Place]) -> Iterator[Worker]:
        for place in places:
            lifeline = Lifeline(self._kind)
            args = (self._handles, lifeline, place, self._plan)
            process = worker.prepare(
                self._make_process(target=worker.run_spawned, args=args), self._daemon
            )
            name = process.name
            if self._plan.setup.threads is not None:
                process.name = EarlyName(name, self._plan.setup.threads)
            try:
                self._start_process(process)
                process.name = name  # or who pickles it later would get the variables, too
                watch = lifeline.watch(getattr(process, "pid", None))
            except PICKLE_ERRORS as error:
                self._explain(error)
                raise
            finally:
                lifeline.close()
            yield Worker(process, place, watch, owns_watch=True)

    def _explain(self, error: BaseException) -> None:
        plan = self._plan
        functions = {
            "initializer": plan.initializer,
            "worker_init": plan.setup.init,
            "worker_exit": plan.setup.exit,
        }
        Explainer(plan.serializer).of_start(error, functions, plan.initargs)

    @staticmethod
    def _start_process(process: BaseProcess) -> None:
        """Start it so that Ctrl-C can't hit it before it is ready to ignore that."""
        if getattr(process, "_start_method", None) != "spawn":
            _start(process)  # a process of the forkserver inherits nothing of this thread
            return
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            _start(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self) -> None:
        pass

    def close(self) -> None:
        self._handles.close()

    def disown(self) -> None:
        self._handles.close()


class Lifeline:
    """What the end of a worker will be noticed by; pickles as what it has to hold for that.

    Parameters
    ----------
    kind : int
        As :func:`watch_kind` says.
    """

    def __init__(self, kind: int) -> None:
        self._watch = self._line = -1
        if kind == BY_PIPE:
            self._watch, self._line = lend_line()

    def watch(self, pid: object) -> int:
        """After the start: the watch, the caller's to close; -1 for what is no process."""
        if not isinstance(pid, int):
            return -1
        if self._line >= 0:
            watch, self._watch = self._watch, -1
            return watch
        try:
            return watch_id(pid)
        except ProcessLookupError:  # it has ended already
            reader, writer = os.pipe()
            os.close(writer)
            return reader

    def close(self) -> None:
        """Let go of what only the worker may hold."""
        let_go(self._line)
        watch, self._watch, self._line = self._watch, -1, -1
        if watch >= 0:
            os.close(watch)

    def __reduce__(self) -> tuple[Any, ...]:
        return _hold, () if self._line < 0 else (reduction.DupFd(self._line),)


def _hold(*handles: Any) -> None:
    """In the worker: take what :class:`Lifeline` stands for."""
    for handle in handles:
        take_line(handle.detach())


class Handles:
    """The segment on its way to a worker of another ancestry: pickles as its descriptors."""

    def __init__(
        self, segment: Segment, crashes_fd: int, mail_fd: int, parent_watch: int, line: int
    ) -> None:
        self._segment = segment
        self._crashes_fd = crashes_fd
        self._mail_fd = mail_fd
        self._parent_watch = parent_watch
        self._line = line

    def close(self) -> None:
        watch, self._parent_watch = self._parent_watch, -1
        if watch >= 0:
            os.close(watch)
            let_go(self._line)
            self._line = -1

    def __reduce__(self) -> tuple[Any, ...]:
        fds = [self._segment.fd, self._segment.bell_fd, self._crashes_fd, self._parent_watch]
        if self._mail_fd >= 0:
            fds.append(self._mail_fd)
        return _attach, tuple(reduction.DupFd(fd) for fd in fds)


def _attach(*handles: Any) -> tuple[Segment, int, int, int]:
    """In the worker: what :class:`Handles` stands for."""
    crash_role("worker")  # a worker of the zygote has said so before
    fds = [handle.detach() for handle in handles]
    crash_point("handles.received")
    for fd in fds:
        os.set_inheritable(fd, False)  # programs that tasks start have no business with them
    return Segment.attach(fds[0], fds[1]), fds[2], fds[3], fds[4] if len(fds) > 4 else -1
