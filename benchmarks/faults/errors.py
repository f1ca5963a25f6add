"""Something raises, or can't be pickled, or never ends, where a pool may not expect it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from . import tasks
from .trial import Trial
from .verdicts import Verdict

READ_AHEAD = 50_000
"""Items that nobody waits for: who takes more would take them all."""


def stubborn_exception(trial: Trial) -> None:
    pool = trial.open()
    other = pool.submit(tasks.arrive_and_wait, "other", "gate")
    tasks.wait_for("other")
    trial.expect_error(pool.submit(tasks.raise_stubborn), Exception)
    tasks.arrive("gate")
    trial.others(other, "passed")
    trial.survives(pool)


def unpicklable_result(trial: Trial) -> None:
    pool = trial.open()
    trial.expect_error(pool.submit(tasks.return_a_lock), Exception)
    trial.survives(pool)


def unpicklable_argument(trial: Trial) -> None:
    pool = trial.open()
    trial.expect_error(lambda: pool.submit(tasks.accept, threading.Lock())(), Exception)
    trial.survives(pool)


def unpicklable_function(trial: Trial) -> None:
    """Some pools pickle it by value: all the better."""
    pool = trial.open()
    trial.expect_error(lambda: pool.submit(lambda x: x + 1, 1)(), Exception, or_value=2)
    trial.survives(pool)


def initializer(trial: Trial) -> None:
    pool = trial.open(initializer=tasks.failing_initializer)
    trial.expect_error(lambda: pool.submit(tasks.square, 3)(), tasks.InitializerError)
    trial.step("next call")
    try:
        pool.submit(tasks.square, 3)()
        trial.find(Verdict.PASSES, "next call")
    except Exception:
        pass
    trial.leave(pool)


def absent_module(trial: Trial) -> None:
    from . import absent_in_workers

    pool = trial.open(method="spawn")
    trial.expect_error(lambda: pool.submit(absent_in_workers.square, 3)(), Exception)
    trial.survives(pool)


def broken_main(trial: Trial) -> None:
    """A worker that imports no main module has no such event, and returns the value."""
    os.environ["FAULTS_BREAK_MAIN"] = "1"
    pool = trial.contender(method="spawn")
    trial.expect_error(lambda: pool.submit(tasks.square, 3)(), RuntimeError, or_value=9)
    trial.leave(pool)


def callback_raises(trial: Trial) -> None:
    pool = trial.open()

    def callback(value: int) -> None:
        raise ValueError(f"a callback that doesn't like {value}")

    trial.expect_value(pool.submit(tasks.square, 3, callback=callback), 9)
    trial.survives(pool)


def endless_iterable(trial: Trial) -> None:
    """Nobody takes more than two results; how far is the iterable read?"""
    pool = trial.open()
    count = 0

    def numbers() -> Iterator[int]:
        nonlocal count
        for i in range(READ_AHEAD):
            count = i
            yield i
        threading.Event().wait()  # enough: what reads on is left here

    def first_two() -> list[int]:
        results = pool.imap(tasks.square, numbers())
        return [next(results), next(results)]

    trial.expect_value(first_two, [0, 1])
    before = -1
    while before < count < READ_AHEAD - 1:
        before = count
        time.sleep(0.3)
    if count == READ_AHEAD - 1:
        trial.find(Verdict.UNBOUNDED)
    trial.leave(pool)


def tiny_dev_shm(trial: Trial) -> None:
    """The referee has mounted 1 MiB there."""
    space = os.statvfs("/dev/shm")
    if space.f_blocks * space.f_frsize > 2**20:
        trial.find(Verdict.NOT_TRIED, "no mount namespace")
        return
    pool = trial.open()

    def large_both_ways() -> list[int]:
        results = [len(data) for data in pool.map(tasks.large, range(4))]
        return results + pool.map(tasks.length, [bytes(8 * 2**20)] * 4)

    trial.expect_value(large_both_ways, [8 * 2**20] * 8)
    trial.survives(pool)


def over_time_limit(trial: Trial) -> None:
    pool = trial.open()
    other = pool.submit(tasks.arrive_and_wait, "other", "gate")
    tasks.wait_for("other")
    trial.expect_error(pool.limited(0.5, tasks.nap, tasks.PATIENCE), TimeoutError)
    tasks.arrive("gate")
    trial.others(other, "passed")
    trial.survives(pool)


def cancelled(trial: Trial) -> None:
    pool = trial.open()
    get, cancel = pool.cancellable(tasks.arrive_and_nap, "running")
    tasks.wait_for("running")
    cancel()
    trial.expect_error(get, Exception)
    trial.survives(pool)
