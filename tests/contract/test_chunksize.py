"""chunksize: how many items travel together. It never changes a result; it does bound failures."""

from __future__ import annotations

import os
from typing import Any

import pytest
from helpers import tasks

EVERY_KIND = ["map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered"]
SIZES = [None, 1, 2, 3, 7, 49, 50, 51, 10**9]


@pytest.mark.parametrize("chunksize", SIZES)
def test_results_do_not_depend_on_it(pool: Any, chunksize: int | None) -> None:
    expected = [i * i for i in range(50)]
    assert pool.map(tasks.square, range(50), chunksize) == expected
    assert pool.map(tasks.square, list(range(50)), chunksize=chunksize) == expected
    assert pool.map(tasks.square, iter(range(50)), chunksize) == expected
    assert pool.starmap(tasks.add, [(i, i) for i in range(50)], chunksize) == [
        2 * i for i in range(50)
    ]


def test_the_items_of_one_chunk_run_in_one_worker(pool: Any) -> None:
    pids = pool.map(tasks.pid, range(40), chunksize=4)
    for begin in range(0, 40, 4):
        assert len(set(pids[begin : begin + 4])) == 1


def test_an_explicit_chunksize_is_told_by_the_result(pool: Any) -> None:
    result = pool.map_async(tasks.square, range(10), 3)
    assert result._chunksize == 3
    result.get(10)


def test_a_failure_ends_its_chunk_and_no_other(pool: Any, traces: Any) -> None:
    items = [(4, str(traces), i) for i in range(12)]
    with pytest.raises(ValueError) as caught:
        pool.starmap(tasks.raise_on, items, chunksize=4)
    assert caught.value.args == (4,)
    # Item 4 is the first of the second chunk: 5, 6 and 7 are never tried.
    assert sorted(map(int, os.listdir(traces))) == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize("chunksize", [0, -1, -100])
def test_map_with_a_chunksize_below_one_does_nothing(
    pool: Any, traces: Any, chunksize: int
) -> None:
    """A quirk of the standard library that a drop-in keeps."""
    items = [(str(traces), i) for i in range(3)]
    assert pool.starmap(tasks.mark_and_return, items, chunksize) == [None] * 3
    result = pool.map_async(tasks.square, range(3), chunksize)
    assert result.ready() is True
    assert result.get(0) == [None] * 3
    assert pool.apply(tasks.square, (2,)) == 4
    assert os.listdir(traces) == []


@pytest.mark.fastpool_only
@pytest.mark.timeout_s(10)
@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("chunksize", [2.5, 1.0, "3", b"3", [1], float("nan")], ids=repr)
def test_what_is_no_integer_is_refused_at_once_and_the_pool_still_ends(
    pool_factory: Any, kind: str, chunksize: Any
) -> None:
    pool = pool_factory(1)
    for items in ([(1, 2), (3, 4)], iter([(1, 2), (3, 4)])):
        with pytest.raises(TypeError):
            getattr(pool, kind)(tasks.arguments, items, chunksize)
    assert pool.apply(tasks.square, (3,)) == 9
    pool.close()
    pool.join()


@pytest.mark.fastpool_only
@pytest.mark.timeout_s(10)
@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("chunksize", [2**31 - 1, 2**31, 2**32 + 1, 2**63, 10**30])
def test_it_may_be_larger_than_any_number_of_the_core(
    pool_factory: Any, kind: str, chunksize: int
) -> None:
    pool = pool_factory(1)
    found = getattr(pool, kind)(tasks.arguments, [(1, 2), (3, 4)], chunksize)
    found = found.get(5) if kind.endswith("_async") else list(found)
    assert len(found) == 2
    pool.close()
    pool.join()


@pytest.mark.fastpool_only
def test_whatever_says_to_be_an_integer_will_do(pool: Any) -> None:
    class Three:
        def __index__(self) -> int:
            return 3

    assert pool.map_async(tasks.square, range(10), Three())._chunksize == 3
    assert list(pool.imap(tasks.square, range(10), True)) == [i * i for i in range(10)]


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2, 3, 50, 10**6])
def test_imap_takes_it_too(pool: Any, kind: str, chunksize: int) -> None:
    found = getattr(pool, kind)(tasks.square, range(50), chunksize=chunksize)
    assert sorted(found) == [i * i for i in range(50)]
