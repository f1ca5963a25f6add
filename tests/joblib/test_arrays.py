"""Large arrays in the tasks of joblib.Parallel: copied once for a call, and never written into."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tasks
from joblib import Parallel, delayed

from fastpool import joblib_backend
from fastpool._joblib import standing

Array = np.ndarray[Any, Any]
Fastpool = partial(Parallel, backend="fastpool")
MIB = 1 << 20


@pytest.fixture
def fresh_pool() -> None:
    joblib_backend.end_pool()


def bytes_peak() -> int:
    assert standing._current is not None
    return standing._current.pool.stats().bytes_peak


def total(array: Array, _i: int = 0) -> float:
    return float(array.sum())


def first(array: Array) -> float:
    return float(array.flat[0])


def where_and_whether_writeable(array: Array) -> tuple[int, bool]:
    return array.__array_interface__["data"][0], array.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_many_tasks_is_copied_once_and_can_only_be_read(
    order: Any, fresh_pool: None
) -> None:
    array = np.asarray(np.arange(2 * MIB, dtype=float).reshape(1024, -1), order=order)
    found = Fastpool(2, batch_size=1)(delayed(where_and_whether_writeable)(array) for _ in range(9))
    assert len(set(found)) == 1
    assert not found[0][1]
    assert array.nbytes <= bytes_peak() < 2 * array.nbytes
    assert set(Fastpool(2)(delayed(total)(array) for _ in range(9))) == {array.sum()}


def test_arrays_that_no_task_needs_any_more_take_no_memory(fresh_pool: None) -> None:
    def calls() -> Iterator[Any]:
        for i in range(40):
            yield delayed(total)(np.full(MIB // 4, i, dtype=float))

    assert Fastpool(2, batch_size=1)(calls()) == [i * MIB // 4 for i in range(40)]
    assert bytes_peak() < 20 * 2 * MIB


def test_a_change_between_two_calls_is_seen() -> None:
    array = np.zeros(MIB)
    with Fastpool(2) as parallel:
        for i in range(3):
            array[i] = 1
            assert parallel(delayed(total)(array, j) for j in range(4)) == [i + 1] * 4


@pytest.mark.parametrize(
    "array",
    [
        np.arange(MIB // 4, dtype=float)[::2],
        np.arange(MIB, dtype=float).reshape(1024, -1)[:, 3:700],
        np.arange(MIB, dtype=float).reshape(64, 128, -1).transpose(1, 0, 2),
        np.arange(MIB, dtype=complex),
        np.arange(MIB // 2, dtype=complex)[::-1],
        np.zeros(MIB, dtype=[("a", "i4"), ("b", "f8"), ("c", "i1")]),
        np.arange(MIB).astype("M8[s]"),
        np.arange(MIB, dtype=">f8"),
        np.full(MIB // 4, None),
        np.zeros((MIB, 0)),
        np.ma.masked_array(np.arange(MIB), mask=np.arange(MIB) % 3 == 0),
    ],
    ids=lambda array: f"{type(array).__name__}-{array.dtype.str}-{array.strides}",
)
def test_every_kind_of_array_arrives_as_it_is(array: Array) -> None:
    for sent in Fastpool(2, batch_size=1)([delayed(tasks.identity)(array)] * 3):
        assert type(sent) is type(array)
        assert sent.dtype == array.dtype
        assert sent.shape == array.shape
        assert (sent == array).all()


def test_a_returned_argument_is_the_callers_own() -> None:
    array = np.arange(MIB, dtype=float)
    one, other = Fastpool(2, batch_size=1)([delayed(tasks.identity)(array)] * 2)
    one[:] = 0
    assert (other == np.arange(MIB)).all()
    assert (array == np.arange(MIB)).all()


def fill_and_sum(array: Array, value: float) -> float:
    array[:] = value
    return float(array.sum())


def test_tasks_may_write_into_copies_of_their_own() -> None:
    array = np.arange(MIB // 2, dtype=float)
    calls = [delayed(fill_and_sum)(array, i) for i in range(4)]
    assert Fastpool(2, mmap_mode="c", batch_size=1)(calls) == [i * MIB // 2 for i in range(4)]
    assert Fastpool(2, max_nbytes=None, batch_size=1)(calls) == [i * MIB // 2 for i in range(4)]
    assert (array == np.arange(MIB // 2)).all()
    with pytest.raises(ValueError, match="read-only"):
        Fastpool(2, batch_size=1)(calls)


def add_one_at(array: Array, i: int) -> None:
    array[i] += 1


def test_tasks_may_write_into_memory_that_all_of_them_see() -> None:
    array = np.zeros(MIB)
    parallel = Fastpool(2, mmap_mode="r+", batch_size=1, pre_dispatch=1)
    calls = [*(delayed(add_one_at)(array, i) for i in range(5)), delayed(total)(array)]
    assert parallel(calls)[-1] == 5
    assert array.sum() == 0


@pytest.mark.parametrize("part", [np.s_[:], np.s_[100:200], np.s_[::-2], np.s_[3:, None]], ids=str)
def test_an_array_in_a_file_is_named_and_not_copied(tmp_path: Path, part: Any) -> None:
    mapped = np.memmap(tmp_path / "numbers", float, "w+", 64, (MIB,))
    mapped[:] = np.arange(MIB)
    view = mapped[part]
    Fastpool(2, batch_size=1)(
        delayed(np.negative)(view[i : i + 1], out=view[i : i + 1]) for i in range(4)
    )
    expected = np.arange(MIB, dtype=float)
    np.negative(expected[part][:4], out=expected[part][:4])
    assert (mapped == expected).all()
    (sent,) = Fastpool(2)([delayed(tasks.identity)(view)])
    assert isinstance(sent, np.memmap)
    mapped[:] = 7
    assert (sent == 7).all()


def test_an_array_in_a_file_keeps_what_only_this_process_sees(tmp_path: Path) -> None:
    np.arange(1000.0).tofile(tmp_path / "numbers")
    private = np.memmap(tmp_path / "numbers", float, "c")
    private[0] = 42
    assert Fastpool(2)([delayed(total)(private)] * 2) == [private.sum()] * 2
