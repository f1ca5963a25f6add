"""What apply_async and map_async return: ready, successful, wait, get."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import threading
import time
import types
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until


def test_get_returns_the_value(pool: Any) -> None:
    assert pool.apply_async(tasks.add, (1,), {"b": 2}).get() == 3
    assert pool.map_async(tasks.square, [1, 2, 3]).get() == [1, 4, 9]


def test_get_may_be_called_again_and_gives_the_same_object(pool: Any) -> None:
    result = pool.apply_async(tasks.identity, ([1, 2],))
    assert result.get() is result.get()
    mapped = pool.map_async(tasks.identity, [[1]])
    assert mapped.get() is mapped.get()


def test_get_raises_the_same_error_each_time(pool: Any) -> None:
    result = pool.apply_async(tasks.raise_value_error, ("x",))
    caught = []
    for _ in range(2):
        with pytest.raises(ValueError, match="x") as info:
            result.get()
        caught.append(info.value)
    assert caught[0] is caught[1]


def test_results_are_of_the_standard_classes(pool: Any) -> None:
    result = pool.apply_async(tasks.nothing)
    mapped = pool.map_async(tasks.nothing, [1])
    assert isinstance(result, multiprocessing.pool.AsyncResult)
    assert isinstance(result, multiprocessing.pool.ApplyResult)
    assert isinstance(mapped, multiprocessing.pool.MapResult)
    result.wait()
    mapped.wait()


def test_result_classes_can_be_subscripted(pool: Any) -> None:
    result = pool.apply_async(tasks.nothing)
    assert isinstance(type(result)[int], types.GenericAlias)
    result.wait()


@pytest.mark.parametrize("kind", ["apply_async", "map_async"])
def test_a_pending_result_says_so(pool: Any, gate: Any, kind: str) -> None:
    args: Any = (gate.path,) if kind == "apply_async" else [gate.path]
    result = getattr(pool, kind)(tasks.pass_gate, args)
    wait_until(lambda: gate.arrivals() == 1)
    assert result.ready() is False
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    for timeout in (0, 0.0, 0.05):
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=timeout)
        assert result.wait(timeout) is None
    assert result.ready() is False
    gate.open()
    assert result.wait(10) is None
    assert result.ready() is True
    assert result.successful() is True


def test_a_failed_result_is_ready_and_not_successful(pool: Any) -> None:
    for result in (
        pool.apply_async(tasks.raise_value_error, (1,)),
        pool.map_async(tasks.raise_if_negative, [1, -1]),
    ):
        result.wait(10)
        assert result.ready() is True
        assert result.successful() is False
        with pytest.raises(ValueError):
            result.get(0)


def test_a_result_becomes_ready_without_anyone_waiting_for_it(pool: Any) -> None:
    results = [pool.apply_async(tasks.square, (i,)) for i in range(50)]
    wait_until(lambda: all(result.ready() for result in results))
    assert [result.get(0) for result in results] == [i * i for i in range(50)]


def test_get_of_a_ready_result_ignores_the_timeout(pool: Any) -> None:
    result = pool.apply_async(tasks.square, (3,))
    result.wait()
    assert result.get(0) == result.get(timeout=-1) == 9


def test_a_timeout_is_kept(pool: Any, gate: Any) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    for wait in (result.get, result.wait):
        begin = time.monotonic()
        try:
            wait(0.2)
        except multiprocessing.TimeoutError:
            pass
        assert 0.18 < time.monotonic() - begin < 2
    gate.open()
    result.get(10)


@pytest.mark.fastpool_only
def test_a_timeout_is_also_the_builtin_timeout_error(impl: Any, pool: Any, gate: Any) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    with pytest.raises(TimeoutError) as caught:
        result.get(0.01)
    assert isinstance(caught.value, impl.module.TimeoutError)
    assert isinstance(caught.value, multiprocessing.TimeoutError)
    gate.open()
    result.get(10)


def test_an_empty_map_is_ready_at_once_or_soon(pool: Any) -> None:
    result = pool.map_async(tasks.square, [])
    assert result.get(10) == []
    assert result.ready() and result.successful()


def test_results_can_be_taken_in_any_order(pool: Any) -> None:
    results = [pool.apply_async(tasks.square, (i,)) for i in range(300)]
    for i in reversed(range(300)):
        assert results[i].get(10) == i * i


def test_many_results_may_be_pending_at_once(pool: Any) -> None:
    results = [pool.apply_async(tasks.add, (i, 1)) for i in range(5000)]
    assert [result.get(20) for result in results] == list(range(1, 5001))


def test_many_large_arguments_may_be_pending_at_once(pool: Any) -> None:
    results = [pool.apply_async(len, (b"x" * 500_000,)) for _ in range(100)]
    assert [result.get(20) for result in results] == [500_000] * 100


def test_several_threads_may_wait_for_one_result(pool: Any, gate: Any) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path, "shared"))
    seen: list[Any] = []
    threads = [threading.Thread(target=lambda: seen.append(result.get(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: gate.arrivals() == 1)
    gate.open()
    for thread in threads:
        thread.join(20)
    assert seen == ["shared"] * 4


def test_a_result_may_be_dropped(pool: Any) -> None:
    for i in range(200):
        pool.apply_async(tasks.square, (i,))
        pool.map_async(tasks.square, range(3))
    assert pool.apply(tasks.square, (5,)) == 25


def test_a_result_outlives_its_pool(pool_factory: Any) -> None:
    pool = pool_factory(2)
    kept = [pool.apply_async(tasks.make_bytes, (size,)) for size in (0, 10, 100_000, 3_000_000)]
    mapped = pool.map_async(tasks.square, range(10))
    pool.close()
    pool.join()
    assert [len(result.get(0)) for result in kept] == [0, 10, 100_000, 3_000_000]
    assert mapped.get(0) == [i * i for i in range(10)]


def test_get_works_while_the_pool_closes(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.pass_gate, (gate.path, "done"))
    wait_until(lambda: gate.arrivals() == 1)
    pool.close()
    gate.open()
    assert result.get(10) == "done"
    pool.join()
