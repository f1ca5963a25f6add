"""A worker dies: exactly what it held fails, by name; everything else goes on, and the pool too."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.pool_health import whole
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

DEATHS = {
    "SIGKILL": (signal.SIGKILL, -signal.SIGKILL),
    "SIGSEGV": (signal.SIGSEGV, -signal.SIGSEGV),
    "SIGTERM": (signal.SIGTERM, -signal.SIGTERM),
    "SIGABRT": (signal.SIGABRT, -signal.SIGABRT),
    "os._exit(7)": ("exit-7", 7),
    "os._exit(0)": ("exit-0", 0),
}
EVERY_DEATH = pytest.mark.parametrize(("how", "exitcode"), DEATHS.values(), ids=list(DEATHS))
KILL = signal.SIGKILL


# --- in a task --------------------------------------------------------------------------------


@EVERY_DEATH
def test_the_caller_is_told_who_died_of_what_doing_what(
    impl: Any, pool_factory: Any, how: Any, exitcode: int
) -> None:
    pool = pool_factory(2)
    before = procs.worker_pids(pool)
    begin = time.monotonic()
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        pool.apply(tasks.die, (how,))
    assert time.monotonic() - begin < 2
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert error.pid in before
    assert error.exitcode == exitcode
    assert isinstance(error.task, str) and error.task
    assert str(error.pid) in str(error)
    assert not procs.is_alive(error.pid)
    whole(pool, 2)
    assert error.pid not in procs.worker_pids(pool)


@pytest.mark.parametrize("kind", ["apply", "map", "imap"])
def test_the_error_names_the_function(impl: Any, pool_factory: Any, kind: str) -> None:
    pool = pool_factory(1)
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        if kind == "apply":
            pool.apply(tasks.die, (KILL,))
        else:
            list(getattr(pool, kind)(tasks.die, [KILL]))
    assert "die" in caught.value.task
    assert caught.value.task in str(caught.value)


@pytest.mark.start_methods("spawn", "forkserver")
def test_it_is_the_same_under_every_start_method(
    impl: Any, pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(2)
    for how, exitcode in ((KILL, -KILL), ("exit-7", 7)):
        with pytest.raises(impl.module.WorkerDiedError) as caught:
            pool.apply(tasks.die, (how,))
        assert caught.value.exitcode == exitcode
        whole(pool, 2)


def test_the_error_can_be_pickled(impl: Any, pool_factory: Any) -> None:
    """A pool in a worker of a pool hands it on."""
    pool = pool_factory(1)
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        pool.apply(tasks.die, (KILL,))
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is impl.module.WorkerDiedError
    assert (error.pid, error.exitcode, error.task) == (
        caught.value.pid,
        caught.value.exitcode,
        caught.value.task,
    )
    assert str(error) == str(caught.value)


def test_only_the_task_that_died_fails(impl: Any, pool_factory: Any, tmp_path: Any) -> None:
    pool = pool_factory(2)
    log = str(tmp_path / "log")
    results = []
    for i in range(60):
        how = KILL if i % 20 == 7 else None
        results.append(pool.apply_async(tasks.die_or_record, ((how, log, i),)))
    for i, result in enumerate(results):
        if i % 20 == 7:
            with pytest.raises(impl.module.WorkerDiedError):
                result.get(10)
        else:
            assert result.get(10) == i
    with open(log) as file:
        assert sorted(map(int, file)) == list(range(60)), "each task ran once"
    whole(pool, 2)


def test_error_callbacks_are_called_once_and_callbacks_of_others_too(
    impl: Any, pool_factory: Any
) -> None:
    pool = pool_factory(2)
    good: list[Any] = []
    bad: list[Any] = []
    results = [
        pool.apply_async(
            tasks.die_or_return, ((KILL if i == 5 else None, i),), {}, good.append, bad.append
        )
        for i in range(20)
    ]
    for result in results:
        result.wait(10)
    assert sorted(good) == [i for i in range(20) if i != 5]
    assert [type(error) for error in bad] == [impl.module.WorkerDiedError]


@pytest.mark.parametrize("chunksize", [1, 5])
@EVERY_DEATH
def test_map_fails_when_all_other_items_are_done(
    impl: Any, pool_factory: Any, tmp_path: Any, chunksize: int, how: Any, exitcode: int
) -> None:
    pool = pool_factory(2)
    log = tmp_path / "log"
    items = [(how if i == 12 else None, str(log), i) for i in range(40)]
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        pool.map(tasks.die_or_record, items, chunksize)
    assert caught.value.exitcode == exitcode
    done = sorted(map(int, log.read_text().split()))
    assert done == list(range(40)), "once each, also those of its chunk"
    whole(pool, 2)


def test_map_without_a_chunksize_fails_too(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    items = [(KILL if i == 500 else None, i) for i in range(1000)]
    with pytest.raises(impl.module.WorkerDiedError):
        pool.map(tasks.die_or_return, items)
    whole(pool, 2)


def test_starmap_fails_too(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    with pytest.raises(impl.module.WorkerDiedError):
        pool.starmap(tasks.die, [(KILL, i) for i in range(3)], 1)
    whole(pool, 2)


@EVERY_DEATH
def test_imap_fails_at_the_item_and_goes_on(
    impl: Any, pool_factory: Any, how: Any, exitcode: int
) -> None:
    pool = pool_factory(2)
    items = [(how if i == 7 else None, i) for i in range(30)]
    results = pool.imap(tasks.die_or_return, items)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        next(results)
    assert caught.value.exitcode == exitcode
    assert list(results) == list(range(8, 30))
    whole(pool, 2)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_imap_unordered_fails_once_for_each_death_and_goes_on(
    impl: Any, pool_factory: Any, chunksize: int
) -> None:
    pool = pool_factory(2)
    items = [(KILL if i in (3, 17) else None, i) for i in range(32)]
    results = pool.imap_unordered(tasks.die_or_return, items, chunksize)
    found, deaths = [], 0
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            break
        except impl.module.WorkerDiedError:
            deaths += 1
    assert deaths == 2
    assert sorted(found) == [i for i in range(32) if i not in (3, 17)]
    whole(pool, 2)


def test_a_task_in_another_worker_is_not_disturbed(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    long = pool.apply_async(tasks.pass_gate, (gate.path, "long"))
    wait_until(lambda: gate.arrivals() == 1)
    for _ in range(3):
        with pytest.raises(impl.module.WorkerDiedError):
            pool.apply(tasks.die, (KILL,))
    assert not long.ready()
    gate.open()
    assert long.get(10) == "long"


def test_many_deaths_in_a_row(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    pids = set()
    for _ in range(15):
        with pytest.raises(impl.module.WorkerDiedError) as caught:
            pool.apply(tasks.die, (KILL,))
        pids.add(caught.value.pid)
        assert pool.apply(tasks.square, (3,)) == 9
    assert len(pids) == 15
    whole(pool, 2)


def test_every_task_dies(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    results = [pool.apply_async(tasks.die, (KILL,)) for _ in range(10)]
    for result in results:
        with pytest.raises(impl.module.WorkerDiedError):
            result.get(10)
    whole(pool, 2)


# --- from outside -----------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_an_idle_worker_dies_and_no_call_fails(pool_factory: Any, signum: int) -> None:
    pool = pool_factory(2)
    for _ in range(3):
        pool.map(tasks.square, range(4))
        wait_until(lambda: {info.state for info in pool.workers()} == {"idle"})
        victim = pool._pool[0].pid
        os.kill(victim, signum)
        wait_until(lambda victim=victim: victim not in procs.worker_pids(pool))
        whole(pool, 2)


def test_an_idle_worker_dies_and_the_next_call_comes_at_once(pool_factory: Any) -> None:
    pool = pool_factory(2)
    pool.map(tasks.square, range(4))
    for _ in range(10):
        with contextlib.suppress(ProcessLookupError):  # the last one, not yet noticed
            os.kill(pool._pool[0].pid, KILL)
        assert pool.map(tasks.square, range(10), 1) == [i * i for i in range(10)]


def test_a_dead_worker_is_replaced_though_nobody_calls(pool_factory: Any) -> None:
    pool = pool_factory(2)
    pool.map(tasks.square, range(4))
    victim = pool._pool[0]
    os.kill(victim.pid, KILL)
    wait_until(
        lambda: (
            victim.pid not in procs.worker_pids(pool)
            and len(pool._pool) == 2
            and all(worker.is_alive() for worker in list(pool._pool))
        )
    )
    assert victim.exitcode == -KILL


def test_all_workers_die_at_once(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(3)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(3)]
    waiting = [pool.apply_async(tasks.square, (i,)) for i in range(50)]
    wait_until(lambda: gate.arrivals() == 3)
    for pid in procs.worker_pids(pool):
        procs.kill(pid)
    for result in held:
        with pytest.raises(impl.module.WorkerDiedError):
            result.get(10)
    assert [result.get(10) for result in waiting] == [i * i for i in range(50)]
    whole(pool, 3)


def test_a_busy_worker_is_killed_from_outside(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    wait_until(lambda: gate.arrivals() == 1)
    (victim,) = gate.arrived_pids()
    os.kill(victim, KILL)
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        result.get(5)
    assert caught.value.pid == victim
    assert caught.value.exitcode == -KILL
    whole(pool, 2)


def test_a_waiting_iterator_is_told(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    results = pool.imap(tasks.pass_gate_if, [(gate.path, 0), (None, 1)])
    wait_until(lambda: gate.arrivals() == 1)
    killer = threading.Timer(0.1, procs.kill, gate.arrived_pids())
    killer.start()
    with pytest.raises(impl.module.WorkerDiedError):
        results.next(10)
    killer.join()
    assert results.next(10) == 1


def test_a_stopped_worker_is_not_dead_and_others_do_the_work(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.pass_gate, (gate.path, "held"))
    wait_until(lambda: gate.arrivals() == 1)
    (stopped,) = gate.arrived_pids()
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert pool.map(tasks.square, range(50), 1) == [i * i for i in range(50)]
        gate.open()
        result.wait(0.2)
        assert not result.ready()
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert result.get(10) == "held"


def stopped(pid: int) -> contextlib.ExitStack:
    """Stop a process; leaving the `with` continues it."""
    stack = contextlib.ExitStack()
    os.kill(pid, signal.SIGSTOP)
    stack.callback(procs.kill, pid, signal.SIGCONT)
    wait_until(lambda: procs.state_of(pid) == "T")
    return stack


def in_every_way(pool: Any) -> None:
    """Calls of all kinds, each waited for."""
    assert pool.apply_async(tasks.square, (3,)).get(5) == 9
    assert InThread(pool.apply, tasks.square, (3,)).outcome() == 9
    assert pool.map_async(tasks.square, range(20), 1).get(5) == [i * i for i in range(20)]
    assert pool.imap(tasks.square, range(2)).next(5) == 0


@pytest.mark.parametrize("idle", ["asleep", "spinning"])
def test_an_idle_worker_that_is_stopped_keeps_no_task_from_the_others(
    pool_factory: Any, idle: str
) -> None:
    pool = pool_factory(2, blocktime=0 if idle == "asleep" else 60)
    pool.map(tasks.square, range(20), 1)
    for pid in procs.worker_pids(pool):
        wait_until(lambda: {info.state for info in pool.workers()} == {"idle"})
        if idle == "asleep":
            wait_until(lambda: {procs.state_of(p) for p in procs.worker_pids(pool)} == {"S"})
        with stopped(pid):
            in_every_way(pool)
    whole(pool, 2)


def test_a_worker_that_is_stopped_while_it_spins_keeps_no_task_from_one_that_sleeps(
    pool_factory: Any,
) -> None:
    """It counts as awake, so that nobody need be woken for the task; but it will not come."""
    pool = pool_factory(2, blocktime=0.3)
    for _ in range(2):
        wait_until(lambda: {procs.state_of(pid) for pid in procs.worker_pids(pool)} == {"S"})
        spinning = pool.apply(tasks.pid)
        with stopped(spinning):
            assert {info.state for info in pool.workers()} == {"idle"}
            in_every_way(pool)
    whole(pool, 2)


def test_a_grandchild_that_keeps_the_descriptors_does_not_hide_the_death(
    impl: Any, pool_factory: Any, tmp_path: Any
) -> None:
    pool = pool_factory(2)
    log = tmp_path / "grandchild"
    begin = time.monotonic()
    try:
        with pytest.raises(impl.module.WorkerDiedError):
            pool.apply(tasks.die_with_a_grandchild_left, (str(log),))
        assert time.monotonic() - begin < 3
        whole(pool, 2)
    finally:
        if log.exists():
            procs.kill(int(log.read_text()))


# --- while something is being sent ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["apply", "map", "imap"])
def test_the_worker_dies_while_it_loads_the_arguments(
    impl: Any, pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(2)
    deadly = tasks.DiesWhenLoaded(KILL)
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        if kind == "apply":
            pool.apply(tasks.identity, (deadly,))
        elif kind == "map":
            pool.map(tasks.identity, [1, deadly, 3], 1)
        else:
            list(pool.imap(tasks.identity, [1, deadly, 3]))
    assert caught.value.exitcode == -KILL
    whole(pool, 2)


@pytest.mark.parametrize("size", [0, 100, 10_000, 4_000_000])
def test_the_worker_dies_while_it_pickles_the_result(
    impl: Any, pool_factory: Any, size: int
) -> None:
    pool = pool_factory(2)
    with pytest.raises(impl.module.WorkerDiedError):
        pool.apply(tasks.return_something_deadly, (KILL, size))
    with pytest.raises(impl.module.WorkerDiedError):
        pool.map(tasks.return_something_deadly_of, [(KILL, size)] * 3, 1)
    whole(pool, 2)


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_a_worker_that_dies_while_it_sends_a_chunk_has_an_error_for_each_of_its_items(
    impl: Any, pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(1)
    results = getattr(pool, kind)(tasks.return_what_is_deadly_in_the_end, range(7), 7)
    outcomes = []
    with contextlib.suppress(StopIteration):
        while True:
            try:
                outcomes.append(results.next(10))
            except impl.module.WorkerDiedError as error:
                outcomes.append(error.task.partition(" of ")[0])
    # The first one was saved before its worker died.
    assert outcomes == ["pickled", *(f"item {index}" for index in range(1, 7))]
    whole(pool, 1)


def test_the_worker_dies_somewhere_while_it_sends_a_large_result(
    impl: Any, pool_factory: Any
) -> None:
    """The death that makes most pools hang: half of a result is on its way."""
    pool = pool_factory(2)
    size = 40_000_000
    for k in range(16):
        result = pool.apply_async(tasks.return_large_and_die_soon, (size, k * 0.002))
        try:
            assert len(result.get(10)) == size
        except impl.module.WorkerDiedError:
            pass
        # A result that came through leaves a worker that dies a moment later, here or there.
        others = [pool.apply_async(tasks.square, (i,)) for i in range(4)]
        for i, other in enumerate(others):
            try:
                assert other.get(10) == i * i
            except impl.module.WorkerDiedError:
                pass
    wait_until(lambda: all(worker.is_alive() for worker in list(pool._pool)))
    time.sleep(0.05)  # the last killer strikes within its delay
    whole(pool, 2)


def test_large_results_of_others_survive_the_death(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    sizes = [1_000_000 + i for i in range(20)]
    kept = [pool.apply(tasks.make_bytes, (size,)) for size in sizes[:5]]
    pending = [pool.apply_async(tasks.make_bytes, (size,)) for size in sizes]
    dying = pool.apply_async(tasks.die, (KILL,))
    with pytest.raises(impl.module.WorkerDiedError):
        dying.get(10)
    assert [len(result.get(10)) for result in pending] == sizes
    assert [set(value) for value in kept] == [{ord("x")}] * 5
    whole(pool, 2)


# --- in the initializer --------------------------------------------------------------------------


@EVERY_DEATH
def test_a_worker_that_dies_in_its_initializer_once_is_replaced(
    pool_factory: Any, tmp_path: Any, how: Any, exitcode: int
) -> None:
    pool = pool_factory(2, tasks.die_first_time, (str(tmp_path / "once"), how))
    whole(pool, 2)


@pytest.mark.parametrize("how", [KILL, "exit-3"])
def test_workers_that_always_die_in_their_initializer_fail_the_pool(
    impl: Any, pool_factory: Any, traces: Any, how: Any
) -> None:
    pool = pool_factory(2, tasks.die_always, (str(traces), how))
    for call in (
        lambda: pool.apply(tasks.square, (1,)),
        lambda: pool.map(tasks.square, range(10)),
        lambda: next(pool.imap(tasks.square, range(10))),
    ):
        with pytest.raises(RuntimeError):
            call()
    started = len(os.listdir(traces))
    time.sleep(0.3)  # time for an endless row of workers to go on, if there is one
    assert len(os.listdir(traces)) <= started + 2
    assert started <= 40
    pool.terminate()
    pool.join()


# --- at the end of the pool ---------------------------------------------------------------------


def test_close_and_join_finish_though_workers_die(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    results = [
        pool.apply_async(tasks.die_or_return, ((KILL if i % 7 == 3 else None, i),))
        for i in range(30)
    ]
    pool.close()
    pool.join()
    for i, result in enumerate(results):
        if i % 7 == 3:
            with pytest.raises(impl.module.WorkerDiedError):
                result.get(0)
        else:
            assert result.get(0) == i


def test_terminate_finishes_though_workers_are_dead_or_stopped(pool_factory: Any) -> None:
    pool = pool_factory(3)
    for _ in range(6):
        pool.apply_async(tasks.nap, (60,))
    first, second, _third = procs.worker_pids(pool)
    os.kill(first, KILL)
    os.kill(second, signal.SIGSTOP)
    begin = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - begin < 5
    assert not procs.is_alive(second)


def test_a_worker_that_ignores_sigterm_does_not_hold_up_terminate(pool_factory: Any) -> None:
    pool = pool_factory(2, signal.signal, (signal.SIGTERM, signal.SIG_IGN))
    for _ in range(2):
        pool.apply_async(tasks.nap, (60,))
    wait_until(lambda: {info.state for info in pool.workers()} == {"busy"})
    pids = procs.worker_pids(pool)
    begin = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - begin < 10
    assert not any(procs.is_alive(pid) for pid in pids)


def test_workers_die_while_workers_change(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2, maxtasksperchild=2)
    results = [
        pool.apply_async(tasks.die_or_return, ((KILL if i % 9 == 4 else None, i),))
        for i in range(36)
    ]
    for i, result in enumerate(results):
        if i % 9 == 4:
            with pytest.raises(impl.module.WorkerDiedError):
                result.get(10)
        else:
            assert result.get(10) == i


# --- the pool's own helpers -----------------------------------------------------------------------


def test_a_helper_process_dies_and_no_call_hangs(impl: Any, run_script: Any) -> None:
    """Whatever processes the pool has beside its workers: calls end, with a value or an error."""
    script = run_script(
        """
        import os, signal
        from fastpool import Pool
        from helpers import procs, tasks

        if __name__ == "__main__":
            pool = Pool(2)
            pool.map(tasks.square, range(4))
            workers = set(procs.worker_pids(pool))
            helpers = [pid for pid in procs.descendants(os.getpid()) if pid not in workers]
            for pid in helpers:
                os.kill(pid, signal.SIGKILL)
            print("helpers", len(helpers))
            for attempt in range(3):
                try:
                    print(pool.map_async(tasks.square, range(4)).get(5) == [0, 1, 4, 9])
                except RuntimeError as error:
                    print("error", error)
                for pid in procs.worker_pids(pool)[:1]:
                    procs.kill(pid)
            pool.terminate()
            pool.join()
            print("ended")
        """
    )
    output = script.finish()
    assert output.rstrip().endswith("ended")
    assert "False" not in output
