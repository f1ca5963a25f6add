"""An item that killed its worker is left out when those before it run again, and only that one.

Those before it run again when their results could not be saved: something else in the worker holds
them, too, here the argument that they came in.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from helpers import tasks

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


@pytest.mark.parametrize("value", [lambda i: [i], lambda i: {"i": i}, lambda i: [str(i), i / 3]])
@pytest.mark.parametrize("deadly", [[8], [3, 8], [8, 9], [5, 6, 7, 19]])
def test_the_items_behind_it_get_their_own_arguments(
    impl: Any, pool_factory: Any, deadly: list[int], value: Any
) -> None:
    pool = pool_factory(1)
    items = [(signal.SIGKILL if i in deadly else None, value(i)) for i in range(20)]
    results = pool.map(tasks.die_or_return, items, 20, return_exceptions=True)
    for i, result in enumerate(results):
        if i in deadly:
            assert isinstance(result, impl.module.WorkerDiedError)
            assert f"item {i} of" in result.task
        else:
            assert result == value(i)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_it_is_tried_no_more_often_for_that_items_before_it_were_done_meanwhile(
    impl: Any, pool_factory: Any, tmp_path: Path, retries: int
) -> None:
    pool = pool_factory(1, retries=retries)
    path = str(tmp_path / "runs")
    items = [(signal.SIGKILL if i == 6 else None, path, [i]) for i in range(9)]
    results = pool.map(tasks.die_or_record, items, 9, return_exceptions=True)
    assert results[:6] + results[7:] == [[i] for i in (0, 1, 2, 3, 4, 5, 7, 8)]
    assert isinstance(results[6], impl.module.WorkerDiedError)
    assert results[6].deaths == 1 + retries
    assert Path(path).read_text().splitlines().count("[6]") == 1 + retries
