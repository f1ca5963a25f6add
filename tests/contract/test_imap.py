"""imap and imap_unordered: an iterator over results, fed in the background."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.pool
import os
import time
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until

BOTH = pytest.mark.parametrize("kind", ["imap", "imap_unordered"])


def outcomes(iterator: Any) -> list[Any]:
    """All that an iterator gives; an exception stands as its type and args."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except Exception as error:
            found.append((type(error), error.args))


# --- values and order ---------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 2, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_imap_yields_results_in_the_order_of_the_items(
    pool: Any, count: int, chunksize: int
) -> None:
    assert list(pool.imap(tasks.square, range(count), chunksize)) == [i * i for i in range(count)]


@pytest.mark.parametrize("chunksize", [1, 2, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_imap_unordered_yields_every_result_once(pool: Any, count: int, chunksize: int) -> None:
    found = sorted(pool.imap_unordered(tasks.square, range(count), chunksize))
    assert found == [i * i for i in range(count)]


@BOTH
def test_takes_any_iterable(pool: Any, kind: str) -> None:
    for iterable in ([1, 2], (1, 2), {1: 0, 2: 0}, iter([1, 2]), (x for x in (1, 2)), range(1, 3)):
        assert sorted(getattr(pool, kind)(tasks.square, iterable)) == [1, 4]


def test_imap_waits_for_an_earlier_item(pool: Any, gate: Any) -> None:
    items = [(gate.path, 0), (None, 1), (None, 2)]
    results = pool.imap(tasks.pass_gate_if, items)
    wait_until(lambda: gate.arrivals() == 1)
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.1)
    gate.open()
    assert list(results) == [0, 1, 2]


def test_imap_unordered_yields_what_is_done_first(pool: Any, gate: Any) -> None:
    items = [(gate.path, 0), (None, 1), (None, 2)]
    results = pool.imap_unordered(tasks.pass_gate_if, items)
    assert sorted([results.next(10), results.next(10)]) == [1, 2]
    gate.open()
    assert results.next(10) == 0
    with pytest.raises(StopIteration):
        results.next(10)


@BOTH
def test_large_results_come_through(pool: Any, kind: str) -> None:
    sizes = [1_000_000 + i for i in range(30)]
    assert sorted(map(len, getattr(pool, kind)(tasks.make_bytes, sizes))) == sizes


@BOTH
def test_two_iterators_may_be_read_in_turn(pool: Any, kind: str) -> None:
    first = getattr(pool, kind)(tasks.square, range(20))
    second = getattr(pool, kind)(tasks.add, range(100, 120))
    pairs = list(zip(first, second, strict=True))
    assert sorted(a for a, _ in pairs) == [i * i for i in range(20)]
    assert sorted(b for _, b in pairs) == list(range(100, 120))


@BOTH
def test_other_calls_go_on_while_an_iterator_is_unread(pool: Any, kind: str) -> None:
    results = getattr(pool, kind)(tasks.square, range(500))
    assert pool.apply(tasks.add, (1, 2)) == 3
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]
    assert len(list(results)) == 500


# --- the iterator -------------------------------------------------------------------------------


def test_is_an_instance_of_the_standard_iterator_class(pool: Any) -> None:
    ordered = pool.imap(tasks.square, [1])
    unordered = pool.imap_unordered(tasks.square, [1])
    assert isinstance(ordered, multiprocessing.pool.IMapIterator)
    assert isinstance(unordered, multiprocessing.pool.IMapUnorderedIterator)
    assert list(ordered) == list(unordered) == [1]


@BOTH
def test_is_its_own_iterator(pool: Any, kind: str) -> None:
    results = getattr(pool, kind)(tasks.square, [1, 2])
    assert iter(results) is results
    assert sorted(results) == [1, 4]


@BOTH
def test_stays_exhausted(pool: Any, kind: str) -> None:
    results = getattr(pool, kind)(tasks.square, [3])
    assert results.next() == 9
    for _ in range(3):
        with pytest.raises(StopIteration):
            results.next(timeout=0.1)
        with pytest.raises(StopIteration):
            next(results)


@BOTH
def test_next_with_a_timeout_gives_up_and_may_be_tried_again(
    pool: Any, gate: Any, kind: str
) -> None:
    results = getattr(pool, kind)(tasks.pass_gate_if, [(gate.path, "late")])
    for _ in range(2):
        begin = time.monotonic()
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.05)
        assert 0.04 < time.monotonic() - begin < 2
    gate.open()
    assert results.next(timeout=10) == "late"


@pytest.mark.fastpool_only
@BOTH
@pytest.mark.parametrize("chunksize", [1, 3])
def test_next_with_a_timeout_exists_for_every_chunksize(
    pool: Any, kind: str, chunksize: int
) -> None:
    results = getattr(pool, kind)(tasks.square, range(7), chunksize)
    assert sorted(results.next(timeout=10) for _ in range(7)) == [i * i for i in range(7)]
    with pytest.raises(StopIteration):
        results.next(timeout=10)


@BOTH
@pytest.mark.parametrize("chunksize", [0, -1])
def test_refuses_a_chunksize_below_one(pool: Any, kind: str, chunksize: int) -> None:
    with pytest.raises(ValueError, match=rf"Chunksize must be 1\+, not {chunksize}"):
        getattr(pool, kind)(tasks.square, [1], chunksize)


@BOTH
def test_may_be_dropped_unread(pool: Any, kind: str) -> None:
    for _ in range(20):
        getattr(pool, kind)(tasks.square, range(50))
    assert pool.map(tasks.square, [1, 2]) == [1, 4]


@BOTH
def test_may_be_dropped_half_read(pool: Any, kind: str) -> None:
    for _ in range(20):
        for value in getattr(pool, kind)(tasks.square, range(50)):
            assert value >= 0
            break
    assert pool.map(tasks.square, [1, 2]) == [1, 4]


# --- errors -------------------------------------------------------------------------------------


def test_imap_raises_at_the_item_that_failed_and_goes_on(pool: Any) -> None:
    results = pool.imap(tasks.raise_if_negative, [0, -1, 2, -3, 4])
    assert outcomes(results) == [0, (ValueError, (-1,)), 2, (ValueError, (-3,)), 4]


def test_imap_unordered_raises_for_each_item_that_failed_and_goes_on(pool: Any) -> None:
    found = outcomes(pool.imap_unordered(tasks.raise_if_negative, [0, -1, 2, -3, 4]))
    assert sorted(x for x in found if isinstance(x, int)) == [0, 2, 4]
    assert sorted(x[1] for x in found if not isinstance(x, int)) == [(-3,), (-1,)]


def test_imap_in_chunks_yields_the_chunks_before_the_failure(pool: Any) -> None:
    items = [0, 1, 2, 3, -4, 5, 6, 7, 8]
    results = iter(pool.imap(tasks.raise_if_negative, items, chunksize=3))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError):
        next(results)


@pytest.mark.fastpool_only
def test_imap_in_chunks_loses_the_failed_chunk_and_goes_on(pool: Any) -> None:
    items = [0, 1, 2, 3, -4, 5, 6, 7, 8]
    results = pool.imap(tasks.raise_if_negative, items, chunksize=3)
    assert outcomes(results) == [0, 1, 2, (ValueError, (-4,)), 6, 7, 8]


@pytest.mark.fastpool_only
def test_imap_unordered_in_chunks_loses_the_failed_chunk_and_goes_on(pool: Any) -> None:
    items = [0, 1, 2, 3, -4, 5, 6, 7, 8]
    found = outcomes(pool.imap_unordered(tasks.raise_if_negative, items, chunksize=3))
    assert sorted(x for x in found if isinstance(x, int)) == [0, 1, 2, 6, 7, 8]
    assert [x for x in found if not isinstance(x, int)] == [(ValueError, (-4,))]


@pytest.mark.parametrize("fail_at", [0, 1, 5, 10])
def test_an_iterable_that_raises_is_reported_after_the_items_before_it(
    pool: Any, fail_at: int
) -> None:
    results = pool.imap(tasks.square, tasks.failing_iterable(10, fail_at))
    expected = [i * i for i in range(fail_at)]
    assert outcomes(results) == [*expected, (tasks.IterableError, (fail_at,))]


@pytest.mark.parametrize("chunksize", [2, 4])
def test_an_iterable_that_raises_in_chunks_is_reported_after_the_full_chunks(
    pool: Any, chunksize: int
) -> None:
    results = iter(pool.imap(tasks.square, tasks.failing_iterable(20, 9), chunksize))
    assert [next(results) for _ in range(8)] == [i * i for i in range(8)]
    with pytest.raises(tasks.IterableError):
        # The ninth item is alone in its chunk: multiprocessing loses it, a pool may deliver it.
        next(results)
        next(results)


def test_an_iterable_that_raises_is_reported_by_imap_unordered(pool: Any) -> None:
    found = outcomes(pool.imap_unordered(tasks.square, tasks.failing_iterable(10, 4)))
    assert (tasks.IterableError, (4,)) in found
    assert sorted(x for x in found if isinstance(x, int)) == [0, 1, 4, 9]


def test_the_iterables_error_has_no_traceback_from_a_worker(pool: Any) -> None:
    with pytest.raises(tasks.IterableError) as caught:
        next(pool.imap(tasks.square, tasks.failing_iterable(1, 0)))
    assert not isinstance(caught.value.__cause__, multiprocessing.pool.RemoteTraceback)


@pytest.mark.parametrize("thing", [None, 5])
def test_something_that_cannot_be_iterated_is_a_type_error(pool: Any, thing: Any) -> None:
    for kind in ("imap", "imap_unordered"):
        with pytest.raises(TypeError):
            next(getattr(pool, kind)(tasks.square, thing))


# --- pulling the iterable -----------------------------------------------------------------------


@BOTH
def test_starts_without_being_read(pool: Any, traces: Any, kind: str) -> None:
    items = [(str(traces), i) for i in range(4)]
    results = getattr(pool, kind)(tasks.mark_item, items)
    wait_until(lambda: len(os.listdir(traces)) == 4)
    assert sorted(results) == [0, 1, 2, 3]


@BOTH
def test_close_and_join_finish_all_items_of_an_unread_iterator(
    pool_factory: Any, traces: Any, kind: str
) -> None:
    pool = pool_factory(2)
    results = getattr(pool, kind)(tasks.mark_item, [(str(traces), i) for i in range(200)])
    pool.close()
    pool.join()
    assert len(os.listdir(traces)) == 200
    assert sorted(results) == list(range(200))


@pytest.mark.fastpool_only
@BOTH
@pytest.mark.parametrize("chunksize", [1, 10])
def test_an_endless_iterable_is_fine(pool_factory: Any, kind: str, chunksize: int) -> None:
    pool = pool_factory(2)
    results = getattr(pool, kind)(tasks.square, itertools.count(), chunksize)
    assert len(list(itertools.islice(results, 5000))) == 5000
    pool.terminate()
    pool.join()


@pytest.mark.fastpool_only
@BOTH
def test_an_iterable_is_pulled_only_so_far_ahead_of_the_reader(
    pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(2)
    source = tasks.Counting(itertools.repeat(1_000_000, 400))
    results = getattr(pool, kind)(tasks.make_bytes, source)
    next(results)

    def has_stopped() -> bool:
        before = source.pulled
        time.sleep(0.2)
        return source.pulled == before

    wait_until(has_stopped, 15, lambda: f"the pool stops pulling; pulled {source.pulled}")
    ahead = source.pulled
    assert ahead < 200, "results of 1 MB each, all unread"
    for _ in range(ahead + 10):
        next(results)  # and reading makes it pull again
    assert source.pulled > ahead
    pool.terminate()
    pool.join()


@pytest.mark.fastpool_only
@BOTH
def test_a_slow_iterable_is_not_waited_for_longer_than_needed(pool_factory: Any, kind: str) -> None:
    """Each result is there as soon as it is done, though the next item isn't known yet."""
    pool = pool_factory(2)
    asked: list[int] = []

    def slow() -> Any:
        for i in range(3):
            asked.append(i)
            yield i
            time.sleep(0.3)

    results = getattr(pool, kind)(tasks.square, slow())
    begin = time.monotonic()
    assert results.next(10) == 0
    assert time.monotonic() - begin < 0.25
    assert sorted(results) == [1, 4]


@pytest.mark.fastpool_only
@BOTH
def test_close_and_join_finish_with_large_results_unread(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    results = getattr(pool, kind)(tasks.make_bytes, [500_000] * 300)
    next(results)
    pool.close()
    pool.join()
    del results
