"""Ends of processes told by pipes, as where the system has no pidfds: nothing hides a death."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.pool_health import whole
from helpers.threads import InThread

import fastpool
from fastpool import WorkerDiedError
from fastpool._core._system import BY_PIPE
from fastpool._runtime import start_spawn, zygote

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(30)]


@pytest.fixture(autouse=True)
def by_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (start_spawn, zygote):
        monkeypatch.setattr(module, "watch_kind", lambda: BY_PIPE)


def close_all_descriptors() -> None:
    os.closerange(3, 1000)
    time.sleep(60)


def test_deaths_are_noticed_though_children_of_the_dead_live_on(
    pool_factory: Any, start_method: str, tmp_path: Any
) -> None:
    pool = pool_factory(2)
    log = tmp_path / "grandchild"
    begin = time.monotonic()
    try:
        with pytest.raises(WorkerDiedError) as caught:
            pool.apply(tasks.die_with_a_grandchild_left, (str(log),))
        assert time.monotonic() - begin < 10
        assert caught.value.exitcode == -signal.SIGKILL
        whole(pool, 2)
    finally:
        if log.exists():
            procs.kill(int(log.read_text()))


def test_a_worker_that_closes_what_it_does_not_know_is_lost_and_replaced(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(1)
    first = pool.apply(tasks.pid)
    with pytest.raises(WorkerDiedError):
        pool.apply(close_all_descriptors)
    whole(pool, 1)
    assert pool.apply(tasks.pid) != first


def test_a_late_task_is_stopped_and_killed(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(1)
    with pytest.raises(Exception, match="time"):
        pool.apply_async(tasks.busy_in_c, timeout=0.2).get(20)
    whole(pool, 1)


PROGRAM = """
    import multiprocessing, os, sys, time
    from fastpool import Pool
    from fastpool._core._system import BY_PIPE
    from fastpool._runtime import start_spawn, zygote
    from helpers import procs, tasks
    start_spawn.watch_kind = zygote.watch_kind = lambda: BY_PIPE

    def nest():
        import fastpool
        global inner
        inner = fastpool.Pool(1)
        return procs.worker_pids(inner) and inner.apply(os.getpid)

    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        pool = Pool(2, daemon=False)
        other = Pool(1, daemon=False)
        pids = [pool.apply(nest), other.apply(os.getpid), *procs.worker_pids(pool)]
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        print("READY", child, *pids, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_go_with_their_program_though_children_of_it_live_on(
    run_script: Any, method: str
) -> None:
    script = run_script(PROGRAM, arguments=[method])
    child, *pids = map(int, script.wait_for(r"READY (.*)\n")[1].split())
    try:
        script.signal(signal.SIGKILL)
        procs.wait_until(lambda: not any(procs.is_alive(pid) for pid in pids), 5.0)
        assert procs.is_alive(child)
    finally:
        procs.kill(child)


def test_pools_of_several_threads_keep_their_lines_apart() -> None:
    """A line that a fork has closed may give its number to one that is made next."""

    def live(k: int) -> None:
        for _ in range(5):
            with fastpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
                assert pool.apply(tasks.square, (k,)) == k * k
            pool.join()

    for life in [InThread(live, k) for k in range(4)]:
        life.outcome(25)
