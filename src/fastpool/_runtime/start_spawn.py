"""Starting workers as the context does: ``spawn``, ``forkserver``, or a context of the user's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing import reduction, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from fastpool._core._segment import Segment
from fastpool._core._system import (
    BY_PIPE,
    Descriptor,
    Line,
    lend_line,
    take_line,
    watch_id,
    watch_kind,
    watch_self,
)
from fastpool._runtime import worker
from fastpool._runtime.crash import crash_point, crash_role
from fastpool._runtime.start import Outfit, Worker, start_process
from fastpool._runtime.thread_limits import EarlyName
from fastpool._runtime.unpicklable import PICKLE_ERRORS, Explainer
from fastpool._runtime.worker import Place


class SpawnStarter:
    """Starts workers as the context does: ``spawn``, ``forkserver``, or a context of the user's."""

    def __init__(self, outfit: Outfit) -> None:
        self._outfit = outfit
        self._kind = watch_kind()
        self._handles = Handles(outfit, self._kind)

    def start(self, places: Sequence[Place]) -> Iterator[Worker]:
        make_process, _, plan, daemon, _, _ = self._outfit
        for place in places:
            lifeline = Lifeline(self._kind)
            args = (self._handles, lifeline, place, plan)
            process = worker.prepare(make_process(target=worker.run_spawned, args=args), daemon)
            name = process.name
            if plan.setup.threads is not None:
                process.name = EarlyName(name, plan.setup.threads)
            new = Worker(process, place, Descriptor())
            try:
                self._start_process(process)
                process.name = name  # or who pickles it later would get the variables, too
                lifeline.hand_watch(new, getattr(process, "pid", None))
            except BaseException as error:
                _end_unknown(process)
                if isinstance(error, PICKLE_ERRORS):
                    self._explain(error)
                raise
            finally:
                lifeline.close()
            yield new

    def _explain(self, error: BaseException) -> None:
        plan = self._outfit.plan
        functions = {
            "initializer": plan.initializer,
            "worker_init": plan.setup.init,
            "worker_exit": plan.setup.exit,
        }
        Explainer(plan.serializer).of_start(error, functions, plan.initargs)

    @staticmethod
    def _start_process(process: BaseProcess) -> None:
        """Start it so that Ctrl-C can't hit it before it is ready to ignore that."""
        method = getattr(process, "_start_method", None)
        if method == "forkserver":
            _preload_worker()
        if method != "spawn":
            start_process(process)  # a process of the forkserver inherits nothing of this thread
            return
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            start_process(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def look(self) -> float | None:
        return None  # each begins anew: what has an end of its own is told of by that

    def ended(self, worker: Worker) -> None:
        pass

    def end(self) -> None:
        pass

    def close(self) -> None:
        self._handles.close()

    def disown(self) -> None:
        self._handles.close()


def _end_unknown(process: BaseProcess) -> None:
    """End a process, if it has started: nobody looks after it, and others will have its place."""
    if isinstance(getattr(process, "pid", None), int):
        process.kill()
        process.join()


def _preload_worker() -> None:
    """Have the forkserver, if it starts now, import once what every worker of a pool needs."""
    from multiprocessing import forkserver  # only who uses it has to load it

    server: Any = forkserver._forkserver
    modules = getattr(server, "_preload_modules", None)
    if modules is not None and worker.__name__ not in modules:
        # Not by its method, which would forget what the program said of errors (3.15).  And a list
        # of our own: that one may be the program's.
        server._preload_modules = [*modules, worker.__name__]


class Lifeline:
    """What the end of a worker will be noticed by; pickles as what it has to hold for that.

    Parameters
    ----------
    kind : int
        As :func:`watch_kind` says.
    """

    def __init__(self, kind: int) -> None:
        self._watch, self._line = lend_line() if kind == BY_PIPE else (Descriptor(), Line())

    def hand_watch(self, started: Worker, pid: object) -> None:
        """After the start: give the worker its watch, unless it is no process of the system's."""
        if not isinstance(pid, int):
            return
        if self._line.fd >= 0:
            started.watch = self._watch.take()
            return
        try:
            started.watch = watch_id(pid)
        except ProcessLookupError:  # it has ended already
            started.watch, line = lend_line()
            line.let_go()

    def close(self) -> None:
        """Let go of what only the worker may hold."""
        self._line.let_go()
        self._watch.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _hold, () if self._line.fd < 0 else (reduction.DupFd(self._line.fd),)


def _hold(*handles: Any) -> None:
    """In the worker: take what :class:`Lifeline` stands for."""
    for handle in handles:
        take_line(handle.detach())


class Handles:
    """The segment on its way to a worker of another ancestry: pickles as its descriptors."""

    def __init__(self, outfit: Outfit, kind: int) -> None:
        self._outfit = outfit
        self._parent_watch, self._line = watch_self(kind)

    def close(self) -> None:
        self._parent_watch.close()
        self._line.let_go()

    def __reduce__(self) -> tuple[Any, ...]:
        _, segment, _, _, crashes_fd, mail_fd = self._outfit
        fds = [segment.fd, segment.bell_fd, crashes_fd, self._parent_watch.fd]
        if mail_fd >= 0:
            fds.append(mail_fd)
        return _attach, tuple(reduction.DupFd(fd) for fd in fds)


def _attach(*handles: Any) -> tuple[Segment, int, int, int]:
    """In the worker: what :class:`Handles` stands for."""
    crash_role("worker")  # a worker of the zygote has said so before
    fds = [handle.detach() for handle in handles]
    crash_point("handles.received")
    for fd in fds:
        os.set_inheritable(fd, False)  # programs that tasks start have no business with them
    return Segment.attach(fds[0], fds[1]), fds[2], fds[3], fds[4] if len(fds) > 4 else -1
