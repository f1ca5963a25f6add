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
from fastpool._core._system import pidfd_open
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

#: Makes a process object: called like ``multiprocessing.Process``.
ProcessFactory = Callable[..., BaseProcess]


class Worker:
    """A started worker, as the parent knows it."""

    def __init__(self, process: BaseProcess, place: Place, pidfd: int, owns_pidfd: bool) -> None:
        self.process = process
        self.place = place
        self.pidfd = pidfd
        self.owns_pidfd = owns_pidfd
        self.started = time.monotonic()
        self.replaced = False  # it will leave by itself, and its successor has been started
        self.surplus = False  # it will leave by itself, and has no successor

    def send(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signum)

    def reap(self) -> int | None:
        """Join the process, which has ended; returns its peak memory in bytes, if it is known."""
        popen: Any = self.process._popen  # type: ignore[attr-defined]
        peak = None
        if isinstance(popen, popen_fork.Popen) and popen.method in ("fork", "spawn"):
            peak = _wait_for(popen)
        self.process.join()
        if isinstance(popen, ZygotePopen):
            peak = popen.peak_memory
        return peak

    def close(self) -> None:
        """Close the pidfd, if it is ours and not the process object's."""
        if self.owns_pidfd and self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = -1


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
    try:
        pid, status, usage = os.wait4(popen.pid, os.WNOHANG)
    except ChildProcessError:
        return None  # somebody's os.wait() took it
    if pid != popen.pid:
        return None
    popen.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024


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
                yield Worker(process, place, popen.sentinel, owns_pidfd=False)
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
        self._handles = Handles(segment, crashes_fd, pidfd_open(os.getpid()), mail_fd)

    def start(self, places: Sequence[Place]) -> Iterator[Worker]:
        for place in places:
            args = (self._handles, place, self._plan)
            process = worker.prepare(
                self._make_process(target=worker.run_spawned, args=args), self._daemon
            )
            name = process.name
            if self._plan.setup.threads is not None:
                process.name = EarlyName(name, self._plan.setup.threads)
            try:
                self._start_process(process)
            except PICKLE_ERRORS as error:
                self._explain(error)
                raise
            process.name = name  # or who pickles it later would get the variables, too
            pid = getattr(process, "pid", None)
            try:
                pidfd = pidfd_open(pid) if isinstance(pid, int) else -1
            except ProcessLookupError:
                pidfd = _ended()
            yield Worker(process, place, pidfd, owns_pidfd=True)

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


def _ended() -> int:
    """A descriptor that looks like the pidfd of a process that has ended already."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(writer)
    return reader


class Handles:
    """The segment on its way to a worker of another ancestry: pickles as its descriptors."""

    def __init__(self, segment: Segment, crashes_fd: int, parent_pidfd: int, mail_fd: int) -> None:
        self._segment = segment
        self._crashes_fd = crashes_fd
        self._parent_pidfd = parent_pidfd
        self._mail_fd = mail_fd

    def close(self) -> None:
        if self._parent_pidfd >= 0:
            os.close(self._parent_pidfd)
            self._parent_pidfd = -1

    def __reduce__(self) -> tuple[Any, ...]:
        fds = [self._segment.fd, self._segment.bell_fd, self._crashes_fd, self._parent_pidfd]
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
