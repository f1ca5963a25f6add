"""The program, or the pool, ends in an unusual way."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from typing import Any

from fastpool.bench.contender import NotOffered

from . import tasks
from .deaths import dead
from .trial import Trial
from .verdicts import Verdict

_kept: list[Any] = []


def wait_to_be_killed(trial: Trial) -> None:
    """The referee kills this process when the pool is idle."""
    _kept.append(trial.open())
    tasks.arrive("ready")
    time.sleep(tasks.PATIENCE)


def wait_to_be_killed_with_a_task(trial: Trial) -> None:
    """The referee kills this process while a worker is busy."""
    pool = trial.open()
    _kept.append(pool)
    _kept.append(pool.submit(tasks.arrive_and_nap, "ready"))
    time.sleep(tasks.PATIENCE)


def interrupted(trial: Trial) -> None:
    """The referee sends SIGINT to the whole group when a task has begun."""
    pool = trial.open()
    trial.expect_error(lambda: pool.map(tasks.arrive_and_nap, ["ready"] * 8), KeyboardInterrupt)
    trial.leave(pool)


def forked_child_leaves(trial: Trial) -> None:
    pool = trial.open()
    trial.step("the end of the child")
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    os.waitpid(pid, 0)
    trial.expect_value(lambda: pool.map(tasks.square, range(40)), [i * i for i in range(40)])
    trial.leave(pool)


def terminate_in_callback(trial: Trial) -> None:
    pool = trial.open()
    called = threading.Event()
    offered = True

    def callback(_value: Any) -> None:
        nonlocal offered
        try:
            pool.terminate()
        except NotOffered:
            offered = False
        called.set()

    pending = pool.submit(tasks.arrive_and_nap, "pending")
    tasks.wait_for("pending")
    pool.submit(tasks.square, 3, callback=callback)
    trial.step("the callback")
    called.wait()
    if not offered:
        raise NotOffered
    trial.expect_error(pending, Exception)
    trial.leave(pool)


def forgotten(trial: Trial) -> None:
    """Nobody closes the pool; it is a global to the end."""
    _kept.append(trial.open())
    trial.step("at the end")


def in_a_cycle(trial: Trial) -> None:
    pool: Any = trial.open(own=True)
    pids = pool.pids()
    pool.myself = pool
    del pool
    trial.step("collection")
    gc.collect()
    if not trial.wait_until(lambda: all(dead(pid) for pid in pids), 2):
        trial.find(Verdict.WORKERS)
    trial.step("at the end")
