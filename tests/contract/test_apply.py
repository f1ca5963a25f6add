"""apply(func, args, kwds): one call, made in a worker, waited for."""

from __future__ import annotations

import functools
import math
import operator
import os
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import worker_pids


def test_returns_what_the_function_returns(pool: Any) -> None:
    assert pool.apply(tasks.add, (3, 4)) == 7


def test_without_arguments_calls_the_function_with_none(pool: Any) -> None:
    assert pool.apply(tasks.arguments) == ((), {})


def test_passes_positional_and_keyword_arguments(pool: Any) -> None:
    assert pool.apply(tasks.arguments, (1, "two"), {"three": 3}) == ((1, "two"), {"three": 3})


@pytest.mark.parametrize("name", ["func", "args", "kwds", "self", "timeout", "callback", "task"])
def test_keyword_arguments_may_have_any_name(pool: Any, name: str) -> None:
    assert pool.apply(tasks.arguments, (), {name: 1}) == ((), {name: 1})


@pytest.mark.parametrize(
    "args", [(1, 2), [1, 2], range(1, 3), "ab", {"a": 1, "b": 2}], ids=lambda a: type(a).__name__
)
def test_args_may_be_any_iterable(pool: Any, args: Any) -> None:
    assert pool.apply(tasks.arguments, args) == (tuple(args), {})


def test_runs_in_a_worker_and_not_here(pool: Any) -> None:
    pid = pool.apply(os.getpid)
    assert pid != os.getpid()
    assert pid in worker_pids(pool)


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (math.sqrt, (9,), 3.0),
        (operator.add, ("a", "b"), "ab"),
        (len, ("four",), 4),
        (str.upper, ("up",), "UP"),
        (", ".join, (["a", "b"],), "a, b"),
        (int, ("12",), 12),
        (functools.partial(tasks.add, 10), (5,), 15),
        (functools.partial(functools.partial(tasks.arguments, 1), x=2), (3,), ((1, 3), {"x": 2})),
        (operator.itemgetter(1), ([5, 6],), 6),
        (tasks.Multiplier(3), (4,), 12),
        (tasks.Multiplier(3).times, (4,), 12),
        (tasks.Multiplier.double, (4,), 8),
        ([3, 1, 2].index, (1,), 1),
    ],
    ids=[
        "builtin in C",
        "operator",
        "builtin",
        "method descriptor",
        "bound method of a str",
        "type",
        "partial",
        "nested partial",
        "itemgetter",
        "callable object",
        "bound method",
        "static method",
        "bound method of a list",
    ],
)
def test_calls_anything_that_can_be_pickled_and_called(
    pool: Any, function: Any, args: tuple[Any, ...], expected: Any
) -> None:
    assert pool.apply(function, args) == expected


def test_a_class_method_makes_its_object(pool: Any) -> None:
    made = pool.apply(tasks.Multiplier.build, (6,))
    assert type(made) is tasks.Multiplier
    assert made.factor == 6


@pytest.mark.parametrize("kind", ["callable object", "bound method", "partial"])
def test_a_function_with_state_is_sent_with_the_state_it_has_at_each_call(
    pool: Any, kind: str
) -> None:
    multiplier = tasks.Multiplier(1)
    function: Any = {
        "callable object": multiplier,
        "bound method": multiplier.times,
        "partial": functools.partial(tasks.Multiplier.__call__, multiplier),
    }[kind]
    for factor in (1, 2, 3):
        multiplier.factor = factor
        assert pool.apply(function, (10,)) == 10 * factor


def test_a_worker_gets_a_copy_of_the_arguments(pool: Any) -> None:
    mine = [1, 2]
    assert pool.apply(tasks.append_and_return, (mine, 3)) == [1, 2, 3]
    assert mine == [1, 2]


def test_the_same_object_twice_among_the_arguments_is_the_same_there(pool: Any) -> None:
    thing = [1]
    assert pool.apply(tasks.is_same, (thing, thing)) is True
    assert pool.apply(tasks.is_same, (thing,), {"b": thing}) is True
    assert pool.apply(tasks.is_same, (thing, [1])) is False


def test_calls_of_different_functions_alternate(pool: Any) -> None:
    for i in range(200):
        assert pool.apply(tasks.square, (i,)) == i * i
        assert pool.apply(tasks.add, (i, 1)) == i + 1


@pytest.mark.parametrize("size", [0, 1, 50, 1000, 65_536, 5_000_000])
def test_arguments_and_results_may_have_any_size(pool: Any, size: int) -> None:
    assert pool.apply(len, (b"x" * size,)) == size
    assert pool.apply(tasks.make_bytes, (size,)) == b"x" * size
    text = "ä" * size
    assert pool.apply(tasks.identity, (text,)) == text


def test_large_containers_travel_both_ways(pool: Any) -> None:
    value = {i: [str(i), float(i), None] for i in range(20_000)}
    assert pool.apply(tasks.identity, (value,)) == value


def test_many_arguments(pool: Any) -> None:
    args = tuple(range(5000))
    kwargs = {f"k{i}": i for i in range(500)}
    assert pool.apply(tasks.arguments, args, kwargs) == (args, kwargs)


def test_a_pool_of_one_worker_keeps_its_state_between_calls(pool_factory: Any) -> None:
    pool = pool_factory(1)
    pool.apply(tasks.set_state_pair, ("colour", "blue"))
    assert pool.apply(tasks.get_state, ("colour",)) == "blue"
    assert tasks.get_state("colour") is None
