"""How many workers: a number within reason, or an error that says so."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import tasks


@pytest.mark.fastpool_only  # the standard library would try
@pytest.mark.parametrize("processes", [10**6, 2**31, 2**32 + 2, 2**40, 2**64, 10**30])
def test_too_many(pool_factory: Any, processes: int) -> None:
    with pytest.raises(ValueError, match=r"Number of processes must be at most \d+"):
        pool_factory(processes)


@pytest.mark.parametrize("processes", [0, -1, -(2**40), False])
def test_too_few(pool_factory: Any, processes: int) -> None:
    with pytest.raises(ValueError) as caught:
        pool_factory(processes)
    assert str(caught.value) == "Number of processes must be at least 1"


@pytest.mark.fastpool_only  # the standard library may leave half a pool behind
@pytest.mark.parametrize("processes", [1.5, 2.0, "2", b"2", [2], 1j])
def test_no_number_of_workers(pool_factory: Any, processes: Any) -> None:
    with pytest.raises(TypeError):
        pool_factory(processes)


@pytest.mark.parametrize("processes", [True, type("Int", (int,), {})(1)], ids=["bool", "subclass"])
def test_any_kind_of_integer(pool_factory: Any, processes: Any) -> None:
    pool = pool_factory(processes)
    assert len(pool._pool) == 1
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
