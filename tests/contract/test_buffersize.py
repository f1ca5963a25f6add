"""buffersize: how many tasks of an imap may be on their way, or done and not yet handed out."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.start_methods("fork", "spawn")]

KINDS = ("imap", "imap_unordered", "istarmap", "istarmap_unordered")
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
SIZES = pytest.mark.parametrize(
    ("chunksize", "buffersize"), [(1, 1), (1, 2), (1, 7), (3, 1), (10, 4), (100, 2)]
)


def stream(pool: Any, kind: str, func: Any, items: Any, *args: Any, **kwargs: Any) -> Any:
    """Call it with a function of one argument."""
    if "star" in kind:
        items = ((item,) for item in items)
    return getattr(pool, kind)(func, items, *args, **kwargs)


def rounded_up(count: int, chunksize: int) -> int:
    return -(-count // chunksize) * chunksize


class Watched(tasks.Counting):
    """An iterator that remembers how far beyond what was handed out it was ever pulled."""

    def __init__(self, iterable: Any, chunksize: int) -> None:
        super().__init__(iterable)
        self.chunksize = chunksize
        self.handed_out = 0
        self.furthest = 0

    def __next__(self) -> Any:
        value = super().__next__()
        # A chunk of which one result was handed out leaves its place to the next.
        ahead = self.pulled - rounded_up(self.handed_out, self.chunksize)
        self.furthest = max(self.furthest, ahead)
        return value

    def reading(self, results: Iterator[Any]) -> Iterator[Any]:
        """The results; each counts as handed out from the moment it was asked for."""
        while True:
            self.handed_out += 1
            try:
                value = next(results)
            except StopIteration:
                return
            yield value


# --- the argument ---------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [1.0, "3", [1], 2.5], ids=repr)
def test_what_is_no_integer_is_a_type_error(pool: Any, kind: str, buffersize: Any) -> None:
    with pytest.raises(TypeError, match=r"^buffersize must be an integer or None$"):
        stream(pool, kind, tasks.square, [1], 1, buffersize)


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [0, -1, -(10**30)])
def test_what_is_not_positive_is_a_value_error(pool: Any, kind: str, buffersize: int) -> None:
    with pytest.raises(ValueError, match=r"^buffersize must be None or > 0$"):
        stream(pool, kind, tasks.square, [1], buffersize=buffersize)


@EVERY_KIND
def test_a_wrong_one_reads_nothing(pool: Any, kind: str) -> None:
    source = tasks.Counting(range(5))
    for wrong in 0, 1.5:
        with pytest.raises((TypeError, ValueError)):
            stream(pool, kind, tasks.square, source, buffersize=wrong)
    assert source.pulled == 0


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [None, 1, 10**6, 10**30])
def test_is_the_fourth_argument_or_named(pool: Any, kind: str, buffersize: int | None) -> None:
    expected = [i * i for i in range(50)]
    assert sorted(stream(pool, kind, tasks.square, range(50), 2, buffersize)) == expected
    assert sorted(stream(pool, kind, tasks.square, range(50), buffersize=buffersize)) == expected


# --- values ---------------------------------------------------------------------------------------


@EVERY_KIND
@SIZES
@pytest.mark.parametrize("count", [0, 1, 2, 50, 2000])
@pytest.mark.parametrize("source", [list, iter], ids=["list", "iterator"])
def test_every_result_is_handed_out_once(
    pool: Any, kind: str, chunksize: int, buffersize: int, count: int, source: Callable[..., Any]
) -> None:
    results = stream(pool, kind, tasks.square, source(range(count)), chunksize, buffersize)
    found = list(results)
    if "unordered" in kind:
        found.sort()
    assert found == [i * i for i in range(count)]
    with pytest.raises(StopIteration):
        next(results)


@EVERY_KIND
def test_large_results_are_handed_out(pool: Any, kind: str) -> None:
    sizes = [1_000_000 + i for i in range(20)]
    assert sorted(map(len, stream(pool, kind, tasks.make_bytes, sizes, 1, 3))) == sizes


# --- how far ahead --------------------------------------------------------------------------------


@EVERY_KIND
@SIZES
def test_an_endless_iterable_is_pulled_no_further_ahead_than_that(
    pool_factory: Any, kind: str, chunksize: int, buffersize: int
) -> None:
    pool = pool_factory(2)
    source = Watched(itertools.count(), chunksize)
    results = stream(pool, kind, tasks.square, source, chunksize, buffersize)
    most = chunksize * buffersize
    wait_until(lambda: source.pulled == most)  # so far it goes without a consumer
    number = 30 * chunksize
    for index, _ in enumerate(source.reading(results), 1):
        if index % (7 * chunksize) == 0:
            reached = rounded_up(index, chunksize) + most
            wait_until(lambda reached=reached: source.pulled == reached)
        if index == number:
            break
    assert source.furthest <= most
    pool.terminate()
    pool.join()


@EVERY_KIND
def test_a_list_goes_no_further_ahead_either(pool_factory: Any, traces: Any, kind: str) -> None:
    pool = pool_factory(2)
    results = stream(pool, kind, tasks.mark_item, [(str(traces), i) for i in range(40)], 2, 3)
    done = 0
    for index in range(0, 40, 2):
        most = min(index + 6, 40)
        wait_until(lambda most=most: len(os.listdir(traces)) == most)
        for _ in range(2):
            next(results)
        done = index
    assert done == 38
    assert list(results) == []


@EVERY_KIND
def test_a_next_that_gives_up_makes_no_room(pool_factory: Any, gate: Any, kind: str) -> None:
    pool = pool_factory(2)
    source = tasks.Counting((gate.path, i) for i in itertools.count())
    results = stream(pool, kind, tasks.pass_gate_if, source, 1, 3)
    wait_until(lambda: source.pulled == 3)
    for _ in range(5):
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.02)
    assert source.pulled == 3
    gate.open()
    found = sorted(results.next(timeout=10) for _ in range(3))
    assert found == [0, 1, 2] if "unordered" not in kind else len(set(found)) == 3
    pool.terminate()
    pool.join()


@pytest.mark.parametrize("kind", ["imap_unordered", "istarmap_unordered"])
def test_a_slow_task_holds_up_none_but_its_own_place(
    pool_factory: Any, gate: Any, kind: str
) -> None:
    pool = pool_factory(2)
    items = [(gate.path, 0), *[(None, i) for i in range(1, 40)]]
    results = stream(pool, kind, tasks.pass_gate_if, items, 1, 2)
    assert sorted(results.next(10) for _ in range(39)) == list(range(1, 40))
    gate.open()
    assert list(results) == [0]


@pytest.mark.parametrize("kind", ["imap", "istarmap"])
def test_in_order_a_slow_task_holds_up_what_comes_after_the_buffer(
    pool_factory: Any, gate: Any, kind: str
) -> None:
    pool = pool_factory(2)
    source = tasks.Counting([(gate.path, 0), *[(None, i) for i in range(1, 40)]])
    results = stream(pool, kind, tasks.pass_gate_if, source, 1, 5)
    wait_until(lambda: sum(worker.tasks_done for worker in pool.workers()) == 4)
    assert source.pulled == 5
    gate.open()
    assert list(results) == list(range(40))


# --- errors ---------------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("chunksize", [1, 4])
def test_tasks_that_fail_make_room_for_others(pool: Any, kind: str, chunksize: int) -> None:
    items = [-1] * 200
    results = stream(pool, kind, tasks.raise_if_negative, items, chunksize, 2)
    failed = 0
    while True:
        try:
            next(results)
        except ValueError:
            failed += 1
        except StopIteration:
            break
    assert failed == 200 // chunksize


@EVERY_KIND
def test_tasks_that_cannot_be_sent_make_room_for_others(pool: Any, kind: str) -> None:
    items: list[Any] = [lambda: None for _ in range(30)]
    results = stream(pool, kind, tasks.identity, [*items, 5], 1, 2)
    for _ in range(30):
        with pytest.raises(Exception, match="pickle"):
            next(results)
    assert list(results) == [5]


@EVERY_KIND
def test_workers_that_die_make_room_for_others(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    items = [(signal.SIGKILL if i % 5 == 2 else None, i) for i in range(20)]
    results = stream(pool, kind, tasks.die_or_return, items, 1, 2)
    found, died = [], 0
    while True:
        try:
            found.append(next(results))
        except RuntimeError:
            died += 1
        except StopIteration:
            break
    assert died >= 4  # and what a worker held behind the deadly task, if anything
    assert sorted(found) == sorted(set(found))
    assert len(found) + died == 20


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [1, 3, 100, None])
@pytest.mark.parametrize("fail_at", [0, 1, 5, 10])
def test_an_iterable_that_raises_is_reported_after_the_results_before_it(
    pool: Any, kind: str, buffersize: int | None, fail_at: int
) -> None:
    source = tasks.failing_iterable(10, fail_at)
    results = stream(pool, kind, tasks.square, source, 1, buffersize)
    found: list[Any] = []
    with pytest.raises(tasks.IterableError) as caught:
        found.extend(iter(lambda: next(results), None))
    assert caught.value.args == (fail_at,)
    if "unordered" in kind:
        found += list(results)
        found.sort()
    assert found == [i * i for i in range(fail_at)]
    with pytest.raises(StopIteration):
        next(results)


# --- the pool's end -------------------------------------------------------------------------------


@EVERY_KIND
@SIZES
def test_close_stops_the_reading_and_what_was_read_is_handed_out(
    pool_factory: Any, kind: str, chunksize: int, buffersize: int
) -> None:
    pool = pool_factory(2)
    source = tasks.Counting(itertools.count())
    results = stream(pool, kind, tasks.square, source, chunksize, buffersize)
    found = [next(results) for _ in range(5 * chunksize)]
    pool.close()
    found += results
    pulled = source.pulled
    assert sorted(found) == [i * i for i in range(pulled)]
    assert pulled <= (5 + buffersize) * chunksize
    with pytest.raises(StopIteration):
        next(results)
    InThread(pool.join).outcome()
    assert source.pulled == pulled


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [1, 4])
@pytest.mark.parametrize("read", [0, 3])
def test_join_returns_without_a_consumer(
    pool_factory: Any, kind: str, buffersize: int, read: int
) -> None:
    pool = pool_factory(2)
    source = tasks.Counting(itertools.count())
    results = stream(pool, kind, tasks.square, source, 1, buffersize)
    found = [next(results) for _ in range(read)]
    pool.close()
    InThread(pool.join).outcome()
    found += results  # and they are still there
    assert sorted(found) == [i * i for i in range(source.pulled)]


@EVERY_KIND
def test_close_stops_the_reading_of_a_list(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    func, items = (tasks.add, [(1, 2)]) if "star" in kind else (tasks.square, [5])
    results = getattr(pool, kind)(func, items * 100, 1, 3)
    next(results)
    pool.close()
    InThread(pool.join).outcome()
    assert len(list(results)) <= 4


@EVERY_KIND
def test_without_it_everything_is_run_after_close(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    source = tasks.Counting(range(20_000))
    results = stream(pool, kind, tasks.square, source)
    next(results)
    pool.close()
    InThread(pool.join).outcome(20)
    assert source.pulled == 20_000
    assert len(list(results)) == 19_999


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [None, 1, 10])
def test_an_iterator_that_is_dropped_unread_ends_with_the_pool(
    pool_factory: Any, kind: str, buffersize: int | None
) -> None:
    pool = pool_factory(2)
    ended: list[bool] = []

    def endless() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            ended.append(True)

    sources = [tasks.Counting(endless())]
    stream(pool, kind, tasks.square, sources[0], 1, buffersize)
    wait_until(lambda: sources[0].pulled >= (buffersize or 16))
    assert pool.apply(tasks.square, (3,)) == 9
    InThread(pool.terminate).outcome()
    pool.join()
    sources.clear()
    wait_until(lambda: ended)  # nobody holds the generator any more


@EVERY_KIND
@pytest.mark.parametrize("buffersize", [None, 1, 2])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_iterable_may_wait_for_the_results_of_what_it_gave_before(
    pool: Any, kind: str, chunksize: int, buffersize: int | None
) -> None:
    """As in a loop that feeds back: no item is held until there are more."""
    got: list[int] = []

    def feedback() -> Iterator[int]:
        for start in range(0, 30, chunksize):
            deadline = time.monotonic() + 10
            while len(got) < start:
                assert time.monotonic() < deadline, f"only {len(got)} of {start} came back"
                time.sleep(0.0005)
            yield from range(start, start + chunksize)

    for value in stream(pool, kind, tasks.identity, feedback(), chunksize, buffersize):
        got.append(value)
    assert sorted(got) == list(range(30))
