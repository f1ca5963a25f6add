"""Each feature many times: nothing may be left of a repetition, in the parent or in a worker.

    python3-dbg tests/soak/ref_leaks.py --repetitions 20 --only map cancel

What is counted after each round of repetitions: references (only a debug build of Python can tell),
blocks of memory, objects that the garbage collector knows, descriptors and threads. Caches fill for
a while, by less and less, so the first rounds may grow; a leak is what makes each of a dozen grow,
with each repetition. The first round that does not ends the search.

NumPy's wheels are no debug builds, and don't count the references that they take and drop; so where
it is loaded, that column says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import sysconfig
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers import tasks

import fastpool
from fastpool import Pool, ProcessPoolExecutor

MOST_ROUNDS = 12
AT_LEAST = {"blocks": 8 if sysconfig.get_config_var("Py_GIL_DISABLED") else 4}
"""What a leak takes for each repetition. Memory that the interpreter keeps for what it has shown in
tracebacks comes to a few blocks, none of which is an object; without a GIL it keeps some more."""
FEW = 5
"""Repetitions in a round of what makes processes, and takes longer."""

Counts = dict[str, int]
Feature = Callable[[Any], object]


def count() -> Counts:
    """What this process holds."""
    while gc.collect():  # what one collection ends may let go of the next cycle
        pass
    total = getattr(sys, "gettotalrefcount", None)
    return {
        "references": total() if total is not None and "numpy" not in sys.modules else 0,
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def leaks(grown: Counts, repetitions: int) -> list[str]:
    """What a round had more of, for each of its repetitions."""
    return [name for name, more in grown.items() if more >= repetitions * AT_LEAST.get(name, 1)]


# ---- what is repeated, with a pool that stands ---------------------------------------------------

ON_A_POOL: dict[str, Feature] = {}
IN_A_WORKER: dict[str, Feature] = {}
BY_ITSELF: dict[str, Feature] = {}
SLOW = {"deaths", "cancelling", "timeouts"}


def feature(table: dict[str, Feature], *more: dict[str, Feature]) -> Callable[[Feature], Feature]:
    """Enter a function under its name."""

    def enter(function: Feature) -> Feature:
        for each in (table, *more):
            each[function.__name__] = function
        return function

    return enter


@contextlib.contextmanager
def raises(*kinds: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"no {kinds}")


@feature(ON_A_POOL, IN_A_WORKER)
def apply(pool: Any) -> None:
    assert pool.apply(tasks.add, (1, 2)) == 3
    assert pool.apply(tasks.identity, ({"a": [1.5, "text", None, b"x"], "b": (True,)},))
    assert pool.apply(tasks.arguments, (1,), {"key": [2]}) == ((1,), {"key": [2]})
    assert pool.apply(tasks.Multiplier(3), (4,)) == 12
    assert len(pool.apply(tasks.make_bytes, (100_000,))) == 100_000
    shared = [1]
    assert pool.apply(tasks.identity, ([shared, shared, {1, 2}],)) == [[1], [1], {1, 2}]


@feature(ON_A_POOL, IN_A_WORKER)
def map(pool: Any) -> None:
    assert pool.map(tasks.square, range(40)) == [i * i for i in range(40)]
    assert pool.map(tasks.identity, ["a", "b" * 900, "ü", ""] * 4) == ["a", "b" * 900, "ü", ""] * 4
    assert pool.map(tasks.identity, [1.5, None, (1, [2])] * 4, 3) == [1.5, None, (1, [2])] * 4
    assert pool.map(tasks.Multiplier(2), [{1}, 3][1:] * 5) == [6] * 5
    assert pool.map(tasks.identity, [{i} for i in range(9)], 4) == [{i} for i in range(9)]
    assert pool.starmap(tasks.add, [(1, 2)] * 9) == [3] * 9


@feature(ON_A_POOL, IN_A_WORKER)
def imap(pool: Any) -> None:
    assert list(pool.imap(tasks.square, range(20))) == [i * i for i in range(20)]
    assert sorted(pool.imap_unordered(tasks.square, iter(range(20)), 3)) == [
        i * i for i in range(20)
    ]
    stream = pool.imap(tasks.square, (i for i in range(50)), buffersize=2)
    assert next(stream) == 0
    stream.cancel()
    pool.imap(tasks.square, range(5))  # dropped unread


@feature(ON_A_POOL, IN_A_WORKER)
def errors(pool: Any) -> None:
    with raises(ValueError):
        pool.apply(tasks.raise_value_error, (1,))
    with raises(ValueError):
        pool.map(tasks.raise_value_error, range(9))
    assert len(pool.map(tasks.raise_value_error, range(6), 3, return_exceptions=True)) == 6
    stream = pool.imap(tasks.raise_if_negative, [1, -1, 2])
    assert next(stream) == 1
    with raises(Exception):
        next(stream)
    assert next(stream) == 2
    with raises(Exception):  # can't be pickled, there
        pool.apply(tasks.make_lambda)
    with raises(Exception):
        pool.map(tasks.make_lambda_if_negative, [1, -1, 2], 2)


@feature(ON_A_POOL)
def unpicklable(pool: Any) -> None:
    with raises(Exception):
        pool.apply(lambda: None)
    with raises(Exception):
        pool.map(tasks.identity, [1, lambda: None])
    with raises(Exception):
        pool.apply_async(tasks.identity, (lambda: None,)).get()
    with raises(Exception):
        pool.apply(tasks.make_load_fails)
    with raises(TypeError):
        pool.map(tasks.square, 5)
    with raises(ValueError):
        next(pool.imap(tasks.square, [1], 0))


@feature(ON_A_POOL)
def callbacks(pool: Any) -> None:
    seen: list[object] = []
    results = [pool.apply_async(tasks.square, (i,), callback=seen.append) for i in range(5)]
    results.append(pool.map_async(tasks.square, range(9), callback=seen.append))
    results.append(
        pool.apply_async(tasks.raise_value_error, (1,), error_callback=lambda _: seen.append(1))
    )
    for result in results:
        result.wait()
    assert len(seen) == len(results)


@feature(ON_A_POOL)
def cancelling(pool: Any) -> None:
    running = pool.apply_async(tasks.nap, (30,))
    waiting = [pool.apply_async(tasks.nap, (0,)) for _ in range(5)]
    many = pool.map_async(tasks.nap, [0] * 40, 4)
    for result in (*waiting, many):
        result.cancel()
    assert running.cancel(kill=True)
    with raises(fastpool.TaskCancelledError):
        running.get()
    assert pool.apply(tasks.square, (3,)) == 9


@feature(ON_A_POOL)
def timeouts(pool: Any) -> None:
    with raises(fastpool.TaskTimeoutError):
        pool.apply_async(tasks.nap, (30,), timeout=0.02).get()
    with raises(multiprocessing.TimeoutError):
        pool.apply_async(tasks.nap, (0.05,)).get(0.001)
    assert pool.map(tasks.square, range(9), timeout=9) == [i * i for i in range(9)]


@feature(ON_A_POOL)
def awaiting(pool: Any) -> None:
    async def everything() -> None:
        assert await pool.apply_async(tasks.square, (3,)) == 9
        assert [x async for x in pool.imap(tasks.square, range(5))] == [0, 1, 4, 9, 16]
        waiting = asyncio.ensure_future(_of(pool.apply_async(tasks.nap, (0.01,))))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(everything())


async def _of(result: Any) -> Any:
    return await result


@feature(ON_A_POOL)
def deaths(pool: Any) -> None:
    with raises(fastpool.WorkerDiedError):
        pool.apply(tasks.die, (signal.SIGKILL,))
    with raises(fastpool.WorkerDiedError):
        pool.map(tasks.die_or_return, [(None, 1), (signal.SIGKILL, 2), (None, 3)], 3)
    assert pool.apply(tasks.square, (3,)) == 9


@feature(ON_A_POOL, IN_A_WORKER)
def arrays(pool: Any) -> None:
    try:
        import numpy
    except ImportError:
        return
    small, large = numpy.arange(10), numpy.arange(200_000.0)
    assert (pool.apply(tasks.identity, (small,)) == small).all()
    assert (pool.apply(tasks.identity, (large,)) == large).all()
    assert pool.map(tasks.square, small[:4]) == [0, 1, 4, 9]
    assert len(pool.map(tasks.identity, [large[:20_000]] * 4, 2)) == 4
    shared = pool.zeros(1000)
    assert pool.apply(tasks.identity, (shared,)) is not None
    assert pool.map_blocks(numpy.negative, small).tolist() == [-i for i in range(10)]
    out = numpy.zeros(9)
    pool.map(tasks.square, range(9), out=out)


# ---- what makes a pool of its own ----------------------------------------------------------------


@feature(BY_ITSELF)
def pools(_: Any) -> None:
    with Pool(1) as pool:
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
    pool = Pool(1)
    result = pool.apply_async(tasks.square, (2,))
    pool.close()
    pool.join()
    assert result.get() == 4


@feature(BY_ITSELF)
def dropped(_: Any) -> None:
    pool = Pool(1)
    assert pool.apply(tasks.square, (2,)) == 4
    pool._engine.was_ended = True  # no warning
    del pool
    gc.collect()


@feature(BY_ITSELF)
def executors(_: Any) -> None:
    with ProcessPoolExecutor(1) as executor:
        future = executor.submit(tasks.square, 3)
        future.add_done_callback(tasks.nothing)
        failing = executor.submit(tasks.raise_value_error, 3)
        assert list(executor.map(tasks.square, range(5))) == [0, 1, 4, 9, 16]
        assert future.result() == 9
        with raises(ValueError):
            failing.result()
        busy, late = executor.submit(tasks.nap, 0.01), executor.submit(tasks.nap, 0.01)
        late.cancel()
        concurrent.futures.wait([busy, late])


@feature(BY_ITSELF)
def options(_: Any) -> None:
    with Pool(1, seed=1, maxtasksperchild=2, serializer="auto", worker_exit=_id_of) as pool:
        assert pool.map(tasks.square, range(6), 1) == [i * i for i in range(6)]
        pool.apply(_by_value(3))
        pool.close()
        pool.join()
        assert len(pool.exit_results()) > 1


def _id_of(worker: Any) -> int:
    return int(worker.id)


def _by_value(x: int) -> Callable[[], int]:
    return lambda: x


@feature(BY_ITSELF)
def failing_initializers(_: Any) -> None:
    with raises(ValueError), Pool(1, tasks.raise_value_error, (1,)) as pool:
        pool.apply(tasks.square, (1,))


# ---- the measure ---------------------------------------------------------------------------------


def measure(
    repeat: Callable[[], object], look: Callable[[], Counts], repetitions: int
) -> list[Counts]:
    """How much each round has grown: up to the first that leaves nothing, or `MOST_ROUNDS`."""
    repeat()
    names = list(look())
    # Made before, so that what is noted is not counted.
    looks = [array("q", look().values()) for _ in range(MOST_ROUNDS + 1)]
    rounds: list[Counts] = []
    for before, after in pairwise(looks):
        if not rounds:
            note(look, before)
        repeat()
        note(look, after)
        rounds.append({name: after[k] - before[k] for k, name in enumerate(names)})
        if not leaks(rounds[-1], repetitions):
            break
        note(look, after)  # again: it is the next one's beginning, and `rounds` is longer
    return rounds


def note(look: Callable[[], Counts], into: array[int]) -> None:
    for k, value in enumerate(look().values()):
        into[k] = value


def settled(pool: Any) -> Counts:
    """Once the pool rests: the background thread may still have what it told of."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and pool is not None and pool._dispatcher.poll_jobs():
        time.sleep(0.001)
    if pool is not None:
        pool.apply(tasks.nothing)
        time.sleep(0.02)
    return count()


def in_parent(run: Feature, repetitions: int, needs_pool: bool) -> list[Counts]:
    def repeat(pool: Any) -> None:
        for _ in range(repetitions):
            run(pool)

    if not needs_pool:
        return measure(lambda: repeat(None), lambda: settled(None), repetitions)
    with Pool(1) as pool:
        return measure(lambda: repeat(pool), lambda: settled(pool), repetitions)


def in_worker(run: Feature, repetitions: int) -> list[Counts]:
    with Pool(1) as pool:

        def repeat() -> None:
            for _ in range(repetitions):
                run(pool)

        return measure(repeat, lambda: pool.apply(count), repetitions)


def check(repetitions: int, only: list[str]) -> int:
    """Run what was asked for; returns how much of it leaks."""
    # (name, what measures it, repetitions in a round)
    plan: list[tuple[str, Callable[[], list[Counts]], int]] = []
    few = min(FEW, repetitions)
    for name, run in BY_ITSELF.items():
        plan.append((name, partial(in_parent, run, few, False), few))
    for name, run in ON_A_POOL.items():
        times = few if name in SLOW else repetitions
        plan.append((name, partial(in_parent, run, times, True), times))
    for name, run in IN_A_WORKER.items():
        plan.append((f"{name}, worker", partial(in_worker, run, repetitions), repetitions))
    failed = 0
    for name, rounds_of, times in plan:
        if only and name.partition(",")[0] not in only:
            continue
        rounds = rounds_of()
        found = leaks(rounds[-1], times)
        failed += bool(found)
        shown = " ".join(f"{key}={[grown[key] for grown in rounds]}" for key in rounds[0])
        print(f"{'LEAK' if found else 'ok':5}{name:24}{times:3} times: {shown}", flush=True)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20, help="in a round")
    parser.add_argument("--only", nargs="*", default=[], help="these features")
    options = parser.parse_args(arguments)
    multiprocessing.set_start_method("fork")
    if not hasattr(sys, "gettotalrefcount"):
        print("this Python counts no references: a debug build would (python3-dbg)")
    failed = check(options.repetitions, options.only)
    print(f"{failed} of them leak" if failed else "no leak")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
