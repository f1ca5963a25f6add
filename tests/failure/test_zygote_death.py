"""What starts and looks after the workers dies or fails: no call hangs, and nothing is left behind."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from helpers import procs, tasks

from fastpool import WorkerDiedError

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


def test_a_zygote_that_dies_between_two_orders_takes_no_task_with_it(
    pool_factory: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that the first order brought has taken a task; the parent never heard of it."""
    from fastpool._runtime.zygote import Zygote

    pool = pool_factory(1)
    results = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(4)]
    procs.wait_until(lambda: gate.arrivals() == 1)
    order, orders = Zygote.order, []

    def order_and_die(self: Any, *args: Any) -> None:
        if len(orders) == 1:
            procs.wait_until(lambda: gate.arrivals() == 2)
            procs.kill(self.pid, signal.SIGKILL)
            procs.wait_until(lambda: not procs.is_alive(self.pid))
        orders.append(args)
        order(self, *args)

    monkeypatch.setattr(Zygote, "order", order_and_die)
    pool.resize(3)
    gate.open()
    outcomes = []
    for result in results:
        try:
            outcomes.append(result.get(10))
        except WorkerDiedError:
            outcomes.append("lost")
    assert outcomes == ["lost", "lost", 2, 3]
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]
