"""map_blocks: a function on consecutive parts of arrays, one for each worker."""

from __future__ import annotations

import functools
import multiprocessing.pool
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, procs, tasks
from helpers.arrays import portrait, read_only

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(60)]

ONCE = pytest.mark.start_methods("fork", "spawn")


def sizes_of(pool: Any, length: int, blocks: int | None = None) -> list[int]:
    """How long each of the blocks is."""
    kwargs = {} if blocks is None else {"blocks": blocks}
    return [int(n) for (n,) in pool.map_blocks(array_tasks.shape_of, np.zeros(length), **kwargs)]


# --- how it is cut --------------------------------------------------------------------------------


@ONCE
@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 10, 50])
@pytest.mark.parametrize("length", [1, 2, 5, 10, 99, 100, 20_001])
def test_blocks_are_nearly_equal_and_cover_everything_in_order(
    pool: Any, length: int, blocks: int
) -> None:
    sizes = sizes_of(pool, length, blocks)
    assert len(sizes) == min(blocks, length)
    assert sum(sizes) == length
    assert max(sizes) - min(sizes) <= 1
    whole = np.arange(length) * 1.5
    found = pool.map_blocks(array_tasks.block_as_list, whole, blocks=blocks)
    assert [part for block in found for part in block] == whole.tolist()


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.start_methods("fork")
def test_there_are_as_many_blocks_as_workers_unless_said(
    pool_factory: Any, start_method: str, processes: int
) -> None:
    pool = pool_factory(processes)
    assert len(sizes_of(pool, 100)) == processes
    assert len(sizes_of(pool, 100, 5)) == 5
    assert len(sizes_of(pool, 1)) == 1


@ONCE
@pytest.mark.parametrize("blocks", [None, 1, 4])
def test_of_no_length_there_is_one_call(pool: Any, blocks: int | None) -> None:
    """So that a result of no length has the dtype and shape that the function gives it."""
    assert sizes_of(pool, 0, blocks) == [0]
    found = pool.map_blocks(array_tasks.as_floats_in_rows, np.zeros(0, "i4"), blocks=blocks)
    assert portrait(found) == portrait(np.zeros((0, 2), "f8"))


@ONCE
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_blocks_are_cut_along_the_axis(pool: Any, axis: int, shared: bool) -> None:
    whole = np.arange(7 * 5 * 6.0).reshape(7, 5, 6)
    array = pool.copy_to_shared(whole) if shared else whole
    blocks = pool.map_blocks(array_tasks.shape_of, array, axis=axis, blocks=3)
    expected = [part.shape for part in np.array_split(whole, 3, axis)]
    assert sorted(map(tuple, blocks)) == sorted(expected)
    joined = pool.map_blocks(np.sqrt, array, axis=axis, blocks=3)
    assert portrait(joined) == portrait(np.concatenate([np.sqrt(whole)], axis))


@ONCE
def test_several_arrays_are_cut_alike(pool: Any) -> None:
    a, b, c = np.arange(20.0), np.arange(60).reshape(20, 3), pool.copy_to_shared(np.ones((20, 2)))
    found = pool.map_blocks(array_tasks.shapes_of, a, b, c, blocks=3)
    assert [shapes[0][0] for shapes in found] == [shapes[1][0] for shapes in found]
    assert [(x, y[1:], z[1:]) for x, y, z in found] == [((x[0],), (3,), (2,)) for x, _, _ in found]
    assert sum(x[0] for x, _, _ in found) == 20
    found = pool.map_blocks(np.add, a, a[::-1], blocks=3)
    assert (found == a + a[::-1]).all()


@ONCE
def test_arrays_of_other_dimensions_may_have_the_axis_in_common(pool: Any) -> None:
    a, b = np.arange(12.0).reshape(3, 4), np.arange(24.0).reshape(2, 4, 3)
    found = pool.map_blocks(array_tasks.shapes_of, a, b, axis=1, blocks=2)
    assert found == [((3, 2), (2, 2, 3))] * 2


@ONCE
def test_the_blocks_are_worked_on_at_the_same_time(pool: Any, tmp_path: Any) -> None:
    meet = functools.partial(array_tasks.meet_others, str(tmp_path), 2)
    pids = pool.map_blocks(meet, np.arange(10))
    assert sorted(pids) == sorted(procs.worker_pids(pool))


# --- in place -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 9, 1000, 300_000])
def test_a_function_works_on_the_memory_of_shared_arrays(pool: Any, length: int) -> None:
    shared = pool.copy_to_shared(np.arange(float(length)))
    for _ in range(3):
        assert pool.map_blocks(array_tasks.double_in_place, shared) is None
    assert (shared == 8 * np.arange(length)).all()
    other = pool.zeros(length)
    assert pool.map_blocks(array_tasks.copy_into, other, shared, blocks=5) is None
    assert (other == shared).all()


@ONCE
def test_views_of_shared_arrays_are_worked_on_too(pool: Any) -> None:
    shared = pool.zeros((30, 40))
    pool.map_blocks(array_tasks.increment, shared[3:20:2, ::-3])
    pool.map_blocks(array_tasks.increment, shared.T[5:], axis=1)
    expected = np.zeros((30, 40))
    expected[3:20:2, ::-3] += 1
    expected.T[5:] += 1
    assert (shared == expected).all()


@ONCE
@pytest.mark.parametrize("length", [9, 30_000])
def test_arrays_that_are_not_shared_are_not_changed(pool: Any, length: int) -> None:
    mine = np.ones(length)
    assert pool.map_blocks(array_tasks.double_in_place, mine) is None
    assert (mine == 1).all()


# --- results --------------------------------------------------------------------------------------


@ONCE
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arrays_are_concatenated(pool: Any, axis: int) -> None:
    whole = np.arange(60_000.0).reshape(200, 300)
    found = pool.map_blocks(np.negative, whole, axis=axis, blocks=3)
    assert type(found) is np.ndarray
    assert portrait(found) == portrait(-whole)
    found[:] = 5
    assert whole[0, 1] == 1


@ONCE
def test_arrays_of_other_shape_or_dtype_are_concatenated_as_numpy_does(pool: Any) -> None:
    whole = np.arange(10)
    found = pool.map_blocks(array_tasks.only_odd, whole, blocks=3)
    assert portrait(found) == portrait(whole[whole % 2 == 1])
    found = pool.map_blocks(array_tasks.as_floats_in_rows, whole, blocks=3)
    assert portrait(found) == portrait(np.stack([whole, whole], 1).astype("f8"))
    with pytest.raises(ValueError, match="must match exactly"):
        pool.map_blocks(array_tasks.square_of_block, np.zeros(5), blocks=2)


@ONCE
def test_results_that_are_not_arrays_are_a_list(pool: Any) -> None:
    whole = np.arange(10.0)
    assert pool.map_blocks(array_tasks.total, whole, blocks=2) == [10.0, 35.0]
    assert pool.map_blocks(array_tasks.block_as_list, whole[:3], blocks=3) == [[0.0], [1.0], [2.0]]
    assert pool.map_blocks(array_tasks.none_if_zero_first, whole, blocks=2) == [None, 5.0]
    found = pool.map_blocks(array_tasks.array_of_no_dimension, whole, blocks=2)
    assert portrait(found) == portrait([np.array(10.0), np.array(35.0)])
    found = pool.map_blocks(array_tasks.array_if_zero_first, whole, blocks=2)
    assert portrait(found) == portrait([np.arange(5.0), 5.0])


@ONCE
def test_lists_of_numbers_are_arrays_too(pool: Any) -> None:
    found = pool.map_blocks(np.add, [1, 2, 3], (0.5, 0.5, 0.5), blocks=2)
    assert portrait(found) == portrait(np.array([1.5, 2.5, 3.5]))


@ONCE
def test_one_block_gives_what_more_would(pool: Any) -> None:
    whole = np.arange(10.0)
    assert portrait(pool.map_blocks(np.negative, whole, blocks=1)) == portrait(-whole)
    assert pool.map_blocks(array_tasks.total, whole, blocks=1) == [45.0]
    assert pool.map_blocks(tasks.nothing, whole, blocks=1) is None


# --- out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out_is", ["shared", "private"])
@pytest.mark.parametrize("length", [0, 1, 10, 50_000])
def test_results_are_written_into_out(pool: Any, out_is: str, length: int) -> None:
    whole = np.arange(float(length))
    out = pool.empty(length) if out_is == "shared" else np.empty(length)
    assert pool.map_blocks(np.sqrt, whole, out=out) is out
    assert (out == np.sqrt(whole)).all()
    assert pool.map_blocks(np.add, pool.copy_to_shared(whole), out, out=out, blocks=7) is out
    assert (out == np.sqrt(whole) + whole).all()


@ONCE
@pytest.mark.parametrize("out_is", ["shared", "private"])
def test_out_is_cut_along_the_same_axis(pool: Any, out_is: str) -> None:
    whole = np.arange(60.0).reshape(5, 12)
    make = pool.zeros if out_is == "shared" else np.zeros
    for axis in 0, 1, -1:
        out = make((5, 12))
        pool.map_blocks(np.negative, whole, out=out, axis=axis, blocks=3)
        assert (out == -whole).all()
        table = make((12, 5))
        out = table.T[:, ::-1]  # any view will do
        assert pool.map_blocks(np.negative, whole, out=out, axis=axis, blocks=3) is out
        assert (table.T[:, ::-1] == -whole).all()


@ONCE
@pytest.mark.parametrize("out_is", ["shared", "private"])
def test_what_fits_by_assignment_is_spread_and_cast(pool: Any, out_is: str) -> None:
    make = pool.zeros if out_is == "shared" else np.zeros
    whole = np.array([1.9, -2.9, 3.5, 4.0])
    out = make(4, "i4")
    pool.map_blocks(tasks.identity, whole, out=out, blocks=2)
    assert out.tolist() == [1, -2, 3, 4]
    out = make(4)
    pool.map_blocks(array_tasks.total, whole, out=out, blocks=2)
    assert out.tolist() == [whole[:2].sum()] * 2 + [whole[2:].sum()] * 2
    out = make((4, 3))
    pool.map_blocks(array_tasks.first_three_as_row, whole, out=out, blocks=1)
    assert out.tolist() == [whole[:3].tolist()] * 4
    out = make(4, "U3")
    pool.map_blocks(array_tasks.as_text, np.arange(4), out=out, blocks=2)
    assert out.tolist() == ["0", "1", "2", "3"]


@ONCE
@pytest.mark.parametrize("out_is", ["shared", "private"])
def test_a_result_that_does_not_fit_is_the_error_of_assigning_it(pool: Any, out_is: str) -> None:
    out = pool.zeros(10) if out_is == "shared" else np.zeros(10)
    for func, error in (
        (array_tasks.one_too_many, ValueError),
        (array_tasks.as_words, ValueError),
        (tasks.make_lambda, Exception),
    ):
        with pytest.raises(error):
            pool.map_blocks(func, np.zeros(10), out=out, blocks=2)
    assert pool.map_blocks(np.exp, np.zeros(10), out=out) is out
    assert (out == 1).all()


@ONCE
def test_nothing_of_a_shared_out_goes_through_the_parent(pool: Any) -> None:
    """The function may return what can't be pickled: it is written where it was made."""
    out = pool.zeros(9)
    assert pool.map_blocks(array_tasks.unpicklable_array, np.arange(9.0), out=out) is out
    assert (out == np.arange(9)).all()


@ONCE
def test_out_may_be_the_argument(pool: Any) -> None:
    shared = pool.copy_to_shared(np.arange(1000.0))
    for _ in range(3):
        assert pool.map_blocks(np.negative, shared, out=shared, blocks=4) is shared
    assert (shared == -np.arange(1000)).all()


# --- errors ---------------------------------------------------------------------------------------


def test_without_arrays_it_is_a_type_error(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.map_blocks(tasks.nothing)
    with pytest.raises(TypeError):
        pool.map_blocks(tasks.nothing, out=np.zeros(3))


def test_arrays_of_different_length_are_a_value_error(pool: Any) -> None:
    with pytest.raises(ValueError):
        pool.map_blocks(np.add, np.zeros(5), np.zeros(6))
    with pytest.raises(ValueError):
        pool.map_blocks(np.add, np.zeros((5, 2)), np.zeros((5, 3)), axis=1)


def test_an_axis_that_is_not_there_is_an_axis_error(pool: Any) -> None:
    axis_error = np.exceptions.AxisError if hasattr(np, "exceptions") else np.AxisError
    for arrays, axis in (
        ([np.array(5)], 0),
        ([np.zeros(5)], 1),
        ([np.zeros(5)], -2),
        ([np.zeros((5, 5)), np.zeros(5)], 1),
    ):
        with pytest.raises(axis_error):
            pool.map_blocks(tasks.nothing, *arrays, axis=axis)


@pytest.mark.parametrize("blocks", [0, -1, -(10**30)])
def test_blocks_below_one_are_a_value_error(pool: Any, blocks: int) -> None:
    with pytest.raises(ValueError):
        pool.map_blocks(tasks.nothing, np.zeros(5), blocks=blocks)


@pytest.mark.parametrize("blocks", [1.0, "2", [1]])
def test_blocks_that_are_no_integer_are_a_type_error(pool: Any, blocks: Any) -> None:
    with pytest.raises(TypeError):
        pool.map_blocks(tasks.nothing, np.zeros(5), blocks=blocks)


def test_blocks_may_be_any_integer(pool: Any) -> None:
    assert len(sizes_of(pool, 9, np.int64(3))) == 3  # type: ignore[arg-type]
    assert len(sizes_of(pool, 9, 10**30)) == 9


@pytest.mark.parametrize(
    "out", [[0.0] * 5, "out", bytearray(5), 3], ids=lambda out: type(out).__name__
)
def test_an_out_that_is_no_array_is_a_type_error(pool: Any, out: Any) -> None:
    with pytest.raises(TypeError):
        pool.map_blocks(tasks.identity, np.zeros(5), out=out)


def test_an_out_of_another_length_is_a_value_error(pool: Any) -> None:
    for out in np.zeros(4), np.zeros(6), pool.zeros(4):
        with pytest.raises(ValueError):
            pool.map_blocks(tasks.identity, np.zeros(5), out=out)
    with pytest.raises(ValueError):
        pool.map_blocks(tasks.identity, np.zeros((2, 5)), out=np.zeros((2, 4)), axis=1)


def test_a_read_only_out_is_a_value_error(pool: Any) -> None:
    shared = pool.zeros(5)
    for out in read_only(np.zeros(5)), read_only(shared[:]), np.broadcast_to(np.zeros(1), 5):
        with pytest.raises(ValueError):
            pool.map_blocks(tasks.identity, np.zeros(5), out=out)
    assert not shared.any()


@ONCE
@pytest.mark.parametrize("out_is", ["shared", "private", "none"])
def test_an_exception_of_the_function_comes_out(pool: Any, out_is: str) -> None:
    out = {"shared": pool.zeros(10), "private": np.zeros(10), "none": None}[out_is]
    with pytest.raises(ValueError, match="after writing") as caught:
        pool.map_blocks(array_tasks.fill_and_raise, np.zeros(10), out=out)
    assert isinstance(caught.value.__cause__, multiprocessing.pool.RemoteTraceback)
    assert "fill_and_raise" in str(caught.value.__cause__)
    assert sizes_of(pool, 10, 2) == [5, 5]


def test_a_pool_that_does_not_run_refuses(pool_factory: Any) -> None:
    for ending in "close", "terminate":
        pool = pool_factory(1)
        getattr(pool, ending)()
        with pytest.raises(ValueError, match="Pool not running"):
            pool.map_blocks(tasks.nothing, np.zeros(5))
