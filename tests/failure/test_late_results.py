"""The time limit of a call covers the pickling of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import tasks

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


class SlowToPickle:
    def __reduce__(self) -> Any:
        time.sleep(60)
        return int, ()


class SlowToPickleError(Exception):
    """As slow as that, but only beyond the limit: the limit is for the item, which has ended."""

    def __reduce__(self) -> Any:
        time.sleep(0.6)
        return SlowToPickleError, ()


def return_slow(_item: int) -> Any:
    return SlowToPickle()


def raise_slow(_item: int) -> Any:
    raise SlowToPickleError


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "apply_async": lambda pool, f: pool.apply_async(f, (1,), timeout=0.3).get(10),
    "map": lambda pool, f: pool.map(f, [1], timeout=0.3),
    "imap": lambda pool, f: pool.imap(f, [1], timeout=0.3).next(10),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_result_that_takes_too_long_to_pickle_is_stopped_and_no_encoding_error(
    impl: Any, pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(1)
    with pytest.raises(impl.module.TaskTimeoutError):
        CALLS[kind](pool, return_slow)
    assert pool.apply(tasks.square, (3,)) == 9


@pytest.mark.parametrize("kind", [*CALLS, "chunk"])
def test_an_error_is_not_torn_while_it_is_pickled(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(1)
    if kind == "chunk":
        results = pool.map(raise_slow, [1, 2], 2, timeout=0.3, return_exceptions=True)
        assert [type(result) for result in results] == [SlowToPickleError] * 2
        return
    with pytest.raises(SlowToPickleError):
        CALLS[kind](pool, raise_slow)
