"""map(): the standard library's, and its buffersize of Python 3.14."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import os
import weakref
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until

import fastpool

Executor = fastpool.ProcessPoolExecutor


class Thing:
    """Can be referred to weakly."""


def make_thing(_: Any) -> Thing:
    return Thing()


@pytest.mark.parametrize("chunksize", [1, 3, 50])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_results_come_in_the_order_of_the_items(
    executor: Executor, chunksize: int, buffersize: int | None
) -> None:
    results = executor.map(
        tasks.add, range(40), itertools.count(5), chunksize=chunksize, buffersize=buffersize
    )
    assert list(results) == [n + n + 5 for n in range(40)]


def test_the_iterables_are_read_at_once_without_a_buffersize(executor: Executor) -> None:
    items = iter(range(5))
    results = executor.map(tasks.square, items)
    assert list(items) == []
    assert list(results) == [0, 1, 4, 9, 16]


def test_no_more_is_read_than_buffersize_allows(executor: Executor) -> None:
    items = itertools.count()
    results = executor.map(tasks.square, items, buffersize=3)
    assert next(items) == 3
    assert [next(results) for _ in range(2)] == [0, 1]
    assert next(items) == 6


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": -1}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 1.5}, TypeError),
    ],
)
def test_bad_arguments_are_errors_of_the_call(
    executor: Executor, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        executor.map(tasks.square, [1], **arguments)


def test_an_exception_ends_the_iterator(executor: Executor) -> None:
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_the_timeout_counts_from_the_call(executor: Executor, gate: Any) -> None:
    results = executor.map(tasks.pass_gate_if, [(None, 0), (gate.path, 1)], timeout=0.5)
    assert next(results) == 0
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)
    gate.open()


def test_dropping_the_iterator_cancels_what_has_not_begun(executor: Executor, gate: Any) -> None:
    items = [(None, 0), (gate.path, 1), (gate.path, 2), *((None, n) for n in range(3, 9))]
    results = executor.map(tasks.pass_gate_if, items)
    assert next(results) == 0
    wait_until(lambda: gate.arrivals() == 2, 10)
    pending = executor._pending_work_items.values()
    del results
    assert sum(future.cancelled() for future in pending) == 6
    gate.open()


@pytest.mark.parametrize("chunksize", [1, 4])
def test_the_iterator_holds_no_result(executor: Executor, chunksize: int) -> None:
    for thing in executor.map(make_thing, range(6), chunksize=chunksize):
        gone = weakref.ref(thing)
        del thing
        gc.collect()
        assert gone() is None


def test_a_chunk_runs_in_one_worker(executor: Executor) -> None:
    pids = list(executor.map(tasks.pid, range(6), chunksize=3))
    assert pids[0] == pids[1] == pids[2] != os.getpid()
    assert pids[3] == pids[4] == pids[5]
