"""Lambdas, closures and what ``__main__`` defines, under serializers that send them by value."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from helpers import tasks
from helpers.packages import need_serializer

import fastpool
from fastpool._runtime.serializers import choose_serializer

BY_VALUE = ("cloudpickle", "dill", "auto")


@pytest.fixture(scope="module", params=BY_VALUE)
def by_value(request: pytest.FixtureRequest, _standing_helpers: None) -> Iterator[Any]:
    need_serializer(request.param)
    with fastpool.Pool(2, serializer=request.param) as pool:
        yield pool


def counter(start: int) -> Any:
    state = [start]

    def count(step: int) -> int:
        state[0] += step
        return state[0]

    count.state = state  # type: ignore[attr-defined]
    return count


def test_every_call_takes_a_lambda(by_value: Any) -> None:
    pool, k = by_value, 3
    assert pool.apply(lambda x, y: x * y * k, (2,), {"y": 5}) == 30
    assert pool.apply_async(lambda: k).get(10) == 3
    assert pool.map(lambda x: x * k, range(100)) == [3 * i for i in range(100)]
    assert pool.starmap(lambda x, y: x + y + k, [(1, 2), (3, 4)]) == [6, 10]
    assert list(pool.imap(lambda x: x * k, iter(range(10)))) == [3 * i for i in range(10)]
    assert sorted(pool.imap_unordered(lambda x: x * k, range(4), 2)) == [0, 3, 6, 9]
    assert pool.map_blocks(lambda part: part * k, np.arange(4.0)).tolist() == [0, 3, 6, 9]


def test_lambdas_are_arguments_and_results_too(by_value: Any) -> None:
    assert by_value.apply(tasks.identity, (lambda x: x + 1,))(1) == 2
    assert [f(2) for f in by_value.map(lambda k: lambda x: x * k, range(3))] == [0, 2, 4]
    assert by_value.apply(functools.partial(lambda a, b: a - b, 5), (3,)) == 2


def test_an_exception_of_a_local_class_arrives(by_value: Any) -> None:
    def fail(x: int) -> None:
        class Own(ValueError):
            pass

        raise Own("text", x)

    with pytest.raises(ValueError) as caught:
        by_value.apply(fail, (1,))
    assert type(caught.value).__name__ == "Own" and caught.value.args == ("text", 1)
    assert "in fail" in str(caught.value.__cause__)


def test_an_object_of_a_local_class_comes_back_as_one(by_value: Any) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    moved = by_value.map(lambda p: Point(p.x + 1), [Point(i) for i in range(3)])
    assert [p.x for p in moved] == [1, 2, 3]


def test_a_closure_is_sent_as_it_is_at_each_call(by_value: Any) -> None:
    count = counter(10)
    assert by_value.map(count, [1, 1], 1) == [11, 11]
    count.state[0] = 20
    assert by_value.map(count, [1, 1], 1) == [21, 21]
    assert by_value.apply(count, (1,)) == 21
    assert count(1) == 21


def test_reducers_of_the_program_are_used(by_value: Any) -> None:
    ForkingPickler.register(Special, reduce_special)
    try:
        assert by_value.apply(tasks.identity, (Special(),)) == "reduced"
    finally:
        del ForkingPickler._extra_reducers[Special]  # type: ignore[attr-defined]


class Special:
    pass


def reduce_special(_thing: Special) -> Any:
    return str, ("reduced",)


@pytest.mark.parametrize("serializer", BY_VALUE)
def test_large_arrays_beside_a_lambda_stay_out_of_the_pickle(serializer: str) -> None:
    need_serializer(serializer)
    pieces, buffers = choose_serializer(serializer).make_pack()((lambda: 0, np.zeros(100_000)))
    assert [buffer.raw().nbytes for buffer in buffers] == [800_000]
    assert sum(map(len, pieces)) < 20_000


def test_a_shared_array_beside_a_lambda_is_a_reference(by_value: Any) -> None:
    shared = by_value.zeros(10)
    by_value.apply(lambda array: array.fill(7.0), (shared,))
    assert shared.tolist() == [7.0] * 10


def test_a_lambda_initializer_and_its_arguments() -> None:
    def remember(f: Any) -> None:
        tasks.nothing.kept = f  # type: ignore[attr-defined]

    context = multiprocessing.get_context("spawn")
    for serializer in ("cloudpickle", "auto"):
        with fastpool.Pool(
            1, remember, (lambda x: x + 1,), context=context, serializer=serializer
        ) as pool:
            assert pool.apply(lambda: tasks.nothing.kept(4)) == 5  # type: ignore[attr-defined]


def test_an_initializer_that_can_not_be_loaded_is_the_error_of_every_call() -> None:
    context = multiprocessing.get_context("spawn")
    with (
        fastpool.Pool(
            1, tasks.nothing, (tasks.LoadFails(),), context=context, serializer="cloudpickle"
        ) as pool,
        pytest.raises(ValueError, match="refuses to be loaded"),
    ):
        pool.apply(abs, (1,))
