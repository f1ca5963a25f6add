"""resize(): more workers at once, fewer when they have nothing to do; no task is disturbed."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.pool_health import size, whole
from helpers.procs import wait_until

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

KILL = signal.SIGKILL


def test_up_and_down(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2)
    whole(pool, 2)
    for count in (4, 1, 3, 2):
        pool.resize(count)
        whole(pool, count)
        assert pool._processes == count
        before = procs.worker_pids(pool)
        pool.resize(count)
        assert procs.worker_pids(pool) == before


def test_those_that_are_busy_finish(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(4)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(3)]
    wait_until(lambda: gate.arrivals() == 3)
    pool.resize(1)
    assert len(pool._pool) == 1
    wait_until(lambda: len(pool.workers()) == 3, what="the idle one left, busy ones finish")
    gate.open()
    assert [result.get(5) for result in held] == [0, 1, 2]
    whole(pool, 1)


def test_a_worker_that_is_left_is_replaced_while_surplus_ones_are_busy(
    impl: Any, pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(4)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(4)]
    wait_until(lambda: gate.arrivals() == 4)
    pool.resize(1)
    (kept,) = procs.worker_pids(pool)
    os.kill(kept, KILL)
    assert pool.apply_async(tasks.square, (3,)).get(5) == 9
    gate.open()
    died = 0
    for result in held:
        try:
            result.get(5)
        except impl.module.WorkerDiedError:
            died += 1
    assert died == 1
    whole(pool, 1)


def test_down_and_up_again_while_all_are_busy(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(2)]
    wait_until(lambda: gate.arrivals() == 2)
    for _ in range(3):
        pool.resize(1)
        pool.resize(2)
    assert pool.apply_async(tasks.square, (3,)).get(5) == 9
    gate.open()
    assert [result.get(5) for result in held] == [0, 1]
    whole(pool, 2)


def test_while_a_map_runs(pool_factory: Any) -> None:
    pool = pool_factory(2)
    result = pool.map_async(mishaps.end_near, [(0.002, i) for i in range(300)], 2)
    for count in (4, 1, 2, 3, 1, 4) * 3:
        pool.resize(count)
        result.wait(0.01)
    assert result.get(10) == list(range(300))
    pool.resize(2)
    whole(pool, 2)


def test_within_its_bounds(pool_factory: Any) -> None:
    pool = pool_factory(3)
    most = 2 * max(3, len(os.sched_getaffinity(0)))
    pool.resize(most)
    size(pool, most)
    for wrong in (0, -1, most + 1, 10**6):
        with pytest.raises(ValueError, match=r"at least 1|room for|at most"):
            pool.resize(wrong)
    for wrong_type in (1.5, "2", None):
        with pytest.raises(TypeError):
            pool.resize(wrong_type)
    size(pool, most)


@pytest.mark.parametrize("ending", ["close", "terminate"])
def test_a_pool_that_has_ended_keeps_its_size(pool_factory: Any, ending: str) -> None:
    pool = pool_factory(1)
    getattr(pool, ending)()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.resize(2)
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.resize(2)


def test_resize_goes_with_maxtasksperchild(pool_factory: Any) -> None:
    pool = pool_factory(2, maxtasksperchild=1)
    result = pool.map_async(tasks.square, range(60), 1)
    for count in (3, 1, 4, 2):
        pool.resize(count)
        result.wait(0.02)
    assert result.get(10) == [i * i for i in range(60)]
    size(pool, 2)


# A handler raises while resize() waits for the process that forks workers, which is stopped.
INTERRUPTED = """
    import multiprocessing, os, signal
    from fastpool import Pool
    from helpers import procs, tasks

    def interrupt(number, frame):
        raise KeyboardInterrupt

    if __name__ == "__main__":
        signal.signal(signal.SIGALRM, interrupt)
        multiprocessing.set_start_method("fork")
        with Pool(2) as pool:
            zygote = pool.apply(os.getppid)
            os.kill(zygote, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                pool.resize(4)
                print("not interrupted")
            except KeyboardInterrupt:
                os.kill(zygote, signal.SIGCONT)
"""


def test_a_handler_that_raises_ends_the_wait_for_new_workers_and_nothing_else(
    run_script: Any,
) -> None:
    script = run_script(
        INTERRUPTED
        + """
            procs.wait_until(lambda: len(pool.workers()) == 4)
            known = {zygote, *(worker.pid for worker in pool.workers())}
            print(set(procs.descendants(os.getpid())) == known)
            print(pool.map(tasks.square, range(400), 1) == [i * i for i in range(400)])
        """
    )
    assert script.finish(15) == "True\nTrue\n"


def test_an_interrupted_resize_does_not_undo_a_later_one(run_script: Any) -> None:
    script = run_script(
        INTERRUPTED
        + """
            pool.resize(1)
            procs.wait_until(lambda: len(procs.descendants(os.getpid())) == 2)
            procs.wait_until(lambda: len(pool.workers()) == 1)
            print(pool._processes)
        """
    )
    assert script.finish(15) == "1\n"
