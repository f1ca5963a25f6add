"""Arrays arrive as multiprocessing delivers them: class, dtype, shape, order, flags and every bit.

`arrays.portrait` is taken in the worker and here, and compared with that of what the standard
library's pickler makes of the value: on its way a read-only array may become writable, a part of
an array a whole one, a foreign byte order our own.
"""

from __future__ import annotations

import array
import functools
import os
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, tasks
from helpers.arrays import (
    DTYPES,
    EXAMPLES,
    KIB,
    LAYOUTS,
    MIB,
    Buffer,
    Holder,
    Measurement,
    Plain,
    Tagged,
    noise,
    portrait,
    read_only,
)

# What an array becomes doesn't depend on how its worker was started: the other start methods have
# their turn at the end, with some of all kinds of values.
pytestmark = pytest.mark.start_methods("fork")


def received(value: Any) -> Any:
    """What multiprocessing makes of a value on its way to another process."""
    return ForkingPickler.loads(ForkingPickler.dumps(value))


# --- all the ways ---------------------------------------------------------------------------------

here = array_tasks.portrait_here
ARGUMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "apply": lambda pool, value: pool.apply(here, (value,)),
    "a keyword": lambda pool, value: pool.apply(here, (), {"value": value}),
    "apply_async": lambda pool, value: pool.apply_async(here, (value,)).get(),
    "map": lambda pool, value: pool.map(here, [value])[0],
    "map in a chunk": lambda pool, value: pool.map(here, [1, value, "a"], 3)[1],
    "starmap": lambda pool, value: pool.starmap(array_tasks.portrait_of_first, [(value, 1)])[0],
    "imap": lambda pool, value: next(pool.imap(here, iter([value]))),
    "imap in a chunk": lambda pool, value: next(iter(pool.imap(here, [value, 1], 2))),
    "a partial": lambda pool, value: pool.apply(functools.partial(here, value)),
    "a partial's keyword": lambda pool, value: pool.apply(functools.partial(here, value=value)),
    "a partial in map": lambda pool, value: pool.map(
        functools.partial(array_tasks.portrait_of_first, value), range(3)
    )[2],
    "a method's object": lambda pool, value: pool.apply(Holder(value).portrait),
    "a method's object in map": lambda pool, value: pool.map(Holder(value).portrait, range(3))[2],
    "a callable object": lambda pool, value: pool.apply(Holder(value)),
    "a callable object in imap": lambda pool, value: next(pool.imap(Holder(value), [1])),
}
RESULTS: dict[str, Callable[[Any, Any], Any]] = {
    "apply": lambda pool, value: pool.apply(tasks.identity, (value,)),
    "apply_async": lambda pool, value: pool.apply_async(tasks.identity, (value,)).get(),
    "map": lambda pool, value: pool.map(tasks.identity, [value])[0],
    "map in a chunk": lambda pool, value: pool.map(tasks.identity, [1, value, "a"], 3)[1],
    "starmap": lambda pool, value: pool.starmap(tasks.identity, [(value,)])[0],
    "imap": lambda pool, value: next(pool.imap(tasks.identity, [value])),
    "imap_unordered in a chunk": lambda pool, value: next(
        iter(pool.imap_unordered(tasks.identity, [value, 1], 2))
    ),
    "a method": lambda pool, value: pool.apply(Holder(value).identity),
}


def check_both_ways(pool: Any, value: Any, argument: str = "apply", result: str = "apply") -> None:
    expected = received(value)
    seen, pid = ARGUMENTS[argument](pool, value)
    assert pid != os.getpid()
    assert seen == portrait(expected)
    assert portrait(RESULTS[result](pool, value)) == portrait(received(expected))


SIZES = {
    "tens of bytes": 9,
    "kilobytes": 500,
    "64 KiB": 8 * KIB,
    "1 MiB and one item": MIB // 8 + 1,
}


@pytest.mark.parametrize("way", ARGUMENTS)
def test_an_array_goes_to_a_worker_unchanged_in_every_way(pool: Any, way: str) -> None:
    for count in SIZES.values():
        value = noise("f8", (count,))
        seen, pid = ARGUMENTS[way](pool, value)
        assert pid != os.getpid()
        assert seen == portrait(value)


@pytest.mark.parametrize("way", RESULTS)
def test_an_array_comes_back_unchanged_in_every_way(pool: Any, way: str) -> None:
    for count in SIZES.values():
        value = noise("f8", (count,))
        assert portrait(RESULTS[way](pool, value)) == portrait(value)


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.start_methods("fork")
def test_an_array_goes_to_the_initializer_unchanged(pool_factory: Any, start: str) -> None:
    values = [noise("f8", (count,)) for count in SIZES.values()]
    pool = pool_factory(1, array_tasks.keep_array, ("all", values), start_method=start)
    assert pool.apply(array_tasks.kept_portrait, ("all",)) == portrait(values)


# --- dtypes, shapes, layouts, classes -------------------------------------------------------------

SHAPES = [(), (0,), (1,), (7,), (3, 4), (0, 3), (2, 3, 4), (2, 1, 3, 2)]


def big_shape(dtype: Any) -> tuple[int, ...]:
    """One of somewhat more than 64 KiB."""
    return 3, 8, 2800 // np.dtype(dtype).itemsize + 1


def name_of(thing: Any) -> str:
    return str(np.dtype(thing).descr if np.dtype(thing).names else np.dtype(thing).str)


def in_all_shapes(dtype: Any) -> list[Any]:
    """In every layout; the big ones, which have a block of their own, in one shape."""
    arrays = [noise(dtype, shape) for shape in [*SHAPES, big_shape(dtype)]]
    return [arrange(value) for arrange in LAYOUTS.values() for value in arrays]


@functools.cache
def expected_of_dtype(number: int) -> tuple[list[Any], list[Any]]:
    once = [received(value) for value in in_all_shapes(DTYPES[number])]
    return [portrait(value) for value in once], [portrait(received(value)) for value in once]


@pytest.mark.parametrize("number", range(len(DTYPES)), ids=[name_of(dtype) for dtype in DTYPES])
def test_every_dtype_travels_in_every_shape_and_layout(pool: Any, number: int) -> None:
    values = in_all_shapes(DTYPES[number])
    once, twice = expected_of_dtype(number)
    assert [there for there, _ in pool.map(array_tasks.portrait_here, values, 1)] == once
    assert [portrait(result) for result in pool.map(tasks.identity, values, 1)] == twice


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_travels(pool: Any, impl: Any, layout: str) -> None:
    ways = ["apply", "a keyword", "map", "a method's object in map"]
    for shape in (3, 4), (60, 70), (100, 120), (340, 400):
        for way in ways if impl.is_fastpool else ways[:1]:
            check_both_ways(pool, LAYOUTS[layout](noise("f8", shape)), way)


AROUND = {
    f"{name}{'+' if more >= 0 else ''}{more}": (size, more)
    for name, size in {
        "4 KiB": 4 * KIB,
        "32 KiB": 32 * KIB,
        "64 KiB": 64 * KIB,
        "1 MiB": MIB,
    }.items()
    for more in (-1, 0, 1)
}
AROUND["128 KiB"] = (128 * KIB, 0)
AROUND["4 MiB"] = (4 * MIB, 0)


@pytest.mark.parametrize(("size", "more"), AROUND.values(), ids=AROUND)
def test_every_size_travels(pool: Any, size: int, more: int) -> None:
    for dtype in "u1", "f8":
        value = noise(dtype, (size // np.dtype(dtype).itemsize + more,))
        check_both_ways(pool, value)
        check_both_ways(pool, [value, value[1:]], "map", "map")
        check_both_ways(pool, read_only(value), "a keyword", "imap")


@pytest.mark.parametrize("make", [bytes, bytearray, functools.partial(array.array, "b")], ids=repr)
@pytest.mark.parametrize(("size", "more"), AROUND.values(), ids=AROUND)
def test_bytes_of_every_size_travel(pool: Any, make: Any, size: int, more: int) -> None:
    value = make(noise("u1", (size + more,)).tobytes())
    check_both_ways(pool, value)
    check_both_ways(pool, [value, value, make(value)], "map", "map in a chunk")


def memory_map() -> Any:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(range(240)) * 500)
        file.flush()
        return np.memmap(file.name, dtype="f4", mode="r+", shape=(300, 100))


def tagged(tag: Any, count: int) -> Any:
    value = np.arange(count, dtype="f8").view(Tagged)
    value.tag = tag
    return value


def object_array(count: int) -> Any:
    value = np.empty(count, dtype=object)
    value[:] = [[None, 1, "a", (2.0,), np.arange(3)][i % 5] for i in range(count)]
    return value


def masked(count: int) -> Any:
    value = np.ma.masked_array(np.arange(count), mask=np.arange(count) % 3 == 0, fill_value=-7)
    value.harden_mask()
    return value


CLASSES: dict[str, Callable[[], Any]] = {
    "objects": lambda: object_array(10),
    "many objects": lambda: object_array(9000).reshape(90, 100).T,
    "objects in records": lambda: np.array([(1, [2]), (3, None)], [("a", "i4"), ("b", object)]),
    "one object": lambda: np.array({"a": 1}, dtype=object),
    "masked": lambda: masked(10),
    "masked, large": lambda: masked(200_000),
    "masked, nowhere": lambda: np.ma.masked_array(np.arange(5.0)),
    "a masked constant": lambda: np.ma.masked,
    "masked records": lambda: np.ma.array(
        [(1, 2.0)], mask=[(True, False)], dtype=[("a", "i4"), ("b", "f8")]
    ),
    "recarray": lambda: np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "recarray, large": lambda: np.zeros(50_000, [("a", "i4"), ("b", "f8")]).view(np.recarray),
    "record": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0],
    "matrix": lambda: np.matrix("1 2; 3 4"),
    "matrix, large": lambda: np.ones((300, 300)).view(np.matrix).T,
    "memmap": memory_map,
    "part of a memmap": lambda: memory_map()[10:20],
    "subclass": lambda: np.arange(6).reshape(2, 3).view(Plain),
    "subclass, large": lambda: np.arange(90_000.0).reshape(300, 300).T.view(Plain),
    "subclass with attribute": lambda: tagged({"unit": "m"}, 5),
    "subclass with an array for attribute": lambda: tagged(np.arange(30_000), 30_000),
    "chararray": lambda: np.array(["a", "bc"]).view(np.char.chararray),
    "strings of any length": lambda: np.array(
        ["", "ä" * 100, "x" * 70_000], np.dtypes.StringDType()
    ),
    "many strings": lambda: np.array(["text"] * 5000, np.dtypes.StringDType()),
    "dtype": lambda: np.dtype([("a", ">i4"), ("b", "M8[s]")]),
    "ufunc": lambda: np.sin,
    "generator": lambda: np.random.default_rng(5).bit_generator.state,
    "depends on the protocol": lambda: Buffer(b"abc"),
    "depends on the protocol, large": lambda: [Buffer(b"abc" * 100_000)] * 2,
    "an int of many digits": lambda: 7**60_000,
    "ints": lambda: [2**63, -(2**63) - 1, 2**64, -1, 10**30] * 2000,
    "text": lambda: ["a" * 70_000, "ä" * 70_000, "€" * 40_000, "😀" * 20_000, "\ud800" * 30_000],
    "floats": lambda: noise("f8", (10_000,)).tolist(),
    "a typed array": lambda: array.array("d", noise("f8", (20_000,)).tolist()),
    "a typed array of text": lambda: array.array("u", "ä€" * 30_000),
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning")
def test_every_kind_of_value_travels(pool: Any, impl: Any, kind: str) -> None:
    if "strings" in kind and not hasattr(np, "strings"):
        pytest.skip("NumPy has no such strings yet")
    value = CLASSES[kind]()
    check_both_ways(pool, value)
    if impl.is_fastpool:
        check_both_ways(pool, value, "map in a chunk", "map in a chunk")
        check_both_ways(pool, value, "a partial in map")


def test_a_memory_mapped_file_is_not_changed_by_a_task(pool: Any, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(400_000))
    value = np.memmap(path, dtype="u1", mode="r+")
    assert pool.apply(tasks.overwrite, (value,)) == 7 * 400_000
    assert not value.any()
    assert not any(path.read_bytes())


# --- scalars --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_every_scalar_keeps_its_type(pool: Any, value: Any) -> None:
    check_both_ways(pool, value)
    check_both_ways(pool, [value, (value, value), {"k": value}], "map", "map")


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_results_of_one_chunk_keep_each_its_own_type(pool: Any, chunksize: int | None) -> None:
    order = [*range(len(EXAMPLES)), *reversed(range(len(EXAMPLES)))]
    found = pool.map(array_tasks.example, order, chunksize)
    for index, value in zip(order, found, strict=True):
        assert portrait(value) == portrait(received(EXAMPLES[index]))


# --- structures and what they share ---------------------------------------------------------------


def small_and_large() -> dict[str, Any]:
    return {
        "a small array": np.arange(5),
        "a large array": np.arange(50_000.0),
        "a large array in Fortran order": np.asfortranarray(np.ones((300, 300))),
        "a large read-only array": read_only(np.arange(50_000)),
        "large bytes": b"abc" * 100_000,
        "a large bytearray": bytearray(300_000),
        "an array of arrays": object_array(10),
    }


STRUCTURES: dict[str, Callable[[Any], Any]] = {
    "a list": lambda a: [a, 1, a],
    "a tuple": lambda a: (a, a),
    "a dict": lambda a: {"one": a, "two": [a], 3: {"four": (a,)}},
    "a dataclass": lambda a: Measurement("name", a, [a]),
    "a list of dataclasses": lambda a: [Measurement("x", a), Measurement("y", a, {"z": a})],
    "objects of an array": lambda a: np.array([None, {"in": a}, [a]], dtype=object),
    "attribute of an array": lambda a: _with_tag(a),
    "beside scalars": lambda a: [np.float32(1), a, {np.int64(3), True}, frozenset({2**70}), a],
}


def _with_tag(value: Any) -> Any:
    outer = np.arange(3).view(Tagged)
    outer.tag = [value, value]
    return outer


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_is_one_object_within_a_value_stays_one(pool: Any, impl: Any, structure: str) -> None:
    ways = [("apply", "apply"), ("map in a chunk", "map"), ("a partial", "imap")]
    for what in small_and_large().values():
        value = STRUCTURES[structure](what)
        for argument, result in ways if impl.is_fastpool else ways[:1]:
            check_both_ways(pool, value, argument, result)


@pytest.mark.parametrize("what", small_and_large())
def test_what_is_one_object_among_the_arguments_stays_one(pool: Any, what: str) -> None:
    a = small_and_large()[what]
    args, kwargs = (a, [a], 1), {"x": a, "y": (a,)}
    expected = portrait(received((args, kwargs)))
    assert pool.apply(array_tasks.portrait_of_all, args, kwargs) == expected
    assert pool.starmap(array_tasks.portrait_of_all, [args])[0] == portrait(received((args, {})))


@pytest.mark.parametrize("what", small_and_large())
def test_what_is_one_object_within_a_chunk_stays_one(pool: Any, what: str) -> None:
    a = small_and_large()[what]
    found = pool.map(tasks.identity, [a, [a], a, a], 2)
    assert found[0] is found[1][0]
    assert found[2] is found[3]
    assert found[0] is not found[2], "these were two tasks"


@pytest.mark.parametrize("count", SIZES.values(), ids=SIZES)
def test_views_of_one_array_arrive_as_arrays_of_their_own(pool: Any, count: int) -> None:
    value = np.ones(count)
    for other in value[:], value[1:], value[::-1], value.reshape(1, -1):
        same, left = pool.apply(array_tasks.write_first_and_look_at_second, (value, other))
        assert (same, left) == (False, other.sum())
    same, left = pool.apply(array_tasks.write_first_and_look_at_second, (value, value))
    assert (same, left) == (True, 0)


# --- the other start methods ----------------------------------------------------------------------


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.fastpool_only
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("which", ["ways", "dtypes", "layouts", "kinds", "structures"])
def test_a_worker_gets_the_same_however_it_was_started(pool: Any, which: str) -> None:
    values: list[Any]
    if which == "ways":
        for count in SIZES.values():
            value = noise("f8", (count,))
            for argument in ARGUMENTS:
                check_both_ways(pool, value, argument)
            for result in RESULTS:
                check_both_ways(pool, value, "apply", result)
        return
    if which == "dtypes":
        values = [noise(dtype, shape) for dtype in DTYPES for shape in [(), (7,), big_shape(dtype)]]
    elif which == "layouts":
        shapes = (3, 4), (100, 120), (340, 400)
        values = [arrange(noise("f4", shape)) for arrange in LAYOUTS.values() for shape in shapes]
    elif which == "kinds":
        new = hasattr(np, "strings")
        values = [make() for kind, make in CLASSES.items() if new or "strings" not in kind]
        values += EXAMPLES
    else:
        values = [make(a) for make in STRUCTURES.values() for a in small_and_large().values()]
    once = [received(value) for value in values]
    seen = [there for there, _ in pool.map(array_tasks.portrait_here, values, 1)]
    assert seen == [portrait(value) for value in once]
    back = [portrait(value) for value in pool.map(tasks.identity, values, 1)]
    assert back == [portrait(received(value)) for value in once]
