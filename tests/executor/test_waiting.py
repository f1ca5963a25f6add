"""wait(), as_completed(), callbacks, asyncio and cancel() on futures of an executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, ThreadPoolExecutor, as_completed
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until

import fastpool

Executor = fastpool.ProcessPoolExecutor


def test_as_completed_yields_each_future_once(executor: Executor) -> None:
    futures = [executor.submit(tasks.square, n) for n in range(3000)]
    completed = list(as_completed(futures, 10))
    assert len(completed) == 3000
    assert {future.result() for future in completed} == {n * n for n in range(3000)}
    assert set(as_completed(futures)) == set(futures)


def test_futures_of_other_executors_may_be_among_them(executor: Executor, gate: Any) -> None:
    with ThreadPoolExecutor(1) as threads:
        ours, late = executor.submit(tasks.pid), executor.submit(tasks.pass_gate, gate.path)
        theirs = threads.submit(tasks.pass_gate, gate.path)
        done, not_done = concurrent.futures.wait([ours, theirs, late], 10, FIRST_COMPLETED)
        assert (done, not_done) == ({ours}, {theirs, late})
        gate.open()
        assert set(as_completed([theirs, late, ours], 10)) == {ours, theirs, late}


def test_wait_sees_what_has_arrived_unread(executor: Executor) -> None:
    executor.submit(tasks.pid).result()
    pool = executor._pool
    assert pool is not None

    def tasks_done_at_rest() -> int:
        """0 while some worker works: it counts a task behind its result."""
        workers = pool.workers()
        at_rest = all(worker.state == "idle" for worker in workers)
        return sum(worker.tasks_done for worker in workers) if at_rest else 0

    before = wait_until(tasks_done_at_rest, 10)
    future = executor.submit(tasks.pid)
    wait_until(lambda: tasks_done_at_rest() == before + 1, 10)
    assert concurrent.futures.wait([future], 0).done == {future}


def test_wait_returns_at_the_first_exception(executor: Executor, gate: Any) -> None:
    late, bad = (
        executor.submit(tasks.pass_gate, gate.path),
        executor.submit(tasks.raise_value_error, 1),
    )
    done, not_done = concurrent.futures.wait([late, bad], 10, FIRST_EXCEPTION)
    assert (done, not_done) == ({bad}, {late})
    gate.open()
    assert concurrent.futures.wait([late, bad], 10).done == {late, bad}


def test_as_completed_with_a_timeout_says_how_many_are_missing(
    executor: Executor, gate: Any
) -> None:
    futures = [executor.submit(tasks.pass_gate, gate.path, n) for n in range(2)]
    with pytest.raises(concurrent.futures.TimeoutError, match=r"2 \(of 2\) futures unfinished"):
        list(as_completed(futures, 0.02))
    gate.open()
    assert {future.result(10) for future in futures} == {0, 1}


def test_nothing_changes_before_the_eyes_of_who_holds_the_condition(
    executor: Executor, gate: Any
) -> None:
    """wait() counts the futures that are pending, and registers with each of them afterwards."""
    future = executor.submit(tasks.pass_gate, gate.path, 3)
    elsewhere: list[Any] = []
    other = threading.Thread(target=lambda: elsewhere.append(future.result(10)))
    with future._condition:
        other.start()
        gate.open()
        assert future.result(10) == 3  # the value is there
        assert future._state == "RUNNING"
        waiter = concurrent.futures._base._AsCompletedWaiter()  # type: ignore[attr-defined]
        future._waiters.append(waiter)
    assert waiter.event.wait(10)
    assert waiter.finished_futures == [future]
    other.join(10)
    assert elsewhere == [3]
    assert future._state == "FINISHED"


def test_callbacks_are_called_in_order_with_the_future(executor: Executor, gate: Any) -> None:
    seen: list[Any] = []
    done = threading.Event()
    future = executor.submit(tasks.pass_gate, gate.path, 5)
    future.add_done_callback(lambda f: seen.append(("first", f.result())))
    future.add_done_callback(lambda f: seen.append(("second", f.done())))
    future.add_done_callback(lambda f: done.set())
    gate.open()
    assert done.wait(10)
    assert seen == [("first", 5), ("second", True)]
    future.add_done_callback(lambda f: seen.append(threading.current_thread()))
    assert seen[2] is threading.current_thread()


def test_a_callback_that_raises_is_logged(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future = executor.submit(tasks.pid)
        future.add_done_callback(lambda f: 1 / 0)
        future.add_done_callback(lambda f: called.set())
        assert called.wait(10)
        future.add_done_callback(lambda f: [][1])
    assert caplog.text.count("exception calling callback") == 2
    assert "ZeroDivisionError" in caplog.text
    assert "IndexError" in caplog.text


def test_callbacks_may_submit_and_wait_for_results(executor: Executor) -> None:
    """The standard library's can't: the thread that calls them is the one that would bring it."""
    inner: list[Any] = []
    done = threading.Event()

    def go_on(future: Any) -> None:
        inner.append(executor.submit(tasks.add, future.result(), 1).result(10))
        looked_at = executor.submit(tasks.square, 3)
        concurrent.futures.wait([looked_at], 0)
        inner.append(looked_at.result(10))
        done.set()

    executor.submit(tasks.identity, 1).add_done_callback(go_on)
    assert done.wait(10)
    assert inner == [2, 9]


def test_asyncio_awaits_them(executor: Executor, gate: Any) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, tasks.square, n) for n in range(50)]
        failing = asyncio.wrap_future(executor.submit(tasks.raise_value_error, 1))
        blocked = [executor.submit(tasks.pass_gate, gate.path) for _ in range(2)]
        queued = executor.submit(tasks.pid)
        waiting = asyncio.wrap_future(queued)
        results = await asyncio.gather(*calls)
        with pytest.raises(ValueError):
            await failing
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)  # its own callbacks come first
        assert queued.cancelled()
        gate.open()
        await asyncio.gather(*map(asyncio.wrap_future, blocked))
        return results

    assert asyncio.run(main()) == [n * n for n in range(50)]


def test_cancel_takes_what_no_worker_has_begun(executor: Executor, gate: Any) -> None:
    running = [executor.submit(tasks.pass_gate, gate.path, n) for n in range(2)]
    wait_until(lambda: gate.arrivals() == 2, 10)
    queued = executor.submit(tasks.mark, gate.path, "ran")
    seen: list[Any] = []
    queued.add_done_callback(lambda f: seen.append(f.cancelled()))
    assert [future.cancel() for future in running] == [False, False]
    assert queued.cancel() and queued.cancel()
    assert seen == [True]
    assert (queued.cancelled(), queued.done(), queued.running()) == (True, True, False)
    assert "state=cancelled" in repr(queued)
    assert not queued.set_running_or_notify_cancel()
    for wait in (queued.result, queued.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            wait()
    assert concurrent.futures.wait([queued, *running], 0).done == {queued}
    gate.open()
    assert [future.result(10) for future in running] == [0, 1]
    assert not running[0].cancel()
    assert executor.submit(tasks.pid).result(10)
    assert not os.path.exists(os.path.join(gate.path, "ran"))


def test_who_waits_for_it_is_told_that_it_was_cancelled(executor: Executor, gate: Any) -> None:
    running = [executor.submit(tasks.pass_gate, gate.path, n) for n in range(2)]
    queued = executor.submit(tasks.pid)
    iterator = as_completed([queued, *running], 10)
    wait_until(lambda: gate.arrivals() == 2, 10)
    canceller = threading.Timer(0.05, queued.cancel)
    canceller.start()
    assert next(iterator) is queued
    gate.open()
    assert set(iterator) == set(running)


def test_cancel_with_kill_stops_what_runs(executor: Executor) -> None:
    future = executor.submit(tasks.nap, 60)
    wait_until(future.running, 10)
    assert future.cancel(kill=True)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    assert executor.submit(tasks.identity, 1).result(10) == 1


def test_threads_may_submit_and_wait_at_the_same_time(executor: Executor) -> None:
    """Who reads the rings hands others theirs, whichever way they wait."""
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for n in range(40):
            futures = [executor.submit(tasks.identity, (seed, n, k)) for k in range(5)]
            how = (seed + n) % 4
            if how == 0:
                concurrent.futures.wait(futures, 10)
            elif how == 1:
                list(as_completed(futures, 10))
            elif how == 2:
                for future in futures:
                    wait_until(future.done, 10)
            expected = [(seed, n, k) for k in range(5)]
            if [future.result(10) for future in futures] != expected:
                wrong.append((seed, n))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert wrong == []
