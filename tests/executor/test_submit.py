"""submit(): what comes out of a future, and what a future tells of its call."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import multiprocessing.pool
import os
import pickle
import weakref
from concurrent.futures.process import _RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until

import fastpool

Executor = fastpool.ProcessPoolExecutor


class Refuses:
    """Can't be pickled."""

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("refused")


def make_refusing() -> Refuses:
    return Refuses()


def test_a_future_is_the_standard_librarys(executor: Executor) -> None:
    assert isinstance(executor, concurrent.futures.ProcessPoolExecutor)
    assert isinstance(executor.submit(tasks.pid), concurrent.futures.Future)


def test_the_result_is_what_the_function_returned(executor: Executor) -> None:
    assert executor.submit(tasks.add, 1, 2).result() == 3
    assert executor.submit(tasks.pid).result() in executor._processes


def test_keyword_arguments_may_have_any_name(executor: Executor) -> None:
    names = {"fn": 1, "self": 2, "timeout": 3, "b": 4}
    assert executor.submit(tasks.arguments, 0, **names).result() == ((0,), names)
    with pytest.raises(TypeError):
        executor.submit(fn=tasks.pid)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "function", [functools.partial(tasks.add, 1), tasks.Multiplier(3).times, max]
)
def test_every_callable_that_can_be_pickled_may_be_called(
    executor: Executor, function: Any
) -> None:
    assert executor.submit(function, 2, 2).result() if function is max else True
    assert function is max or executor.submit(function, 2).result() == function(2)


def test_an_exception_comes_with_the_workers_traceback(executor: Executor) -> None:
    future = executor.submit(tasks.raise_value_error, "x")
    with pytest.raises(ValueError, match="x"):
        future.result()
    error = future.exception()
    assert isinstance(error, ValueError)
    assert type(error.__cause__) is _RemoteTraceback
    assert "raise_value_error" in str(error.__cause__)


def test_a_result_that_cant_be_pickled_raises_what_the_pickling_raised(executor: Executor) -> None:
    error = executor.submit(make_refusing).exception()
    assert isinstance(error, pickle.PicklingError)
    assert isinstance(error.__cause__, multiprocessing.pool.MaybeEncodingError)  # type: ignore[attr-defined]


def test_an_argument_that_cant_be_pickled_fails_the_future(executor: Executor) -> None:
    assert isinstance(executor.submit(tasks.identity, Refuses()).exception(), pickle.PicklingError)
    assert executor.submit(tasks.pid).result()


def test_waiting_no_longer_than_a_timeout_raises_the_standard_error(
    executor: Executor, gate: Any
) -> None:
    future = executor.submit(tasks.pass_gate, gate.path, 7)
    for wait in (future.result, future.exception):
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(0.01)
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(timeout=-1)
    gate.open()
    assert future.result(10) == 7
    assert future.exception() is None


def test_a_future_tells_when_it_waits_runs_and_is_done(executor: Executor, gate: Any) -> None:
    first, second, third = (executor.submit(tasks.pass_gate, gate.path, n) for n in range(3))
    wait_until(lambda: gate.arrivals() == 2, 10)
    assert [f.running() for f in (first, second, third)] == [True, True, False]
    assert not third.done()
    assert "state=running" in repr(first)
    assert "state=pending" in repr(third)
    gate.open()
    assert third.result(10) == 2
    assert (third.done(), third.running(), third.cancelled()) == (True, False, False)
    assert "state=finished returned int" in repr(third)
    assert "state=finished raised" in repr(_awaited(executor.submit(tasks.raise_value_error)))


def test_done_alone_is_enough_to_see_the_end(executor: Executor) -> None:
    future = executor.submit(tasks.pid)
    wait_until(future.done, 10)


def test_set_result_comes_before_the_workers(executor: Executor, gate: Any) -> None:
    """Programs of others may do that; the standard library's executor does not survive it."""
    future = executor.submit(tasks.pass_gate, gate.path)
    assert future.set_running_or_notify_cancel()
    future.set_result("ours")
    other = executor.submit(tasks.pass_gate, gate.path, 1)
    other.set_exception(KeyError(1))
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_result("again")
    gate.open()
    assert future.result() == "ours"
    assert isinstance(other.exception(), KeyError)
    assert executor.submit(tasks.identity, 2).result() == 2


def test_what_a_method_is_bound_to_may_go_before_its_result_is_read(executor: Executor) -> None:
    bound = tasks.Multiplier(2)
    gone = weakref.ref(bound)
    future = executor.submit(bound.times, 4)
    del bound
    gc.collect()
    assert gone() is None
    assert future.result() == 8


def test_calls_may_make_executors_of_their_own(make_executor: Any) -> None:
    assert make_executor(1).submit(nested, 3).result() == [0, 1, 4]


def nested(count: int) -> list[int]:
    with fastpool.ProcessPoolExecutor(1) as executor:
        return list(executor.map(tasks.square, range(count)))


def test_a_forked_child_is_told_that_the_executor_is_not_its(executor: Executor, gate: Any) -> None:
    future = executor.submit(tasks.pass_gate, gate.path)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for use in (
                lambda: executor.submit(tasks.pid),
                lambda: future.result(5),
                lambda: concurrent.futures.wait([future], 5),
                lambda: future.add_done_callback(print),
            ):
                with pytest.raises(RuntimeError, match="another process"):
                    use()
            repr(future)
            executor.shutdown()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.open()
    assert future.result(10) is None


def _awaited(future: Any) -> Any:
    future.exception()
    return future
