"""map(func, items, out=array): the result of the i-th item is stored into its i-th row."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, arrays, tasks
from helpers.arrays import portrait, read_only

pytestmark = [pytest.mark.fastpool_only, pytest.mark.start_methods("fork", "spawn")]

# Each calls a function of one argument.
CALLS: dict[str, Callable[..., Any]] = {
    "map": lambda pool, func, items, *size, out: pool.map(func, items, *size, out=out),
    "map_async": lambda pool, func, items, *size, out: pool.map_async(
        func, items, *size, out=out
    ).get(),
    "starmap": lambda pool, func, items, *size, out: pool.starmap(
        func, [(item,) for item in items], *size, out=out
    ),
    "starmap_async": lambda pool, func, items, *size, out: pool.starmap_async(
        func, [(item,) for item in items], *size, out=out
    ).get(),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS)
BOTH_MEMORIES = pytest.mark.parametrize("memory", ["shared", "private"])


def make(pool: Any, memory: str, shape: Any, dtype: Any = float) -> Any:
    """An array with something in it."""
    out = pool.empty(shape, dtype) if memory == "shared" else np.empty(shape, dtype)
    out[...] = np.ones((), out.dtype)
    return out


@EVERY_CALL
@BOTH_MEMORIES
@pytest.mark.parametrize("chunksize", [(), (1,), (7,), (10**6,)], ids=["guided", "1", "7", "all"])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_numbers_are_stored_in_the_order_of_the_items(
    pool: Any, call: str, memory: str, chunksize: tuple[int, ...], count: int
) -> None:
    out = make(pool, memory, count)
    assert CALLS[call](pool, tasks.square, range(count), *chunksize, out=out) is out
    assert out.tolist() == [float(i * i) for i in range(count)]


@EVERY_CALL
@BOTH_MEMORIES
@pytest.mark.parametrize("width", [0, 3, 5000])
def test_arrays_are_stored_as_rows(pool: Any, call: str, memory: str, width: int) -> None:
    out = make(pool, memory, (12, width))
    items = [np.full(width, i) for i in range(12)]
    assert CALLS[call](pool, tasks.identity, items, out=out) is out
    assert (out == np.arange(12)[:, None]).all()
    deep = make(pool, memory, (4, 2, width))
    CALLS[call](pool, array_tasks.two_rows_of, items[:4], out=deep)
    assert (deep == np.arange(4)[:, None, None]).all()


@EVERY_CALL
@BOTH_MEMORIES
def test_a_number_fills_its_row(pool: Any, call: str, memory: str) -> None:
    out = make(pool, memory, (5, 3))
    CALLS[call](pool, tasks.square, range(5), out=out)
    assert out.tolist() == [[float(i * i)] * 3 for i in range(5)]


CASTS: dict[str, tuple[Any, list[Any]]] = {
    "floats to ints": ("i4", [1.9, -2.9, 0.5, 3]),
    "ints to floats": ("f4", [1, 2**40, -3, True]),
    "bools": ("?", [True, False, 1, 0, 2.5]),
    "bools to floats": ("f8", [True, False]),
    "NaN and -0.0": ("f8", [float("nan"), -0.0, float("inf")]),
    "large ints": ("u8", [2**64 - 1, 2**63, 0]),
    "large negative ints": ("i8", [-(2**63), 2**63 - 1]),
    "NumPy scalars": ("f8", [np.float32(0.1), np.int8(-3), np.bool_(True), np.uint64(2**63)]),
    "complex": ("c16", [1j, 2, 3.5]),
    "text": ("U3", ["a", "abcdef", "", "ä€😀"]),
    "bytes": ("S3", [b"a", b"abcdef", b""]),
    "dates": ("M8[D]", [np.datetime64("2026-01-01"), np.datetime64("NaT", "D")]),
    "durations": ("m8[s]", [np.timedelta64(5, "m"), 7]),
    "foreign byte order": (">i4", [1, -2, 3.9]),
    "small floats": ("f2", [0.1, 70000.0, 1]),
    "records": ([("a", "i4"), ("b", "f8")], [(1, 2.5), (3, 4)]),
    "lists": (("f8", (2,)), [[1, 2], (3, 4.5)]),
    "mixed": ("f8", [1, 2.5, True, np.float32(3), "4.5"]),
    "objects": (object, [None, [1], "a", 2.5]),
}


@EVERY_CALL
@BOTH_MEMORIES
@pytest.mark.parametrize("kind", CASTS)
@pytest.mark.filterwarnings("ignore:overflow")
def test_results_are_cast_as_by_assignment(pool: Any, call: str, memory: str, kind: str) -> None:
    dtype, items = CASTS[kind]
    if dtype is object and memory == "shared":
        pytest.skip("objects can't be shared")
    shape: Any = len(items)
    if isinstance(dtype, tuple):
        shape, dtype = (len(items), *dtype[1]), dtype[0]
    expected = np.zeros(shape, dtype)
    for index, item in enumerate(items):
        expected[index] = item
    for size in (), (1,), (100,):
        out = pool.zeros(shape, dtype) if memory == "shared" else np.zeros(shape, dtype)
        assert CALLS[call](pool, tasks.identity, items, *size, out=out) is out
        assert portrait(out) == portrait(expected)


@EVERY_CALL
@BOTH_MEMORIES
def test_any_view_may_be_out(pool: Any, call: str, memory: str) -> None:
    table = make(pool, memory, (10, 20))
    expected = table.copy()
    for view in (
        lambda a: a[::2, 3],
        lambda a: a[5],
        lambda a: a.T[::-3],
        lambda a: a[3, ::-1][4:9],
        lambda a: a.reshape(2, 5, 20)[1],
    ):
        out = view(table)
        assert CALLS[call](pool, tasks.square, range(len(out)), out=out) is out
        part = view(expected)
        for index in range(len(part)):
            part[index] = index * index
        assert (table == expected).all()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_an_array_of_a_subclass_may_be_out(pool: Any) -> None:
    for out in np.zeros(5).view(arrays.Plain), np.zeros((5, 2)).view(np.recarray):
        assert pool.map(tasks.square, range(5), out=out) is out
        assert np.asarray(out).reshape(5, -1)[:, 0].tolist() == [0, 1, 4, 9, 16]


def test_any_iterable_may_give_the_items(pool: Any) -> None:
    out = np.zeros(4)
    for items in (x for x in (1, 2, 3, 4)), np.arange(1, 5), {1: 0, 2: 0, 3: 0, 4: 0}, (1, 2, 3, 4):
        out[:] = 0
        assert pool.map(tasks.square, items, out=out) is out
        assert out.tolist() == [1, 4, 9, 16]


def test_out_is_taken_by_name_only(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.map(tasks.square, range(3), None, np.zeros(3))
    with pytest.raises(TypeError):
        pool.starmap(tasks.square, [(1,)], None, np.zeros(1))
    assert pool.map(tasks.square, range(3), None, out=None) == [0, 1, 4]


# --- asynchronous ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["map_async", "starmap_async"])
@BOTH_MEMORIES
def test_the_callback_and_get_are_given_out(pool: Any, kind: str, memory: str) -> None:
    out = make(pool, memory, 30)
    called: list[Any] = []
    done = threading.Event()
    items = [(i,) for i in range(30)] if "star" in kind else range(30)
    result = getattr(pool, kind)(
        tasks.square, items, 3, lambda value: (called.append(value), done.set()), out=out
    )
    assert result.get(10) is out
    assert done.wait(10)
    assert called[0] is out
    assert result.successful()
    assert out.tolist() == [float(i * i) for i in range(30)]


def test_out_is_complete_when_the_result_is_ready(pool: Any, gate: Any) -> None:
    out = np.zeros(3)
    result = pool.map_async(tasks.pass_gate_if, [(None, 1), (gate.path, 2), (None, 3)], 1, out=out)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.05)
    gate.open()
    result.wait(10)
    assert out.tolist() == [1, 2, 3]
    assert result.get() is out


# --- errors ---------------------------------------------------------------------------------------


@EVERY_CALL
def test_a_wrong_out_is_an_error_of_the_call(pool: Any, traces: Any, call: str) -> None:
    """Nothing is run."""
    items = [(str(traces), i) for i in range(3)]
    start = CALLS[call] if "async" not in call else getattr(pool, call)
    for out, error in (
        ([0.0] * 3, TypeError),
        ("abc", TypeError),
        (bytearray(3), TypeError),
        (3, TypeError),
        (np.zeros(2), ValueError),
        (np.zeros(4), ValueError),
        (np.zeros((1, 3)), ValueError),
        (pool.zeros(4), ValueError),
        (np.array(1.0), (ValueError, TypeError)),
        (read_only(np.zeros(3)), ValueError),
        (read_only(pool.zeros(3)), ValueError),
    ):
        with pytest.raises(error):
            if "async" in call:  # no get(): the call itself refuses
                start(tasks.mark_item, items, out=out)
            else:
                start(pool, tasks.mark_item, items, out=out)
    assert pool.map(tasks.square, range(3), out=np.zeros(3)).tolist() == [0, 1, 4]
    assert not any(traces.iterdir())


def test_an_out_of_no_length_is_for_no_items(pool: Any) -> None:
    for out in np.zeros(0), np.zeros((0, 3)), pool.zeros(0):
        assert pool.map(tasks.square, [], out=out) is out
        assert pool.map_async(tasks.square, iter(()), out=out).get(10) is out
        with pytest.raises(ValueError):
            pool.map(tasks.square, [1], out=out)
    with pytest.raises(ValueError):
        pool.map(tasks.square, [], out=np.zeros(1))


@EVERY_CALL
@BOTH_MEMORIES
@pytest.mark.parametrize("chunksize", [(), (1,), (4,)], ids=["guided", "1", "4"])
def test_an_exception_of_the_function_comes_out(
    pool: Any, call: str, memory: str, chunksize: tuple[int, ...]
) -> None:
    out = make(pool, memory, 6)
    with pytest.raises(ValueError) as caught:
        CALLS[call](pool, tasks.raise_if_negative, [1, 2, 3, 4, -5, 6], *chunksize, out=out)
    assert caught.value.args == (-5,)
    assert isinstance(caught.value.__cause__, multiprocessing.pool.RemoteTraceback)
    assert CALLS[call](pool, tasks.raise_if_negative, range(6), *chunksize, out=out) is out
    assert out.tolist() == [0, 1, 2, 3, 4, 5]


@EVERY_CALL
@BOTH_MEMORIES
@pytest.mark.parametrize("items", [["text"], [[1, 2, 3]], [None, 1, {}], [1, 2, np.zeros(2)]])
def test_a_result_that_cannot_be_stored_is_the_error_of_assigning_it(
    pool: Any, call: str, memory: str, items: list[Any]
) -> None:
    plain = np.zeros(len(items))
    with pytest.raises((TypeError, ValueError)) as theirs:
        for index, item in enumerate(items):
            plain[index] = item
    out = make(pool, memory, len(items))
    with pytest.raises(theirs.type):
        CALLS[call](pool, tasks.identity, items, out=out)
    assert CALLS[call](pool, tasks.square, range(len(items)), out=out) is out


REFUSED: dict[str, tuple[str, list[Any], type[Exception]]] = {
    "an int beyond 64 bits": ("i8", [1, 2**63, 3], OverflowError),
    "an int beyond the dtype": ("u1", [1, 300, 3], OverflowError),
    "a negative int": ("u4", [1, -1, 3], OverflowError),
    "NaN as int": ("i4", [1.0, float("nan"), 3.0], ValueError),
    "infinity as int": ("i8", [1.0, float("inf"), 3.0], OverflowError),
    "a complex as float": ("f8", [1j, 2j, 3j], TypeError),
    "text as number": ("f8", ["1", "x", "2"], ValueError),
}


@BOTH_MEMORIES
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("chunksize", [1, 50, None])
@pytest.mark.parametrize("number", [1, 100], ids=["three", "many"])
def test_a_value_that_the_dtype_does_not_hold_is_refused_as_by_assignment(
    pool: Any, memory: str, kind: str, chunksize: int | None, number: int
) -> None:
    """However many results come together: none of them is wrapped, or made into another number."""
    dtype, items, error = REFUSED[kind]
    plain = np.zeros(3, dtype)
    with pytest.raises(error):
        for index, item in enumerate(items):
            plain[index] = item
    out = make(pool, memory, 3 * number, dtype)
    with pytest.raises(error):
        pool.map(tasks.identity, items * number, chunksize, out=out)
