"""The hot paths of a pool, to be counted under callgrind; a program of its own.

    python benchmarks/instruction_paths.py MARKS

`instructions.py` runs it. MARKS is the shared library of ``c/marks.c``.

The parent and its one worker are played by one thread, one after the other: the parent sends a
batch, then the worker's loop runs until its queue is empty, then the parent reads the results. So
nobody waits, nobody spins, and no scheduler decides what is counted. All else is as in a program:
the pool's own methods, its rings, its codec, its worker's loop. What the tasks call is built in, so
that little of the interpreter is counted. Each path is run for N and for 2 N items, some times.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import operator
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from fastpool import Pool
from fastpool._core._blocks import WorkerExchange
from fastpool._core._codec import Codec
from fastpool._core._outbox import Outbox
from fastpool._core._segment import POOL_DRAIN, POOL_RUN, Heap, Segment
from fastpool._core._workloop import WorkLoop
from fastpool._runtime.error_writer import ErrorWriter
from fastpool._runtime.serializers import PLAIN
from fastpool.bench.timing import expect

#: Tasks of a batch; twice as many fit into a ring of results, so that no worker waits for room.
TASKS = 100
#: Items of a chunk; twice as many.
ITEMS = 2000
#: How often every path is counted: the least counts, since what comes from outside only adds.
REPEATS = 7
#: How often `apply` is, which a timer interrupts: late ones add most.
WAITING_REPEATS = 15
#: How long after one task the worker looks for the next, in seconds: long enough for the parent to
#: fall asleep before, also under callgrind.
PAUSE = 0.02
#: How often a waiting parent pauses before it yields.
PAUSES = 16
#: The first of the ints: none is one of the small ones that Python keeps.
FIRST_INT = 10**6

Path = Callable[["Stage", int], None]


class NoProcess:
    """Stands for the worker's process, which is never started."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.name = "Process-1"
        self.daemon = True
        self.exitcode = None
        self.pid = None

    def start(self) -> None:
        """Do nothing."""


class NoContext:
    """A context of the program's own, as `Pool` accepts it."""

    Process = NoProcess

    def get_start_method(self) -> str:
        """Be no fork."""
        return "none"


class Stage:
    """A pool whose only worker runs when it is told to, in this thread.

    Parameters
    ----------
    marks : ctypes.CDLL
        ``c/marks.c``.
    """

    def __init__(self, marks: ctypes.CDLL) -> None:
        self._marks = marks
        self.is_on_call = False  # whether `work_while_asleep` shall do anything
        context: Any = NoContext()
        self.pool = Pool(1, context=context, blocktime=0)
        engine: Any = self.pool._engine
        self._segment: Segment = engine.segment
        self._segment.pauses = PAUSES  # else a microsecond of them, which is no constant
        # What `worker.run` does, without its signals.
        own = Segment.attach(os.dup(self._segment.fd), os.dup(self._segment.bell_fd))
        slot = next(iter(engine._workers))
        own.enter(slot, os.getpid())
        heap = Heap(own, 1 + slot, 2**20)
        codec = Codec(WorkerExchange(heap), PLAIN.make_pack(), PLAIN.loads)
        errors = ErrorWriter(PLAIN)
        outbox = Outbox(own, slot, codec, errors.report, errors.unsendable)
        self._loop = WorkLoop(outbox, 0, 0, lambda _: RuntimeError("stopped"), 0, 0)

    def work(self) -> None:
        """Be the worker until nothing is left to do."""
        self._segment.set_state(POOL_DRAIN)
        self._loop.run()
        self._segment.set_state(POOL_RUN)

    def work_while_asleep(self, _signum: int, _frame: object) -> None:
        """In a signal handler, in the middle of a call that waits: be the worker, uncounted."""
        self._marks.count_toggle()
        if self.is_on_call:
            self.work()
            # Again and again, in case that the parent was not yet asleep.
            signal.setitimer(signal.ITIMER_REAL, PAUSE, PAUSE)
        self._marks.count_toggle()

    def counted(self, path: str, n: int, call: Callable[[], Any]) -> Any:
        """Call, and have its instructions counted as those of n items of a path."""
        name = f"{path}:{n}".encode()
        begin, end = self._marks.count_begin, self._marks.count_end
        begin()
        value = call()
        end(name)
        return value


def single_calls(stage: Stage, n: int) -> None:
    """``apply_async`` n times, the worker's part, ``get`` n times."""
    submit, func, args = stage.pool.apply_async, operator.neg, (FIRST_INT,)
    jobs: list[Any] = [None] * n
    values: list[Any] = [None] * n

    def send() -> None:
        for i in range(n):
            jobs[i] = submit(func, args)

    def get() -> None:
        for i in range(n):
            values[i] = jobs[i].get()

    stage.counted("apply_async, send", n, send)
    stage.counted("apply_async, worker", n, stage.work)
    stage.counted("apply_async, get", n, get)
    expect(values, [-FIRST_INT] * n)


def waiting_calls(stage: Stage, n: int) -> None:
    """``apply`` n times: the parent sends, falls asleep, wakes up and reads.

    The worker's part is done by a signal handler while the parent sleeps, and isn't counted.
    """
    apply, func, args = stage.pool.apply, operator.neg, (FIRST_INT,)
    values: list[Any] = [None] * n

    def call() -> None:
        for i in range(n):
            values[i] = apply(func, args)
        stage.is_on_call = False  # first: a signal may have come that would set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)

    stage.is_on_call = True
    signal.signal(signal.SIGALRM, stage.work_while_asleep)
    signal.setitimer(signal.ITIMER_REAL, PAUSE, PAUSE)
    stage.counted("apply", n, call)
    expect(values, [-FIRST_INT] * n)


def single_items(stage: Stage, n: int) -> None:
    """``map`` with chunks of one item."""
    items = list(range(FIRST_INT, FIRST_INT + n))
    send = lambda: stage.pool.map_async(operator.neg, items, chunksize=1)  # noqa: E731
    job = stage.counted("map, chunksize 1, send", n, send)
    stage.counted("map, chunksize 1, worker", n, stage.work)
    expect(stage.counted("map, chunksize 1, get", n, job.get), [-item for item in items])


def stream(stage: Stage, n: int) -> None:
    """``imap``: all items are sent at once, and all results are there before the first is taken."""
    items = list(range(FIRST_INT, FIRST_INT + n))
    send = lambda: stage.pool.imap(operator.neg, items, buffersize=n)  # noqa: E731
    results = stage.counted("imap, send", n, send)
    stage.work()
    values: list[Any] = [None] * n

    def read() -> None:
        for i in range(n):
            values[i] = results.next()

    stage.counted("imap, next", n, read)
    expect(values, [-item for item in items])


def chunk(name: str, func: Callable[..., Any], make: Callable[[int], Any], star: bool) -> Path:
    """One chunk of many items: what an item costs where it is written, run, and read."""

    def path(stage: Stage, n: int) -> None:
        items = [make(i) for i in range(n)]
        method = stage.pool.starmap_async if star else stage.pool.map_async
        send = lambda: method(func, items, chunksize=n)  # noqa: E731
        job = stage.counted(f"{name}, encode", n, send)
        stage.counted(f"{name}, worker", n, stage.work)
        values = stage.counted(f"{name}, decode", n, job.get)
        expect(values, list((itertools.starmap if star else map)(func, items)))

    return path


PATHS: tuple[tuple[Path, int, int], ...] = (
    (single_calls, TASKS, REPEATS),
    (waiting_calls, 1, WAITING_REPEATS),
    (single_items, TASKS, REPEATS),
    (stream, TASKS, REPEATS),
    (chunk("map of ints", operator.neg, lambda i: FIRST_INT + i, False), ITEMS, REPEATS),
    (chunk("map of str", str.upper, lambda i: f"line {FIRST_INT + i}", False), ITEMS, REPEATS),
    (chunk("starmap", operator.add, lambda i: (FIRST_INT + i, i), True), ITEMS, REPEATS),
)


def main() -> None:
    """Count every path once for N and once for 2 N items, after a first run that does not count."""
    marks = ctypes.CDLL(sys.argv[1])
    gc.disable()  # when it collects depends on all that was allocated before
    # The pool's background thread inherits this mask, so that the timer interrupts this thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    stage = Stage(marks)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    for path, n, _ in PATHS:
        path(stage, 2 * n)
    marks.count_start()
    for path, n, repeats in PATHS:
        ballast: list[Any] = []
        for _ in range(repeats):
            # Where the allocator's pools end is chance: elsewhere, for the least of the counts.
            ballast += [FIRST_INT + i for i in range(37)]
            ballast += [f"line {FIRST_INT + i}" for i in range(11)]
            path(stage, n)
            path(stage, 2 * n)
    sys.stdout.flush()
    os._exit(0)  # there is no worker that could leave


if __name__ == "__main__":
    main()
