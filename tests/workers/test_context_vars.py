"""context_vars: what these are where a call is made, they are in its tasks."""

from __future__ import annotations

import contextvars
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import log_tasks, tasks
from helpers.packages import need_serializer

import fastpool

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

BOTH = [log_tasks.request, log_tasks.user]


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    token = log_tasks.user.set("somebody")
    yield
    log_tasks.user.reset(token)


def test_each_kind_of_call_brings_the_callers_values(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(1, context_vars=BOTH)
    call = log_tasks.both_variables
    expected = ("unset", "somebody")
    assert pool.apply(call) == expected
    assert pool.apply(log_tasks.both_and, (1,), {"a": 2}) == (*expected, (1,), {"a": 2})
    assert pool.apply_async(call).get(10) == expected
    assert pool.map(call, range(3)) == [expected] * 3
    assert pool.starmap(log_tasks.both_and, [(1, 2)]) == [(*expected, (1, 2), {})]
    assert list(pool.imap(call, range(2))) == [expected] * 2
    assert list(pool.imap_unordered(call, iter(range(2)))) == [expected] * 2
    assert pool.map(call, [1], progress=lambda done, total: None) == [expected]


def test_an_executor_brings_them_too() -> None:
    with fastpool.ProcessPoolExecutor(1, context_vars=BOTH) as executor:
        assert executor.submit(log_tasks.both_variables).result(10) == ("unset", "somebody")
        assert list(executor.map(log_tasks.both_variables, [1])) == [("unset", "somebody")]


def test_the_values_are_those_of_the_moment_of_the_call(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1, context_vars=BOTH)
    held = pool.apply_async(tasks.pass_gate, (gate.path,))
    log_tasks.user.set("first")
    first = pool.imap(log_tasks.both_variables, iter([1]))
    log_tasks.user.set({"second": [2]})
    second = pool.map_async(log_tasks.both_variables, [1])
    log_tasks.user.set("third")
    gate.open()
    assert held.get(10) is None
    assert (next(first)[1], second.get(10)[0][1]) == ("first", {"second": [2]})


def test_a_task_leaves_no_value_behind(pool_factory: Any) -> None:
    pool = pool_factory(1, context_vars=BOTH)
    context = contextvars.copy_context()
    context.run(log_tasks.request.set, "theirs")
    assert context.run(pool.apply, log_tasks.both_variables) == ("theirs", "somebody")
    pool.apply(log_tasks.leave_a_value, ("dirt",))
    assert pool.apply(log_tasks.both_variables) == ("unset", "somebody")


def test_what_is_unset_at_the_call_is_unset_in_the_task(
    pool_factory: Any, start_method: str
) -> None:
    def call_with_a_pool_made_where_it_is_set() -> tuple[Any, Any]:
        log_tasks.request.set("of another request")
        pool = pool_factory(1, context_vars=BOTH)
        return contextvars.Context().run(pool.apply, log_tasks.both_variables)

    made_in = contextvars.copy_context()
    assert made_in.run(call_with_a_pool_made_where_it_is_set) == ("unset", "nobody")


def test_without_it_no_value_travels(pool_factory: Any) -> None:
    log_tasks.user.set("somebody else")
    pool = pool_factory(1, start_method="spawn")
    assert pool.apply(log_tasks.both_variables) == ("unset", "nobody")


def test_errors_name_the_programs_function(pool_factory: Any) -> None:
    pool = pool_factory(1, context_vars=BOTH)
    with pytest.raises(fastpool.TaskTimeoutError, match="item 0 of a map of slow "):
        pool.map(log_tasks.slow, [1], timeout=0.05)


@pytest.mark.parametrize("serializer", ["cloudpickle", "dill", "auto"])
def test_a_function_that_goes_by_value_reads_the_same_variable(
    pool_factory: Any, serializer: str
) -> None:
    need_serializer(serializer)
    user = log_tasks.user
    pool = pool_factory(1, serializer=serializer, context_vars=[user])
    user.set("the caller")
    assert pool.apply(lambda: user.get()) == "the caller"
    assert pool.apply(lambda: user) is user


def test_a_value_that_cannot_be_pickled_is_named(pool_factory: Any) -> None:
    pool = pool_factory(1, context_vars=BOTH)
    log_tasks.user.set([threading.Lock()])
    with pytest.raises(TypeError) as caught:
        pool.map(log_tasks.both_variables, [1])
    text = "".join(traceback.format_exception_only(caught.type, caught.value))
    assert "What can't be pickled is the value of context_vars[1][0]: " in text


def test_a_variable_that_a_spawned_worker_could_not_find_is_refused(pool_factory: Any) -> None:
    hidden = contextvars.ContextVar[int]("hidden")
    with pytest.raises(ValueError, match=r"hidden.*is not a global variable of any module"):
        pool_factory(1, start_method="spawn", context_vars=[hidden])
    hidden.set(3)
    assert pool_factory(1, context_vars=[hidden]).apply(tasks.square, (3,)) == 9


def test_what_is_no_context_variable_is_refused(pool_factory: Any) -> None:
    with pytest.raises(TypeError, match="must be a list of ContextVar objects; 'user' is none"):
        pool_factory(1, context_vars=["user"])
    with pytest.raises(TypeError, match="must be a list of ContextVar objects, not <ContextVar"):
        pool_factory(1, context_vars=contextvars.ContextVar("alone"))
