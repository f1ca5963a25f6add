"""One pool's machinery put together: its segment, dispatcher, workers and background thread."""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable
from multiprocessing import pool as stdlib
from multiprocessing.process import BaseProcess, _children  # type: ignore[attr-defined]

from fastpool._core._blocks import ParentExchange
from fastpool._core._codec import Codec
from fastpool._core._recover import Recovery
from fastpool._core._segment import POOL_DRAIN, POOL_STOP, Heap, Segment, may_give_addresses
from fastpool._core._submit import Dispatcher
from fastpool._core._system import usable_cpus
from fastpool._runtime import accounts, forks
from fastpool._runtime.aside import run_aside
from fastpool._runtime.context_vars import CarryingDispatcher
from fastpool._runtime.crash import crash_point
from fastpool._runtime.failures import cancelled, lost_by, overdue
from fastpool._runtime.ids import WorkerIds
from fastpool._runtime.lifecycle import ExitResults, open_mailbox
from fastpool._runtime.limits import Stopper
from fastpool._runtime.mailbox import Mailbox
from fastpool._runtime.options import Options, check_processes
from fastpool._runtime.postmortem import Findings, Postmortem
from fastpool._runtime.reports import PoolStats, WorkerInfo
from fastpool._runtime.start import Outfit, ProcessFactory, Starter, Worker
from fastpool._runtime.start_fork import ForkStarter, inherits, is_zygote
from fastpool._runtime.start_spawn import SpawnStarter
from fastpool._runtime.stillborn import StillbornRow
from fastpool._runtime.supervise import Supervisor
from fastpool._runtime.unpicklable import Explainer
from fastpool._runtime.worker import STOP_SIGNAL, Place
from fastpool.errors import PoolTerminatedError, TimeoutError

RUN, CLOSE, TERMINATE = stdlib.RUN, stdlib.CLOSE, stdlib.TERMINATE

#: How long a worker that was asked to end by SIGTERM may take before it is killed, in seconds.
TERM_GRACE = 0.5

#: How long the end of a closed pool waits for a log handler that makes no progress, in seconds.
MAIL_PATIENCE = 5.0

#: Address space for so many workers at once, beside those that are asked for: the dead whose last
#: results are still being read.
SPARE_SLOTS = 8

#: The longest sleep of the background thread when it has to look after something, in seconds: what
#: poll() takes is less than a month.
LONGEST_SLEEP = 86_400.0

#: How long to wait until a worker that the system refused is asked for again, in seconds.
REFUSED_PAUSE = 1.0


class Engine:
    """Starts and replaces the workers of one pool, and ends them.

    Nothing runs before :meth:`start`.

    Knows no ``Pool``: a pool that is dropped must not be kept alive by its own background thread.
    """

    def __init__(self, make_process: ProcessFactory, method: str, options: Options) -> None:
        self._options = options
        self._pid = os.getpid()
        self.wanted = options.processes
        self._lock = threading.RLock()
        self.state: str = RUN
        #: Whether the program has ended the pool, or begun to; a finalizer doesn't count.
        self.was_ended = False
        #: The most workers that the pool can be resized to.
        self.most = 2 * max(options.processes, len(usable_cpus()))
        self.segment = _new_segment(self.most + SPARE_SLOTS, options.plan.keep_bytes)
        heap = Heap(self.segment, 0, options.keep_bytes)
        self.exchange = ParentExchange(heap)
        serializer = options.plan.serializer.in_parent(method)
        carried = options.plan.setup.context_vars
        make_dispatcher: Callable[..., Dispatcher] = (
            Dispatcher if carried is None else functools.partial(CarryingDispatcher, carried)
        )
        self.dispatcher = make_dispatcher(
            self.segment,
            heap,
            Codec(self.exchange, serializer.make_pack(), serializer.loads),
            serializer.is_remembered,
            TimeoutError,
            min(options.plan.min_block_ns, options.max_block_ns),
            options.max_block_ns,
        )
        self.dispatcher.explain = Explainer(serializer)
        self.dispatcher.seeded = options.plan.seed is not None
        #: The process objects, as ``Pool._pool`` shows them.
        self.processes: list[BaseProcess] = []
        self._workers: dict[int, Worker] = {}  # by slot
        self._stopper = Stopper(self.dispatcher, self._workers)
        self.dispatcher.recovery = Recovery(
            self.dispatcher, options.retries, cancelled, overdue, self._stop_task
        )
        self._free_slots = list(range(self.segment.slots - 1, -1, -1))
        self._taken: list[frozenset[int] | None] = []  # the CPU sets in use
        self._ids = WorkerIds(exclusive=options.plan.setup.has_hooks)
        self._stillborn = StillbornRow(self.segment, options.processes)
        self.short_of_workers = False  # the system refused a replacement
        self._draining = False
        self._released = False
        self._mailbox: Mailbox | None = None
        self.exit_results = ExitResults(serializer.loads)
        self._keeping: object = None
        self._account = accounts.open_account(method, options.processes)
        plan = options.plan._replace(clocked=self._account is not None)
        try:
            self._postmortem = Postmortem()
            try:
                self._mailbox = open_mailbox(options.plan.setup, self.exit_results)
                outfit = Outfit(
                    make_process,
                    self.segment,
                    plan if method == "fork" else plan.packed_by(serializer),
                    options.daemon,
                    self._postmortem.fd,
                    -1 if self._mailbox is None else self._mailbox.fd,
                )
                self._starter: Starter = (
                    ForkStarter(outfit) if method == "fork" else SpawnStarter(outfit)
                )
            except BaseException:
                self._postmortem.close()
                if self._mailbox is not None:
                    self._mailbox.finish(0.0)
                raise
        except BaseException:
            self.segment.close_descriptors()
            raise
        self._supervisor = Supervisor(self)
        _engines.add(self)
        forks.guard(self.segment)

    def start(self) -> None:
        """Start the workers, and what looks after them; an error leaves nothing behind."""
        try:
            self._start_workers()
            if self._mailbox is not None:
                self._mailbox.start()
            self._supervisor.start()
        except BaseException:
            self._give_up()
            raise

    # ---- workers -------------------------------------------------------------------------------

    def repopulate(self) -> None:
        """Start workers until there are as many as wanted."""
        self._run_whole(self._start_workers)

    def _run_whole(self, step: Callable[[], None]) -> None:
        """See that a step comes to its end, whatever a signal handler raises."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            step()  # in a handler, amid another step: who waits for that one would wait for ever
        else:
            run_aside(step)

    def _start_workers(self) -> None:
        with self._lock:
            try:
                self._start_missing()
            except ChildProcessError:
                # Somebody killed the zygote. The next one has to be forked beside our threads, as
                # every worker of the standard library's pool is; the places are settled before.
                self._start_missing()

    def _start_missing(self) -> None:
        if not self._wants_workers():
            return
        # Those that leave have successors; but no more at a time than there are workers. Those that
        # are too many since a resize() may be busy for long, and count only for the room.
        staying = sum(not worker.surplus for worker in self._workers.values())
        missing = min(
            self.wanted - len(self.processes),
            2 * self.wanted - staying,
            len(self._free_slots),
            self._ids.room(self.wanted),
        )
        crash_point("repopulate.begin")
        places = [self._place() for _ in range(missing)]
        crash_point("repopulate.places")
        try:
            for worker in self._starter.start(tuple(places)):
                places.remove(worker.place)
                crash_point("repopulate.started")
                self._workers[worker.place.slot] = worker
                self.processes.append(worker.process)
                if worker.watch.fd >= 0:
                    self._supervisor.watch(worker.watch.fd)
                crash_point("repopulate.watched")
        except BaseException:
            for place in places:
                # One that started, but can't be watched, may have taken a task by now.
                nothing = Findings(0, None, None, False, None)
                self.dispatcher.recovery.settle_worker(place.slot, lost_by(nothing))
                self._vacate(place)
            raise
        crash_point("repopulate.done")
        self.segment.ring_bell()  # a poll() that runs already does not know the new watches

    def _place(self) -> Place:
        """A free slot, made ready, and the least taken of the CPU sets."""
        # A dead worker's slot may still hold a result that some thread is unpickling.
        free = [slot for slot in reversed(self._free_slots) if self.segment.is_settled(slot)]
        if not free:
            raise ValueError(f"this pool has room for {self.segment.slots} workers")
        # Where the program holds results, a new worker has to begin behind them.
        slot = next((slot for slot in free if not self.segment.holds_region_of(slot)), free[0])
        self._free_slots.remove(slot)
        cpus = min(self._options.cpus, key=self._taken.count)
        place = Place(slot, cpus, self._ids.take(slot), self.wanted)
        self._taken.append(cpus)
        self.dispatcher.attach_worker(place.slot)
        return place

    def _vacate(self, place: Place) -> None:
        self._free_slots.append(place.slot)
        self._taken.remove(place.cpus)
        self._ids.ended(place.id, place.slot)

    def _wants_workers(self) -> bool:
        if self.state == RUN:
            return self.dispatcher.failure is None
        return self.state == CLOSE and not self._draining and self.dispatcher.failure is None

    def workers(self) -> list[WorkerInfo]:
        """Report on every worker that runs."""
        everywhere = frozenset(usable_cpus())
        with self._lock:
            infos = []
            for slot, worker in sorted(self._workers.items()):
                _, state, _, tasks, _, _ = self.segment.worker_report(slot)
                infos.append(
                    WorkerInfo(
                        worker.process.pid or 0,
                        worker.process.name,
                        everywhere if worker.place.cpus is None else worker.place.cpus,
                        state,
                        tasks,
                    )
                )
            return infos

    def worker_ended(self, watch: int) -> None:
        """In the background thread: settle what a dead worker held, and replace it."""
        with self._lock:
            worker = next((w for w in self._workers.values() if w.watch.fd == watch), None)
            if worker is None:
                return
            crash_point("ended.found")
            peak_memory = worker.reap()
            crash_point("ended.reaped")
            del self._workers[worker.place.slot]
            if worker.process in self.processes:
                self.processes.remove(worker.process)
            self._settle(worker, peak_memory)
            crash_point("ended.settled")
            worker.close()
            self._vacate(worker.place)
            crash_point("ended.vacated")
            self._replace()
            crash_point("ended.replaced")

    def _replace(self) -> None:
        """Start what is missing; if the system refuses, go on with fewer and try again later."""
        try:
            self._start_workers()
            self.short_of_workers = False
        except Exception as error:
            self.short_of_workers = True
            if not self._workers:
                self.fail(error)

    def _settle(self, worker: Worker, peak_memory: int | None) -> None:
        slot, exitcode = worker.place.slot, worker.process.exitcode
        findings = self._postmortem.examine(slot, worker.process.pid or 0, exitcode, peak_memory)
        crash_point("ended.examined")
        if self._account is not None:
            self._account.add(self.segment.work_report(slot), worker.started)
        self._starter.ended(worker)
        stillborn = self._stillborn.has(worker)
        self.dispatcher.recovery.settle_worker(
            slot, lost_by(findings), *self._stopper.last_words(slot)
        )
        if not stillborn:
            self._stillborn.end()
        elif self.state == RUN and self.dispatcher.failure is None:
            error = self._stillborn.add(exitcode, findings)
            if error is not None:
                self.fail(error)

    def _retire(self, worker: Worker) -> None:
        """A worker will leave by itself: it counts no more."""
        worker.replaced = True
        self._ids.retired(worker.place.id, worker.place.slot)
        crash_point("retire.noted")
        if worker.process in self.processes:
            self.processes.remove(worker.process)

    def _replace_leaving(self) -> None:
        """Start the successors of workers that take no more tasks, if ids are free for them.

        Not only when they have ended: what runs at a worker's exit may take long, or for ever.
        """
        if not self._wants_workers():
            return
        leaving = [
            worker
            for slot, worker in self._workers.items()
            if not worker.replaced and self.segment.is_leaving(slot)
        ]
        for worker in leaving:
            self._retire(worker)
        if leaving:
            self._replace()

    def resize(self, processes: int) -> None:
        """Have so many workers from now on."""
        processes = check_processes(processes)
        if self.state != RUN:
            raise ValueError("Pool not running")
        if processes > self.most:
            raise ValueError(
                f"this pool has room for {self.most} workers, not for {processes}; "
                "create one that begins with more"
            )
        self.wanted = processes
        self._run_whole(self._adapt)

    def _adapt(self) -> None:
        """Have as many workers as are wanted by now."""
        with self._lock:
            if self.state != RUN:
                return
            surplus = [worker for worker in self._workers.values() if not worker.replaced]
            # Those that have nothing to do first.
            surplus.sort(key=lambda w: self.segment.worker_report(w.place.slot)[1] == "busy")
            for worker in surplus[: max(0, len(self.processes) - self.wanted)]:
                self._retire(worker)
                worker.surplus = True
                self.segment.stop_worker(worker.place.slot)
            self._start_workers()

    def _stop_task(self, slot: int, ticket: int) -> None:
        """A task was cancelled that a worker runs right now."""
        with self._lock:
            crash_point("stop.asked")
            self._stopper.stop(slot, ticket)
        self.segment.ring_bell()  # the background thread sees to it that it does stop

    def rouse(self) -> None:
        """In the background thread: somebody was refused to wake a worker that sleeps."""
        with self._lock:
            for slot, worker in self._workers.items():
                # Only where the signal has its handler.
                if self.segment.worker_report(slot)[1] in ("idle", "busy"):
                    worker.send(STOP_SIGNAL)

    def patience(self) -> float | None:
        """In the background thread: look after what has a time, and say how many ms to sleep."""
        with self._lock:
            at = self._stopper.look()
            birth = self._starter.look()
        times = [] if at is None else [(at - time.monotonic_ns()) / 1e6 + 0.5]
        if self.short_of_workers:
            times.append(REFUSED_PAUSE * 1e3)
        if birth is not None:
            times.append(birth * 1e3)
        return min(max(0.0, min(times)), LONGEST_SLEEP * 1e3) if times else None

    def stats(self) -> PoolStats:
        """Report on the pool's memory."""
        self.dispatcher.poll_jobs()  # what has arrived is held
        with self._lock:
            used, blocks, warm, peak = self.dispatcher.heap.report()
            functions, function_bytes = self.dispatcher.functions.remembered()
            workers = [self.segment.heap_report(slot) for slot in self._workers]
        held_blocks, held_bytes = self.segment.held_results()
        in_use = used - function_bytes + held_bytes
        return PoolStats(
            bytes_in_use=in_use,
            blocks_in_use=blocks - functions + held_blocks,
            bytes_warm=0 if self._released else warm + sum(report[1] for report in workers),
            bytes_peak=max(in_use, peak + sum(report[2] for report in workers)),
            copies_avoided=self.exchange.copies_avoided,
            bytes_not_copied=self.exchange.bytes_not_copied,
        )

    def fail(self, error: BaseException) -> None:
        """No worker can run: every call gets this error."""
        self.dispatcher.fail_pool(error)

    # ---- the end -------------------------------------------------------------------------------

    def step(self) -> bool:
        """In the background thread: take what is due; returns whether all is over."""
        with self._lock:
            if self.state == CLOSE and not self._draining and self.dispatcher.jobs == 0:
                self._draining = True
                crash_point("drain.begin")
                self.segment.set_state(POOL_DRAIN)
                crash_point("drain.told")
                self.segment.wake_all(self.segment.slots)
            if self.short_of_workers:
                self._replace()
            self._replace_leaving()
            return self.state != RUN and not self._workers

    def set_state(self, state: str) -> None:
        """What programs do that assign to ``Pool._state``."""
        self.was_ended = state != RUN
        with self._lock:
            if state == RUN and self._released:
                self.state = state  # nothing runs any more; only the word changes
            elif state == CLOSE:
                self.close()
            elif state == TERMINATE and self.state != TERMINATE:
                self.state = state  # no replacements from now on; the caller kills the workers
                self.dispatcher.stop_accepting()

    def is_alive(self) -> bool:
        """Whether the background thread runs."""
        return self._supervisor.is_alive()

    def close(self) -> None:
        """Take no more calls; workers leave when everything is done."""
        self.was_ended = True
        with self._lock:
            if self.state == RUN:
                self.state = CLOSE
                crash_point("close.begin")
                self.dispatcher.stop_accepting()
                crash_point("close.done")

    def leave(self, pool: object) -> None:
        """Take no more calls, and keep the pool to the end: dropped, it would be terminated."""
        with self._lock:
            if not self._released:
                self._keeping = pool
            self.close()

    def terminate(self, kill: bool = False) -> None:
        """Drop what is queued, stop what runs, and wait until every worker is gone.

        `kill`: the workers are not asked to end before.
        """
        try:
            self._end_workers(kill)
        except BaseException:  # a signal handler's: whoever gives up here doesn't come again
            self._end_workers(kill)
            raise
        if self._has_no_more_to_end():
            return
        if self._supervisor.ident is None:  # nothing was ever started
            self.release()
        else:
            self.join()

    def _has_no_more_to_end(self) -> bool:
        """Whether all is released, or another process's; a fork in C may have told nobody."""
        return self._released or self.dispatcher.foreign or os.getpid() != self._pid

    def _end_workers(self, kill: bool) -> None:
        with self._lock:
            self.state = TERMINATE
            if self._has_no_more_to_end():
                return
            self.dispatcher.stop_accepting()
            crash_point("terminate.begin")
            self.segment.set_state(POOL_STOP)
            crash_point("terminate.told")
            workers = list(self._workers.values())
            for worker in workers:
                if worker.process.exitcode is None:
                    (worker.process.kill if kill else worker.process.terminate)()
            self.segment.wake_all(self.segment.slots)
            self.dispatcher.fail_all(PoolTerminatedError("the pool was terminated"))
            crash_point("terminate.failed")
        self._join_or_kill(workers)
        crash_point("terminate.joined")
        with self._lock:  # the background thread may be settling a worker, or have released all
            if not self._released:
                self._starter.end()
        crash_point("terminate.ended")
        self.segment.ring_bell()

    @staticmethod
    def _join_or_kill(workers: list[Worker]) -> None:
        """Wait for workers that were asked to end by SIGTERM."""
        deadline = time.monotonic() + TERM_GRACE
        for worker in workers:
            if worker.watch.fd < 0:  # of a context of the program's own: no process of the system's
                worker.process.join()
            else:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        for worker in workers:
            if worker.watch.fd >= 0 and worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait until every worker is gone and nothing is left behind."""
        if threading.current_thread() is not self._supervisor:
            self._supervisor.join(timeout)

    def release(self) -> None:
        """In the background thread, after the last worker: leave nothing behind."""
        if self._mailbox is not None:  # not under the lock, which a log handler may want
            self._mailbox.finish(MAIL_PATIENCE if self.state == CLOSE else TERM_GRACE)
        with self._lock:
            if self._released:
                return
            self._released = True
            crash_point("release.begin")
            self._starter.close()
            crash_point("release.no_zygote")
            self._postmortem.close()
            if self._account is not None:
                self._account.close()
            self.dispatcher.functions.forget()
            self.segment.retire(release=not self.segment.is_reading())
            self.segment.close_descriptors()
            crash_point("release.closed")
            _engines.remove(self)
            self._keeping = None

    def collapse(self, error: BaseException) -> None:
        """The background thread can't go on: every call gets this error, and nothing is left."""
        self.fail(error)
        self.dispatcher.stop_accepting()  # nobody would call the callbacks of a later one
        if not self._released:
            self._give_up()

    def _give_up(self) -> None:
        """Nobody looks after the workers, or not all could be started: end those that are there."""
        with self._lock:
            self.state = TERMINATE
            # One that a signal handler has cut off from us before we knew it leaves by itself.
            self.segment.set_state(POOL_STOP)
            self.segment.wake_all(self.segment.slots)
            workers = list(self._workers.values())
            for worker in workers:
                if worker.process.exitcode is None:
                    worker.process.terminate()
            self._join_or_kill(workers)
            for worker in workers:
                worker.close()
            self._workers.clear()
            self._starter.end()
            self.segment.ring_bell()
        supervisor = self._supervisor
        if supervisor.is_alive() and threading.current_thread() is not supervisor:
            supervisor.join()  # it releases; and may be about to sleep on what that closes
        else:
            self.release()

    def disown(self) -> None:
        """This process is a fork of the owner: let go, and touch nothing of the owner's."""
        self.dispatcher.disown()
        if not is_zygote():  # whose workers are given another set
            # Or the child's exit would terminate the parent's workers.
            for worker in self._workers.values():
                _children.discard(worker.process)
        self._released = True
        self._lock = threading.RLock()
        if inherits(self.segment):
            if self._mailbox is not None:
                self._mailbox.close_parents()
            return
        if self._mailbox is not None:
            self._mailbox.disown()
        self._starter.disown()
        self._postmortem.close()
        self.segment.close_descriptors()


def _new_segment(slots: int, keep: int) -> Segment:
    segment: Segment | None = None
    try:
        segment = Segment.create(slots, keep=keep)
    except MemoryError:
        if not may_give_addresses():
            raise
    if segment is None or (segment.is_small and may_give_addresses()):
        # Pools that have ended may wait for the collector in a cycle of the program's, each with
        # its address space; on a free-threaded build it comes seldom.
        segment = None
        gc.collect()
        segment = Segment.create(slots, keep=keep)
    return segment


_engines: forks.Living[Engine] = forks.Living()


def _after_fork_in_child() -> None:
    for engine in _engines.all():
        engine.disown()
    _engines.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
