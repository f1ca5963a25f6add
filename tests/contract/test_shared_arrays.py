"""Arrays in the pool's own memory: tasks get them by reference, and what one writes all see."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, arrays, tasks
from helpers.arrays import LAYOUTS, MIB, Holder, Measurement, noise, portrait, read_only
from helpers.procs import wait_until

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(60)]

SMALL_AND_LARGE = pytest.mark.parametrize("count", [7, 5000, 400_000], ids=["7", "5000", "400000"])

# --- making one -----------------------------------------------------------------------------------

SHAPES: list[Any] = [(), 0, 1, 5, (3, 4), [2, 3], (0, 3), (3, 0, 2), (4, 300, 300), np.int64(9)]
KINDS = ["?", "i1", "u2", "i4", "f2", "f8", "c16", "longdouble", ">i4", "M8[s]", "m8[ns]", "S5"]
KINDS += ["U7", "V3"]
RECORDS = [
    [("a", "i2"), ("b", "f8"), ("c", "S3"), ("d", "u1", (2,))],
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_empty_is_an_array_of_that_shape(pool: Any, shape: Any) -> None:
    made = pool.empty(shape)
    plain = np.empty(shape)
    assert type(made) is np.ndarray
    assert (made.shape, made.dtype) == (plain.shape, plain.dtype)
    assert made.strides == plain.strides or not plain.size
    assert made.flags.writeable and made.flags.aligned and made.flags.c_contiguous
    made[...] = 3
    assert made.sum() == 3 * plain.size


@pytest.mark.parametrize("dtype", [*KINDS, *RECORDS, int, np.float32, None], ids=str)
def test_arrays_of_every_fixed_size_dtype_can_be_shared(pool: Any, dtype: Any) -> None:
    assert pool.empty((3, 2), dtype).dtype == np.dtype(dtype)
    zeros = pool.zeros((3, 2), dtype=dtype)
    assert portrait(zeros) == portrait(np.zeros((3, 2), dtype))
    value = noise(dtype, (30, 20)) if dtype is not None else np.ones((30, 20))
    shared = pool.copy_to_shared(value)
    assert portrait(shared) == portrait(value)
    zeroed = pool.apply(array_tasks.zero_and_return, (shared,))
    assert portrait(zeroed) == portrait(np.zeros((30, 20), dtype))
    assert portrait(shared) == portrait(zeroed), "the task had this very memory"


@pytest.mark.parametrize("count", [10, 30_000, 600_000])
def test_zeros_are_zero_also_in_memory_that_was_used_before(pool: Any, count: int) -> None:
    for _ in range(4):
        used = [pool.empty(count) for _ in range(3)]
        for array in used:
            array[:] = 1.5
        pool.map(array_tasks.total, used)
        del array, used
        made = [pool.zeros(count) for _ in range(3)]
        assert [array.any() for array in made] == [False] * 3
        del made


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copy_to_shared_is_an_equal_array_of_its_own(pool: Any, layout: str) -> None:
    for shape in (), (0,), (6,), (3, 4), (200, 300):
        value = LAYOUTS[layout](noise("f8", shape))
        before = portrait(value)
        shared = pool.copy_to_shared(value)
        assert type(shared) is np.ndarray
        assert (shared.shape, shared.dtype) == (value.shape, value.dtype)
        assert shared.tobytes() == value.tobytes()
        assert shared.flags.writeable
        pool.apply(array_tasks.fill, (shared, 5))
        assert (shared == 5).all()
        assert portrait(value) == before


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_what_is_made_is_a_plain_array_whatever_it_was_made_from(pool: Any) -> None:
    for value in np.matrix("1 2; 3 4"), np.arange(5).view(arrays.Plain):
        assert type(pool.copy_to_shared(value)) is np.ndarray


def test_two_arrays_have_memory_of_their_own(pool: Any) -> None:
    made = [pool.zeros(count) for count in (1, 1, 10, 10, 9000, 9000, 200_000, 200_000)]
    for index, array in enumerate(made):
        pool.apply(array_tasks.fill, (array, index))
    assert [np.unique(array).tolist() for array in made] == [[float(i)] for i in range(8)]


# --- by reference ---------------------------------------------------------------------------------


@SMALL_AND_LARGE
def test_what_a_task_writes_is_seen_by_the_parent_and_by_other_tasks(pool: Any, count: int) -> None:
    shared = pool.zeros(count, int)
    pool.apply(array_tasks.fill, (shared, 3))
    assert (shared == 3).all()
    shared[:] = 4
    assert pool.map(array_tasks.total, [shared] * 8, 1) == [4 * count] * 8
    for _ in range(3):
        pool.apply(array_tasks.double_in_place, (shared,))
    assert pool.map(array_tasks.total, [shared] * 8, 1) == [32 * count] * 8


@SMALL_AND_LARGE
def test_what_the_parent_writes_is_seen_by_a_task_that_runs_already(
    pool: Any, gate: Any, count: int
) -> None:
    shared = pool.zeros(count, int)
    result = pool.apply_async(array_tasks.total_after_gate, (gate.path, shared))
    wait_until(lambda: gate.arrivals() == 1)
    shared[:] = 2
    gate.open()
    assert result.get() == 2 * count


VIEWS: dict[str, Callable[[Any], Any]] = {
    "all of it": lambda a: a,
    "an equal view": lambda a: a[:],
    "a slice": lambda a: a[3:10],
    "rows and columns": lambda a: a[2:9:3, ::2],
    "one row": lambda a: a[5],
    "one column": lambda a: a[:, 3],
    "one item": lambda a: a[4:5, 4:5],
    "no item": lambda a: a[3:3],
    "0-d": lambda a: a[2, 3, ...],
    "reversed": lambda a: a[::-1, ::-2],
    "transposed": lambda a: a.T,
    "reshaped": lambda a: a.reshape(-1),
    "of more dimensions": lambda a: a.reshape(2, 10, 3, -1)[1, ::3, :, 1:],
    "with a new axis": lambda a: a[None, :, None],
    "of bytes": lambda a: a.view("u1"),
    "of another dtype": lambda a: a.view("i4")[:, 1::2],
    "the diagonal": lambda a: a.reshape(-1)[:: a.shape[1] + 1],
    "a view of a view": lambda a: a[1:][:, 1:].T[2:][::-1],
    "in Fortran order": lambda a: a.T.reshape(a.shape[::-1])[1:, 1:],
    "real parts": lambda a: a.view("c16").real,
}
EVERY_VIEW = pytest.mark.parametrize("view", VIEWS)


@EVERY_VIEW
@pytest.mark.parametrize("columns", [30, 3000])
def test_any_view_goes_by_reference(pool: Any, view: str, columns: int) -> None:
    mine = np.arange(20.0 * columns).reshape(20, columns)
    shared = pool.copy_to_shared(mine)
    part = VIEWS[view](shared)
    assert np.shares_memory(part, shared) or part.size == 0
    shape, strides, sum_there = pool.apply(array_tasks.geometry, (part,))
    assert (shape, sum_there) == (part.shape, part.sum())
    assert strides == part.strides or part.size < 2
    pool.apply(array_tasks.fill, (part, 7))
    VIEWS[view](mine)[...] = 7
    assert (shared == mine).all()
    shared[...] = mine[...] = np.arange(20.0 * columns)[::-1].reshape(20, columns)
    assert pool.map(array_tasks.total, [part] * 3, 1) == [VIEWS[view](mine).sum()] * 3


@EVERY_VIEW
@pytest.mark.parametrize("columns", [30, 3000])
def test_any_view_comes_back_as_the_same_memory(pool: Any, view: str, columns: int) -> None:
    shared = pool.copy_to_shared(np.arange(20.0 * columns).reshape(20, columns))
    part = VIEWS[view](shared)
    for back in (
        pool.apply(tasks.identity, (part,)),
        pool.apply(tasks.identity, ([part],))[0],
        pool.map(tasks.identity, [part, part], 2)[1],
        next(pool.imap(tasks.identity, [part])),
    ):
        assert type(back) is np.ndarray
        assert (back.shape, back.dtype) == (part.shape, part.dtype)
        if part.size:
            assert np.shares_memory(back, shared)
            assert back.ctypes.data == part.ctypes.data
        part[...] = 8
        assert (back == 8).all()
        back[...] = 9
        assert (part == 9).all()


def test_a_view_that_a_task_makes_comes_back_as_the_same_memory(pool: Any) -> None:
    shared = pool.zeros((100, 50))
    for name, make in array_tasks.VIEWS_OF_A_TASK.items():
        back = pool.apply(array_tasks.apply_view, (shared, name))
        expected = make(shared)
        assert (back.shape, back.strides) == (expected.shape, expected.strides)
        assert back.ctypes.data == expected.ctypes.data
        assert np.shares_memory(back, shared)


@SMALL_AND_LARGE
def test_a_view_that_came_back_keeps_the_memory(pool: Any, count: int) -> None:
    shared = pool.zeros(2 * count)
    shared[count:] = np.arange(count)
    part = pool.apply(array_tasks.apply_view, (shared, "second half"))
    del shared
    for _ in range(20):
        pool.empty(2 * count)[:] = -1
        pool.apply(tasks.identity, (np.full(2 * count, -1.0),))
    assert (part == np.arange(count)).all()
    assert pool.apply(array_tasks.total, (part,)) == part.sum()


def test_overlapping_views_are_one_memory_in_the_task_too(pool: Any) -> None:
    shared = pool.zeros(100)
    found = pool.apply(array_tasks.fill_first_and_look_at_second, (shared[:60], shared[40:]))
    assert found == [1.0] * 20 + [0.0] * 40
    assert shared.sum() == 60


PLACES: dict[str, Callable[[Any, Any], None]] = {
    "a list": lambda pool, a: pool.apply(array_tasks.fill_in, ([1, [a]], 5)),
    "a tuple": lambda pool, a: pool.apply(array_tasks.fill_in, ((a, a[:0]), 5)),
    "a dict": lambda pool, a: pool.apply(array_tasks.fill_in, ({"x": {"y": a}}, 5)),
    "a dataclass": lambda pool, a: pool.apply(array_tasks.fill_in, (Measurement("x", a), 5)),
    "an array of objects": lambda pool, a: pool.apply(
        array_tasks.fill_in, (np.array([None, [a]], dtype=object), 5)
    ),
    "a keyword": lambda pool, a: pool.apply(array_tasks.fill, (), {"target": a, "value": 5}),
    "a partial": lambda pool, a: pool.apply(functools.partial(array_tasks.fill, a), (5,)),
    "a partial's keyword": lambda pool, a: pool.map(
        functools.partial(array_tasks.fill_by_keyword, target=a), [5]
    ),
    "a method's object": lambda pool, a: pool.apply(Holder(a).fill, (5,)),
    "a method's object in map": lambda pool, a: pool.map(Holder(a).fill, [5, 5], 1),
    "a pair of starmap": lambda pool, a: pool.starmap(array_tasks.fill, [(a, 5)]),
    "pairs of starmap": lambda pool, a: pool.starmap(
        array_tasks.fill, [(a[:2], 5), (a[2:5], 5), (a[5:], 5)]
    ),
    "an item": lambda pool, a: pool.map(Holder(5).fill_other, [a]),
    "rows": lambda pool, a: pool.map(Holder(5).fill_other, a.reshape(-1, 1)),
    "rows of imap": lambda pool, a: list(pool.imap(Holder(5).fill_other, a.reshape(-1, 1), 3)),
    "items of imap": lambda pool, a: list(
        pool.imap_unordered(Holder(5).fill_other, iter([a[::2], a[1::2]]))
    ),
    "apply_async": lambda pool, a: pool.apply_async(array_tasks.fill, (a, 5)).get(),
    "beside a large array": lambda pool, a: pool.apply(
        array_tasks.fill_in, ([np.zeros(100_000), a, b"x" * 100_000], 5)
    ),
}


@pytest.mark.parametrize("count", [40, 20_000])
@pytest.mark.parametrize("place", PLACES)
def test_goes_by_reference_wherever_it_is(pool: Any, place: str, count: int) -> None:
    shared = pool.zeros(count)
    PLACES[place](pool, shared)
    assert (shared == 5).all()


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_that_started_before_and_after_share_it(pool_factory: Any, start: str) -> None:
    pool = pool_factory(2, start_method=start, maxtasksperchild=1)
    pool.map(tasks.square, range(4), 1)
    shared = pool.zeros((20, 1000))
    pids = pool.starmap(array_tasks.fill_and_say_who, [(shared[i], i) for i in range(20)], 1)
    assert len(set(pids)) == 20
    assert (shared == np.arange(20)[:, None]).all()


def test_workers_write_into_their_parts_at_the_same_time(pool: Any) -> None:
    shared = pool.zeros((64, 5000))
    for turn in range(1, 6):
        pool.map(array_tasks.increment, shared, 1)
        assert (shared == turn).all()


def test_a_killed_worker_leaves_what_it_wrote(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    shared = pool.zeros(50_000)
    result = pool.apply_async(array_tasks.fill_then_pass_gate, (shared, 1, gate.path))
    wait_until(lambda: gate.arrivals() == 1)
    os.kill(gate.arrived_pids()[0], signal.SIGKILL)
    with pytest.raises(RuntimeError):
        result.get()
    assert (shared == 1).all()
    assert pool.map(array_tasks.total, [shared] * 6, 1) == [50_000] * 6


# --- sent elsewhere, it is a copy -----------------------------------------------------------------


@SMALL_AND_LARGE
def test_a_pickle_of_it_is_a_copy(pool: Any, count: int) -> None:
    shared = pool.zeros(count)
    for other in (
        pickle.loads(pickle.dumps(shared)),
        pickle.loads(pickle.dumps(shared[::2], 5)),
        copy.copy(shared),
        copy.deepcopy([shared])[0],
        shared.copy(),
        shared + 0,
    ):
        assert type(other) is np.ndarray
        assert not np.shares_memory(other, shared)
        other[:] = 1
    assert not shared.any()


@SMALL_AND_LARGE
@pytest.mark.start_methods("fork", "spawn")
def test_another_pool_gets_a_copy(pool: Any, pool_factory: Any, count: int) -> None:
    shared = pool.zeros(count)
    other = pool_factory(1)
    assert other.apply(tasks.overwrite, (shared,)) == 7 * count
    assert other.map(tasks.overwrite, [shared, shared[::-1]]) == [7 * count] * 2
    back = other.apply(tasks.identity, (shared,))
    assert not np.shares_memory(back, shared)
    back[:] = 1
    assert not shared.any()
    theirs = other.zeros(count)
    assert pool.apply(tasks.overwrite, (theirs,)) == 7 * count
    assert not theirs.any()


def test_what_a_task_computes_from_it_is_not_it(pool: Any) -> None:
    shared = pool.zeros(60_000)
    result = pool.apply(array_tasks.plus, (shared, 1))
    assert not np.shares_memory(result, shared)
    result[:] = 9
    assert not shared.any()


# --- refusals -------------------------------------------------------------------------------------

WITH_OBJECTS = [object, "O", [("a", "i4"), ("b", object)], "StringDType"]


@pytest.mark.parametrize("dtype", WITH_OBJECTS, ids=str)
def test_objects_cannot_be_shared(pool: Any, dtype: Any) -> None:
    if dtype == "StringDType":
        if not hasattr(np, "strings"):
            pytest.skip("NumPy has no such strings yet")
        dtype = np.dtypes.StringDType()
    for make in pool.empty, pool.zeros:
        with pytest.raises(ValueError):
            make(3, dtype)
    with pytest.raises(ValueError):
        pool.copy_to_shared(np.zeros(3, dtype))


def test_more_than_there_can_be_is_a_memory_error(pool: Any) -> None:
    for make in pool.empty, pool.zeros:
        with pytest.raises(MemoryError):
            make(1 << 60, "u1")
        with pytest.raises((MemoryError, ValueError)):  # as NumPy: more than there are addresses
            make((1 << 40, 1 << 40))
    assert pool.apply(array_tasks.total, (pool.zeros(MIB),)) == 0


@pytest.mark.parametrize("shape", [-1, (3, -2), 1.5, "text", (2, None)], ids=str)
def test_a_shape_that_is_none_is_refused_as_by_numpy(pool: Any, shape: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as theirs:
        np.empty(shape)
    with pytest.raises(theirs.type):
        pool.empty(shape)


def test_a_dtype_that_is_none_is_refused_as_by_numpy(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.zeros(3, "no dtype")


def test_a_pool_that_has_ended_makes_none(pool_factory: Any) -> None:
    pool = pool_factory(1)
    pool.terminate()
    for call in (
        lambda: pool.empty(3),
        lambda: pool.zeros(3),
        lambda: pool.copy_to_shared(read_only(np.zeros(3))),
    ):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
