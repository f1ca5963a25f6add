"""starmap and starmap_async unpack each item into arguments; fastpool adds istarmap."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from helpers import tasks


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 100])
def test_unpacks_each_item(pool: Any, chunksize: int | None) -> None:
    items = [(i, i + 1) for i in range(20)]
    assert pool.starmap(tasks.add, items, chunksize) == [2 * i + 1 for i in range(20)]


@pytest.mark.parametrize(
    "item",
    [(1, 2), [1, 2], range(1, 3), "ab", b"ab", {"k": 1, "l": 2}, ()],
    ids=lambda item: type(item).__name__ if item else "empty",
)
def test_an_item_may_be_any_iterable(pool: Any, item: Any) -> None:
    expected = (tuple(item), {})
    assert pool.starmap(tasks.arguments, [item, item]) == [expected, expected]


def test_items_may_differ_in_length(pool: Any) -> None:
    items = [(), (1,), (1, 2), (1, 2, 3)]
    assert pool.starmap(tasks.arguments, items, 2) == [(item, {}) for item in items]


@pytest.mark.parametrize(
    "make",
    [
        lambda: zip(range(3), range(3), strict=True),
        lambda: ((a, b) for a, b in [(1, 2), (3, 4)]),
        lambda: itertools.product([1, 2], [3, 4]),
        lambda: {1: 2, 3: 4}.items(),
        lambda: {(1, 2): None},
    ],
    ids=["zip", "generator", "product", "dict items", "dict with tuples for keys"],
)
def test_takes_any_iterable_of_items(pool: Any, make: Any) -> None:
    assert pool.starmap(tasks.add, make()) == [a + b for a, b in make()]


def test_of_nothing_is_an_empty_list(pool: Any) -> None:
    assert pool.starmap(tasks.add, []) == []
    assert pool.starmap(tasks.add, iter(())) == []


def test_an_item_that_cannot_be_unpacked_is_a_type_error(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.starmap(tasks.add, [1, 2])
    assert pool.starmap(tasks.add, [(1, 2)]) == [3]


def test_too_many_arguments_are_a_type_error(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.starmap(tasks.add, [(1, 2, 3)])


def test_raises_what_the_function_raised(pool: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        pool.starmap(tasks.divide, [(1, 1), (1, 0)])


def test_starmap_async_gives_the_list_to_result_and_callback(pool: Any) -> None:
    seen: list[Any] = []
    result = pool.starmap_async(tasks.add, [(1, 2), (3, 4)], None, seen.append)
    assert result.get(10) == [3, 7]
    assert seen == [[3, 7]]


def test_starmap_async_gives_the_error_to_result_and_error_callback(pool: Any) -> None:
    seen: list[Any] = []
    result = pool.starmap_async(tasks.divide, [(1, 0)], error_callback=seen.append)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(10)
    assert seen == [caught.value]


@pytest.mark.fastpool_only
@pytest.mark.parametrize("chunksize", [1, 2, 5, 100])
def test_istarmap_yields_results_in_order(pool: Any, chunksize: int) -> None:
    results = pool.istarmap(tasks.add, ((i, 1) for i in range(30)), chunksize)
    assert iter(results) is results
    assert list(results) == list(range(1, 31))


@pytest.mark.fastpool_only
@pytest.mark.parametrize("chunksize", [1, 2, 5, 100])
def test_istarmap_unordered_yields_all_results(pool: Any, chunksize: int) -> None:
    results = pool.istarmap_unordered(tasks.add, ((i, 1) for i in range(30)), chunksize)
    assert sorted(results) == list(range(1, 31))


@pytest.mark.fastpool_only
def test_istarmap_goes_on_after_an_exception(pool: Any) -> None:
    results = pool.istarmap(tasks.divide, [(1, 1), (1, 0), (4, 2)])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 2
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.fastpool_only
def test_istarmap_refuses_a_chunksize_below_one(pool: Any) -> None:
    for submit in (pool.istarmap, pool.istarmap_unordered):
        with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
            submit(tasks.add, [(1, 2)], 0)
