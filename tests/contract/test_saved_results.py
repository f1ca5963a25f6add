"""Results of a chunk are what multiprocessing makes of them: objects as they are when it is done.

Each item's result is saved as soon as it is there; but what a later item changes, or shares with
it, must come out as if all had been pickled together at the end of the chunk.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import sharing
from helpers.arrays import portrait
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastpool

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(60)]

COUNT = 12
EVERY_SIZE = pytest.mark.parametrize("chunksize", [1, 2, 5, COUNT])


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Any, Any]]:
    """A pool of either kind; of one worker, so that what a worker keeps is the same."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as theirs, fastpool.Pool(1, context=context) as ours:
        yield theirs, ours


def chunks(results: list[Any], chunksize: int) -> list[Any]:
    """Portraits of the chunks: values, types, and which parts of one are the same object."""
    return [
        portrait(results[begin : begin + chunksize]) for begin in range(0, len(results), chunksize)
    ]


def compare(both: tuple[Any, Any], items: list[Any], chunksize: int) -> None:
    found = []
    for pool in both:
        pool.apply(sharing.reset)
        found.append(chunks(pool.map(sharing.run, items, chunksize), chunksize))
    assert found[1] == found[0]


@EVERY_SIZE
@pytest.mark.parametrize("name", list(sharing.CASES))
def test_one_kind_of_result(both: Any, name: str, chunksize: int) -> None:
    compare(both, [(name, i) for i in range(COUNT)], chunksize)


@EVERY_SIZE
@pytest.mark.parametrize("name", list(sharing.CASES))
@pytest.mark.parametrize("first", ["an int", "a fresh list", "a fresh large array"])
def test_behind_results_of_another_kind(both: Any, first: str, name: str, chunksize: int) -> None:
    """What is saved before turns with it from one form to another."""
    work = [(first, 0), (first, 1), (name, 2), (name, 3), (first, 4), (name, 5), (first, 6)]
    compare(both, work, chunksize)


@pytest.mark.parametrize("kind", ["imap", "starmap", "imap_unordered"])
@pytest.mark.parametrize("name", ["one list that grows", "a view of an array", "two of a tuple"])
def test_every_kind_of_call(both: Any, kind: str, name: str) -> None:
    found = []
    for pool in both:
        pool.apply(sharing.reset)
        if kind == "starmap":
            work = [(name, i) for i in range(COUNT)]
            results = pool.starmap(sharing.run_args, work, 4)
        else:
            results = list(getattr(pool, kind)(sharing.run, [(name, i) for i in range(COUNT)], 4))
        found.append(chunks(results, 4))
    assert found[1] == found[0]


@given(
    st.lists(
        st.tuples(st.sampled_from(list(sharing.CASES)), st.integers(0, 6)), min_size=1, max_size=9
    ),
    st.sampled_from([1, 2, 3, 9]),
)
@example([("a mutable of the last item", 0), ("one list that grows", 1)] * 3, 9)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_mix(both: Any, items: list[Any], chunksize: int) -> None:
    compare(both, items, chunksize)


@pytest.mark.parametrize("name", list(sharing.CASES))
def test_a_death_in_between_gives_what_was_there_then(name: str, traces: Any) -> None:
    """Nobody knows what the chunk's end would have made of it; each result is one that was."""
    context = multiprocessing.get_context("fork")
    with fastpool.Pool(1, context=context, retries=1) as pool:
        work = [(name, i, str(traces) if i == 7 else None) for i in range(COUNT)]
        found = pool.map(sharing.run_or_die, work, COUNT)
        assert len(found) == COUNT
        kinds = {type(value) for value in pool.map(sharing.run, [(name, 0), (name, 1)], 1)}
        assert {type(value) for value in found} <= kinds
