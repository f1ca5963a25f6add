"""cancel(): queued work never begins, running work is left alone or stopped."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from typing import Any

import pytest
from helpers import mishaps, tasks
from helpers.endings import busy, idle, is_cancelled
from helpers.mishaps import runs
from helpers.pool_health import whole
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


# --- one call -------------------------------------------------------------------------------------


def test_a_queued_call_never_begins(impl: Any, pool_factory: Any, gate: Any, traces: Any) -> None:
    pool = pool_factory(1)
    held = busy(pool, gate)
    queued = [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(6)]
    for i in (0, 2, 5):
        assert queued[i].cancel() is True
        is_cancelled(impl, queued[i])
        assert queued[i].cancel() is False, "it has completed"
    gate.open()
    assert held[0].get(10) == 0
    assert [queued[i].get(10) for i in (1, 3, 4)] == [1, 3, 4]
    assert pool.apply(tasks.square, (3,)) == 9
    assert sorted(os.listdir(traces)) == ["1", "3", "4"]
    assert not queued[1].cancelled()


def test_a_call_that_waits_for_room_in_the_queue_never_begins(
    impl: Any, pool_factory: Any, gate: Any, traces: Any
) -> None:
    pool = pool_factory(1)
    busy(pool, gate)
    results = [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(3000)]
    for result in results[1::2]:
        assert result.cancel()
    gate.open()
    assert [result.get(15) for result in results[::2]] == list(range(0, 3000, 2))
    assert sorted(map(int, os.listdir(traces))) == list(range(0, 3000, 2))


def test_a_running_call_is_left_alone(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    (held,) = busy(pool, gate)
    assert held.cancel() is False
    assert not held.cancelled() and not held.ready()
    gate.open()
    assert held.get(10) == 0


@pytest.mark.parametrize("how", list(mishaps.HANGS))
def test_a_running_call_is_stopped_with_kill(impl: Any, pool_factory: Any, how: str) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(mishaps.hang_named, (how,))
    wait_until(lambda: "busy" in [info.state for info in pool.workers()])
    assert result.cancel(kill=True) is True
    is_cancelled(impl, result)
    idle(pool, 2, 2)
    whole(pool, 2)


def test_under_every_start_method(
    impl: Any, pool_factory: Any, start_method: str, gate: Any
) -> None:
    pool = pool_factory(1)
    (held,) = busy(pool, gate)
    queued = pool.apply_async(tasks.square, (2,))
    assert queued.cancel()
    assert held.cancel(kill=True)
    is_cancelled(impl, held)
    whole(pool, 1)


def test_a_call_that_is_done_can_not_be_cancelled(pool_factory: Any) -> None:
    pool = pool_factory(1)
    done = pool.apply_async(tasks.square, (3,))
    failed = pool.apply_async(tasks.raise_value_error, (3,))
    done.wait(10)
    failed.wait(10)
    for kill in (False, True):
        assert done.cancel(kill) is False and not done.cancelled()
        assert failed.cancel(kill) is False and not failed.cancelled()
    assert done.get(0) == 9
    with pytest.raises(ValueError):
        failed.get(0)


def test_a_call_with_a_timeout_can_be_cancelled(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    result = pool.apply_async(tasks.nap, (60,), timeout=0.5)
    queued = pool.apply_async(tasks.nap, (60,), timeout=0.5)
    wait_until(lambda: "busy" in [info.state for info in pool.workers()])
    assert queued.cancel()
    assert result.cancel(kill=True)
    is_cancelled(impl, result)
    is_cancelled(impl, queued)
    time.sleep(0.7)  # past the limit
    is_cancelled(impl, result)
    whole(pool, 1)


# --- callbacks ------------------------------------------------------------------------------------


def test_a_cancelled_call_calls_its_error_callback_once(
    impl: Any, pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(1)
    good: list[Any] = []
    bad: list[Any] = []
    running = pool.apply_async(
        tasks.pass_gate, (gate.path,), callback=good.append, error_callback=bad.append
    )
    wait_until(lambda: gate.arrivals() == 1)
    queued = pool.apply_async(tasks.square, (1,), callback=good.append, error_callback=bad.append)
    queued.cancel()
    running.cancel(kill=True)
    queued.wait(5)
    running.wait(5)
    assert [type(error) for error in bad] == [impl.module.TaskCancelledError] * 2
    assert not good


def test_a_callback_may_cancel(impl: Any, pool_factory: Any, traces: Any, gate: Any) -> None:
    """Others, and its own call: that is done."""
    pool = pool_factory(2)
    (held,) = busy(pool, gate)
    answers: list[Any] = []
    victims: list[Any] = []
    done = threading.Event()

    def callback(_value: Any) -> None:
        answers.append(held.cancel(kill=True))
        answers.extend(victim.cancel() for victim in victims)
        answers.append(first.cancel())
        done.set()

    first = pool.apply_async(tasks.nap, (0.2,), callback=callback)
    victims += [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(5)]
    assert done.wait(5)
    assert answers[0] is True and answers[-1] is False
    for victim, cancelled in zip(victims, answers[1:-1], strict=True):
        if cancelled:
            is_cancelled(impl, victim)
        else:
            victim.get(5)
    whole(pool, 2)


# --- from other threads ---------------------------------------------------------------------------


def test_a_thread_that_waits_is_told(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    (held,) = busy(pool, gate)
    queued = pool.map_async(tasks.square, range(10))
    waiting = [InThread(result.get) for result in (held, held, queued)]
    time.sleep(0.05)
    begin = time.monotonic()
    assert queued.cancel()
    assert held.cancel(kill=True)
    for thread in waiting:
        with pytest.raises(impl.module.TaskCancelledError):
            thread.outcome()
    assert time.monotonic() - begin < 0.3


@pytest.mark.parametrize("kill", [False, True])
def test_cancelling_races_with_completion(
    impl: Any, pool_factory: Any, traces: Any, kill: bool
) -> None:
    """True: no result. False: it ran once. Without kill also: True means that it never began."""
    pool = pool_factory(2)
    random.seed(kill)
    count = 150 if kill else 1500
    results: list[Any] = [None] * count
    answers: list[Any] = [[] for _ in range(count)]
    submitted = threading.Semaphore(0)
    order = itertools.count()

    def cancel_some() -> None:
        while True:
            submitted.acquire()
            i = next(order)
            if i >= count:
                return
            for _ in range(random.randrange(40)):
                pass
            answers[i].append(results[i].cancel(kill))

    threads = [threading.Thread(target=cancel_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(count):
        results[i] = pool.apply_async(mishaps.run_once_more, (str(traces), i))
        submitted.release()
        if i % 16 == 0:
            time.sleep(0.0005)
    for _ in threads:
        submitted.release()
    for thread in threads:
        thread.join(10)
    for i, result in enumerate(results):
        (answer,) = answers[i]
        assert result.cancelled() is answer
        if answer:
            is_cancelled(impl, result)
        else:
            assert result.get(10) == 0
    whole(pool, 2)
    ran = runs(traces)
    for i in range(count):
        if not answers[i][0]:
            assert ran.get(i) == 1
        elif kill:
            assert ran.get(i, 0) <= 1
        else:
            assert i not in ran


def test_a_call_that_is_killed_just_as_it_begins_does_not_run_on(
    impl: Any, pool_factory: Any
) -> None:
    """The worker has claimed it, and may not have said so yet."""
    pool = pool_factory(2, blocktime=0.01)
    for i in range(150):
        result = pool.apply_async(tasks.nap, (60,))
        for _ in range(10 * (i % 40)):
            pass
        assert result.cancel(kill=True)
    idle(pool, 2, 3)
    whole(pool, 2)
