"""A shared array lives as long as somebody, here or in a worker, holds a view of it; no longer."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, pool_memory, tasks
from helpers.pool_memory import settled_bytes
from helpers.procs import wait_until

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(60)]

COUNT = 200_000
BYTES = COUNT * 8
SIZES = pytest.mark.parametrize("count", [500, 20_000, COUNT], ids=["4 KB", "160 KB", "1.6 MB"])


def in_use_at_rest(pool: Any) -> int:
    """What is in use before a test begins."""
    gc.collect()
    pool_memory.visit_all_workers(pool)
    pool_memory.visit_all_workers(pool)
    return pool.stats().bytes_in_use


def reuse(pool: Any, count: int, rounds: int = 20) -> None:
    """Whatever memory is free is now full of something else."""
    for _ in range(rounds):
        made = [pool.empty(count) for _ in range(5)]
        for array in made:
            array[:] = -1
        pool.map(tasks.identity, [np.full(count, -2.0)] * 4, 1)
        del made, array


# --- held in the parent ---------------------------------------------------------------------------


@SIZES
def test_it_is_given_back_when_the_parent_drops_it(pool: Any, count: int) -> None:
    before = in_use_at_rest(pool)
    made = [pool.empty(count), pool.zeros(count), pool.copy_to_shared(np.ones(count))]
    with_three = pool.stats().bytes_in_use
    assert with_three >= before + 3 * 8 * count
    made.pop()
    settled_bytes(pool, with_three - 8 * count)
    assert pool.stats().bytes_in_use >= before + 2 * 8 * count
    del made
    settled_bytes(pool, before)


@SIZES
def test_any_view_of_it_holds_it(pool: Any, count: int) -> None:
    before = in_use_at_rest(pool)
    part = pool.copy_to_shared(np.arange(float(count)))[1::2].T[::-1].reshape(-1)
    reuse(pool, count)
    assert pool.stats().bytes_in_use >= before + 8 * count
    assert (part == np.arange(float(count))[1::2][::-1]).all()
    del part
    settled_bytes(pool, before)


def test_other_things_made_of_its_memory_hold_it(pool: Any) -> None:
    before = in_use_at_rest(pool)
    shared = pool.copy_to_shared(np.arange(float(COUNT)))
    view = memoryview(shared)
    other = np.frombuffer(view, "f8")
    del shared, view
    reuse(pool, COUNT, 5)
    assert (other == np.arange(COUNT)).all()
    del other
    settled_bytes(pool, before)


@SIZES
def test_it_may_be_used_after_the_pool_has_ended(pool_factory: Any, count: int) -> None:
    held = []
    for ending in "terminate", "close":
        pool = pool_factory(2)
        shared = pool.zeros(count)
        pool.apply(array_tasks.fill, (shared, 3))
        part = pool.apply(array_tasks.apply_view, (shared, "second half"))
        getattr(pool, ending)()
        pool.join()
        held.append((shared, part))
        del pool, shared, part
        gc.collect()
    other = pool_factory(1)
    reuse(other, count)
    for shared, part in held:
        assert (shared == 3).all()
        part[:] = 4
        assert shared.sum() == 3 * count + len(part)
    assert other.apply(array_tasks.total, (held[0][0],)) == held[0][0].sum()


@pytest.mark.parametrize("ending", ["terminate", "close"])
def test_it_outlives_the_pool_wherever_in_its_memory_it_lies(
    pool_factory: Any, ending: str
) -> None:
    """Its size makes it begin at any place of a page; its neighbours are gone already."""
    pool = pool_factory(1)
    made = [pool.copy_to_shared(np.full(500 + 8 * i, i)) for i in range(400)]
    held = dict(list(enumerate(made))[::2])
    made.clear()
    getattr(pool, ending)()
    pool.join()
    assert [index for index, value in held.items() if not (value == index).all()] == []


def test_it_may_be_dropped_after_the_pool_has_ended_or_in_any_thread(pool_factory: Any) -> None:
    pool = pool_factory(1)
    before = in_use_at_rest(pool)
    dropped = [pool.zeros(COUNT) for _ in range(4)]
    kept = [pool.zeros(COUNT) for _ in range(4)]
    with_all = pool.stats().bytes_in_use
    assert with_all >= before + 8 * BYTES
    thread = threading.Thread(target=dropped.clear)
    thread.start()
    thread.join()
    settled_bytes(pool, with_all - 4 * BYTES)
    pool.terminate()
    pool.join()
    del pool
    gc.collect()
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    assert pool_factory(1).apply(tasks.square, (3,)) == 9


# --- held in a worker -----------------------------------------------------------------------------


@SIZES
def test_a_worker_that_keeps_one_keeps_it_alive(pool_factory: Any, count: int) -> None:
    """Though the parent has dropped its own, nothing else is put there."""
    pool = pool_factory(1)
    before = in_use_at_rest(pool)
    shared = pool.copy_to_shared(np.arange(float(count)))
    pool.apply(array_tasks.keep_array, ("kept", shared[10:]))
    del shared
    gc.collect()
    reuse(pool, count)
    expected = float(np.arange(float(count))[10:].sum())
    assert pool.apply(tasks.kept_sum, ("kept",)) == expected
    assert pool.stats().bytes_in_use >= before + 8 * count
    again = pool.apply(tasks.get_state, ("kept",))  # the parent may have it back
    assert again.sum() == expected
    pool.apply(array_tasks.fill_kept, ("kept", 1))
    assert (again == 1).all()
    del again
    pool.apply(array_tasks.drop_kept, ("kept",))
    settled_bytes(pool, before)


@SIZES
def test_the_last_of_many_holders_gives_it_back(
    pool_factory: Any, tmp_path: Any, count: int
) -> None:
    pool = pool_factory(3)
    before = in_use_at_rest(pool)
    shared = pool.zeros(count)
    views = [shared[index:] for index in range(3)]
    pids = in_every_worker(pool, tmp_path / "keep", [("keep", 0, view) for view in views])
    assert sorted(pids) == sorted(worker.pid for worker in pool.workers())
    del shared, views
    reuse(pool, count, 5)
    for turn, pid in enumerate(pids):
        assert pool.stats().bytes_in_use >= before + 8 * count
        work = [("drop if intact", pid, None)] * 3
        dropped = in_every_worker(pool, tmp_path / f"drop {turn}", work)
        assert sorted(dropped) == [0, 0, pid]
    settled_bytes(pool, before)


def in_every_worker(pool: Any, directory: Any, work: list[Any]) -> list[int]:
    """Let three workers do something at the same time, so that each does one of it."""
    directory.mkdir()
    return pool.starmap(
        array_tasks.keep_or_drop, [(str(directory), i, *what) for i, what in enumerate(work)], 1
    )


@SIZES
@pytest.mark.parametrize("end", ["is killed", "is replaced"])
def test_a_worker_that_leaves_gives_back_what_it_kept(
    pool_factory: Any, end: str, count: int
) -> None:
    pool = pool_factory(1, maxtasksperchild=None if end == "is killed" else 3)
    before = in_use_at_rest(pool)
    shared = pool.zeros(count)
    pid = pool.apply(array_tasks.keep_and_say_who, ("kept", shared))
    if end == "is killed":
        pool.apply(array_tasks.fill_kept, ("kept", 2))
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pool.apply(tasks.pid) != pid, 20)
    assert pool.apply(tasks.get_state, ("kept",)) is None
    if end == "is killed":
        assert (shared == 2).all()
    del shared
    settled_bytes(pool, before)


def test_workers_killed_while_they_work_on_it_leave_nothing_in_use(
    pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(2)
    before = in_use_at_rest(pool)
    shared = pool.zeros((10, COUNT))
    results = [
        pool.apply_async(array_tasks.fill_then_pass_gate, (shared[i], 1, gate.path))
        for i in range(2)
    ]
    wait_until(lambda: gate.arrivals() == 2)
    for pid in gate.arrived_pids():
        os.kill(pid, signal.SIGKILL)
    for result in results:
        with pytest.raises(RuntimeError):
            result.get()
    assert (shared[:2] == 1).all()
    assert not shared[2:].any()
    del shared, results, result
    settled_bytes(pool, before)


# --- on its way -----------------------------------------------------------------------------------


@SIZES
def test_one_that_only_a_queued_task_still_has_arrives(pool: Any, gate: Any, count: int) -> None:
    before = in_use_at_rest(pool)
    blockers = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(2)]
    wait_until(lambda: gate.arrivals() == 2)
    results = [
        pool.apply_async(array_tasks.total, (pool.copy_to_shared(np.full(count, float(i))),))
        for i in range(20)
    ]
    others = [pool.empty(count) for _ in range(20)]
    for array in others:
        array[:] = -1
    gate.open()
    assert [result.get() for result in results] == [float(i) * count for i in range(20)]
    assert [blocker.get() for blocker in blockers] == [0, 1]
    del others, array, results
    settled_bytes(pool, before)


@SIZES
def test_one_that_only_an_unread_result_still_has_arrives(pool_factory: Any, count: int) -> None:
    pool = pool_factory(1)
    before = in_use_at_rest(pool)
    shared = pool.copy_to_shared(np.arange(float(count)))
    results = [pool.apply_async(tasks.identity, (shared[i:],)) for i in range(5)]
    dropped = [pool.apply_async(tasks.identity, (shared,)) for _ in range(5)]
    for result in [*results, *dropped]:
        result.wait(10)
    del shared, dropped, result
    gc.collect()
    reuse(pool, count, 5)
    assert [result.get().sum() for result in results] == [
        np.arange(float(count))[i:].sum() for i in range(5)
    ]
    del results
    settled_bytes(pool, before)


def test_tasks_that_fail_or_are_never_run_give_it_back(pool_factory: Any) -> None:
    pool = pool_factory(1)
    before = in_use_at_rest(pool)
    shared = pool.zeros(COUNT)
    for _ in range(10):
        with pytest.raises(ValueError):
            pool.apply(array_tasks.fill_and_raise, (shared,))
    with pytest.raises(ValueError):
        pool.map(array_tasks.fill_and_raise, [shared] * 10, 5)  # each chunk ends at its first
    unpicklable = pool.apply_async(tasks.nothing, (shared, lambda: None))
    with pytest.raises(Exception, match="pickle"):
        unpicklable.get()
    iterator = pool.imap(array_tasks.total, [shared] * 100)
    next(iterator)
    del shared, iterator, unpicklable
    settled_bytes(pool, before)


def test_thousands_may_come_and_go(pool: Any) -> None:
    before = in_use_at_rest(pool)
    random = np.random.default_rng(1)
    held: list[tuple[int, Any]] = []
    for index in range(1500):
        array = pool.empty(int(random.integers(1, 30_000)))
        array[:] = index
        held.append((index, array))
        if len(held) > 40:
            number, array = held.pop(int(random.integers(len(held))))
            assert array[0] == array[-1] == number
        if index % 50 == 0:
            sums = pool.map(array_tasks.total, [array for _, array in held], 3)
            assert sums == [number * array.size for number, array in held]
    held.clear()
    del array
    settled_bytes(pool, before)
