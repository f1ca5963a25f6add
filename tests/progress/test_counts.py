"""progress=: how many items are done, also inside of chunks, each counted once."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import tasks

from fastpool._runtime import progress

pytestmark = [pytest.mark.fastpool_only, pytest.mark.start_methods("fork")]

SHARED = [1]  # returned by several items: such results are kept to the end of their chunk

MAPS = pytest.mark.parametrize("method", ["map", "starmap"])
ALL = pytest.mark.parametrize(
    "method",
    ["map", "starmap", "imap", "imap_unordered", "istarmap", "istarmap_unordered"],
)


class Seen(list[tuple[int, Any]]):
    """What a callable was called with; `then` is called when so many are done."""

    def __init__(self, then: Callable[[], object] | None = None, at: int = -1) -> None:
        super().__init__()
        self._then = then
        self._at = at

    def __call__(self, done: int, total: int | None) -> None:
        self.append((done, total))
        if self._then is not None and done == self._at:
            then, self._then = self._then, None
            then()

    def counts(self) -> list[int]:
        return [done for done, _ in self]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks more often, so that tests need not be long."""
    monkeypatch.setattr(progress, "TICK", 0.01)


def call(pool: Any, method: str, func: Any, items: Any, *args: Any, **options: Any) -> list[Any]:
    """All results, of whatever method."""
    if "star" in method:
        items = [(item,) for item in items]
    return list(getattr(pool, method)(func, items, *args, **options))


@ALL
def test_a_callable_gets_how_many_are_done_of_how_many(pool: Any, method: str, quick: None) -> None:
    seen = Seen()
    call(pool, method, tasks.nap, [0.002] * 40, progress=seen)
    assert {total for _, total in seen} == {40}
    assert seen.counts() == sorted(set(seen.counts())), "it never goes back, and tells news only"
    assert len(seen) > 2
    assert seen[-1] == (40, 40)


def pass_gate_at(item: tuple[str | None, Any, Any]) -> Any:
    """Return a result of some kind, or wait at the gate and then return it."""
    directory, result, index = item
    if directory is not None:
        tasks.pass_gate(directory)
    kinds: dict[str, Any] = {
        "int": index,
        "float": 0.5,
        "none": None,
        "text": f"no {index}",
        "list": [index],
        "the same list": SHARED,
        "pickle": complex(index),
        "large array": np.zeros(20_000) if result == "large array" else None,
    }
    return kinds[result]


@pytest.mark.parametrize(
    "result",
    ["int", "float", "none", "text", "list", "the same list", "pickle", "large array"],
)
def test_it_moves_inside_of_a_chunk(pool: Any, gate: Any, quick: None, result: str) -> None:
    seen = Seen(gate.open, at=5)
    items = [(gate.path if i == 5 else None, result, i) for i in range(8)]
    # Without news from inside the chunk, nobody would open the gate.
    assert len(pool.map(pass_gate_at, items, chunksize=8, progress=seen)) == 8
    assert seen[-1] == (8, 8)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_it_moves_inside_of_a_chunk_of_a_stream(
    pool: Any, gate: Any, quick: None, method: str
) -> None:
    seen = Seen(gate.open, at=5 + 3)  # those before the gate, and the other chunk
    items = [(gate.path if i == 5 else None, "int", i) for i in range(9)]
    results = list(getattr(pool, method)(pass_gate_at, items, 6, progress=seen))
    assert sorted(results) == list(range(9))
    assert seen[-1] == (9, 9)


def test_it_moves_while_an_event_loop_waits(pool: Any, gate: Any, quick: None) -> None:
    seen = Seen(gate.open, at=3)

    async def read() -> list[Any]:
        items = [(gate.path if i == 3 else None, "int", i) for i in range(5)]
        return [value async for value in pool.imap(pass_gate_at, items, 5, progress=seen)]

    assert asyncio.run(asyncio.wait_for(read(), 20)) == list(range(5))
    assert seen[-1] == (5, 5)


def test_items_without_a_length_have_no_total(pool: Any) -> None:
    seen = Seen()
    assert list(pool.imap(tasks.square, iter(range(9)), progress=seen)) == [i * i for i in range(9)]
    assert seen[-1] == (9, None)


def test_items_that_are_read_as_they_go_may_have_a_length(pool: Any) -> None:
    seen = Seen()
    list(pool.imap_unordered(tasks.square, dict.fromkeys(range(9)), progress=seen))
    assert seen[-1] == (9, 9)
    list(pool.imap(tasks.square, np.arange(7), progress=seen))
    assert seen[-1] == (7, 7)


@ALL
def test_no_items_are_done_at_once(pool: Any, method: str) -> None:
    seen = Seen()
    assert call(pool, method, tasks.square, [], progress=seen) == []
    assert seen == [(0, 0)]


def test_an_iterables_own_exception_is_no_item(pool: Any) -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise LookupError

    seen = Seen()
    results = pool.imap(tasks.square, broken(), progress=seen)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(LookupError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    assert seen[-1] == (3, None)


def test_more_items_than_the_queue_holds_are_counted(pool: Any, quick: None) -> None:
    seen = Seen()
    pool.map(tasks.square, range(30_000), chunksize=1, progress=seen)
    assert seen[-1] == (30_000, 30_000)
    assert seen.counts() == sorted(set(seen.counts()))


# --- failures -------------------------------------------------------------------------------------


@MAPS
def test_items_that_fail_are_done(pool: Any, method: str) -> None:
    seen = Seen()
    found = call(
        pool, method, tasks.square, [1, "x", 3, "y"], 2, return_exceptions=True, progress=seen
    )
    assert [type(value) for value in found] == [int, TypeError, int, TypeError]
    assert seen[-1] == (4, 4)


@MAPS
def test_the_exception_of_an_item_still_comes_out(pool: Any, method: str) -> None:
    seen = Seen()
    with pytest.raises(TypeError):
        call(pool, method, tasks.square, [1, "x", 3], 1, progress=seen)
    assert seen[-1] == (3, 3)


@pytest.mark.parametrize("retries", [0, 1])
def test_what_runs_again_is_counted_once(pool_factory: Any, quick: None, retries: int) -> None:
    pool = pool_factory(1, retries=retries)
    seen = Seen()
    items = [(None, "v")] * 5 + [(signal.SIGKILL, "v")] + [(None, "v")] * 6
    pool.map(tasks.die_or_return, items, 12, return_exceptions=True, progress=seen)
    assert seen.counts() == sorted(set(seen.counts()))
    assert seen[-1] == (12, 12)


@pytest.mark.parametrize("method", ["map", "imap"])
def test_an_error_of_the_callable_ends_the_call(
    pool_factory: Any, gate: Any, quick: None, method: str
) -> None:
    def broken(_done: int, _total: int | None) -> None:
        raise LookupError("no display")

    pool = pool_factory(1)
    with pytest.raises(LookupError, match="no display"):
        list(getattr(pool, method)(tasks.pass_gate, [gate.path] * 3, progress=broken))
    assert pool.apply_async(tasks.square, (3,)).get(10) == 9  # though nobody opens the gate


# --- when, where, and whether at all --------------------------------------------------------------


def test_it_is_called_in_the_thread_that_waits(pool: Any, quick: None) -> None:
    threads = set()

    def note(_done: int, _total: int | None) -> None:
        threads.add(threading.current_thread())

    before = threading.active_count()
    pool.map(tasks.nap, [0.02] * 4, progress=note)
    list(pool.imap(tasks.nap, [0.02] * 4, progress=note))
    assert threads == {threading.current_thread()}
    assert threading.active_count() == before


def test_it_is_called_ten_times_a_second_at_most(pool: Any) -> None:
    times: list[float] = []
    pool.map(
        tasks.nap, [0.001] * 600, progress=lambda _done, _total: times.append(time.monotonic())
    )
    pauses = [later - earlier for earlier, later in itertools.pairwise(times[:-1])]
    assert len(pauses) >= 1
    assert min(pauses) > 0.09


def test_a_time_limit_for_the_next_result_holds(
    pool: Any, impl: Any, gate: Any, quick: None
) -> None:
    results = pool.imap(tasks.pass_gate, [gate.path], progress=Seen())
    begin = time.monotonic()
    with pytest.raises(impl.module.TimeoutError):
        results.next(timeout=0.05)
    assert 0.05 <= time.monotonic() - begin < 5
    gate.open()
    assert results.next(timeout=10) is None


@ALL
@pytest.mark.parametrize("wrong", [1, 0.5, [], b"bar"])
def test_anything_else_is_refused_before_anything_is_sent(
    pool: Any, method: str, wrong: Any
) -> None:
    with pytest.raises(TypeError, match="progress must be True, a description"):
        call(pool, method, tasks.square, [1], progress=wrong)


@ALL
@pytest.mark.parametrize("off", [None, False])
def test_it_can_be_off(pool: Any, method: str, off: Any, capsys: Any) -> None:
    assert sorted(call(pool, method, tasks.square, [1, 2], progress=off)) == [1, 4]
    assert capsys.readouterr().err == ""
