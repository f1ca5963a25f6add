"""Blocks of shared memory: what workers map and copy, and a fork server that was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, tasks
from helpers.build import beyond_posix
from helpers.procs import wait_until
from helpers.threads import InThread

from fastpool import Pool

FORK = multiprocessing.get_context("fork")
ITEMS = 200_000  # 1.6 MB: large enough to be mapped


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(1, context=FORK) as pool:
        yield pool


def is_copy(array: Any) -> bool:
    """In a worker: a mapped argument lies in memory that is not the array's own."""
    return bool(array.flags.owndata)


def is_copy_after_writing(array: Any) -> bool:
    """The same, for a task that writes all over its argument."""
    array += 1
    return bool(array.flags.owndata)


def test_large_arguments_are_mapped_and_small_ones_copied(pool: Any) -> None:
    assert not pool.apply(is_copy, (np.ones(ITEMS),))
    assert pool.apply(is_copy, (np.ones(ITEMS // 10),))
    assert pool.apply(is_copy, (np.ones(10),))


@beyond_posix("it does not learn whether views are written")
def test_what_is_likely_to_be_written_is_copied(pool: Any) -> None:
    array = np.ones(ITEMS)
    found = [pool.apply(is_copy_after_writing, (array,)) for _ in range(40)]
    assert not found[0]  # nothing is known yet
    assert found.count(True) > 30
    assert found.count(False) >= 2  # now and then it looks again
    assert (array == 1).all()


def test_what_is_only_read_goes_on_being_mapped(pool: Any) -> None:
    array = np.ones(ITEMS)
    assert not any(pool.apply(is_copy, (array,)) for _ in range(20))


@pytest.mark.parametrize("items", [10_000, ITEMS])
def test_a_pool_whose_fork_server_was_killed_while_results_were_held_goes_on(items: int) -> None:
    """The next one is forked when the program holds results, which are made its own for that."""
    with Pool(2, context=FORK) as pool:
        held = pool.starmap(np.full, [(items, float(i)) for i in range(6)], 1)
        before = {worker.pid for worker in pool.workers()}
        zygote = pool.apply(os.getppid)
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: before.isdisjoint(w.pid for w in pool.workers()), 10)
        wait_until(lambda: len(pool.workers()) == 2, 10)
        for _ in range(3):
            more = pool.starmap(np.full, [(items, float(10 + i)) for i in range(6)], 1)
            assert [float(a.sum()) for a in more] == [(10 + i) * items for i in range(6)]
            assert [float(a.sum()) for a in held] == [i * items for i in range(6)]
            del more
        del held
        again = pool.starmap(np.full, [(items, float(20 + i)) for i in range(12)], 1)
        assert [float(a.sum()) for a in again] == [(20 + i) * items for i in range(12)]
        assert pool.map(tasks.square, range(100)) == [i * i for i in range(100)]


def fork_and_wait() -> None:
    """Fork a child that leaves at once."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def test_a_fork_in_another_thread_leaves_what_a_task_reads_where_it_is(
    pool: Any, gate: Any
) -> None:
    """A result that is sent on by a waiting call is read where it lies."""
    held = pool.apply(np.full, (ITEMS, 3.0))
    call = InThread(pool.apply, array_tasks.total_after_gate, (gate.path, held))
    wait_until(lambda: gate.arrivals() == 1)
    fork_and_wait()
    gate.open()
    assert call.outcome() == 3.0 * ITEMS
    fork_and_wait()
    assert held.sum() == 3.0 * ITEMS
    assert pool.apply(np.sum, (held,)) == 3.0 * ITEMS


@pytest.mark.parametrize("items", [8, ITEMS])
def test_shared_memory_of_another_pool_takes_results_too(pool: Any, items: int) -> None:
    with Pool(1) as other:
        out = other.zeros(items)
        assert pool.map_blocks(np.negative, np.arange(float(items)), out=out) is out
        assert (out == -np.arange(float(items))).all()
    assert pool.map_blocks(np.abs, out, out=out) is out  # its pool has ended
    assert (out == np.arange(float(items))).all()


def test_results_may_overwrite_the_items(pool: Any) -> None:
    values = np.arange(20_000)
    wanted = values[::-1].copy()
    assert pool.map(tasks.add, values, chunksize=1, out=values[::-1]) is not None
    assert (values == wanted).all()
