"""What a cancelled call leaves running."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_item_of_a_cancelled_call_still_may_not_take_longer_than_its_timeout(
    impl: Any, pool_factory: Any, gate: Any, chunksize: int
) -> None:
    """Nobody looked after it any more, and its worker was lost to the pool."""
    pool = pool_factory(1)
    items = [(gate.path, 1), (gate.path, 2)]
    result = pool.map_async(tasks.pass_gate_if, items, chunksize, timeout=0.5)
    wait_until(lambda: gate.arrivals() == 1)
    assert result.cancel()
    with pytest.raises(impl.module.TaskCancelledError):
        result.get(0)
    assert InThread(pool.apply, tasks.square, (7,)).outcome(10) == 49


@pytest.mark.parametrize("limit", [None, 2])
def test_a_worker_that_first_meets_cancelled_tasks_stays(
    pool_factory: Any, gate: Any, limit: int | None
) -> None:
    """It left after each one; so the next call waited for one worker after the other."""
    pool = pool_factory(1, tasks.pass_gate, (gate.path,), maxtasksperchild=limit)
    (worker,) = pool._pool
    assert pool.map_async(tasks.nothing, range(200), 1).cancel()
    later = pool.apply_async(tasks.pid)
    gate.open()
    assert later.get(10) == worker.pid
