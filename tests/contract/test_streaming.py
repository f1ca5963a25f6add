"""Streams of any length through imap: memory stays flat, and each item is what it was when read."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, pool_memory, tasks
from helpers.arrays import KIB, MIB
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(90)]

BOTH = pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
FORK = pytest.mark.start_methods("fork")
FORK_AND_SPAWN = pytest.mark.start_methods("fork", "spawn")

PEAK = """
    import itertools, multiprocessing, os, sys
    from fastpool import Pool
    from helpers import array_tasks, procs, tasks

    def peak(pids):
        return sum(map(procs.peak_bytes, pids))

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")  # else a worker that begins late grows late
        with Pool(2) as pool:
            pids = [os.getpid(), *[worker.pid for worker in pool.workers()]]
            results = {call}
            early = 0
            for index, value in enumerate(results, 1):
                if index <= {early} and index % ({early} // 50) == 0:
                    early = peak(pids)
            print(index, peak(pids) - early)
        pool.join()
"""
FLAT = {
    "numbers": "pool.imap_unordered(tasks.square, iter(range(300_000)), chunksize=1000)",
    "a range": "pool.imap_unordered(tasks.square, range(300_000), 1000)",
    "in order": "pool.imap(tasks.square, iter(range(300_000)), 1000)",
    "pairs": "pool.istarmap_unordered(tasks.add, ((i, 1.5) for i in range(300_000)), 1000)",
    "buffered": "pool.imap(tasks.square, iter(range(300_000)), 1000, buffersize=4)",
    "texts": "pool.imap_unordered(tasks.identity, (str(i) * 9 for i in range(300_000)), 1000)",
}


@pytest.mark.parametrize("what", FLAT)
def test_the_memory_stays_flat_over_hundreds_of_thousands_of_items(
    run_script: Any, impl: Any, what: str
) -> None:
    script = run_script(PEAK.format(call=FLAT[what], early=100_000))
    count, growth = map(int, script.finish(60).split())
    assert count == 300_000
    assert growth < 8 * MIB


@pytest.mark.parametrize("chunksize", [1, 4])
def test_the_memory_stays_flat_over_many_large_results(
    run_script: Any, impl: Any, chunksize: int
) -> None:
    call = f"pool.imap(tasks.make_bytes, itertools.repeat(500_000, 4000), {chunksize})"
    count, growth = map(int, run_script(PEAK.format(call=call, early=800)).finish(60).split())
    assert count == 4000
    # Two gigabytes went through; up to 64 MiB may lie unread, and count in each of three processes.
    assert growth < 3 * 64 * MIB


# --- large arrays ---------------------------------------------------------------------------------

LARGE = 4 * MIB


@FORK
@pytest.mark.parametrize(
    ("kind", "way", "source"),
    [
        ("imap", "arguments", "a generator"),
        ("imap", "results", "a generator"),
        ("imap", "both", "a list"),
        ("imap", "results", "a list"),
        ("imap_unordered", "both", "a generator"),
        ("imap_unordered", "results", "a generator"),
        ("imap_unordered", "arguments", "a list"),
    ],
)
def test_a_slow_consumer_of_large_arrays_holds_up_the_stream(
    pool_factory: Any, kind: str, way: str, source: str
) -> None:
    """Instead of all that is still to come, so much lies in memory: about 64 MiB."""
    pool = pool_factory(2)
    number = 72  # three times what there may be
    items: Any
    if way == "results":
        func, items = functools.partial(array_tasks.filled, LARGE // 8), [1.0] * number
    else:
        func = array_tasks.size_of if way == "arguments" else tasks.identity
        items = [np.ones(LARGE // 8)] * number
    if source == "a generator":
        items = iter(items)
    begin = pool.stats().bytes_in_use
    most = 0
    results = getattr(pool, kind)(func, items)
    wait_until(lambda: stands_still(pool), 20)
    count = 0
    for value in results:
        assert value is not None
        del value
        count += 1
        most = max(most, pool.stats().bytes_in_use - begin)
        if count % 25 == 0:
            wait_until(lambda: stands_still(pool), 20)
    assert count == number
    assert most < 64 * MIB + 8 * LARGE
    pool_memory.settled_bytes(pool, begin)


def stands_still(pool: Any) -> bool:
    """True if nothing happened for a while: the stream is as far ahead as it will go."""
    before = pool.stats().bytes_in_use, [worker.tasks_done for worker in pool.workers()]
    time.sleep(0.1)
    return before == (pool.stats().bytes_in_use, [w.tasks_done for w in pool.workers()])


@FORK
@BOTH
@pytest.mark.parametrize("source", [list, iter], ids=["a list", "a generator"])
def test_small_results_run_well_ahead_of_a_slow_consumer(
    pool_factory: Any, kind: str, source: Callable[..., Any]
) -> None:
    pool = pool_factory(2)
    results = getattr(pool, kind)(tasks.square, source(range(5000)))
    next(results)
    wait_until(lambda: sum(worker.tasks_done for worker in pool.workers()) > 1000, 10)
    assert sorted(results)[-1] == 4999**2


@FORK
@BOTH
@pytest.mark.parametrize("buffersize", [None, 3])
def test_each_item_is_what_it_was_when_it_was_read(
    pool: Any, kind: str, buffersize: int | None
) -> None:
    for count, number in (9, 500), (8 * KIB, 200), (MIB // 8 + 1, 60):
        buffer = np.zeros(count)

        def refilled(buffer: Any = buffer, number: int = number) -> Iterator[Any]:
            for index in range(number):
                buffer[:] = index
                yield buffer

        found = list(getattr(pool, kind)(array_tasks.total, refilled(), 1, buffersize))
        assert sorted(found) == [float(index) * count for index in range(number)]


@FORK_AND_SPAWN
@BOTH
def test_each_item_is_what_it_was_when_it_was_read_also_within_a_structure(
    pool: Any, kind: str
) -> None:
    frame = {"data": np.zeros((300, 100)), "index": 0}
    raw = bytearray(100_000)

    def frames() -> Iterator[Any]:
        for index in range(100):
            frame["index"] = index
            frame["data"][:] = index
            raw[:] = bytes([index]) * len(raw)
            yield frame, raw

    found = sorted(getattr(pool, kind)(array_tasks.look_at_frame, frames()))
    assert found == [(i, i * 30_000.0, i * 100_000) for i in range(100)]


@FORK
@BOTH
def test_a_stream_of_shared_arrays_is_not_copied(pool: Any, kind: str) -> None:
    """The parent reuses each as soon as its result is there."""
    ring = [pool.zeros(200_000) for _ in range(3)]
    free = list(ring)

    def fresh() -> Iterator[Any]:
        for index in range(60):
            wait_until(lambda: free, 20)
            array = free.pop()
            array[:] = index
            yield array

    begin = pool.stats().bytes_in_use
    found = []
    for array in getattr(pool, kind)(array_tasks.double_and_return, fresh(), 1, 3):
        found.append(float(array[0]))
        assert (array == array[0]).all()
        (original,) = [one for one in ring if np.shares_memory(one, array)]
        free.append(original)
        assert pool.stats().bytes_in_use <= begin + 200_000
    assert sorted(found) == [2.0 * index for index in range(60)]


@FORK
@pytest.mark.parametrize("chunksize", [1, 7])
def test_two_stages_may_be_chained(pool: Any, pool_factory: Any, chunksize: int) -> None:
    """The results of one stream are the items of another, of this pool or of a second."""
    second = pool_factory(2)
    for following in pool, second:
        first = pool.imap(array_tasks.filled_rows, range(300), chunksize)
        doubled = following.imap(array_tasks.double_and_return, first, chunksize)
        for index, array in enumerate(doubled):
            assert (array == 2 * index).all()
        assert index == 299


@FORK
def test_a_stream_may_be_read_in_another_thread_than_it_was_made(pool_factory: Any) -> None:
    pool = pool_factory(2)
    results = pool.imap(tasks.square, itertools.count())
    thread = InThread(lambda: list(itertools.islice(results, 3000)))
    assert thread.outcome(20) == [i * i for i in range(3000)]
    assert next(results) == 3000**2
    pool.terminate()


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_join_returns_though_the_iterable_is_slow_and_nobody_reads(
    pool_factory: Any, kind: str
) -> None:
    """After close(), with nothing in flight at that moment."""
    pool = pool_factory(2)
    go_on = threading.Event()

    def slow() -> Iterator[int]:
        for i in range(4):
            go_on.wait(10)
            yield i

    results = getattr(pool, kind)(tasks.square, slow())
    pool.close()
    joining = InThread(pool.join)
    go_on.set()
    joining.outcome(20)
    assert sorted(results) == [0, 1, 4, 9]
