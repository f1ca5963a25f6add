"""The errors of items that did not simply end, each with the item's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpool._core._jobs import ApplyJob
from fastpool._runtime.postmortem import Findings
from fastpool.errors import TaskCancelledError, TaskTimeoutError, WorkerDiedError


def lost_by(findings: Findings) -> Callable[[Any, int, int], WorkerDiedError]:
    """What makes the error of the item that a dead worker ran."""

    def lost(job: Any, index: int, deaths: int) -> WorkerDiedError:
        kind: type[WorkerDiedError] = getattr(job, "death_error", WorkerDiedError)
        return kind(
            findings.pid,
            findings.exitcode,
            _name_of(job, index),
            findings.peak_memory,
            findings.out_of_memory,
            findings.stack,
            deaths,
        )

    return lost


def cancelled(job: Any) -> TaskCancelledError:
    """What makes the error of a call that was cancelled."""
    return TaskCancelledError(f"the call of {job._target_name()} was cancelled")


def overdue(job: Any, index: int, error: BaseException | None) -> TaskTimeoutError:
    """What makes the error of an item that took too long."""
    late = TaskTimeoutError(_name_of(job, index), job._limit_seconds())
    # Where it was when it was stopped; or what it made of that.
    late.__cause__ = error.__cause__ if isinstance(error, TaskTimeoutError) else error
    return late


def _name_of(job: Any, index: int) -> str:
    """Name an item for people."""
    name = job._target_name()
    if isinstance(job, ApplyJob):
        return f"a call of {name}"
    return f"item {index} of a map of {name}"
