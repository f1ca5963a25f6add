"""Workers come and go: successors, sizes, limits of memory, pools in workers, endless crashes."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.procs import wait_until

from tests.failure.test_worker_death import whole

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

KILL = signal.SIGKILL
MIB = 2**20


def size(pool: Any, count: int) -> None:
    wait_until(
        lambda: (
            len(pool._pool) == count
            and all(worker.is_alive() for worker in list(pool._pool))
            and len(pool.workers()) == count
        ),
        5,
        lambda: f"{count} workers: {pool._pool} {pool.workers()}",
    )


# --- successors -------------------------------------------------------------------------------------


def test_a_successor_starts_before_its_predecessor_leaves(
    pool_factory: Any, start_method: str, gate: Any
) -> None:
    """Its exit handlers take as long as they please; the pool has its workers meanwhile."""
    pool = pool_factory(1, mishaps.linger_at_exit, (gate.path,), 1)
    first = pool.apply(tasks.pid)
    wait_until(lambda: gate.arrivals() == 1, 10)
    assert procs.is_alive(first)
    second = pool.apply(tasks.pid)
    assert second != first and procs.is_alive(first)
    gate.open()
    wait_until(lambda: not procs.is_alive(first))
    assert pool.apply(tasks.square, (3,)) == 9


def test_a_successor_starts_while_the_last_task_runs(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1, maxtasksperchild=1)
    held = pool.apply_async(tasks.pass_gate, (gate.path, "held"))
    wait_until(lambda: gate.arrivals() == 1)
    assert pool.apply_async(tasks.square, (3,)).get(5) == 9
    assert not held.ready()
    wait_until(lambda: len(pool._pool) == 1)
    gate.open()
    assert held.get(5) == "held"


def test_no_more_workers_linger_than_there_are(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2, mishaps.linger_at_exit, (gate.path,), 1)
    results = [pool.apply_async(tasks.pid) for _ in range(12)]
    wait_until(lambda: gate.arrivals() >= 2)
    time.sleep(0.2)
    assert len(pool.workers()) <= 4
    gate.open()
    assert len({result.get(10) for result in results}) == 12
    size(pool, 2)


def test_the_pool_has_its_size_while_workers_change(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(3, maxtasksperchild=1)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(3)]
    wait_until(lambda: gate.arrivals() == 3)
    wait_until(lambda: len(pool._pool) == 3 and len(pool.workers()) == 6)
    gate.open()
    assert [result.get(5) for result in held] == [0, 1, 2]
    size(pool, 3)


def test_surplus_workers_leave_room_for_successors(
    impl: Any, pool_factory: Any, gate: Any
) -> None:
    """However often the size changes while all are busy: no more than there is room for."""
    pool = pool_factory(2)
    held = []
    for count in range(2, 30, 2):
        held += [pool.apply_async(tasks.pass_gate, (gate.path, count + i)) for i in range(2)]
        pool.resize(1)
        pool.resize(2)
        assert len(pool._pool) <= 2
    gate.open()
    assert [result.get(5) for result in held] == list(range(2, 30))
    whole(pool, 2)


def test_a_worker_dies_in_its_last_task(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2, maxtasksperchild=1)
    for _ in range(10):
        with pytest.raises(impl.module.WorkerDiedError):
            pool.apply(tasks.die, (KILL,))
        assert pool.apply(tasks.square, (3,)) == 9
    whole(pool, 2)


def test_close_waits_for_those_that_linger(pool_factory: Any, gate: Any, tmp_path: Any) -> None:
    pool = pool_factory(2, tasks.finalize_into, (str(tmp_path / "log"),), 1)
    pids = pool.map(tasks.pid, range(6), 1)
    pool.close()
    pool.join()
    lines = (tmp_path / "log").read_text().splitlines()
    assert set(lines) >= {f"finalize {pid}" for pid in pids}


# --- max_memory_per_child ---------------------------------------------------------------------------


def test_a_worker_that_has_too_much_memory_is_replaced(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(1, max_memory_per_child=400 * MIB)
    first = pool.apply(tasks.pid)
    assert pool.apply(mishaps.keep_memory, (50 * MIB,)) == first
    assert pool.apply(tasks.pid) == first
    assert pool.apply(mishaps.keep_memory, (450 * MIB,)) == first, "after the task, not in it"
    assert pool.apply(tasks.pid) != first
    size(pool, 1)


def test_memory_that_a_task_gave_back_does_not_count(pool_factory: Any) -> None:
    pool = pool_factory(1, max_memory_per_child=300 * MIB)
    first = pool.apply(tasks.pid)
    assert len(pool.apply(tasks.make_bytes, (1,))) == 1
    for _ in range(3):
        assert pool.apply(mishaps.use_memory, (400 * MIB,)) == first


def test_shared_memory_does_not_count(pool_factory: Any) -> None:
    """An array of the pool's is nobody's own, whoever touches it."""
    pool = pool_factory(1, max_memory_per_child=200 * MIB)
    array = pool.zeros(300 * MIB // 8)
    first = pool.apply(tasks.pid)
    assert pool.apply(array.sum) == 0
    assert pool.apply(tasks.pid) == first


@pytest.mark.parametrize("value", [0, -1])
def test_max_memory_must_be_positive(pool_factory: Any, value: int) -> None:
    with pytest.raises(ValueError, match="max_memory_per_child must be positive"):
        pool_factory(1, max_memory_per_child=value)


@pytest.mark.parametrize("value", [1.5, "1G", True])
def test_max_memory_must_be_an_integer(pool_factory: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="max_memory_per_child must be None or a number of bytes"):
        pool_factory(1, max_memory_per_child=value)


# --- resize -----------------------------------------------------------------------------------------


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


# --- pools in workers -------------------------------------------------------------------------------


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
    with pytest.raises(AssertionError, match="daemonic.*daemon=False"):
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
    script = run_script(
        NESTED.replace('method == "end"', "True"), arguments=[method, gate.path]
    )
    script.finish(18)


# --- endless crashes --------------------------------------------------------------------------------


def ends_with(impl: Any, pool: Any, reason: str) -> None:
    """Every call gets the reason; no endless row of processes."""
    for call in (
        lambda: pool.apply(tasks.square, (1,)),
        lambda: pool.map(tasks.square, range(10)),
        lambda: pool.apply_async(tasks.square, (1,)).get(10),
        lambda: next(pool.imap(tasks.square, range(10))),
    ):
        with pytest.raises(RuntimeError, match=reason) as caught:
            call()
        assert "before they could start to work" in str(caught.value)
        assert not isinstance(caught.value, impl.module.WorkerDiedError)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (KILL, "was killed by SIGKILL"),
        (signal.SIGSEGV, "was killed by SIGSEGV"),
        ("exit-3", "exited with status 3"),
        ("exit-0", "exited with status 0"),
    ],
)
def test_an_initializer_that_ends_its_worker(
    impl: Any, pool_factory: Any, start_method: str, traces: Any, how: Any, reason: str
) -> None:
    pool = pool_factory(2, tasks.die_always, (str(traces), how))
    ends_with(impl, pool, reason)
    assert len(os.listdir(traces)) <= 10


def test_retries_do_not_make_it_endless(impl: Any, pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(2, tasks.die_always, (str(traces), KILL), retries=10**6)
    ends_with(impl, pool, "was killed by SIGKILL")


def test_workers_that_end_as_soon_as_they_are_forked(run_script: Any) -> None:
    script = run_script(
        """
        import os
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__main__":
            os.register_at_fork(after_in_child=lambda: os._exit(5))
            pool = Pool(2)
            try:
                pool.map(tasks.square, range(3))
            except RuntimeError as error:
                print(error)
            pool.terminate()
            pool.join()
        """
    )
    assert "before they could start to work; the last one exited with status 5" in script.finish()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_that_workers_can_not_import(run_script: Any, method: str) -> None:
    script = run_script(
        f"""
        import multiprocessing
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__mp_main__":
            import no_such_module_anywhere

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            pool = Pool(2)
            try:
                pool.map(tasks.square, range(3))
            except RuntimeError as error:
                print(error)
            pool.terminate()
            pool.join()
        """
    )
    assert "before they could start to work; the last one exited with status 1" in script.finish()
    assert "no_such_module_anywhere" in script.stderr


def test_deaths_in_tasks_are_no_crash_loop(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    for _ in range(30):
        with pytest.raises(impl.module.WorkerDiedError):
            pool.apply(tasks.die, (KILL,))
    whole(pool, 2)


def test_multiprocessing_does_not_wait_for_its_children_for_ever(run_script: Any) -> None:
    """Workers that are no daemons, busy, in a program that ends without closing its pool."""
    script = run_script(
        """
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__main__":
            pool = Pool(2, daemon=False)
            result = pool.map_async(tasks.nap, [60] * 4, 1)
            pool.apply_async(tasks.nap, (0.1,))
        """
    )
    script.finish(5)


