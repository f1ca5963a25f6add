"""An item that killed its worker is left out when those before it run again, and only that one.

Those before it run again when their results could not be saved: something else in the worker holds
them, too, here the argument that they came in.
"""

from __future__ import annotations

import signal
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
