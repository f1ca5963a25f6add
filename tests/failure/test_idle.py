"""A pool that has nothing to do costs nothing: no CPU time, and nobody wakes up to look."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from helpers import procs
from helpers.build import WAKES

pytestmark = pytest.mark.timeout_s(20)

PROGRAM = """
    import multiprocessing, sys, time
    from {module} import Pool
    from helpers import tasks

    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}")
        pool = Pool(2)
        {before}
        print("READY", flush=True)
        sys.stdin.read()
"""
WORK = """
        pool.map(tasks.square, range(1000))
        pool.apply_async(tasks.square, (2,), callback=lambda value: None).get()
        list(pool.imap(tasks.square, range(100)))
"""


def costs(pids: list[int]) -> dict[int, tuple[float, int]]:
    """CPU seconds and voluntary context switches of each process."""
    return {pid: (procs.cpu_seconds(pid), procs.context_switches(pid)) for pid in pids}


def asleep(pids: list[int]) -> bool:
    """All of them sleep, and go on sleeping for a while: what spins does so for a bounded time."""
    before = costs(pids)
    time.sleep(0.2)
    return all(procs.state_of(pid) == "S" for pid in pids) and costs(pids) == before


@WAKES
@pytest.mark.parametrize("worked", [True, False], ids=["after work", "never used"])
def test_an_idle_pool_sleeps(impl: Any, run_script: Any, worked: bool) -> None:
    script = run_script(
        PROGRAM.format(module=impl.name, method="fork", before=WORK.strip() if worked else ""),
        stdin=subprocess.PIPE,
    )
    script.wait_for("READY")
    pids = script.processes()
    assert len(pids) >= 3
    procs.wait_until(lambda: asleep(pids), 5, lambda: f"all sleep\n{script.report()}")
    before = costs(pids)
    time.sleep(2.0 if impl.is_fastpool else 1.0)
    after = costs(pids)
    assert sum(after[pid][0] - before[pid][0] for pid in pids) <= 0.02, (before, after)
    for pid in pids:
        assert after[pid][1] - before[pid][1] <= 1, f"{procs.describe(pid)} woke up"
    script.process.stdin.close()
    script.finish()


@WAKES
@pytest.mark.fastpool_only
def test_a_worker_with_a_long_task_costs_the_others_nothing(
    impl: Any, run_script: Any, gate: Any
) -> None:
    """The parent waits in get(), one worker sleeps in its task, one has none: nobody spins."""
    script = run_script(
        f"""
        import os
        from {impl.name} import Pool
        from helpers import tasks

        if __name__ == "__main__":
            pool = Pool(2)
            pool.map(tasks.square, range(100))
            print("READY", flush=True)
            print(pool.apply(tasks.nap, (2.5, "done")))
            pool.terminate()
        """
    )
    script.wait_for("READY")
    pids = script.processes()
    procs.wait_until(lambda: asleep(pids), 5, lambda: f"all sleep\n{script.report()}")
    before = costs(pids)
    time.sleep(1.0)
    after = costs(pids)
    assert sum(after[pid][0] - before[pid][0] for pid in pids) <= 0.02, (before, after)
    for pid in pids:
        assert after[pid][1] - before[pid][1] <= 1, f"{procs.describe(pid)} woke up"
    assert script.finish() == "READY\ndone\n"


@WAKES
@pytest.mark.fastpool_only
@pytest.mark.parametrize("items", ["list(range(50_000))", "iter(range(50_000))"])
def test_an_iterator_that_nobody_reads_costs_nothing(
    impl: Any, run_script: Any, items: str
) -> None:
    """As much is done as may wait to be read; then everybody sleeps, until somebody reads."""
    script = run_script(
        PROGRAM.format(
            module=impl.name,
            method="fork",
            before=f"results = pool.imap(tasks.square, {items}); next(results)",
        )
        + "        print(1 + sum(1 for _ in results))\n",
        stdin=subprocess.PIPE,
    )
    script.wait_for("READY")
    pids = script.processes()
    procs.wait_until(lambda: asleep(pids), 5, lambda: f"all sleep\n{script.report()}")
    before = costs(pids)
    time.sleep(1.0)
    after = costs(pids)
    assert sum(after[pid][0] - before[pid][0] for pid in pids) <= 0.02, (before, after)
    for pid in pids:
        assert after[pid][1] - before[pid][1] <= 1, f"{procs.describe(pid)} woke up"
    script.process.stdin.close()
    assert script.finish() == "READY\n50000\n"


@pytest.mark.fastpool_only
def test_a_block_time_of_zero_sleeps_at_once(impl: Any, run_script: Any) -> None:
    script = run_script(
        """
        import os, time
        from fastpool import Pool
        from helpers import procs, tasks

        if __name__ == "__main__":
            pool = Pool(2, blocktime=0)
            pids = [os.getpid(), *procs.worker_pids(pool)]
            pool.map(tasks.square, range(100), 1)
            time.sleep(0.05)
            before = sum(map(procs.cpu_seconds, pids))
            for _ in range(50):
                pool.apply(tasks.nothing)
                time.sleep(0.01)
            print(sum(map(procs.cpu_seconds, pids)) - before)
            pool.terminate()
        """
    )
    assert float(script.finish()) < 0.2
