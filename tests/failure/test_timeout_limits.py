"""timeout=: what happens just at the limit, what it costs, and which values it takes."""

from __future__ import annotations

import math
import subprocess
import threading
import time
from fractions import Fraction
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.build import WAKES
from helpers.pool_health import whole

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

SHORT = 0.2


# --- close to the limit ---------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 10])
def test_an_item_that_ends_just_in_time_or_just_too_late(
    impl: Any, pool_factory: Any, chunksize: int
) -> None:
    """A result or a timeout, each in its place; never anything else."""
    pool = pool_factory(2)
    limit = 0.01
    values: list[Any] = [i if i % 3 else [str(i)] for i in range(60)]
    work = [(limit + (i % 7 - 3) * 0.0003, value) for i, value in enumerate(values)]
    late = 0
    for _ in range(4):
        found = pool.map(mishaps.end_near, work, chunksize, timeout=limit, return_exceptions=True)
        for i, value in enumerate(found):
            if type(value) is impl.module.TaskTimeoutError:
                assert f"item {i} " in value.task
                late += 1
            else:
                assert value == values[i]
    assert 0 < late < 4 * len(work)
    whole(pool, 2)


@pytest.mark.parametrize("chunksize", [1, 10])
def test_an_item_that_raises_just_in_time_or_just_too_late(
    impl: Any, pool_factory: Any, chunksize: int
) -> None:
    pool = pool_factory(2)
    limit = 0.01
    work = [(limit + (i % 7 - 3) * 0.0003, i) for i in range(120)]
    found = pool.map(mishaps.raise_near, work, chunksize, timeout=limit, return_exceptions=True)
    for i, error in enumerate(found):
        if type(error) is impl.module.TaskTimeoutError:
            assert f"item {i} " in error.task
        else:
            assert type(error) is ValueError and error.args == (i,)
    whole(pool, 2)


# --- what it costs --------------------------------------------------------------------------------


@WAKES
def test_timeouts_that_are_not_reached_cost_nothing_afterwards(run_script: Any) -> None:
    """Neither while a call waits far from its limit, nor when all is done."""
    script = run_script(
        """
        import sys
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__main__":
            pool = Pool(2)
            pool.map(tasks.square, range(1000), 1, timeout=3600)
            pool.map(tasks.square, range(1000), timeout=1000)
            list(pool.imap(tasks.square, range(100), timeout=60))
            held = pool.apply_async(tasks.nap, (60,), timeout=600)
            print("READY", flush=True)
            sys.stdin.read()
        """,
        stdin=subprocess.PIPE,
    )
    script.wait_for("READY")
    pids = script.processes()
    procs.wait_until(lambda: _asleep(pids), 5, script.report)
    before = [procs.context_switches(pid) for pid in pids]
    time.sleep(1.5)
    after = [procs.context_switches(pid) for pid in pids]
    assert max(b - a for a, b in zip(before, after, strict=True)) <= 1, (before, after)


def _asleep(pids: list[int]) -> bool:
    before = [procs.context_switches(pid) for pid in pids]
    time.sleep(0.2)
    return before == [procs.context_switches(pid) for pid in pids]


@pytest.mark.parametrize("timeout", [1e6, 3e6, 1e9, 1e300, math.inf, 10**30])
def test_a_timeout_may_be_as_long_as_anybody_likes(pool_factory: Any, timeout: float) -> None:
    pool = pool_factory(1)
    done = threading.Event()
    result = pool.apply_async(
        tasks.nap, (0.2, "done"), callback=lambda _: done.set(), timeout=timeout
    )
    assert done.wait(5), "the background thread lives on"
    assert result.get(5) == "done"
    whole(pool, 1)


@pytest.mark.parametrize("timeout", [0, -1, 0.0, -0.5, math.nan, -math.inf])
def test_a_timeout_must_be_positive(pool_factory: Any, timeout: float) -> None:
    pool = pool_factory(1)
    _refused(pool, timeout, ValueError)


@pytest.mark.parametrize("timeout", ["1", [1], True, 1j, Fraction(1, 2)])
def test_a_timeout_must_be_a_number(pool_factory: Any, timeout: Any) -> None:
    pool = pool_factory(1)
    _refused(pool, timeout, TypeError)


def _refused(pool: Any, timeout: Any, kind: type[Exception]) -> None:
    calls = ["map", "map_async", "starmap", "starmap_async"]
    calls += ["imap", "imap_unordered", "istarmap", "istarmap_unordered"]
    for name in calls:
        with pytest.raises(kind, match="timeout must be"):
            getattr(pool, name)(tasks.square, [1], timeout=timeout)
    with pytest.raises(kind, match="timeout must be"):
        pool.apply_async(tasks.square, (1,), timeout=timeout)
    assert pool.apply(tasks.square, (3,)) == 9
