"""callback and error_callback: called once, in the parent, before the result is ready."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until


def test_the_callback_gets_the_value(pool: Any) -> None:
    seen: list[Any] = []
    assert pool.apply_async(tasks.add, (1, 2), callback=seen.append).get(10) == 3
    assert seen == [3]


def test_the_error_callback_gets_the_exception(pool: Any) -> None:
    seen: list[Any] = []
    result = pool.apply_async(tasks.raise_value_error, ("x",), error_callback=seen.append)
    with pytest.raises(ValueError) as caught:
        result.get(10)
    assert seen == [caught.value]
    assert seen[0] is caught.value


def test_only_the_fitting_one_is_called(pool: Any) -> None:
    good: list[Any] = []
    bad: list[Any] = []
    pool.apply_async(tasks.square, (2,), {}, good.append, bad.append).wait(10)
    pool.apply_async(tasks.raise_value_error, (2,), {}, good.append, bad.append).wait(10)
    assert good == [4]
    assert [type(error) for error in bad] == [ValueError]


def test_the_callback_gets_the_very_object_that_get_returns(pool: Any) -> None:
    seen: list[Any] = []
    value = pool.apply_async(tasks.identity, ([1],), callback=seen.append).get(10)
    assert seen[0] is value
    values = pool.map_async(tasks.identity, [[1]], callback=seen.append).get(10)
    assert seen[1] is values


def test_the_callback_has_been_called_before_the_result_is_ready(pool: Any, gate: Any) -> None:
    ready: list[bool] = []
    result = pool.apply_async(
        tasks.pass_gate, (gate.path,), callback=lambda _: ready.append(result.ready())
    )
    mapped = pool.map_async(
        tasks.pass_gate, [gate.path], callback=lambda _: ready.append(mapped.ready())
    )
    gate.open()
    result.get(10)
    mapped.get(10)
    assert ready == [False, False]


def test_when_get_returns_the_callback_has_returned(pool: Any) -> None:
    for i in range(100):
        seen: list[Any] = []
        assert pool.apply_async(tasks.square, (i,), callback=seen.append).get(10) == i * i
        assert seen == [i * i]


def test_callbacks_run_in_this_process_but_not_in_the_callers_thread(pool: Any) -> None:
    seen: list[Any] = []
    pool.apply_async(
        tasks.nothing, callback=lambda _: seen.append((os.getpid(), threading.get_ident()))
    ).get(10)
    assert seen[0][0] == os.getpid()
    assert seen[0][1] != threading.get_ident()


def test_callbacks_are_called_though_nobody_waits(pool: Any) -> None:
    seen: list[Any] = []
    for i in range(50):
        pool.apply_async(tasks.square, (i,), callback=seen.append)
    wait_until(lambda: len(seen) == 50)
    assert sorted(seen) == [i * i for i in range(50)]


def test_map_async_calls_back_once_with_the_whole_list(pool: Any) -> None:
    seen: list[Any] = []
    for chunksize in (None, 1, 3):
        pool.map_async(tasks.square, range(10), chunksize, seen.append).get(10)
    assert seen == [[i * i for i in range(10)]] * 3


def test_map_async_calls_back_once_with_the_error(pool: Any) -> None:
    good: list[Any] = []
    bad: list[Any] = []
    result = pool.map_async(tasks.raise_if_negative, [-1, 2, -1, 4], 1, good.append, bad.append)
    result.wait(10)
    assert good == []
    assert len(bad) == 1
    assert (type(bad[0]), bad[0].args) == (ValueError, (-1,))


def test_map_async_of_nothing_never_calls_back(pool: Any) -> None:
    seen: list[Any] = []
    result = pool.map_async(tasks.square, [], callback=seen.append, error_callback=seen.append)
    assert result.get(10) == []
    pool.apply(tasks.nothing)
    assert seen == []


def test_one_workers_callbacks_come_in_the_order_of_its_tasks(pool_factory: Any) -> None:
    pool = pool_factory(1)
    seen: list[int] = []
    results = [pool.apply_async(tasks.identity, (i,), callback=seen.append) for i in range(100)]
    results[-1].get(10)
    wait_until(lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_join_waits_for_the_callbacks(pool_factory: Any) -> None:
    pool = pool_factory(2)
    seen: list[int] = []
    for i in range(200):
        pool.apply_async(tasks.identity, (i,), callback=seen.append)
    pool.map_async(tasks.identity, [1000], callback=lambda values: seen.extend(values))
    pool.close()
    pool.join()
    assert sorted(seen) == [*range(200), 1000]


def test_a_callback_may_submit_more(pool: Any) -> None:
    done = threading.Event()
    seen: list[int] = []

    def again(value: int) -> None:
        seen.append(value)
        if value < 10:
            pool.apply_async(tasks.add, (value, 1), callback=again)
        else:
            done.set()

    pool.apply_async(tasks.add, (0, 1), callback=again)
    assert done.wait(10)
    assert seen == list(range(1, 11))


@pytest.fixture
def uncaught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What threading.excepthook was told."""
    seen: list[Any] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda args: seen.append((args.exc_type, args.exc_value.args))
    )
    yield seen


@pytest.mark.fastpool_only
def test_a_callback_that_raises_is_reported_and_the_pool_goes_on(
    pool_factory: Any, uncaught: list[Any]
) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.square, (3,), callback=tasks.raise_value_error)
    assert result.get(10) == 9
    wait_until(lambda: uncaught == [(ValueError, (9,))])
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]
    seen: list[Any] = []
    assert pool.apply_async(tasks.square, (4,), callback=seen.append).get(10) == 16
    assert seen == [16]
    pool.close()
    pool.join()


@pytest.mark.fastpool_only
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_hook_for_uncaught_exceptions_that_raises_too_does_not_end_the_pool(
    pool_factory: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
) -> None:
    def broken(_args: Any) -> None:
        raise error("the hook is broken")

    monkeypatch.setattr(threading, "excepthook", broken)
    pool = pool_factory(2)
    assert pool.apply_async(tasks.square, (3,), callback=tasks.raise_value_error).get(10) == 9
    with pytest.raises(ValueError, match="of the task"):
        pool.apply_async(
            tasks.raise_value_error, ("of the task",), error_callback=tasks.raise_value_error
        ).get(10)
    seen: list[Any] = []
    assert pool.apply_async(tasks.square, (4,), callback=seen.append).get(10) == 16
    assert seen == [16]
    assert "the hook is broken" in capsys.readouterr().err
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]
    pool.close()
    pool.join()


@pytest.mark.fastpool_only
def test_an_error_callback_that_raises_is_reported_and_get_has_the_tasks_error(
    pool_factory: Any, uncaught: list[Any]
) -> None:
    pool = pool_factory(2)

    def fail(error: BaseException) -> None:
        raise KeyError("from the callback")

    for submit, args in (
        (pool.apply_async, (tasks.raise_value_error, ("x",))),
        (pool.map_async, (tasks.raise_value_error, ["x"])),
    ):
        with pytest.raises(ValueError, match="x"):
            submit(*args, error_callback=fail).get(10)
    wait_until(lambda: uncaught == [(KeyError, ("from the callback",))] * 2)
    assert pool.apply(tasks.square, (2,)) == 4


@pytest.mark.fastpool_only
def test_terminate_from_a_callback_works(pool_factory: Any) -> None:
    pool = pool_factory(2)
    pool.apply_async(tasks.nothing, callback=lambda _: pool.terminate())
    wait_until(lambda: pool._state == "TERMINATE")
    pool.join()


@pytest.mark.fastpool_only
def test_close_from_a_callback_works(pool_factory: Any) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.square, (2,), callback=lambda _: pool.close())
    assert result.get(10) == 4
    pool.join()
