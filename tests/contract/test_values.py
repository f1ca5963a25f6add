"""Values arrive as multiprocessing delivers them, type for type and bit for bit.

`tasks.fingerprint` tells apart all that == does not: True and 1, 0.0 and -0.0, subclasses,
dtypes. It is taken here and in the worker, and compared between the implementations.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import functools
import math
import os
import pathlib
import re
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import tasks
from helpers.impls import Implementation
from helpers.tasks import fingerprint
from helpers.values import (
    Bytes,
    Colour,
    Dict,
    Flag,
    Float,
    Int,
    List,
    Number,
    Point,
    Record,
    Str,
    Tuple,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

# What a value becomes doesn't depend on how its worker was started; one that inherits the parent's
# modules and one that doesn't are enough.
pytestmark = pytest.mark.start_methods("fork", "spawn")
needs_numpy = pytest.mark.skipif(np is None, reason="NumPy isn't installed")

# --- what is sent -------------------------------------------------------------------------------


def with_attribute(value: Any) -> Any:
    value.note = "kept"
    return value


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    -(2**31) - 1,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**64,
    10**100,
    -(7**5000),
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    sys.float_info.max,
    complex(0.0, -0.0),
    complex(math.nan, 1),
    "",
    "a",
    "a\0b",
    "ä€😀",
    "\ud800 lone surrogate",
    "x" * 31,
    "x" * 200,
    "€" * 100_000,
    b"",
    b"\0\xff",
    b"x" * 31,
    b"x" * 200,
    b"x" * 3_000_000,
    bytearray(b""),
    bytearray(b"abc"),
    (),
    (1,),
    (1, 2.0, "three", None, True),
    ((((),),),),
    tuple(range(100)),
    [],
    [1, [2, [3, [4]]]],
    list(range(300)),
    [1, True, 1.0],
    {},
    {"b": 1, "a": 2, 3: None},
    {(1, 2): {"x": [1]}},
    set(),
    {1, "a", (2,)},
    frozenset({1, 2}),
    range(5),
    range(10, 0, -3),
    range(0, 10**30, 10**29),
    slice(1, None, 2),
    Ellipsis,
    NotImplemented,
    int,
    Int,
    len,
    tasks.square,
    ValueError("x"),
    Int(5),
    with_attribute(Int(5)),
    Float(-0.0),
    Str("text"),
    with_attribute(Str("text")),
    Bytes(b"bytes"),
    List([1, 2]),
    Tuple((1, 2)),
    Dict(a=1),
    with_attribute(Dict(a=1)),
    Colour.RED,
    Number.ONE,
    Flag.A | Flag.B,
    Point(1, -0.0),
    Record("name", [1, 2]),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.defaultdict(list, {"k": [1]}),
    collections.deque([1, 2], maxlen=3),
    collections.Counter("abca"),
    decimal.Decimal("1.10"),
    decimal.Decimal("sNaN"),
    fractions.Fraction(1, 3),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc),
    datetime.timedelta(days=-1),
    pathlib.PurePosixPath("/a/b"),
    uuid.UUID(int=5),
    array.array("d", [1.0, -0.0]),
    array.array("b", []),
    functools.partial(tasks.add, 1, b=2),
]


def name_of(value: Any) -> str:
    """The same in every run: neither the order of a set nor an address is."""
    if isinstance(value, (set, frozenset)):
        text = f"{{{', '.join(sorted(map(repr, value)))}}}"
    elif isinstance(value, functools.partial):
        text = "partial"
    else:
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    text = text if len(text) < 30 else text[:25] + ".."
    return f"{type(value).__name__} {text}".encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize("value", VALUES, ids=name_of)
def test_a_value_travels_unchanged(pool: Any, value: Any) -> None:
    expected = fingerprint(value)
    seen_there, pid = pool.apply(tasks.fingerprint_here, (value,))
    assert pid != os.getpid()
    assert seen_there == expected
    assert fingerprint(pool.apply(tasks.identity, (value,))) == expected
    assert fingerprint(pool.map(tasks.identity, [value, value])) == fingerprint([value, value])
    assert fingerprint(list(pool.imap(tasks.identity, [value]))) == fingerprint([value])


def test_values_travel_in_one_map(pool: Any) -> None:
    for chunksize in (None, 1, 5, 1000):
        found = pool.map(tasks.identity, VALUES, chunksize)
        for value, result in zip(VALUES, found, strict=True):
            assert fingerprint(result) == fingerprint(value)


def test_values_travel_as_positional_and_keyword_arguments(pool: Any) -> None:
    keywords = {f"k{i}": value for i, value in enumerate(VALUES)}
    seen = pool.apply(tasks.fingerprint_args, VALUES, keywords)
    assert seen == (fingerprint(tuple(VALUES)), fingerprint(keywords))


SINGLETONS = [None, True, False, Ellipsis, NotImplemented, int, Colour.RED, len, tasks.square, ()]


@pytest.mark.parametrize("value", SINGLETONS, ids=name_of)
def test_what_exists_once_stays_that_object(pool: Any, value: Any) -> None:
    assert pool.apply(tasks.identity, (value,)) is value
    assert pool.map(tasks.identity, [value])[0] is value


def test_sharing_within_a_value_is_kept(pool: Any) -> None:
    inner = [1]
    found = pool.apply(tasks.identity, ([inner, inner],))
    assert found[0] is found[1]


def test_a_value_may_contain_itself(pool: Any) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    found = pool.apply(tasks.identity, (loop,))
    assert found[0] == 1
    assert found[1] is found
    found = pool.map(tasks.identity, [loop])[0]
    assert found[1] is found


@pytest.mark.parametrize(
    "items",
    [
        [True, False, True],
        [1, 2, True],
        [1.0, 2, 3.0],
        [0.0, -0.0, math.nan],
        [1, 2**63, 3],
        [2**63 - 1, -(2**63)],
        [1, 2, None],
        [1, 2, "3"],
        [Int(1), 2],
        [1, Number.ONE],
        [1.0, Float(2.0)],
        ["a", Str("b")],
        ["a", b"a"],
        [b"a", bytearray(b"a")],
        [1] * 1000,
        [1.5] * 1000,
        [1] * 999 + [2**70],
        [1.5] * 999 + [1],
        [0] * 500 + [False] * 500,
        [(1, 2), [1, 2], Point(1, 2)],
    ],
    ids=name_of,
)
@pytest.mark.parametrize("chunksize", [None, 1, 2, 2000])
def test_nearly_uniform_items_keep_each_its_own_type(
    pool: Any, items: list[Any], chunksize: int | None
) -> None:
    seen = pool.map(tasks.fingerprint_here, items, chunksize)
    assert [found for found, _ in seen] == [fingerprint(item) for item in items]
    assert fingerprint(pool.map(tasks.identity, items, chunksize)) == fingerprint(items)


@pytest.mark.parametrize(
    "items",
    [
        range(7),
        range(5, -20, -4),
        range(2**63 - 3, 2**63 + 3),
        range(10**30, 10**30 + 3),
        b"\0\x7f\xff",
        bytearray(b"\0\xff"),
        array.array("i", [-1, 5]),
        array.array("d", [-0.0, 5]),
        array.array("f", [0.1]),
        memoryview(array.array("h", [-3, 4])),
        "aä\ud800",
        collections.deque([1, "a"]),
    ],
    ids=name_of,
)
def test_items_of_a_sequence_are_what_iterating_it_gives(pool: Any, items: Any) -> None:
    expected = [fingerprint(item) for item in items]
    for chunksize in (None, 1, 3):
        seen = pool.map(tasks.fingerprint_here, items, chunksize)
        assert [found for found, _ in seen] == expected
        seen = list(pool.imap(tasks.fingerprint_here, items, chunksize or 1))
        assert [found for found, _ in seen] == expected


# --- NumPy --------------------------------------------------------------------------------------


def arrays() -> list[Any]:
    if np is None:
        return []
    read_only = np.arange(5)
    read_only.flags.writeable = False
    return [
        np.arange(10),
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24).reshape(2, 3, 4)[:, ::2, 1:],
        np.arange(10)[::-1],
        np.zeros((0, 3)),
        np.array(5),
        np.array([], dtype="f4"),
        np.array([True, False]),
        np.array([1, 2], dtype=">i4"),
        np.array(["a", "bcd"]),
        np.array([b"a", b"bcd"]),
        np.array([1, "a", None], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2026-01-01"], dtype="M8[D]"),
        np.array([1 + 2j]),
        np.array([np.nan, -0.0, np.inf], dtype="f2"),
        read_only,
        np.arange(100_000.0),
        np.broadcast_to(np.arange(3), (1000, 3)),
        [np.arange(3), np.arange(3.0)],
        {"a": np.ones((100, 100))},
    ]


def scalars() -> list[Any]:
    if np is None:
        return []
    return [
        np.int64(5),
        np.int8(-1),
        np.uint64(2**64 - 1),
        np.float64(-0.0),
        np.float32(0.1),
        np.float16(1.5),
        np.complex128(1 - 2j),
        np.bool_(True),
        np.str_("text"),
        np.bytes_(b"bytes"),
        np.datetime64("2026-01-01"),
        np.timedelta64(5, "s"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0],
    ]


def array_name(value: Any) -> str:
    if np is not None and isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".replace(" ", "")
    return type(value).__name__


def reference(value: Any) -> Any:
    """What multiprocessing makes of a value on its way: for instance, it may lose a flag."""
    from multiprocessing.reduction import ForkingPickler

    return ForkingPickler.loads(ForkingPickler.dumps(value))


@needs_numpy
@pytest.mark.parametrize("value", [*arrays(), *scalars()], ids=array_name)
def test_arrays_and_scalars_travel_unchanged(pool: Any, value: Any) -> None:
    expected = fingerprint(reference(value))
    seen_there, _ = pool.apply(tasks.fingerprint_here, (value,))
    assert seen_there == expected
    result = pool.apply(tasks.identity, (value,))
    assert fingerprint(result) == fingerprint(reference(reference(value)))
    assert fingerprint(pool.map(tasks.identity, [value, value], 2)[1]) == expected
    assert fingerprint(next(pool.imap(tasks.identity, [value]))) == expected


def map_sources() -> list[Any]:
    if np is None:
        return []
    return [
        np.arange(20),
        np.arange(20, dtype="i2"),
        np.arange(20.0),
        np.linspace(0, 1, 7, dtype="f4"),
        np.array([True, False, True]),
        np.array(["a", "bc"]),
        np.array([1, "a", None], dtype=object),
        np.arange(12.0).reshape(4, 3),
        np.arange(12.0).reshape(4, 3).T,
        np.arange(40)[::3],
        np.arange(24).reshape(4, 3, 2),
        np.array(["2026-01-01", "NaT"], dtype="M8[D]"),
        np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.zeros((0, 5)),
    ]


@needs_numpy
@pytest.mark.parametrize("source", map_sources(), ids=array_name)
@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_items_of_an_array_are_what_iterating_it_gives(
    pool: Any, source: Any, chunksize: int | None
) -> None:
    expected = [fingerprint(reference(item)) for item in source]
    seen = pool.map(tasks.fingerprint_here, source, chunksize)
    assert [found for found, _ in seen] == expected
    assert [fingerprint(item) for item in pool.map(tasks.identity, source, chunksize)] == [
        fingerprint(reference(item)) for item in map(reference, source)
    ]


@needs_numpy
@pytest.mark.parametrize("count", [3, 1000, 1_000_000])
def test_a_task_may_write_into_its_argument(pool: Any, count: int) -> None:
    mine = np.arange(count)
    assert pool.apply(tasks.overwrite, (mine,)) == 7 * count
    assert pool.map(tasks.overwrite, [mine, mine]) == [7 * count] * 2
    assert (mine == np.arange(count)).all()


@needs_numpy
@pytest.mark.parametrize("count", [3, 1000, 1_000_000])
def test_the_parent_may_write_into_a_result(pool: Any, count: int) -> None:
    first = pool.apply(tasks.identity, (np.arange(count),))
    second = pool.apply(tasks.identity, (np.arange(count),))
    first[:] = 1
    assert (second == np.arange(count)).all()
    assert first.sum() == count


@needs_numpy
def test_results_stay_valid_while_the_pool_works_on(pool: Any) -> None:
    kept = [pool.apply(tasks.identity, (np.full(50_000, i),)) for i in range(30)]
    for _ in range(30):
        pool.apply(tasks.identity, (np.full(50_000, -1),))
    pool.map(tasks.identity, [np.full(50_000, -2)] * 10)
    assert [set(result.tolist()) for result in kept] == [{i} for i in range(30)]


@needs_numpy
def test_results_stay_valid_after_the_pool_is_gone(pool_factory: Any) -> None:
    pool = pool_factory(2)
    kept = [pool.apply(tasks.identity, (np.full(count, count),)) for count in (5, 500_000)]
    pool.terminate()
    pool.join()
    del pool
    for result in kept:
        assert (result == len(result)).all()
        result[0] = 1


@needs_numpy
def test_an_argument_may_be_kept_by_the_worker(pool_factory: Any) -> None:
    pool = pool_factory(1)
    counts = [10, 1000, 300_000]
    for count in counts:
        pool.apply(tasks.keep, (str(count), np.full(count, 3)))
    for _ in range(20):
        pool.apply(tasks.identity, (np.full(300_000, 9),))
    for count in counts:
        assert pool.apply(tasks.kept_sum, (str(count),)) == 3 * count


# --- any value: both implementations compared ---------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from([0, -1, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cs", "Lu"]), max_size=8),
    st.binary(max_size=60),
    st.binary(max_size=60).map(bytearray),
    st.sampled_from([Colour.RED, Number.ONE, Flag.A, Ellipsis, int, len]),
    st.integers().map(Int),
    st.text(max_size=5).map(Str),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5)),
    st.decimals(allow_nan=True),
    st.fractions(),
    st.datetimes(),
)
hashable = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.binary())
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.lists(inner, max_size=4).map(List),
        st.lists(inner, max_size=4).map(Tuple),
        st.dictionaries(hashable, inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=3).map(Dict),
        st.frozensets(hashable, max_size=4),
        st.builds(Point, inner, inner),
    ),
    max_leaves=12,
)
uniform = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.integers()),
    st.lists(st.floats()),
    st.lists(st.booleans()),
    st.lists(st.one_of(st.integers(), st.booleans())),
    st.lists(st.one_of(st.integers(), st.floats())),
    st.lists(st.text(max_size=20)),
    st.lists(st.binary(max_size=20)),
    st.lists(st.tuples(st.integers(), st.floats())),
)
chunksizes = st.sampled_from([None, 1, 2, 3, 50])

quick = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def pools(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """The standard library's pool, and fastpool's unless only the former is being tested."""
    names = ["multiprocessing"]
    if request.config.getoption("--impl") != "multiprocessing":
        names.append("fastpool")
    made = [Implementation(name).make(2, start_method="fork") for name in names]
    yield made
    for pool in made:
        pool.terminate()
        pool.join()


def agreed(pools: list[Any], ask: Any) -> Any:
    """The answer that all the pools give."""
    answers = [ask(pool) for pool in pools]
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


@quick
@given(args=st.lists(values, max_size=4), kwargs=st.dictionaries(st.text(max_size=5), values))
@example(args=[True, 1, 1.0, -0.0], kwargs={"": None})
def test_both_pools_deliver_the_same_arguments(
    pools: list[Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    seen = agreed(pools, lambda pool: pool.apply(tasks.fingerprint_args, args, kwargs))
    assert seen == (fingerprint(tuple(args)), fingerprint(kwargs))


@quick
@given(value=values)
def test_both_pools_return_the_same_result(pools: list[Any], value: Any) -> None:
    found = agreed(pools, lambda pool: fingerprint(pool.apply(tasks.identity, (value,))))
    assert found == fingerprint(value)


@quick
@given(items=st.one_of(uniform, st.lists(values, max_size=12)), chunksize=chunksizes)
def test_both_pools_map_the_same_items(
    pools: list[Any], items: list[Any], chunksize: int | None
) -> None:
    found = agreed(pools, lambda pool: fingerprint(pool.map(tasks.identity, items, chunksize)))
    assert found == fingerprint(items)
    seen = agreed(
        pools,
        lambda pool: [f for f, _ in pool.map(tasks.fingerprint_here, items, chunksize)],
    )
    assert seen == [fingerprint(item) for item in items]


@quick
@given(items=st.lists(st.lists(values, max_size=3), max_size=8), chunksize=chunksizes)
def test_both_pools_starmap_the_same_items(
    pools: list[Any], items: list[Any], chunksize: int | None
) -> None:
    seen = agreed(pools, lambda pool: pool.starmap(tasks.fingerprint_args, items, chunksize))
    assert seen == [(fingerprint(tuple(item)), fingerprint({})) for item in items]


@quick
@given(items=st.one_of(uniform, st.lists(values, max_size=12)), chunksize=st.integers(1, 5))
def test_both_pools_imap_the_same_items(pools: list[Any], items: list[Any], chunksize: int) -> None:
    found = agreed(
        pools, lambda pool: fingerprint(list(pool.imap(tasks.identity, items, chunksize)))
    )
    assert found == fingerprint(items)
