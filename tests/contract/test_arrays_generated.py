"""Any structure of arrays, scalars and bytes: what arrives is what multiprocessing delivers."""

from __future__ import annotations

import array
import functools
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from helpers import array_tasks, tasks
from helpers.arrays import (
    DTYPES,
    KIB,
    LAYOUTS,
    MIB,
    Buffer,
    Holder,
    Measurement,
    Plain,
    noise,
    portrait,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.start_methods("fork"), pytest.mark.timeout_s(60)]

generated = settings(
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- the grammar ----------------------------------------------------------------------------------

shapes = st.one_of(
    st.just(()),
    st.tuples(st.integers(0, 20)),
    st.lists(st.integers(0, 4), min_size=2, max_size=4).map(tuple),
)
AROUND = [around + more for around in (4 * KIB, 64 * KIB, MIB) for more in (-1, 0, 1)]
seeds = st.integers(0, 2**32)
dtypes = st.sampled_from(DTYPES)


def lying(value: Any, layout: str) -> Any:
    return LAYOUTS[layout](value)


small_arrays = st.builds(
    lying, st.builds(noise, dtypes, shapes, seeds), st.sampled_from(sorted(LAYOUTS))
)
large_arrays = st.builds(
    lying,
    st.builds(
        lambda dtype, size, seed: noise(dtype, (size // np.dtype(dtype).itemsize,), seed),
        dtypes,
        st.sampled_from(AROUND),
        seeds,
    ),
    st.sampled_from(["C", "C", "reversed", "read-only", "a part"]),
)
scalars = st.builds(
    lambda dtype, seed: noise(dtype, (1,), seed)[0],
    st.sampled_from([dtype for dtype in DTYPES if not np.dtype(dtype).names]),
    seeds,
)
raw = st.builds(
    lambda kind, size, seed: kind(noise("u1", (size,), seed).tobytes()),
    st.sampled_from([bytes, bytearray, functools.partial(array.array, "B"), Buffer]),
    st.one_of(st.integers(0, 100), st.sampled_from(AROUND)),
    seeds,
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(max_size=30),
    st.text(alphabet=st.characters(categories=["Cs", "Lu", "So"]), max_size=8),
)
leaves = st.one_of(small_arrays, small_arrays, large_arrays, scalars, raw, plain)


def objects(items: list[Any]) -> Any:
    value = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        value[index] = item
    return value


def frozen(items: list[Any]) -> Any:
    """Those that can be in a set; NaN could be in it twice."""
    kinds = np.integer, np.floating, str, bytes
    return frozenset(i for i in items if isinstance(i, kinds) and i == i and not is_duration(i))


def is_duration(value: Any) -> bool:
    return isinstance(value, np.timedelta64)  # some can't be hashed


def as_subclass(items: list[Any]) -> Any:
    return [item.view(Plain) if type(item) is np.ndarray else item for item in items]


BUILDERS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "the same list twice": lambda items: [items, items],
    "dict": lambda items: dict(enumerate(items)),
    "dict by names": lambda items: {str(i): item for i, item in enumerate(items)},
    "set": frozen,
    "objects": objects,
    "subclass": as_subclass,
    "dataclass": lambda items: Measurement("name", items[0] if items else None, items[1:]),
    "holder": lambda items: Holder(items[-1] if items else None),
}


trees = st.recursive(
    st.integers(0, 9),
    lambda inner: st.tuples(st.sampled_from(sorted(BUILDERS)), st.lists(inner, max_size=4)),
    max_leaves=10,
)


def assemble(tree: Any, parts: list[Any]) -> Any:
    """A structure in which some of the parts are one and the same object."""
    if isinstance(tree, int):
        return parts[tree % len(parts)]
    name, children = tree
    return BUILDERS[name]([assemble(child, parts) for child in children])


values = st.builds(assemble, trees, st.lists(leaves, min_size=1, max_size=4))


def received(value: Any) -> Any:
    return ForkingPickler.loads(ForkingPickler.dumps(value))


# --- both pools -----------------------------------------------------------------------------------


@generated
@given(args=st.lists(values, max_size=3), kwargs=st.dictionaries(st.text(max_size=3), values))
def test_any_arguments_arrive(pool: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    seen = pool.apply(array_tasks.portrait_of_all, args, kwargs)
    assert seen == portrait(received((tuple(args), kwargs)))


@generated
@given(value=values)
def test_any_result_arrives(pool: Any, value: Any) -> None:
    assert portrait(pool.apply(tasks.identity, (value,))) == portrait(received(received(value)))


@generated
@given(value=values)
def test_any_state_of_a_callable_arrives(pool: Any, value: Any) -> None:
    expected = portrait(received(value))
    assert pool.apply(Holder(value).portrait)[0] == expected
    assert pool.map(Holder(value), range(2), 1)[1][0] == expected
    assert pool.apply(functools.partial(array_tasks.portrait_here, value))[0] == expected


@generated
@given(
    items=st.one_of(
        st.lists(values, max_size=6),
        st.lists(st.one_of(scalars, plain), max_size=30),
        dtypes.flatmap(lambda dtype: st.lists(st.builds(noise, st.just(dtype), shapes, seeds))),
    ),
    chunksize=st.sampled_from([None, 1, 2, 100]),
)
def test_any_items_arrive(pool: Any, items: list[Any], chunksize: int | None) -> None:
    seen = pool.map(array_tasks.portrait_here, items, chunksize)
    # One by one: how chunks are cut, and so which items may share an object, is the pool's affair.
    assert [there for there, _ in seen] == [portrait(received(item)) for item in items]
    back = pool.map(tasks.identity, items, chunksize)
    assert [portrait(item) for item in back] == [portrait(received(received(i))) for i in items]
    back = list(pool.imap(tasks.identity, iter(items), chunksize or 3))
    assert [portrait(item) for item in back] == [portrait(received(received(i))) for i in items]


@generated
@given(dtype=dtypes, shape=shapes, layout=st.sampled_from(sorted(LAYOUTS)), seed=seeds)
def test_the_items_of_any_array_are_those_of_iterating_it(
    pool: Any, dtype: Any, shape: tuple[int, ...], layout: str, seed: int
) -> None:
    source = lying(noise(dtype, shape, seed), layout)
    if source.ndim == 0:
        with pytest.raises(TypeError, match=r"unsized|0-d"):
            pool.map(tasks.identity, source)
        return
    expected = [portrait(received(item)) for item in source]
    for chunksize in None, 1, 3:
        seen = pool.map(array_tasks.portrait_here, source, chunksize)
        assert [there for there, _ in seen] == expected
        seen = list(pool.imap(array_tasks.portrait_here, source, chunksize or 4))
        assert [there for there, _ in seen] == expected
