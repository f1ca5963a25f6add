"""Blocks of shared memory: what workers map and copy, and a fork server that was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers import tasks
from helpers.procs import wait_until

from fastpool import Pool

ITEMS = 200_000  # 1.6 MB: large enough to be mapped


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(1) as pool:
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
    with Pool(2) as pool:
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
