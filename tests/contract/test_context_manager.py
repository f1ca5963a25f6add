"""`with Pool() as pool:` gives the pool itself and terminates it at the end."""

from __future__ import annotations

import time
from typing import Any

import pytest
from helpers import procs, tasks


def test_with_gives_the_pool_itself(pool_factory: Any) -> None:
    pool = pool_factory(2)
    with pool as inside:
        assert inside is pool
        assert inside.map(tasks.square, [1, 2]) == [1, 4]


def test_leaving_terminates(pool_factory: Any, start_method: str) -> None:
    with pool_factory(2) as pool:
        workers = list(pool._pool)
        pool.apply(tasks.nothing)
        pool.apply_async(tasks.nap, (60,))
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    assert pool._state == "TERMINATE"
    pool.join()
    assert not any(procs.is_alive(worker.pid) for worker in workers)


def test_an_exception_inside_passes_through(pool_factory: Any) -> None:
    with pytest.raises(KeyError, match="mine"), pool_factory(2) as pool:
        raise KeyError("mine")
    assert pool._state == "TERMINATE"


def test_an_error_of_a_task_passes_through(pool_factory: Any) -> None:
    with pytest.raises(ValueError), pool_factory(2) as pool:
        pool.map(tasks.raise_value_error, [1])
    assert pool._state == "TERMINATE"


def test_close_and_join_inside_are_fine(pool_factory: Any) -> None:
    with pool_factory(2) as pool:
        result = pool.map_async(tasks.square, range(10))
        pool.close()
        pool.join()
    assert result.get(0) == [i * i for i in range(10)]


def test_an_ended_pool_cannot_be_entered(pool_factory: Any) -> None:
    with pool_factory(1) as pool:
        pass
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pytest.fail("must not get here")


def test_may_be_entered_again_while_it_runs(pool_factory: Any) -> None:
    pool = pool_factory(1)
    with pool, pool:
        assert pool.apply(tasks.square, (2,)) == 4
