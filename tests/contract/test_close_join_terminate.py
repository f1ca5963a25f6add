"""close, join and terminate: how a pool ends."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until

SUBMISSIONS: dict[str, Any] = {
    "apply": lambda pool: pool.apply(tasks.nothing),
    "apply_async": lambda pool: pool.apply_async(tasks.nothing),
    "map": lambda pool: pool.map(tasks.nothing, [1]),
    "map of nothing": lambda pool: pool.map(tasks.nothing, []),
    "map_async": lambda pool: pool.map_async(tasks.nothing, [1]),
    "starmap": lambda pool: pool.starmap(tasks.nothing, [(1,)]),
    "starmap_async": lambda pool: pool.starmap_async(tasks.nothing, [(1,)]),
    "imap": lambda pool: pool.imap(tasks.nothing, [1]),
    "imap in chunks": lambda pool: pool.imap(tasks.nothing, [1], 2),
    "imap_unordered": lambda pool: pool.imap_unordered(tasks.nothing, [1]),
    "with": lambda pool: pool.__enter__(),
}


# --- close and join -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "terminate"])
def test_an_ended_pool_takes_no_more_work(pool_factory: Any, ending: str) -> None:
    pool = pool_factory(1)
    getattr(pool, ending)()
    for submit in SUBMISSIONS.values():
        with pytest.raises(ValueError, match="Pool not running"):
            submit(pool)
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(tasks.nothing)


def test_join_of_a_running_pool_is_an_error(pool_factory: Any) -> None:
    pool = pool_factory(1)
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    assert pool.apply(tasks.square, (2,)) == 4


def test_the_states_have_their_names(pool_factory: Any) -> None:
    pool = pool_factory(1)
    assert pool._state == "RUN"
    pool.close()
    assert pool._state == "CLOSE"
    pool.terminate()
    assert pool._state == "TERMINATE"


def test_close_and_join_finish_what_was_submitted(
    pool_factory: Any, start_method: str, traces: Any
) -> None:
    pool = pool_factory(2)
    singles = [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(50)]
    mapped = pool.map_async(tasks.square, range(50))
    iterated = pool.imap(tasks.square, range(50))
    pool.close()
    pool.join()
    assert [result.get(0) for result in singles] == list(range(50))
    assert mapped.get(0) == list(iterated) == [i * i for i in range(50)]


def test_after_join_the_workers_are_gone_and_left_with_code_zero(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(3)
    workers = list(pool._pool)
    pool.map(tasks.square, range(20))
    pool.close()
    pool.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert not any(worker.is_alive() for worker in workers)
    assert not any(procs.is_alive(worker.pid) for worker in workers)
    assert not multiprocessing.active_children()


def test_join_waits_for_a_running_task(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    result = pool.apply_async(tasks.pass_gate, (gate.path, 1))
    wait_until(lambda: gate.arrivals() == 1)
    pool.close()
    joiner = threading.Thread(target=pool.join)
    joiner.start()
    joiner.join(0.2)
    assert joiner.is_alive()
    gate.open()
    joiner.join(10)
    assert not joiner.is_alive()
    assert result.get(0) == 1


def test_every_ending_may_be_repeated_and_combined(pool_factory: Any) -> None:
    for steps in (
        ["close", "close", "join", "join"],
        ["close", "terminate", "join"],
        ["close", "join", "terminate", "terminate", "join", "close"],
        ["terminate", "close", "join", "join"],
        ["terminate", "terminate", "join", "terminate"],
    ):
        pool = pool_factory(2)
        assert pool.apply(tasks.square, (3,)) == 9
        for step in steps:
            getattr(pool, step)()


def test_a_pool_that_never_worked_ends(pool_factory: Any, start_method: str) -> None:
    for ending in ("close", "terminate"):
        pool = pool_factory(2)
        getattr(pool, ending)()
        pool.join()


def test_close_does_not_wait(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    pool.apply_async(tasks.pass_gate, (gate.path,))
    wait_until(lambda: gate.arrivals() == 1)
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 1
    gate.open()
    pool.join()


# --- terminate ----------------------------------------------------------------------------------


def test_terminate_stops_running_tasks_at_once(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2)
    pool.apply(tasks.nothing)
    workers = list(pool._pool)
    for _ in range(4):
        pool.apply_async(tasks.nap, (60,))
    begin = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - begin < 5
    assert not any(procs.is_alive(worker.pid) for worker in workers)
    assert all(worker.exitcode is not None for worker in workers)


def test_terminate_drops_what_waits(pool_factory: Any, traces: Any, gate: Any) -> None:
    pool = pool_factory(1)
    pool.apply_async(tasks.pass_gate, (gate.path,))
    for i in range(1000):
        pool.apply_async(tasks.mark_and_return, (str(traces), i))
    wait_until(lambda: gate.arrivals() == 1)
    pool.terminate()
    pool.join()
    assert not list(traces.iterdir())


@pytest.mark.fastpool_only  # the standard library's pool may hang here
def test_terminate_with_large_arguments_under_way(pool_factory: Any) -> None:
    pool = pool_factory(2)
    for _ in range(40):
        pool.apply_async(tasks.identity, (b"x" * 2_000_000,))
    pool.terminate()
    pool.join()


def test_terminate_while_an_iterable_is_being_pulled(pool_factory: Any) -> None:
    pool = pool_factory(2)
    results = pool.imap(tasks.square, (i for i in range(100_000)))
    assert next(results) == 0
    pool.terminate()
    pool.join()


def test_results_that_were_ready_stay_readable(pool_factory: Any) -> None:
    pool = pool_factory(2)
    done = [pool.apply_async(tasks.make_bytes, (size,)) for size in (3, 300_000)]
    for result in done:
        result.wait(10)
    pool.terminate()
    pool.join()
    assert [len(result.get(0)) for result in done] == [3, 300_000]


# --- what only fastpool promises ----------------------------------------------------------------


@pytest.mark.fastpool_only
@pytest.mark.parametrize("kind", ["apply_async", "map_async"])
def test_a_pending_get_is_told_of_the_end(
    impl: Any, pool_factory: Any, gate: Any, kind: str
) -> None:
    pool = pool_factory(2)
    args: Any = (gate.path,) if kind == "apply_async" else [gate.path]
    result = getattr(pool, kind)(tasks.pass_gate, args)
    waiting = pool.apply_async(tasks.nap, (60,))
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            result.get()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: gate.arrivals() == 1)
    pool.terminate()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(caught[0], impl.module.PoolTerminatedError)
    assert isinstance(caught[0], RuntimeError)
    with pytest.raises(impl.module.PoolTerminatedError):
        waiting.get(5)
    pool.join()


@pytest.mark.fastpool_only
@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_pending_next_is_told_of_the_end(
    impl: Any, pool_factory: Any, kind: str, chunksize: int
) -> None:
    pool = pool_factory(2)
    results = getattr(pool, kind)(tasks.nap, [60] * 5, chunksize)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            next(results)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: any(info.state == "busy" for info in pool.workers()))
    pool.terminate()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(caught[0], impl.module.PoolTerminatedError)
    with pytest.raises((impl.module.PoolTerminatedError, StopIteration)):
        next(results)
    pool.join()


@pytest.mark.fastpool_only
def test_a_blocking_call_is_told_of_the_end(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    killer = threading.Timer(0.1, pool.terminate)
    killer.start()
    with pytest.raises(impl.module.PoolTerminatedError):
        pool.map(tasks.nap, [60] * 4)
    killer.join()
    pool.join()


@pytest.mark.fastpool_only
def test_terminate_by_several_threads_at_once(pool_factory: Any) -> None:
    pool = pool_factory(2)
    pool.apply_async(tasks.nap, (60,))
    threads = [threading.Thread(target=pool.terminate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    pool.join()


@pytest.mark.fastpool_only
def test_join_in_one_thread_while_another_terminates(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    pool.apply_async(tasks.pass_gate, (gate.path,))
    wait_until(lambda: gate.arrivals() == 1)
    pool.close()
    joiner = threading.Thread(target=pool.join)
    joiner.start()
    pool.terminate()
    joiner.join(5)
    assert not joiner.is_alive()
