"""Tasks of a known length, and what a pool loses when they don't end together."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence

from fastpool.bench import timing, workloads

COUNT = 200
SHORTEST, LONGEST = 0.2e-3, 6e-3


@functools.cache
def tasks(count: int = COUNT) -> tuple[list[int], list[int]]:
    """Tasks for `workloads.burn`, of growing length on this machine, and their values."""
    costs = [SHORTEST + (LONGEST - SHORTEST) * at / (count - 1) for at in range(count)]
    found = [iterations(cost) for cost in costs]
    return found, [workloads.burnt(task) for task in found]


def iterations(seconds: float) -> int:
    """How many iterations of `workloads.burn` take so long on this machine."""
    return max(1, round(seconds * _speed()))


@functools.cache
def _speed() -> float:
    """Iterations in a second."""
    trial = 20_000
    return trial / statistics.median(workloads.burn(trial)[1] for _ in range(15))


def quotient(
    call: Callable[[], Sequence[tuple[int, float]]], right: list[int], workers: int
) -> float:
    """The makespan as a multiple of the ideal one.

    The ideal is the CPU time that the tasks told they took in this very run, shared evenly by the
    workers. A serial run before or after is no measure of it: on a machine that others use too, it
    is off by more than a pool loses.

    Parameters
    ----------
    call : callable
        Runs `workloads.burn` over the tasks.
    right : list of int
        Their values.
    workers : int
        Who share the tasks.

    Returns
    -------
    float
    """
    start = timing.clock()
    done = call()
    makespan = timing.clock() - start
    timing.expect([value for value, _ in done], right)
    return makespan * workers / sum(seconds for _, seconds in done)
