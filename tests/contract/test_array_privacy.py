"""Whoever gets an array may write into it, and nobody else sees that; what is kept stays as it was.

That is so because a pickled copy has one owner. A pool that shares memory instead has to keep it.
"""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, tasks
from helpers.array_tasks import Busy
from helpers.arrays import KIB, MIB, Holder, portrait, read_only
from helpers.procs import wait_until
from helpers.tasks import Gate
from helpers.threads import InThread

pytestmark = [pytest.mark.start_methods("fork"), pytest.mark.timeout_s(60)]

SIZES = {
    "tens of bytes": 9,
    "kilobytes": 500,
    "64 KiB": 8 * KIB,
    "1 MiB and one item": MIB // 8 + 1,
    "8 MiB": MIB,
}
EVERY_SIZE = pytest.mark.parametrize("count", SIZES.values(), ids=SIZES)
FEW_SIZES = pytest.mark.parametrize(
    "count", [9, 8 * KIB, MIB // 8 + 1], ids=["tens of bytes", "64 KiB", "1 MiB"]
)
LARGE = pytest.mark.parametrize("count", [8 * KIB, MIB // 8 + 1], ids=["64 KiB", "1 MiB"])


@pytest.fixture
def counts(impl: Any) -> list[int]:
    """Every size on our side; on multiprocessing's two, which say what is to be seen."""
    return list(SIZES.values()) if impl.is_fastpool else [9, 8 * KIB]


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["writable", "read-only", "Fortran", "strided", "bytearray"])
def test_a_task_writes_into_a_copy(pool: Any, counts: list[int], kind: str) -> None:
    for count in counts:
        check_that_tasks_write_into_copies(pool, kind, count)


@pytest.mark.parametrize("kind", ["writable", "read-only", "bytearray"])
@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.fastpool_only
def test_a_task_of_any_worker_writes_into_a_copy(pool: Any, kind: str) -> None:
    for count in SIZES.values():
        check_that_tasks_write_into_copies(pool, kind, count)


def check_that_tasks_write_into_copies(pool: Any, kind: str, count: int) -> None:
    mine: Any = {
        "writable": lambda: np.ones(count),
        "read-only": lambda: read_only(np.ones(count)),
        "Fortran": lambda: np.asfortranarray(np.ones((count // 3, 3))),
        "strided": lambda: np.ones(2 * count)[::2],
        "bytearray": lambda: bytearray(b"\1" * count),
    }[kind]()
    before = portrait(mine)
    if kind == "read-only" and pickle.DEFAULT_PROTOCOL >= 5:  # it is so in the worker, too
        with pytest.raises(ValueError, match="read-only"):
            pool.apply(tasks.overwrite, (mine,))
    elif kind == "bytearray":
        found = pool.apply(array_tasks.overwrite_bytes, (mine,))
        assert found == count
    else:
        assert pool.apply(tasks.overwrite, (mine,)) == 7 * mine.size
        assert pool.map(tasks.overwrite, [mine] * 4) == [7 * mine.size] * 4
        assert pool.apply(tasks.overwrite, (), {"array": mine}) == 7 * mine.size
        assert list(pool.imap(tasks.overwrite, iter([mine] * 4))) == [7 * mine.size] * 4
    assert portrait(mine) == before


WAYS: dict[str, Callable[[Any, Any, int], list[Any]]] = {
    "map": lambda pool, a, n: pool.map(
        array_tasks.sees_then_fills_item, [(a, 2 + i) for i in range(n)], 1
    ),
    "starmap": lambda pool, a, n: pool.starmap(
        array_tasks.sees_then_fills, zip(itertools.repeat(a), range(2, 2 + n), strict=False), 1
    ),
    "starmap_async": lambda pool, a, n: pool.starmap_async(
        array_tasks.sees_then_fills, [(a, 2 + i) for i in range(n)], 1
    ).get(),
    "imap": lambda pool, a, n: list(
        pool.imap(array_tasks.sees_then_fills_item, ((a, 2 + i) for i in range(n)))
    ),
    "imap_unordered": lambda pool, a, n: list(
        pool.imap_unordered(array_tasks.sees_then_fills_item, [(a, 2 + i) for i in range(n)])
    ),
    "apply_async": lambda pool, a, n: [
        result.get()
        for result in [pool.apply_async(array_tasks.sees_then_fills, (a, 2 + i)) for i in range(n)]
    ],
    "apply": lambda pool, a, n: [
        pool.apply(array_tasks.sees_then_fills, (a, 2 + i)) for i in range(n)
    ],
    "a partial": lambda pool, a, n: pool.map(
        functools.partial(array_tasks.sees_then_fills, a), range(2, 2 + n), 1
    ),
    "a method": lambda pool, a, n: pool.map(Busy(a).sees_then_fills, range(2, 2 + n), 1),
    "nested": lambda pool, a, n: pool.map(
        array_tasks.sees_then_fills_nested, [{"in": [a, i]} for i in range(2, 2 + n)], 1
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_tasks_that_got_the_same_array_do_not_see_each_others_writes(
    pool: Any, impl: Any, counts: list[int], way: str
) -> None:
    for count in counts:
        # A worker copies the next 16 large arguments after one was written, then maps one again.
        number = (40 if count >= MIB // 8 else 16) if impl.is_fastpool else 4
        if count >= MIB and way not in ("map", "apply_async"):
            continue
        mine = np.ones(count)
        assert WAYS[way](pool, mine, number) == [(count, True)] * number
        assert (mine == 1).all()


@pytest.mark.parametrize("way", ["map", "apply_async", "a partial"])
@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.fastpool_only
def test_tasks_of_any_workers_do_not_see_each_others_writes(pool: Any, way: str) -> None:
    for count in SIZES.values():
        mine = np.ones(count)
        assert WAYS[way](pool, mine, 40) == [(count, True)] * 40
        assert (mine == 1).all()


@FEW_SIZES
def test_only_the_items_of_one_chunk_share_their_array(pool: Any, count: int) -> None:
    """A chunk is one task: as in multiprocessing its first item finds what was sent, and each
    further one what the one before left."""
    items = [np.ones(count)] * 12
    found = pool.map(functools.partial(array_tasks.sees_then_fills, index=5), items, 4)
    assert [seen for seen, _ in found] == [count, 5 * count, 5 * count, 5 * count] * 3


@LARGE
def test_an_array_that_failed_tasks_wrote_into_is_as_it_was(pool: Any, count: int) -> None:
    mine = np.ones(count)
    for _ in range(10):
        with pytest.raises(ValueError, match="after writing"):
            pool.apply(array_tasks.fill_and_raise, (mine,))
        assert pool.apply(array_tasks.total, (mine,)) == count
    results = pool.map_async(array_tasks.fill_and_raise, [mine] * 20, 1)
    with pytest.raises(ValueError, match="after writing"):
        results.get()
    assert pool.map(array_tasks.total, [mine] * 20, 1) == [count] * 20


# --- what a worker keeps --------------------------------------------------------------------------


@EVERY_SIZE
def test_what_a_worker_keeps_stays_as_it_was_sent(pool_factory: Any, impl: Any, count: int) -> None:
    """Though the parent writes into its array, and the memory of hundreds of others comes free."""
    pool = pool_factory(1)
    rounds = (150 if count < MIB else 20) if impl.is_fastpool else 5
    mine = np.arange(count)
    views = np.arange(2 * count).reshape(2, count)
    expected = portrait([mine.copy(), [mine.copy()], views[1].copy()])
    pool.apply(array_tasks.keep_array, ("kept", [mine, [mine.copy()], views[1]]))
    for index in range(rounds):
        mine[:] = views[:] = -index
        assert pool.apply(array_tasks.total, (mine,)) == -index * count
        pool.apply(tasks.identity, (np.full(count, -1),))
    assert pool.apply(array_tasks.kept_portrait, ("kept",)) == expected


@LARGE
def test_a_worker_may_keep_what_many_tasks_brought(pool_factory: Any, count: int) -> None:
    pool = pool_factory(1)
    for index in range(60):
        pool.apply(array_tasks.keep_array, (f"kept {index}", np.full(count, index)))
        if index % 3 == 0:
            pool.apply(array_tasks.drop_kept, (f"kept {index // 2}",))
    dropped = {index // 2 for index in range(0, 60, 3)}
    for index in set(range(60)) - dropped:
        assert pool.apply(tasks.kept_sum, (f"kept {index}",)) == index * count


@LARGE
def test_what_a_worker_keeps_is_its_own_to_write_into(pool_factory: Any, count: int) -> None:
    pool = pool_factory(1)
    mine = np.ones(count)
    for key in "ab":
        pool.apply(array_tasks.keep_array, (key, mine))
    pool.apply(array_tasks.fill_kept, ("a", 5))
    assert pool.apply(tasks.kept_sum, ("a",)) == 5 * count
    assert pool.apply(tasks.kept_sum, ("b",)) == count
    assert pool.apply(array_tasks.total, (mine,)) == count


@LARGE
def test_what_a_worker_returns_and_keeps_is_not_the_callers(pool_factory: Any, count: int) -> None:
    pool = pool_factory(1)
    pool.apply(array_tasks.keep_array, ("kept", np.ones(count)))
    first = pool.apply(tasks.get_state, ("kept",))
    pool.apply(array_tasks.fill_kept, ("kept", 2))
    second = pool.apply(tasks.get_state, ("kept",))
    first[:] += 10
    assert pool.apply(tasks.kept_sum, ("kept",)) == 2 * count
    assert ((first == 11).all(), (second == 2).all()) == (True, True)


@LARGE
def test_an_argument_that_a_worker_returns_and_keeps_is_in_two_hands(
    pool_factory: Any, count: int
) -> None:
    pool = pool_factory(1)
    mine = np.ones(count)
    result = pool.apply(array_tasks.keep_and_return, ("kept", mine))
    result[:] = 2
    assert pool.apply(tasks.kept_sum, ("kept",)) == count
    pool.apply(array_tasks.fill_kept, ("kept", 3))
    assert ((mine == 1).all(), (result == 2).all()) == (True, True)


@FEW_SIZES
def test_a_worker_may_fork_while_it_has_an_argument(pool: Any, count: int) -> None:
    mine = np.arange(1, count + 1)
    for _ in range(3):
        assert pool.apply(array_tasks.fork_and_overwrite, (mine,)) == (0, portrait(mine))
    assert pool.apply(array_tasks.total, (mine,)) == mine.sum()


# --- results --------------------------------------------------------------------------------------


@EVERY_SIZE
@pytest.mark.parametrize("chunksize", [1, 5])
def test_results_are_writable_and_independent(
    pool: Any, impl: Any, count: int, chunksize: int
) -> None:
    number = (20 if count < MIB else 6) if impl.is_fastpool else 3
    mine = np.ones(count)
    for results in (
        pool.map(functools.partial(array_tasks.filled, count), [1] * number, chunksize),
        list(pool.imap(functools.partial(array_tasks.filled, count), [1] * number, chunksize)),
        [pool.apply(tasks.identity, (mine,)) for _ in range(number)],
        [pool.apply(tasks.identity, ([mine, 1],))[0] for _ in range(number)],
    ):
        for index, result in enumerate(results):
            assert (result == 1).all()
            result[:] = index
        assert [result.sum() for result in results] == [i * count for i in range(number)]
    assert (mine == 1).all()


@pytest.mark.parametrize("count", [1000, 13_000, 33_000], ids=["8 KB", "104 KB", "264 KB"])
def test_a_result_that_is_held_outlives_thousands_that_come_and_go(
    pool: Any, impl: Any, count: int
) -> None:
    held = [pool.apply(array_tasks.filled, (count, index)) for index in range(20)]
    held += pool.map(functools.partial(array_tasks.filled, count), range(20, 30))
    number = (3000 if count < 20_000 else 800) if impl.is_fastpool else 100
    make = functools.partial(array_tasks.filled, count)
    for index, result in enumerate(pool.imap(make, itertools.repeat(-1, number))):
        assert result[0] == result[-1] == -1
        if index % 100 == 0:
            assert pool.apply(make, (-2,)).sum() == -2 * count
    assert [np.unique(result).tolist() for result in held] == [[i] for i in range(30)]


@pytest.mark.fastpool_only
def test_two_thousand_large_results_may_be_held(pool: Any) -> None:
    make = functools.partial(array_tasks.filled, 12_500)
    held = pool.map(make, range(1000), 1)
    held += [result.get() for result in [pool.apply_async(make, (i,)) for i in range(1000, 2000)]]
    assert [result.nbytes for result in held] == [100_000] * 2000
    assert all((result == index).all() for index, result in enumerate(held))
    del held[::2]
    more = pool.map(make, range(-500, 0), 1)
    assert all((result == 2 * index + 1).all() for index, result in enumerate(held))
    assert all((result == index - 500).all() for index, result in enumerate(more))


@FEW_SIZES
def test_a_part_of_a_result_is_enough_to_keep_it(pool: Any, count: int) -> None:
    parts = [pool.apply(array_tasks.filled, (count, i))[count // 2 :: 2].T for i in range(10)]
    for _ in range(20):
        pool.apply(array_tasks.filled, (count, -1))
    assert [np.unique(part).tolist() for part in parts] == [[i] for i in range(10)]


# --- there and back -------------------------------------------------------------------------------


@FEW_SIZES
def test_a_result_may_be_the_argument_of_the_next_call(pool: Any, count: int) -> None:
    value = np.zeros(count)
    earlier = []
    for index in range(1, 11):
        earlier.append(value)
        value = pool.apply(array_tasks.plus, (value, 1))
        assert (value == index).all()
    assert [old.sum() for old in earlier] == [i * count for i in range(10)]


@EVERY_SIZE
@pytest.mark.parametrize("origin", ["our own array", "a result", "a part of a result"])
@pytest.mark.fastpool_only
def test_a_task_sees_its_argument_as_it_was_at_the_call(
    pool: Any, gate: Any, origin: str, count: int
) -> None:
    """The caller may go on with its array as soon as apply_async has returned."""
    value = np.ones(count)
    if origin != "our own array":
        value = pool.apply(array_tasks.filled, (2 * count, 1.0))
    if origin == "a part of a result":
        value = value[count:]
    blockers = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(2)]
    results = []
    for index in range(8):
        value[:] = index
        results.append(pool.apply_async(array_tasks.total, (value,)))
        results.append(pool.apply_async(array_tasks.total, (), {"value": value}))
    value[:] = -1
    gate.open()
    assert [result.get() for result in results] == [
        index * value.size for index in range(8) for _ in range(2)
    ]
    assert [blocker.get() for blocker in blockers] == [0, 1]


@FEW_SIZES
@pytest.mark.parametrize("origin", ["our own array", "a result", "a part of a result"])
@pytest.mark.parametrize("call", ["apply", "map", "imap", "a method"])
def test_what_the_parent_writes_does_not_reach_a_task_that_runs(
    pool: Any, tmp_path: Any, call: str, origin: str, count: int
) -> None:
    value = np.ones(count)
    if origin != "our own array":
        value = pool.apply(array_tasks.filled, (2 * count, 1.0))[count:]
    if origin == "a result":
        value = pool.apply(array_tasks.filled, (count, 1.0))
    gate = Gate(tmp_path / "gate")
    wait_and_sum = functools.partial(array_tasks.total_after_gate, gate.path)
    running = InThread(
        {
            "apply": lambda: pool.apply(wait_and_sum, (value,)),
            "map": lambda: pool.map(wait_and_sum, [value])[0],
            "imap": lambda: next(pool.imap(wait_and_sum, [value])),
            "a method": lambda: pool.apply(Busy(value).total_after_gate, (gate.path,)),
        }[call]
    )
    wait_until(lambda: gate.arrivals() == 1)
    value[:] = 5
    others = pool.map(array_tasks.total, [value] * 4)  # by the other worker
    gate.open()
    assert running.outcome(10) == count
    assert others == [5 * count] * 4


@LARGE
@pytest.mark.parametrize("origin", ["our own array", "a result", "another worker's argument"])
def test_what_a_worker_keeps_is_not_what_the_parent_goes_on_with(
    pool_factory: Any, origin: str, count: int
) -> None:
    """Nor what it sends on: three hands, three arrays."""
    pool = pool_factory(1)
    mine = np.ones(count)
    if origin == "a result":
        mine = pool.apply(array_tasks.filled, (count, 1.0))
    elif origin == "another worker's argument":
        mine = pool.apply(tasks.identity, (mine,))
    for key in "ab":
        pool.apply(array_tasks.keep_array, (key, mine))
    mine[:] = 2
    assert [pool.apply(tasks.kept_sum, (key,)) for key in "ab"] == [count, count]
    pool.apply(array_tasks.fill_kept, ("a", 3))
    fetched = pool.apply(tasks.get_state, ("a",))
    pool.apply(array_tasks.fill_kept, ("a", 4))
    assert [pool.apply(tasks.kept_sum, (key,)) for key in "ab"] == [4 * count, count]
    assert ((mine == 2).all(), (fetched == 3).all()) == (True, True)
    fetched[:] = 5
    assert pool.apply(tasks.kept_sum, ("a",)) == 4 * count


@LARGE
def test_a_result_given_to_many_tasks_is_not_theirs(pool: Any, count: int) -> None:
    result = pool.apply(array_tasks.filled, (count, 1.0))
    number = 30
    found = pool.map(functools.partial(array_tasks.sees_then_fills, result), range(2, 32), 1)
    assert found == [(count, True)] * number
    assert (result == 1).all()
    same = pool.apply(tasks.identity, (result,))
    same[:] = 5
    assert (result == 1).all()


@FEW_SIZES
def test_the_state_of_a_methods_object_is_that_of_the_call(pool: Any, count: int) -> None:
    holder = Holder(np.zeros(count))
    for index in range(5):
        holder.value[:] = index
        assert pool.apply(holder.total) == index * count
        assert pool.map(holder.total, range(6), 1) == [index * count] * 6
        assert list(pool.imap(holder.total, range(6), 2)) == [index * count] * 6
        assert pool.apply(functools.partial(array_tasks.total, holder.value)) == index * count
    holder.value = np.ones(3)
    assert pool.apply(holder.total) == 3
