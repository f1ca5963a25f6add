"""A pool may be used by many threads at once, and be made in a thread that ends."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, procs, tasks

THREADS = 8


def in_threads(work: Callable[[int], Any], count: int = THREADS, timeout: float = 25) -> list[Any]:
    """Run `work(k)` in `count` threads that start together; what each returned."""
    start = threading.Barrier(count)
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(k: int) -> None:
        try:
            start.wait(10)
            results[k] = work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results


def test_every_thread_gets_its_own_results(pool: Any) -> None:
    def work(k: int) -> None:
        for i in range(40):
            assert pool.apply(tasks.add, (k, i)) == k + i
            assert pool.map(tasks.Multiplier(k), range(10)) == [k * j for j in range(10)]

    in_threads(work)


def test_every_thread_gets_its_own_iterator(pool: Any) -> None:
    def work(k: int) -> None:
        assert list(pool.imap(tasks.Multiplier(k), range(200))) == [k * j for j in range(200)]
        found = sorted(pool.imap_unordered(tasks.Multiplier(k), range(100), 3))
        assert found == [k * j for j in range(100)]

    in_threads(work)


def test_threads_with_all_kinds_of_calls(pool: Any) -> None:
    def work(k: int) -> None:
        pending = [pool.apply_async(tasks.add, (k, i)) for i in range(100)]
        mapped = pool.starmap_async(tasks.add, [(k, i) for i in range(100)])
        large = pool.apply(tasks.make_bytes, (100_000 * (k + 1),))
        assert len(large) == 100_000 * (k + 1)
        with pytest.raises(ValueError) as caught:
            pool.map(tasks.raise_value_error, [k])
        assert caught.value.args == (k,)
        assert mapped.get(20) == [k + i for i in range(100)]
        assert [result.get(20) for result in pending] == [k + i for i in range(100)]

    in_threads(work)


def test_callbacks_of_all_threads_are_called(pool: Any) -> None:
    seen: list[tuple[int, int]] = []

    def work(k: int) -> None:
        results = [
            pool.apply_async(tasks.identity, ((k, i),), callback=seen.append) for i in range(50)
        ]
        for result in results:
            result.wait(20)

    in_threads(work)
    assert sorted(seen) == [(k, i) for k in range(THREADS) for i in range(50)]


def test_one_thread_submits_and_another_waits(pool: Any) -> None:
    results = in_threads(lambda k: [pool.apply_async(tasks.add, (k, i)) for i in range(50)])
    found = in_threads(lambda k: [result.get(20) for result in results[-1 - k]])
    assert found == [[THREADS - 1 - k + i for i in range(50)] for k in range(THREADS)]


@pytest.mark.fastpool_only
def test_one_iterator_may_be_read_by_several_threads(pool: Any) -> None:
    results = pool.imap_unordered(tasks.square, range(400))

    def work(_k: int) -> list[int]:
        found = []
        while True:
            try:
                found.append(results.next(10))
            except StopIteration:
                return found

    found = [value for part in in_threads(work) for value in part]
    assert sorted(found) == [i * i for i in range(400)]


def test_a_short_call_is_not_held_up_by_a_long_one(pool: Any, gate: Any) -> None:
    def work(k: int) -> None:
        if k == 0:
            assert pool.apply(tasks.pass_gate, (gate.path, "long")) == "long"
        else:
            procs.wait_until(lambda: gate.arrivals() == 1)
            assert pool.map(tasks.square, range(5), 1) == [0, 1, 4, 9, 16]
            gate.open()

    in_threads(work, 2)


def test_a_pool_outlives_the_thread_that_made_it(pool_factory: Any, start_method: str) -> None:
    """Death signals that follow the *thread* of the parent would kill the workers."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(pool_factory(2)))
    thread.start()
    thread.join()
    pids = procs.worker_pids(made[0])
    assert made[0].map(tasks.square, range(20)) == [i * i for i in range(20)]
    time.sleep(0.1)  # time for a late signal
    assert procs.worker_pids(made[0]) == pids
    assert all(procs.is_alive(pid) for pid in pids)
    assert made[0].apply(tasks.square, (3,)) == 9


def test_pools_are_made_and_ended_by_several_threads(pool_factory: Any) -> None:
    def work(k: int) -> None:
        pool = pool_factory.implementation.make(1, start_method="fork")
        assert pool.apply(tasks.square, (k,)) == k * k
        pool.terminate()
        pool.join()

    in_threads(work, 4)
    gc.collect()


@pytest.mark.fastpool_only
def test_results_that_the_background_thread_reads_go_when_they_are_dropped(pool: Any) -> None:
    """Without a GIL, what a thread has made waits for it when another one drops it."""
    read = threading.Semaphore(0)

    def is_read(_: object) -> None:
        read.release()

    results = [
        pool.apply_async(array_tasks.filled, (1 << 17, float(k)), callback=is_read)
        for k in range(4)
    ]
    assert all(read.acquire(timeout=10) for _ in results)
    assert [result.get(10)[0] for result in results] == [0.0, 1.0, 2.0, 3.0]
    assert pool.stats().bytes_in_use >= 4 << 20
    results.clear()
    procs.wait_until(lambda: pool.stats().bytes_in_use == 0)


@pytest.mark.fastpool_only
def test_arguments_go_with_the_call_whoever_reads_its_result(pool: Any) -> None:
    reader_may_go = threading.Event()
    sent: list[Any] = []

    def send() -> None:
        sent.append(pool.apply_async(array_tasks.total, (np.ones(1 << 16),)))
        reader_may_go.wait(20)  # and runs no Python code meanwhile

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    procs.wait_until(lambda: bool(sent))
    assert sent[0].get(10) == 1 << 16
    sent.clear()
    procs.wait_until(lambda: pool.stats().bytes_in_use == 0)
    reader_may_go.set()
    sender.join(10)


def test_submitting_while_another_thread_closes_works_or_is_refused(pool_factory: Any) -> None:
    for _ in range(5):
        pool = pool_factory(2)
        accepted: list[Any] = []

        def work(k: int, pool: Any = pool, accepted: list[Any] = accepted) -> None:
            if k == 0:
                pool.close()
                return
            for i in range(200):
                try:
                    accepted.append((i, pool.apply_async(tasks.square, (i,))))
                except ValueError as error:
                    assert "Pool not running" in str(error)
                    return

        in_threads(work, 3)
        pool.join()
        assert [result.get(0) for _, result in accepted] == [i * i for i, _ in accepted]
