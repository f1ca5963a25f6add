"""What tests of cancelling and of timeouts ask of calls and pools."""

from __future__ import annotations

from typing import Any

import pytest

from helpers import tasks
from helpers.procs import wait_until


def is_cancelled(impl: Any, result: Any) -> None:
    """It says so in every way, at once."""
    assert result.cancelled() is True
    assert result.ready()
    assert result.successful() is False
    with pytest.raises(impl.module.TaskCancelledError, match="was cancelled"):
        result.get(0)


def busy(pool: Any, gate: Any, count: int = 1) -> list[Any]:
    """Have so many workers hold a task."""
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(count)]
    wait_until(lambda: gate.arrivals() == count)
    return held


def idle(pool: Any, size: int, timeout: float = 5) -> None:
    wait_until(
        lambda: [info.state for info in pool.workers()] == ["idle"] * size,
        timeout,
        lambda: pool.workers(),
    )


def outcomes(results: Any) -> list[Any]:
    """Results, or the types of exceptions, of an iterator that goes on after these."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:
            found.append(type(error))


def hangs(traces: Any, where: dict[int, str], count: int = 6) -> list[Any]:
    return [(str(traces), where.get(i), i) for i in range(count)]
