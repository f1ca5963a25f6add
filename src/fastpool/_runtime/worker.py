"""What runs in a worker process, around the core's loop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from multiprocessing.pool import (  # type: ignore[attr-defined]
    ExceptionWithTraceback,
    MaybeEncodingError,
)
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import NamedTuple

from fastpool._core._blocks import WorkerExchange, own_mappings
from fastpool._core._codec import Codec
from fastpool._core._outbox import Outbox
from fastpool._core._recover import TIMEOUT
from fastpool._core._segment import Heap, Segment
from fastpool._core._system import bind_cpus, die_with, unblock_interrupts
from fastpool._core._workloop import WorkLoop
from fastpool._runtime.crash import crash_point
from fastpool._runtime.lifecycle import Life, WorkerContext
from fastpool._runtime.options import WorkerPlan
from fastpool._runtime.postmortem import record_crashes
from fastpool._runtime.seeds import Seeder
from fastpool._runtime.serializers import Serializer
from fastpool._runtime.unpicklable import Explainer, hint_for_loading, move_notes
from fastpool.errors import RemoteError, TaskCancelledError, TaskTimeoutError

#: What asks a worker to stop its task. A real-time signal: hardly a program uses these.
STOP_SIGNAL = signal.SIGRTMIN + 9


class Place(NamedTuple):
    """Where a worker works: its slot of the segment, its CPUs, and which of the pool's it is."""

    slot: int
    cpus: frozenset[int] | None
    id: int
    pool_size: int


def run(segment: Segment, place: Place, plan: WorkerPlan, crashes_fd: int, mail_fd: int) -> None:
    """Be the worker of a place, until told to leave.

    Raises
    ------
    SystemExit
        What a task raised with ``sys.exit``; status 1 after another exception that is not an
        ``Exception``, and after an initializer that raised. The parent has been told before.
    """
    slot = place.slot
    segment.enter(slot, os.getpid())
    if place.cpus is not None:
        bind_cpus(place.cpus)
        crash_point("run.bound")
    settle_signals()
    record_crashes(crashes_fd, slot)
    crash_point("run.recording")
    os.register_at_fork(before=own_mappings)
    exchange = WorkerExchange(Heap(segment, 1 + slot, plan.keep_bytes))
    serializer = plan.serializer
    codec = Codec(exchange, serializer.make_pack(), serializer.loads)
    errors = ErrorWriter(serializer)
    outbox_kind, loop_kind = _kinds(plan.clocked)
    outbox = outbox_kind(segment, slot, codec, errors.report, errors.unsendable)
    loop = loop_kind(
        outbox,
        plan.maxtasks,
        plan.max_memory,
        _stopped,
        plan.min_block_ns,
        plan.max_block_ns,
        None if plan.seed is None else Seeder(plan.seed),
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(STOP_SIGNAL, lambda signum, frame: loop.judge())
    life = Life(
        plan.setup,
        WorkerContext(place.id, place.pool_size),
        mail_fd,
        serializer.make_dumps(),
        errors.report,
        errors.unsendable,
    )
    try:
        crash_point("run.made")
        try:
            life.prepare()
            if plan.initializer is not None:
                plan.initializer(*plan.initargs)
                crash_point("run.initialized")
            life.begin()
        except BaseException as error:
            outbox.post_init_error(error)
            sys.exit(1)
        try:
            loop.run()
            crash_point("run.looped")
        except SystemExit:
            raise
        except BaseException:
            sys.exit(1)
    finally:
        segment.leave(slot)
        crash_point("run.left")
        if not segment.is_stopping():
            life.end()


def run_spawned(attached: tuple[Segment, int, int, int], place: Place, plan: WorkerPlan) -> None:
    """Be a worker that does not share the zygote's life: watch the parent's instead."""
    segment, crashes_fd, parent_pidfd, mail_fd = attached
    die_with(parent_pidfd)
    crash_point("run.watching")
    run(segment, place, plan, crashes_fd, mail_fd)


def _kinds(clocked: bool) -> tuple[type[Outbox], type[WorkLoop]]:
    if not clocked:
        return Outbox, WorkLoop
    from fastpool._core._clocked import ClockedLoop, ClockedOutbox

    return ClockedOutbox, ClockedLoop


def _stopped(verdict: int) -> BaseException:
    """What is raised in a task that shall be stopped."""
    return TaskTimeoutError() if verdict == TIMEOUT else TaskCancelledError("stopped")


def settle_signals() -> None:
    """Ctrl-C is the parent's to handle.

    A handler, not SIG_IGN: programs that tasks start would inherit that and could not be
    interrupted. And no signal of a worker may write into the parent's wake-up descriptor.
    """
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, _ignore)
        unblock_interrupts()  # blocked from the start on


def _ignore(signum: int, frame: FrameType | None) -> None:
    pass


# ---- exceptions on their way to the parent -----------------------------------------------------


class ErrorWriter:
    """Writes exceptions of tasks, so that the parent can raise them."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._dumps = serializer.make_dumps()
        self._plain_dumps = serializer.make_plain_dumps()

    def report(self, error: BaseException) -> bytes:
        """Pickle an exception of a task.

        The parent gets the same exception with a ``multiprocessing.pool.RemoteTraceback`` as its
        cause; a ``MaybeEncodingError`` if it can't be pickled, as in the standard library; and a
        ``RemoteError`` if its pickle can't be loaded, which hangs the standard library's pool.
        """
        hint_for_loading(self._serializer, error)
        trace = _user_frames(error.__traceback__)
        lines = traceback.format_exception(type(error), error, trace)
        try:
            data = self._dumps(ExceptionWithTraceback(error, trace))
        except Exception as reason:
            return self._plain_dumps(self.unsendable(reason, error, "the exception"))
        try:
            broken = not isinstance(self._serializer.loads(data), BaseException)
        except Exception:
            broken = True
        if broken:
            kind = type(error)
            stand_in = RemoteError(
                f"{kind.__module__}.{kind.__qualname__}", _text(error), "".join(lines)
            )
            data = self._plain_dumps(ExceptionWithTraceback(stand_in, None))
        return data

    def unsendable(
        self, reason: Exception, value: object, what: str = "the result"
    ) -> BaseException:
        """Return the error that says that a result could not be pickled.

        Its ``reason`` is what the pickling raised, where that can be sent: executors raise it.
        """
        Explainer(self._serializer)(reason, [(what, value)])
        error: BaseException = MaybeEncodingError(reason, value)
        move_notes(reason, error)
        try:
            self._serializer.loads(self._plain_dumps(reason))
        except Exception:
            return error
        error.reason = reason  # type: ignore[attr-defined]
        return error


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the core's own frames at its top, if there are others."""
    user = trace
    while user is not None and user.tb_frame.f_code.co_filename.endswith(".pyx"):
        user = user.tb_next
    return user or trace


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its str() raised>"


def prepare(process: BaseProcess, daemon: bool) -> BaseProcess:
    """Name a worker's process object, as the standard library does, and make it a daemon or not."""
    process.name = process.name.replace("Process", "PoolWorker")
    process.daemon = daemon
    return process
