"""A zygote that was forked at a bad moment: its workers don't live, those of the next one do."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import procs, tasks

from fastpool import Pool
from fastpool._runtime import births

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(60)]


class BadForks:
    """Something happens in each child of the next `left` forks, before our first line."""

    def __init__(self) -> None:
        self.left = 0
        self._mishap: Callable[[], object] | None = None
        self._hits_next = False
        os.register_at_fork(before=self._before, after_in_child=self._after_in_child)

    def plan(self, count: int, mishap: Callable[[], object]) -> None:
        self.left, self._mishap = count, mishap

    def _before(self) -> None:
        self._hits_next = self.left > 0
        self.left -= self._hits_next

    def _after_in_child(self) -> None:
        if self._hits_next and self._mishap is not None:
            faulthandler.disable()
            self._mishap()


FORKS = BadForks()
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def as_usual_afterwards() -> Iterator[None]:
    yield
    FORKS.plan(0, int)


def crash() -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    while True:
        time.sleep(1000)


@pytest.mark.parametrize("mishap", [crash, hang])
def test_workers_of_a_bad_copy_are_replaced_by_those_of_another(
    mishap: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(births, "PATIENCE", 1.0)
    FORKS.plan(1, mishap)
    with Pool(2, context=FORK) as pool:
        assert FORKS.left == 0
        assert pool.map(tasks.square, range(20), 1) == [i * i for i in range(20)]
        assert pool.apply_async(tasks.square, (3,)).get(30) == 9


def test_who_crashes_at_every_start_fails_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(births, "PATIENCE", 1.0)
    FORKS.plan(1000, crash)
    with Pool(1, context=FORK) as pool, pytest.raises(RuntimeError, match="in a row"):
        pool.apply_async(tasks.square, (3,)).get(30)


def test_a_closed_pool_ends_though_its_workers_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(births, "PATIENCE", 1.0)
    FORKS.plan(1, hang)
    pool = Pool(2, context=FORK)
    pool.close()
    pool.join()


def test_nothing_is_held_of_workers_that_have_ended() -> None:
    pool = Pool(2, context=FORK)
    assert pool.apply(tasks.square, (3,)) == 9
    pool.close()
    pool.join()
    held = pool._engine._starter._births  # type: ignore[attr-defined]
    assert not held._living and not held._expected


def test_terminate_forgets_no_worker_while_its_end_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, forgotten = threading.Event(), threading.Event()

    class Expected(set[Any]):
        """Leaves whoever wants to forget all the time for it, once a worker was found in here."""

        def __contains__(self, worker: object) -> bool:
            is_in = super().__contains__(worker)
            found.set()
            forgotten.wait(0.3)
            return is_in

        def clear(self) -> None:
            super().clear()
            forgotten.set()

    def join_and_wait(workers: Any) -> None:
        join_or_kill(workers)
        assert found.wait(5)

    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    monkeypatch.setattr(births.Births, "_has_begun", lambda *_: False)  # so they stay expected
    pool = Pool(2, context=FORK)
    engine: Any = pool._engine
    join_or_kill = engine._join_or_kill
    monkeypatch.setattr(engine, "_join_or_kill", join_and_wait)
    engine._starter._births._expected = Expected(engine._starter._births._expected)
    pool.terminate()
    pool.join()
    assert not [error.exc_value for error in errors]


def test_workers_that_live_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(births, "PATIENCE", 1.0)
    with Pool(2, context=FORK) as pool:
        pids = procs.worker_pids(pool)
        time.sleep(1.5)  # longer than that
        assert pool.map(tasks.square, range(20), 1) == [i * i for i in range(20)]
        assert procs.worker_pids(pool) == pids
