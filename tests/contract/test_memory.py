"""A pool's memory: stats() tells what is in use, memory= bounds what stays warm, nothing leaks."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, tasks
from helpers.arrays import KIB, MIB
from helpers.build import HOLES, PROC
from helpers.pool_memory import Resident, resident_shared, settled_bytes, visit_all_workers
from helpers.procs import wait_until

pytestmark = [
    pytest.mark.fastpool_only,
    pytest.mark.timeout_s(60),
    pytest.mark.start_methods("fork", "spawn"),
]

FIELDS = (
    "bytes_in_use",
    "blocks_in_use",
    "bytes_warm",
    "bytes_peak",
    "copies_avoided",
    "bytes_not_copied",
)
MEGABYTE = MIB // 8
"""So many floats."""


def at_rest(pool: Any) -> Any:
    """The statistics when nothing is going on."""
    gc.collect()
    visit_all_workers(pool)
    visit_all_workers(pool)
    return pool.stats()


# --- the argument ---------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [-1, -(10**30)])
def test_a_negative_memory_is_a_value_error(impl: Any, memory: int) -> None:
    with pytest.raises(ValueError, match="memory"):
        impl.module.Pool(1, memory=memory)


@pytest.mark.parametrize("memory", [1.5, "1G", [1]], ids=repr)
def test_a_memory_that_is_no_integer_is_a_type_error(impl: Any, memory: Any) -> None:
    with pytest.raises(TypeError, match="memory"):
        impl.module.Pool(1, memory=memory)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_memory_is_taken_by_name_only(impl: Any) -> None:
    with pytest.raises(TypeError):
        impl.module.Pool(1, None, (), None, None, 0)


@pytest.mark.parametrize("memory", [None, 0, 1, MIB, 2**62, 10**30])
def test_any_other_memory_will_do(pool_factory: Any, memory: int | None) -> None:
    pool = pool_factory(2, memory=memory)
    for count in 10, 40_000, 4 * MEGABYTE:
        results = pool.map(tasks.identity, [np.full(count, float(i)) for i in range(6)], 1)
        assert [result.sum() for result in results] == [float(i) * count for i in range(6)]


@pytest.mark.parametrize("memory", [0, MIB])
def test_what_is_larger_than_the_memory_travels_too(pool_factory: Any, memory: int) -> None:
    pool = pool_factory(2, memory=memory)
    value = np.arange(4 * MIB)
    results = pool.map(tasks.identity, [value] * 3, 1)
    raw = pool.apply(tasks.identity, (b"abc" * 10 * MIB,))
    assert all((result == value).all() for result in results)
    assert raw == b"abc" * 10 * MIB


# --- stats ----------------------------------------------------------------------------------------


def test_stats_is_a_named_tuple_of_integers(pool: Any) -> None:
    stats = pool.stats()
    assert isinstance(stats, tuple)
    assert type(stats).__name__ == "PoolStats"
    assert stats._fields == FIELDS
    assert all(type(value) is int and value >= 0 for value in stats)


def test_what_is_held_is_in_use_until_it_is_dropped(pool: Any) -> None:
    before = at_rest(pool)
    held = pool.starmap(array_tasks.filled, [(MEGABYTE, i) for i in range(8)], 1)
    during = pool.stats()
    assert during.bytes_in_use >= before.bytes_in_use + 8 * MIB
    assert during.blocks_in_use >= before.blocks_in_use + 8
    assert during.bytes_peak >= during.bytes_in_use
    del held[:5]
    settled_bytes(pool, during.bytes_in_use - 5 * MIB)
    assert pool.stats().bytes_in_use >= before.bytes_in_use + 3 * MIB
    held.clear()
    settled_bytes(pool, before.bytes_in_use)
    assert pool.stats().blocks_in_use <= before.blocks_in_use


def test_results_that_nobody_has_read_yet_are_in_use(pool_factory: Any) -> None:
    pool = pool_factory(2)
    before = at_rest(pool)
    make = functools.partial(array_tasks.filled, MEGABYTE)
    results = [pool.apply_async(make, (i,)) for i in range(4)]
    iterator = pool.imap(make, range(4, 8))
    wait_until(lambda: pool.stats().bytes_in_use >= before.bytes_in_use + 8 * MIB)
    found = [result.get() for result in results] + list(iterator)
    assert [value[0] for value in found] == list(range(8))
    found.clear()
    results.clear()
    del iterator
    settled_bytes(pool, before.bytes_in_use)


def test_what_a_worker_keeps_is_in_use_until_it_is_dropped(pool_factory: Any) -> None:
    pool = pool_factory(1)
    before = at_rest(pool).bytes_in_use
    for index in range(5):
        pool.apply(array_tasks.keep_array, (str(index), np.ones(MEGABYTE)))
    assert pool.stats().bytes_in_use >= before + 5 * MIB
    pool.apply(array_tasks.drop_kept, ("0", "1", "2"))
    settled_bytes(pool, before + 3 * MIB)
    pool.apply(array_tasks.drop_kept, ("3", "4"))
    settled_bytes(pool, before)


@pytest.mark.parametrize("call", ["apply", "a chunk of map", "in one list"])
def test_a_part_of_one_result_keeps_only_that_ones_memory(pool: Any, call: str) -> None:
    before = at_rest(pool).bytes_in_use
    make = functools.partial(array_tasks.filled, MEGABYTE)
    if call == "apply":
        results = [pool.apply(make, (i,)) for i in range(10)]
    elif call == "a chunk of map":
        results = pool.map(make, range(10), 10)
    else:
        results = pool.apply(array_tasks.filled_list, (MEGABYTE, 10))
    part = results[3][5:10]
    del results
    settled_bytes(pool, before + 2 * MIB)
    assert part.tolist() == [3.0] * 5
    del part
    settled_bytes(pool, before)


def test_the_peak_is_at_least_the_most_that_was_ever_in_use(pool_factory: Any) -> None:
    pool = pool_factory(2)
    assert pool.stats().bytes_peak >= pool.stats().bytes_in_use
    most = 0
    for number in 1, 12, 3:
        held = pool.starmap(array_tasks.filled, [(MEGABYTE, i) for i in range(number)], 1)
        most = max(most, pool.stats().bytes_in_use)
        assert pool.stats().bytes_peak >= most
        held.clear()
    at_rest(pool)
    peak = pool.stats().bytes_peak
    assert peak >= most >= 12 * MIB
    pool.map(tasks.square, range(100))
    assert peak <= pool.stats().bytes_peak < peak + MIB


def test_what_was_not_copied_is_counted(pool: Any) -> None:
    """Each time that an array went by reference, or was sent to a further task without a copy."""
    before = pool.stats()
    shared = pool.zeros(MEGABYTE)
    pool.map(array_tasks.total, [shared] * 10, 1)
    after = pool.stats()
    assert after.copies_avoided >= before.copies_avoided + 10
    assert after.bytes_not_copied >= before.bytes_not_copied + 10 * MIB
    pool.map(tasks.square, range(100))
    again = pool.stats()
    assert again.copies_avoided == after.copies_avoided
    assert again.bytes_not_copied == after.bytes_not_copied


def test_small_calls_use_nothing(pool: Any) -> None:
    before = at_rest(pool)
    held = pool.map(tasks.identity, [(i, str(i), float(i)) for i in range(1000)])
    assert at_rest(pool).bytes_in_use <= before.bytes_in_use
    assert len(held) == 1000


# --- what stays warm ------------------------------------------------------------------------------


def burst(pool: Any, number: int, size: int) -> None:
    """So many arrays of so many bytes both ways, all results alive at once, then none."""
    results = pool.map(tasks.identity, [np.ones(size // 8)] * number, 1)
    made = pool.starmap(array_tasks.filled, [(size // 8, 1.0)] * number, 1)
    assert all(result[0] == result[-1] == 1 for result in [*results, *made])
    pending = [pool.apply_async(array_tasks.total, (result,)) for result in results]
    del results, made
    assert [result.get() for result in pending] == [size // 8] * number


@HOLES
@pytest.mark.parametrize("memory", [0, 8 * MIB, 48 * MIB])
def test_what_is_free_beyond_the_memory_goes_back_to_the_system(
    pool_factory: Any, memory: int
) -> None:
    resident = Resident()
    pool = pool_factory(2, memory=memory)
    before = at_rest(pool).bytes_in_use
    for _ in range(2):
        burst(pool, 40, 4 * MIB)

    def is_small() -> bool:
        settled_bytes(pool, before)
        return resident.bytes() <= memory + 4 * MIB and pool.stats().bytes_warm <= memory

    wait_until(is_small, 15, lambda: f"{resident.bytes():,} bytes; {pool.stats()}")
    assert pool.stats().bytes_peak > 150 * MIB


@PROC
def test_what_is_free_within_the_memory_stays_warm(pool_factory: Any) -> None:
    resident = Resident()
    pool = pool_factory(2, memory=256 * MIB)
    before = at_rest(pool).bytes_in_use
    burst(pool, 10, 2 * MIB)
    settled_bytes(pool, before)
    stats = pool.stats()
    assert 8 * MIB <= stats.bytes_warm <= 256 * MIB
    assert resident.bytes() >= stats.bytes_warm


@PROC
def test_memory_that_stayed_warm_is_used_again(pool_factory: Any) -> None:
    resident = Resident()
    pool = pool_factory(2)
    burst(pool, 8, 2 * MIB)
    at_rest(pool)
    first = resident.bytes()
    for _ in range(30):
        burst(pool, 8, 2 * MIB)
    # Either worker may once have made what both made then, and 30 times as much went through.
    assert resident.bytes() <= 2 * first + 8 * MIB


@HOLES
def test_a_pool_that_has_ended_keeps_no_memory_but_what_is_held(pool_factory: Any) -> None:
    before = resident_shared(os.getpid())
    pool = pool_factory(2)
    burst(pool, 20, 4 * MIB)
    held = pool.apply(array_tasks.filled, (MEGABYTE, 5))
    assert resident_shared(os.getpid()) > before + 32 * MIB
    pool.terminate()
    pool.join()
    wait_until(lambda: resident_shared(os.getpid()) < before + 8 * MIB, 10)
    assert (held == 5).all()


# --- nothing leaks --------------------------------------------------------------------------------

SIZE = 20_000
"""Floats: 160 KB."""


def dropped_iterator(pool: Any, index: int) -> None:
    results = pool.imap(tasks.identity, [np.full(SIZE, index)] * 4)
    next(results)


def raises(pool: Any, index: int) -> None:
    with pytest.raises(ValueError, match="after writing"):
        pool.apply(array_tasks.fill_and_raise, (np.full(SIZE, index),))


def cannot_be_pickled(pool: Any, index: int) -> None:
    result = pool.apply_async(tasks.nothing, (np.full(SIZE, index), lambda: None))
    with pytest.raises(Exception, match="pickle"):
        result.get()


def cannot_be_returned(pool: Any, index: int) -> None:
    with pytest.raises(Exception, match=r"pickle|lambda"):
        pool.apply(array_tasks.array_and_lambda, (SIZE,))


def cannot_be_loaded(pool: Any, index: int) -> None:
    with pytest.raises(ValueError, match="refuses"):
        pool.apply(tasks.nothing, (np.full(SIZE, index), tasks.LoadFails()))
    with pytest.raises(ValueError, match="refuses"):
        pool.apply(array_tasks.array_and_load_fails, (SIZE,))


def map_with_an_error(pool: Any, index: int) -> None:
    items = [np.full(SIZE, i) for i in range(6)]
    with pytest.raises(ValueError, match="after writing"):
        pool.map(array_tasks.fill_and_raise, items, 1 + index % 3)


USES: dict[str, Callable[[Any, int], object]] = {
    "arguments": lambda pool, i: pool.apply(array_tasks.total, (np.full(SIZE, i),)),
    "results": lambda pool, i: pool.apply(array_tasks.filled, (SIZE, i)),
    "both": lambda pool, i: pool.apply(tasks.identity, (np.full(SIZE, i),)),
    "a chunk": lambda pool, i: pool.map(tasks.identity, [np.full(SIZE, i)] * 4, 4),
    "one object in many tasks": lambda pool, i: pool.map(
        array_tasks.total, itertools.repeat(np.full(SIZE, i), 8), 1
    ),
    "bytes": lambda pool, i: pool.apply(tasks.identity, (bytes(8 * SIZE),)),
    "a structure": lambda pool, i: pool.apply(
        tasks.identity, ({"a": [np.full(SIZE, i), bytearray(8 * SIZE)], "b": "x" * SIZE},)
    ),
    "dropped results": lambda pool, i: pool.apply_async(array_tasks.filled, (SIZE, i)),
    "a dropped iterator": dropped_iterator,
    "an exception": raises,
    "exceptions of map": map_with_an_error,
    "an argument that can't be pickled": cannot_be_pickled,
    "a result that can't be pickled": cannot_be_returned,
    "what can't be loaded": cannot_be_loaded,
    "a result passed on": lambda pool, i: pool.apply(
        array_tasks.total, (pool.apply(array_tasks.filled, (SIZE, i)),)
    ),
    "a callable's state": lambda pool, i: pool.map(
        functools.partial(array_tasks.plus, np.full(SIZE, i)), range(3), 1
    ),
    "an imap": lambda pool, i: list(pool.imap(tasks.identity, iter([np.full(SIZE, i)] * 4), 2)),
    "into out": lambda pool, i: pool.map(
        tasks.identity, [np.ones(SIZE)] * 2, out=np.zeros((2, SIZE))
    ),
    "blocks": lambda pool, i: pool.map_blocks(np.sqrt, np.full(SIZE * 2, i)),
}


def check_no_leak(pool_factory: Any, use: str, rounds: int) -> None:
    resident = Resident()
    pool = pool_factory(2, memory=16 * MIB)
    before = at_rest(pool).bytes_in_use
    for index in range(rounds):
        USES[use](pool, index)
    wait_until(
        lambda: settled_bytes(pool, before) >= 0 and resident.bytes() <= 20 * MIB,
        15,
        lambda: f"{resident.bytes():,} bytes are resident",
    )


@HOLES
@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("use", USES)
def test_hundreds_of_large_transfers_leave_nothing_in_use(pool_factory: Any, use: str) -> None:
    check_no_leak(pool_factory, use, 500)


@PROC
@pytest.mark.slow
@pytest.mark.timeout_s(600)
@pytest.mark.parametrize("use", USES)
def test_ten_thousand_large_transfers_leave_nothing_in_use(pool_factory: Any, use: str) -> None:
    check_no_leak(pool_factory, use, 10_000)


@pytest.mark.start_methods("fork")
def test_transfers_of_all_kinds_and_dying_workers_leave_nothing_in_use(pool_factory: Any) -> None:
    pool = pool_factory(2)
    before = at_rest(pool).bytes_in_use
    for index in range(60):
        for use in USES.values():
            use(pool, index)
        if index % 6 == 0:
            with pytest.raises(RuntimeError):
                pool.apply(array_tasks.fill_and_die, (np.full(SIZE, index),))
    settled_bytes(pool, before, 20)


@HOLES
@pytest.mark.start_methods("fork")
def test_arrays_of_all_sizes_that_come_and_go_do_not_scatter_the_memory(
    pool_factory: Any,
) -> None:
    """What is resident stays below three times what is in use and what may be warm."""
    bound = 16 * MIB
    resident = Resident()
    pool = pool_factory(2, memory=bound)
    dice = random.Random(7)
    held: list[tuple[int, Any]] = []
    most = 0
    for index in range(1500):
        count = int(2 ** dice.uniform(13, 19))  # 64 KB to 4 MB
        held.append((index, pool.apply(tasks.identity, (np.full(count, index),))))
        while sum(array.nbytes for _, array in held) > 32 * MIB:
            number, array = held.pop(dice.randrange(len(held)))
            assert array[0] == array[-1] == number
        if index % 50 == 49:
            in_use = pool.stats().bytes_in_use
            most = max(most, resident.bytes())
            assert resident.bytes() <= 3 * (bound + in_use), f"{resident.bytes():,}, {in_use:,}"
    assert most >= 32 * MIB - 4 * MIB, "the results were in the segment"
    assert all((array == number).all() for number, array in held)
    del array
    held.clear()
    wait_until(lambda: at_rest(pool) and resident.bytes() <= bound + 4 * MIB, 15)
    assert resident.bytes() > KIB
