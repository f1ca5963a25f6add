"""A worker that leaves has a successor by then; one that grew too large leaves."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.build import FREE_THREADED, GIVES_BACK
from helpers.pool_health import size, whole
from helpers.procs import wait_until

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

KILL = signal.SIGKILL
MIB = 2**20


# --- successors -----------------------------------------------------------------------------------


def test_a_successor_starts_before_its_predecessor_leaves(
    pool_factory: Any, start_method: str, gate: Any
) -> None:
    """Its exit handlers take as long as they please; the pool has its workers meanwhile."""
    pool = pool_factory(1, mishaps.linger_at_exit, (gate.path,), 1)
    first = pool.apply(tasks.pid)
    wait_until(lambda: gate.arrivals() == 1, 10)
    assert procs.is_alive(first)
    second = pool.apply(tasks.pid)
    assert second != first and procs.is_alive(first)
    gate.open()
    wait_until(lambda: not procs.is_alive(first))
    assert pool.apply(tasks.square, (3,)) == 9


@pytest.mark.parametrize("why", ["it was stopped", "its task called sys.exit()"])
def test_so_it_is_when_a_worker_leaves_unforeseen(
    pool_factory: Any, gate: Any, tmp_path: Path, why: str
) -> None:
    pool = pool_factory(1, mishaps.linger_at_exit, (gate.path,))
    first = pool.apply(tasks.pid)
    if why == "it was stopped":
        held = tasks.Gate(tmp_path / "held")
        call = pool.apply_async(tasks.pass_gate, (held.path,))
        wait_until(lambda: held.arrivals() == 1)
        assert call.cancel(kill=True)
    else:
        with pytest.raises(SystemExit):
            pool.apply(sys.exit)
    wait_until(lambda: gate.arrivals() == 1, 10)
    second = pool.apply_async(tasks.pid).get(5)
    assert second != first and procs.is_alive(first)
    gate.open()


def test_a_successor_starts_while_the_last_task_runs(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1, maxtasksperchild=1)
    held = pool.apply_async(tasks.pass_gate, (gate.path, "held"))
    wait_until(lambda: gate.arrivals() == 1)
    assert pool.apply_async(tasks.square, (3,)).get(5) == 9
    assert not held.ready()
    wait_until(lambda: len(pool._pool) == 1)
    gate.open()
    assert held.get(5) == "held"


def test_no_more_workers_linger_than_there_are(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2, mishaps.linger_at_exit, (gate.path,), 1)
    results = [pool.apply_async(tasks.pid) for _ in range(12)]
    wait_until(lambda: gate.arrivals() >= 2)
    time.sleep(0.2)
    assert len(pool.workers()) <= 4
    gate.open()
    assert len({result.get(10) for result in results}) == 12
    size(pool, 2)


def test_the_pool_has_its_size_while_workers_change(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(3, maxtasksperchild=1)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(3)]
    wait_until(lambda: gate.arrivals() == 3)
    wait_until(lambda: len(pool._pool) == 3 and len(pool.workers()) == 6)
    gate.open()
    assert [result.get(5) for result in held] == [0, 1, 2]
    size(pool, 3)


def test_surplus_workers_leave_room_for_successors(impl: Any, pool_factory: Any, gate: Any) -> None:
    """However often the size changes while all are busy: no more than there is room for."""
    pool = pool_factory(2)
    held = []
    for count in range(2, 30, 2):
        held += [pool.apply_async(tasks.pass_gate, (gate.path, count + i)) for i in range(2)]
        pool.resize(1)
        pool.resize(2)
        assert len(pool._pool) <= 2
    gate.open()
    assert [result.get(5) for result in held] == list(range(2, 30))
    whole(pool, 2)


def test_a_worker_dies_in_its_last_task(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2, maxtasksperchild=1)
    for _ in range(10):
        with pytest.raises(impl.module.WorkerDiedError):
            pool.apply(tasks.die, (KILL,))
        assert pool.apply(tasks.square, (3,)) == 9
    whole(pool, 2)


def test_close_waits_for_those_that_linger(pool_factory: Any, gate: Any, tmp_path: Any) -> None:
    pool = pool_factory(2, tasks.finalize_into, (str(tmp_path / "log"),), 1)
    pids = pool.map(tasks.pid, range(6), 1)
    pool.close()
    pool.join()
    lines = (tmp_path / "log").read_text().splitlines()
    assert set(lines) >= {f"finalize {pid}" for pid in pids}


# --- max_memory_per_child -------------------------------------------------------------------------


def test_a_worker_that_has_too_much_memory_is_replaced(
    pool_factory: Any, start_method: str
) -> None:
    if FREE_THREADED and start_method == "fork":
        pytest.skip("a Python without a GIL keeps freed memory, and its forks use that first")
    pool = pool_factory(1, max_memory_per_child=400 * MIB)
    first = pool.apply(tasks.pid)
    assert pool.apply(mishaps.keep_memory, (50 * MIB,)) == first
    assert pool.apply(tasks.pid) == first
    assert pool.apply(mishaps.keep_memory, (450 * MIB,)) == first, "after the task, not in it"
    assert pool.apply(tasks.pid) != first
    size(pool, 1)


@GIVES_BACK
def test_memory_that_a_task_gave_back_does_not_count(pool_factory: Any) -> None:
    pool = pool_factory(1, max_memory_per_child=300 * MIB)
    first = pool.apply(tasks.pid)
    assert len(pool.apply(tasks.make_bytes, (1,))) == 1
    for _ in range(3):
        assert pool.apply(mishaps.use_memory, (400 * MIB,)) == first


def test_shared_memory_does_not_count(pool_factory: Any) -> None:
    """An array of the pool's is nobody's own, whoever touches it."""
    pool = pool_factory(1, max_memory_per_child=200 * MIB)
    array = pool.zeros(300 * MIB // 8)
    first = pool.apply(tasks.pid)
    assert pool.apply(array.sum) == 0
    assert pool.apply(tasks.pid) == first


@pytest.mark.parametrize("value", [0, -1])
def test_max_memory_must_be_positive(pool_factory: Any, value: int) -> None:
    with pytest.raises(ValueError, match="max_memory_per_child must be positive"):
        pool_factory(1, max_memory_per_child=value)


@pytest.mark.parametrize("value", [1.5, "1G", True])
def test_max_memory_must_be_an_integer(pool_factory: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="max_memory_per_child must be None or a number of bytes"):
        pool_factory(1, max_memory_per_child=value)
