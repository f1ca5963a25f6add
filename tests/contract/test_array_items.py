"""map over arrays and over columns of one type: each item, and each result, keeps its own type."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, arrays, tasks
from helpers.arrays import DTYPES, LAYOUTS, MIB, noise, portrait
from helpers.tasks import fingerprint

pytestmark = pytest.mark.start_methods("fork")  # how a worker started changes nothing of this


def received(value: Any) -> Any:
    return ForkingPickler.loads(ForkingPickler.dumps(value))


def name_of(thing: Any) -> str:
    return str(np.dtype(thing).descr if np.dtype(thing).names else np.dtype(thing).str)


CALLS: dict[str, Callable[..., list[Any]]] = {
    "map": lambda pool, func, items: pool.map(func, items),
    "map in chunks": lambda pool, func, items: pool.map(func, items, 7),
    "map in one chunk": lambda pool, func, items: pool.map(func, items, 10**6),
    "map_async": lambda pool, func, items: pool.map_async(func, items).get(),
    "imap in chunks": lambda pool, func, items: list(pool.imap(func, items, 50)),
}


@pytest.fixture
def calls(impl: Any) -> list[str]:
    """Every call on our side; on multiprocessing's two, which say what the others have to give."""
    return list(CALLS) if impl.is_fastpool else ["map", "imap in chunks"]


def expectations(items: Any) -> tuple[list[Any], list[Any]]:
    """What iterating gives, once and twice on its way to another process."""
    once = [received(item) for item in items]
    return [portrait(item) for item in once], [portrait(received(item)) for item in once]


def check(
    pool: Any, calls: list[str], items: Any, expected: tuple[list[Any], list[Any]] | None = None
) -> None:
    """The function sees what iterating gives, and so do we of what it returns."""
    once, twice = expected or expectations(items)
    for call in calls:
        seen = CALLS[call](pool, array_tasks.portrait_here, items)
        assert [there for there, _ in seen] == once, call
        assert os.getpid() not in {pid for _, pid in seen}
        back = CALLS[call](pool, tasks.identity, items)
        assert [portrait(result) for result in back] == twice, call


# --- arrays as iterables --------------------------------------------------------------------------


@functools.cache
def row_of(number: int) -> tuple[Any, tuple[list[Any], list[Any]]]:
    row = noise(DTYPES[number], (160,))
    return row, expectations(row)


@pytest.mark.parametrize("number", range(len(DTYPES)), ids=[name_of(dtype) for dtype in DTYPES])
def test_a_row_of_numbers_is_mapped_by_its_scalars(
    pool: Any, calls: list[str], number: int
) -> None:
    row, expected = row_of(number)
    check(pool, calls, row, expected)
    check(pool, calls, row[40::-3], (expected[0][40::-3], expected[1][40::-3]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_of_more_dimensions_is_mapped_by_its_rows(
    pool: Any, calls: list[str], layout: str
) -> None:
    for shape in (20, 3), (6, 4, 5), (3, 2, 2, 2), (5, 0):
        check(pool, calls, LAYOUTS[layout](noise("f4", shape)))


@pytest.mark.parametrize("layout", ["C", "F", "reversed", "a part", "read-only"])
def test_large_rows_are_mapped(pool: Any, calls: list[str], layout: str) -> None:
    check(pool, calls, LAYOUTS[layout](noise("f8", (5, 20_000))))


def test_an_array_of_objects_is_mapped_by_its_objects(pool: Any, calls: list[str]) -> None:
    things = [None, 1, 1.5, "a", (1,), {"a": 1}, np.float32(1), np.arange(3), np.zeros(20_000), [1]]
    column = np.empty(len(things), dtype=object)
    column[:] = things
    check(pool, calls, column)
    check(pool, calls, np.array([["a", 1], [None, 2.0], [3, "b"]], dtype=object))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_subclasses_are_mapped_by_what_iterating_gives(pool: Any, calls: list[str]) -> None:
    check(pool, calls, np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]))
    check(pool, calls, np.matrix("1 2; 3 4; 5 6"))
    check(pool, calls, np.arange(12).reshape(3, 4).view(arrays.Plain))
    check(pool, calls, np.ma.masked_array(np.arange(6.0).reshape(3, 2), mask=[[0, 1]] * 3))
    check(pool, calls, np.arange(20.0).view(arrays.Tagged))


@pytest.mark.parametrize("width", [3, MIB // 8])
def test_a_task_may_write_into_its_row(pool: Any, width: int) -> None:
    table = np.ones((8, width))
    assert pool.map(tasks.overwrite, table) == [7 * width] * 8
    assert (table == 1).all()
    for result in pool.map(tasks.identity, table, 3):
        assert (result == 1).all()
        result[:] = 9  # and we into what it returned
    assert (table == 1).all()


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_pairs_of_an_array_are_the_arguments_of_starmap(pool: Any, chunksize: int | None) -> None:
    pairs = np.arange(20.0).reshape(10, 2)
    expected = [a + b for a, b in pairs]
    found = pool.starmap(tasks.add, pairs, chunksize)
    assert fingerprint(found) == fingerprint(expected)


# --- columns of plain values ----------------------------------------------------------------------

COLUMNS: dict[str, list[Any]] = {
    "bools": [True, False] * 200,
    "bools and ints": [True, 1, False, 0] * 100,
    "ints, then a bool": [1] * 399 + [True],
    "bools, then None": [True] * 399 + [None],
    "floats and ints": [1.0, 1, -0.0, 0] * 100,
    "ints of any length": [2**62, 2**63, -(2**63), -(2**63) - 1, 2**64, 7**300] * 60,
    "NaNs": noise("f8", (400,)).tolist(),
    "None": [None] * 400,
    "complex": [1j, -0.0 + 0j, complex("nan")] * 100,
    "short text": [f"{i}" for i in range(400)],
    "empty text": [""] * 400,
    "text of one character": [chr(i) for i in range(400)],
    "text of all widths": ["a", "ä", "€", "😀", "", "a" * 50, "ä" * 50, "€" * 50, "😀" * 50] * 40,
    "text beyond the basic plane": ["\U0010ffff" * n for n in range(40)],
    "lone surrogates": ["\ud800", "\udfff\ud800", "a\udc80b", "plain", "\ud83d\ude00"] * 40,
    "text with zeros": ["a\0b", "\0", "\0\0", "a\0"] * 100,
    "long text": ["x" * 5000, "é" * 70_000, "\ud800" * 40_000, "", "😀" * 30_000] * 2,
    "text and its subclass": ["a", np.str_("a"), "b"] * 100,
    "text, then bytes": ["a"] * 399 + [b"a"],
    "bytes": [bytes([i % 256]) * (i % 40) for i in range(400)],
    "long bytes": [b"\xff\0" * n for n in (0, 1, 3000, 40_000, 600_000)],
    "bytes and bytearrays": [b"a", bytearray(b"a")] * 100,
    "lists of text": [["a", "ä€"], [], ["\ud800"] * 3, ["x" * 300]] * 50,
    "lists of bools": [[True, False], [1, 0], [True, 1]] * 50,
    "lists of lists": [[[i], [i, [i]]] for i in range(200)],
    "pairs": [(i, float(i)) for i in range(300)],
    "pairs of text": [(f"{i}", b"%d" % i) for i in range(300)],
    "dicts": [{"id": i, "name": f"n{i}", "ok": i % 2 == 0, "x": None} for i in range(200)],
    "dicts of lists": [{"xs": list(range(i)), "b": {i: [True]}} for i in range(60)],
    "NumPy scalars": [np.float32(1), np.float64(1), np.int64(1), np.bool_(True)] * 50,
    "NumPy floats and floats": [np.float64(1.5), 1.5] * 100,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_keeps_the_type_of_every_item(pool: Any, calls: list[str], column: str) -> None:
    items = COLUMNS[column]
    expected = [fingerprint(item) for item in items]
    for call in calls:
        seen = CALLS[call](pool, tasks.fingerprint_here, items)
        assert [there for there, _ in seen] == expected, call
        back = CALLS[call](pool, tasks.identity, items)
        assert [fingerprint(item) for item in back] == expected, call


TEXTS = [name for name in COLUMNS if "text" in name or "surrogates" in name]


@pytest.mark.parametrize("column", TEXTS)
def test_text_is_as_if_it_had_been_made_where_it_arrives(
    pool: Any, calls: list[str], column: str
) -> None:
    """Else it would not be found in a dict, or be compared to be different from its equal."""
    items = [item for item in COLUMNS[column] if type(item) is str]
    items += [text for item in COLUMNS[column] if type(item) is list for text in item]
    items = items or [item[0] for item in COLUMNS[column]]
    for call in calls:
        assert all(CALLS[call](pool, array_tasks.is_sound, items)), call
        assert all(map(array_tasks.is_sound, CALLS[call](pool, tasks.identity, items))), call


# --- large results --------------------------------------------------------------------------------

LARGE: dict[str, Callable[[int], Any]] = {
    "ints": lambda n: list(range(-5, 2000 * n)),
    "floats": lambda n: noise("f8", (2000 * n,)).tolist(),
    "bools": lambda n: [True, False, False] * 700 * n,
    "mixed": lambda n: [1, 1.0, True, None, "a", b"a", 2**70] * 200 * n,
    "a tuple": lambda n: tuple(range(1000 * n)),
    "bytes": lambda n: noise("u1", (n * MIB // 10 + 3,)).tobytes(),
    "a bytearray": lambda n: bytearray(noise("u1", (n * MIB // 10 + 3,)).tobytes()),
    "ASCII": lambda n: "abc" * (n * MIB // 30),
    "Latin-1": lambda n: "äbc" * (n * MIB // 30),
    "text of two bytes": lambda n: "€bc" * (n * MIB // 60),
    "text of four bytes": lambda n: "😀bc" * (n * MIB // 100),
    "lone surrogates": lambda n: "\udc80bc" * (n * MIB // 300),
    "a list of text": lambda n: [f"item {i} ä" for i in range(1000 * n)],
    "a list of bytes": lambda n: [b"%d" % i for i in range(1000 * n)],
    "lists": lambda n: [[i, [float(i)], (str(i),)] for i in range(150 * n)],
    "a dict": lambda n: {i: str(i) for i in range(700 * n)},
    "a dict by names": lambda n: {f"key {i}": [i, None] for i in range(400 * n)},
    "a set": lambda n: set(range(1000 * n)),
    "an int": lambda n: 3 ** (20_000 * n),
    "nested": lambda n: {
        "a": [b"x" * (n * MIB // 50), {"b": ("y" * MIB, bytearray(MIB), np.zeros(MIB // 8))}]
    },
}


@pytest.mark.reference_is_slow
@pytest.mark.parametrize("scale", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", LARGE)
def test_a_large_value_comes_back_whole(pool: Any, kind: str, scale: int) -> None:
    value = LARGE[kind](scale)
    if kind == "nested":
        assert portrait(pool.apply(tasks.identity, (value,))) == portrait(value)
        return
    results = [
        pool.apply(tasks.identity, (value,)),
        *pool.map(tasks.identity, [value, value], 1),
        next(pool.imap(tasks.identity, [value])),
        pool.apply_async(tasks.append_and_return, ([], value)).get()[0],
    ]
    for result in results:
        assert type(result) is type(value)
        assert result == value or kind == "floats"
    expected = fingerprint(value)
    for result in results[:2]:
        assert fingerprint(result) == expected
