"""map(func, iterable, chunksize): a list of results in the order of the items."""

from __future__ import annotations

import os
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until


@pytest.mark.parametrize(
    "make",
    [
        lambda: [3, 1, 2],
        lambda: (3, 1, 2),
        lambda: range(3),
        lambda: iter([3, 1, 2]),
        lambda: (x for x in (3, 1, 2)),
        lambda: {3: "a", 1: "b"},
        lambda: {3: "a", 1: "b"}.values(),
        lambda: "text",
        lambda: b"bytes",
        lambda: bytearray(b"bytes"),
        lambda: memoryview(b"bytes"),
        lambda: {3},
        lambda: zip([1, 2], [3, 4], strict=True),
        lambda: enumerate("ab"),
        lambda: map(str, [1, 2]),
    ],
    ids=[
        "list",
        "tuple",
        "range",
        "iterator",
        "generator",
        "dict",
        "dict values",
        "str",
        "bytes",
        "bytearray",
        "memoryview",
        "set",
        "zip",
        "enumerate",
        "map",
    ],
)
def test_takes_any_iterable(pool: Any, make: Any) -> None:
    assert pool.map(tasks.identity, make()) == list(make())


def test_returns_a_list(pool: Any) -> None:
    assert type(pool.map(tasks.square, (1, 2))) is list


@pytest.mark.parametrize(
    "empty", [[], (), range(0), iter(()), "", {}], ids=lambda empty: type(empty).__name__
)
def test_of_nothing_is_an_empty_list(pool: Any, empty: Any) -> None:
    assert pool.map(tasks.square, empty) == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100, 1001, 20_000])
def test_keeps_the_order_for_any_number_of_items(pool: Any, count: int) -> None:
    assert pool.map(tasks.square, range(count)) == [i * i for i in range(count)]


def test_calls_the_function_once_for_each_item(pool: Any, traces: Any) -> None:
    items = list(range(100))
    assert pool.starmap(tasks.mark_and_return, [(str(traces), i) for i in items]) == items
    assert sorted(int(name) for name in os.listdir(traces)) == items


def test_runs_in_the_workers(pool: Any) -> None:
    pids = set(pool.map(tasks.pid, range(50)))
    assert pids <= set(procs.worker_pids(pool))
    assert os.getpid() not in pids


def test_uses_all_the_workers(pool: Any, traces: Any) -> None:
    items = [(str(traces), i, 2) for i in range(2)]
    assert len(set(pool.map(tasks.hold_all, items, 1))) == 2


def test_a_skewed_load_ends_in_order(pool: Any) -> None:
    items = [0.1, *[0.0] * 30, 0.05, *[0.0] * 30]
    assert pool.starmap(tasks.nap, [(s, i) for i, s in enumerate(items)]) == list(range(62))


def test_a_result_may_be_none(pool: Any) -> None:
    assert pool.map(tasks.nothing, range(10)) == [None] * 10


def test_items_of_mixed_types_come_back_as_they_are(pool: Any) -> None:
    items = [1, 1.5, True, None, "a", b"b", (1, (2,)), [3], {4: 5}, 10**30, -0.0]
    for chunksize in (None, 1, 3, 20):
        found = pool.map(tasks.identity, items, chunksize)
        assert tasks.fingerprint(found) == tasks.fingerprint(items)


def test_large_items_and_results(pool: Any) -> None:
    items = [bytes([i]) * 1_000_000 for i in range(12)]
    assert pool.map(tasks.identity, items) == items


def test_small_items_with_large_results(pool: Any) -> None:
    sizes = [0, 10, 2_000_000, 1, 3_000_000]
    assert [len(r) for r in pool.map(tasks.make_bytes, sizes, 1)] == sizes


def test_many_strings(pool: Any) -> None:
    words = [f"word {i}" * (i % 7) for i in range(5000)]
    assert pool.map(str.upper, words) == [word.upper() for word in words]


def test_a_function_with_state_keeps_it_for_the_whole_map(pool: Any) -> None:
    multiplier = tasks.Multiplier(3)
    assert pool.map(multiplier, range(100)) == [3 * i for i in range(100)]
    multiplier.factor = 4
    assert pool.map(multiplier.times, range(100)) == [4 * i for i in range(100)]


def test_repeated_maps_do_not_mix(pool: Any) -> None:
    for i in range(100):
        assert pool.map(tasks.Multiplier(i), range(10)) == [i * j for j in range(10)]


def test_several_maps_at_once(pool: Any) -> None:
    results = [pool.map_async(tasks.Multiplier(k), range(50)) for k in range(20)]
    for k, result in reversed(list(enumerate(results))):
        assert result.get(20) == [k * j for j in range(50)]


def test_raises_what_the_function_raised(pool: Any) -> None:
    with pytest.raises(ValueError) as caught:
        pool.map(tasks.raise_if_negative, [1, 2, -3, 4])
    assert caught.value.args == (-3,)
    assert pool.map(tasks.square, [1, 2]) == [1, 4]


def test_does_not_fail_before_all_items_are_done(pool: Any, gate: Any) -> None:
    items = [(None, "bad"), (gate.path, 1)]
    result = pool.map_async(tasks.pass_gate_or_raise, items, 1)
    wait_until(lambda: gate.arrivals() == 1)
    result.wait(0.1)
    assert not result.ready()
    gate.open()
    with pytest.raises(ValueError, match="bad"):
        result.get(10)


def test_items_after_a_failure_are_still_done(pool: Any, traces: Any) -> None:
    items = [(0, str(traces), i) for i in range(20)]
    with pytest.raises(ValueError):
        pool.starmap(tasks.raise_on, items, 1)
    assert sorted(map(int, os.listdir(traces))) == list(range(1, 20))


@pytest.mark.parametrize(("count", "fail_at"), [(1, 0), (10, 3), (10, 10)])
def test_an_iterable_that_raises_raises_in_the_caller(pool: Any, count: int, fail_at: int) -> None:
    for submit in (pool.map, pool.map_async):
        with pytest.raises(tasks.IterableError) as caught:
            submit(tasks.square, tasks.failing_iterable(count, fail_at), 1)
        assert caught.value.args == (fail_at,)
    assert pool.map(tasks.square, [2]) == [4]


class _RaisesDespiteLength:
    def __len__(self) -> int:
        return 1

    def __iter__(self) -> _RaisesDespiteLength:
        return self

    def __next__(self) -> Any:
        raise tasks.IterableError("at once")


def test_an_iterable_with_a_length_that_raises_raises_too(pool: Any) -> None:
    with pytest.raises(tasks.IterableError):
        pool.map(tasks.square, _RaisesDespiteLength(), 1)
    assert pool.map(tasks.square, [2]) == [4]


def test_something_that_cannot_be_iterated_is_a_type_error(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.map(tasks.square, 5)


def test_items_changed_after_map_returned_change_nothing(pool: Any) -> None:
    items = [[1], [2]]
    results = pool.map(tasks.identity, items)
    items[0].append(9)
    assert results == [[1], [2]]
