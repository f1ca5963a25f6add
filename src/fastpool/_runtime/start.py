"""What every way of starting workers has in common."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import popen_fork
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Protocol

from fastpool._core._segment import Segment
from fastpool._core._system import Descriptor, reap, send_signal
from fastpool._runtime.options import WorkerPlan
from fastpool._runtime.worker import Place
from fastpool._runtime.zygote import ZygotePopen

#: How long a worker may take to end after all of its descriptors are closed, in seconds.
_EXIT_SECONDS = 1.0

#: Makes a process object: called like ``multiprocessing.Process``.
ProcessFactory = Callable[..., BaseProcess]


class Outfit(NamedTuple):
    """What the workers of a pool are made of, and what each of them is given."""

    make_process: ProcessFactory
    segment: Segment
    plan: WorkerPlan
    daemon: bool
    crashes_fd: int
    mail_fd: int  # -1: nothing is sent that way


class Worker:
    """A started worker, as the parent knows it."""

    def __init__(self, process: BaseProcess, place: Place, watch: Descriptor) -> None:
        self.process = process
        self.place = place
        self.watch = watch  # closed where it is no process of the system's
        self.started = time.monotonic()
        self.replaced = False  # it will leave by itself, and its successor has been started
        self.surplus = False  # it will leave by itself, and has no successor

    def send(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        pid = self.process.pid
        if pid is None:  # of a context of the program's own: no process of the system's
            return
        with contextlib.suppress(OSError):
            send_signal(self.watch.fd, pid, signum)

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
        """Let go of the watch, which may be the process object's too."""
        self.watch = Descriptor()


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

    def look(self) -> float | None:
        """Look after workers that do not begin; returns in how many seconds to look again."""
        ...

    def ended(self, worker: Worker) -> None:
        """One that was yielded has ended, and its place is not used again yet.

        That may show that what starts workers is no good: then its other workers end, too, and the
        next ones are started by another one.
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


def start_process(process: BaseProcess) -> None:
    """``process.start()``, with a hint where that refuses."""
    try:
        process.start()
    except AssertionError as error:
        if "daemonic" not in str(error):
            raise
        raise AssertionError(
            f"{error}; make the pool that this worker belongs to with daemon=False"
        ) from None


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
