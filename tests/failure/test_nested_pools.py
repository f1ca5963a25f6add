"""daemon=False: pools in workers of a pool, of which nobody is ever left behind."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.procs import wait_until

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

KILL = signal.SIGKILL


def test_a_worker_that_is_no_daemon_may_have_a_pool(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2, daemon=False)
    assert pool.apply(mishaps.pool_in_worker, (start_method, 3)) == [0, 1, 4]
    assert pool.apply(tasks.who_am_i)["daemon"] is False
    assert pool.apply(tasks.start_a_child) == 0


def test_a_worker_that_is_a_daemon_may_not_and_is_told_what_would_do(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(1)
    assert pool.apply(tasks.who_am_i)["daemon"] is True
    with pytest.raises(AssertionError, match=r"daemonic.*daemon=False"):
        pool.apply(mishaps.pool_in_worker, (start_method, 3))
    assert pool.apply(tasks.square, (3,)) == 9


NESTED = """
    import multiprocessing, os, sys, time
    from fastpool import Pool
    from helpers import mishaps, procs

    if __name__ == "__main__":
        method, gate = sys.argv[1:]
        multiprocessing.set_start_method(method)
        pool = Pool(2, daemon=False)
        results = [pool.apply_async(mishaps.nested, (method, gate, 1)) for _ in range(2)]
        procs.wait_until(lambda: len(os.listdir(gate)) == 4, 15)
        print("READY", *procs.worker_pids(pool))
        if method == "end":
            sys.exit()
        time.sleep(60)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("victim", ["parent", "child", "grandchild"])
def test_nobody_is_left_when_an_ancestor_is_killed(
    run_script: Any, gate: Any, method: str, victim: str
) -> None:
    """Three generations: whoever is killed, those below it end, and those above go on."""
    script = run_script(NESTED, arguments=[method, gate.path])
    children = list(map(int, script.wait_for(r"READY (\d+) (\d+)", 18).groups()))
    family = {pid: procs.descendants(pid) for pid in children}
    assert all(family.values())
    if victim == "parent":
        script.signal(KILL)
        script.wait_gone(1.5)
        return
    child = children[0]
    if victim == "grandchild":
        target = gate.arrived_pids()[0]
        procs.kill(target)
        wait_until(lambda: not procs.is_alive(target))
        assert script.process.poll() is None
    else:
        procs.kill(child)
        gone = [child, *family[child]]
        wait_until(
            lambda: not any(map(procs.is_alive, gone)),
            1.5,
            lambda: "\n".join(procs.describe(pid) for pid in gone if procs.is_alive(pid)),
        )
        assert all(map(procs.is_alive, family[children[1]]))
    script.signal(KILL)
    script.wait_gone(1.5)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_that_ends_takes_all_generations_along(
    run_script: Any, gate: Any, method: str
) -> None:
    script = run_script(NESTED.replace('method == "end"', "True"), arguments=[method, gate.path])
    script.finish(18)
