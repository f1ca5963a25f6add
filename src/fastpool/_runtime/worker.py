"""What runs in a worker process, around the core's loop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NamedTuple

from fastpool._core._blocks import WorkerExchange, own_mappings
from fastpool._core._codec import Codec
from fastpool._core._outbox import Outbox
from fastpool._core._recover import TIMEOUT
from fastpool._core._segment import Heap, Segment
from fastpool._core._system import SPARE_SIGNAL, bind_cpus, die_with, unblock_interrupts
from fastpool._core._workloop import WorkLoop
from fastpool._runtime.crash import crash_point
from fastpool._runtime.error_writer import ErrorWriter
from fastpool._runtime.lifecycle import Life
from fastpool._runtime.options import WorkerPlan
from fastpool._runtime.postmortem import record_crashes
from fastpool._runtime.seeds import Seeder
from fastpool._runtime.worker_context import WorkerContext
from fastpool.errors import TaskCancelledError, TaskTimeoutError

#: What asks a worker to stop its task.
STOP_SIGNAL = SPARE_SIGNAL


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
        errors,
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


def run_spawned(
    attached: tuple[Segment, int, int, int], held: None, place: Place, plan: WorkerPlan
) -> None:
    """Be a worker that does not share the zygote's life: watch the parent's instead."""
    segment, crashes_fd, parent_watch, mail_fd = attached
    die_with(parent_watch)
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


def prepare(process: BaseProcess, daemon: bool) -> BaseProcess:
    """Name a worker's process object, as the standard library does, and make it a daemon or not."""
    process.name = process.name.replace("Process", "PoolWorker")
    process.daemon = daemon
    return process
