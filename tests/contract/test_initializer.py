"""initializer(*initargs) runs once in every worker, before its first task."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import pickle
import threading
import time
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until


def test_runs_once_in_every_worker_before_its_first_task(
    pool_factory: Any, start_method: str, traces: Any, tmp_path: Any
) -> None:
    pool = pool_factory(2, tasks.count_starts, (str(traces),))
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    pids = pool.map(tasks.hold_all, [(str(meeting), i, 2) for i in range(2)], 1)
    assert set(pool.map(tasks.get_state, ["starts"] * 20)) == {1}
    started = [int(name.split("-")[1]) for name in os.listdir(traces)]
    assert sorted(started) == sorted(pids) == sorted(procs.worker_pids(pool))


def test_runs_in_the_worker_and_not_here(pool_factory: Any) -> None:
    pool = pool_factory(1, tasks.set_state_pair, ("where", "worker"))
    assert pool.apply(tasks.get_state, ("where",)) == "worker"
    assert tasks.get_state("where") is None


@pytest.mark.parametrize("initargs", [("key", 5), ["key", 5]], ids=["tuple", "list"])
def test_initargs_may_be_any_sequence(pool_factory: Any, initargs: Any) -> None:
    pool = pool_factory(1, initializer=tasks.set_state_pair, initargs=initargs)
    assert pool.apply(tasks.get_state, ("key",)) == 5


def test_runs_in_a_replacement_too(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(1, tasks.set_state_pair, ("key", "set"), 2)
    values = [pool.apply(tasks.get_state, ("key",)) for _ in range(7)]
    assert values == ["set"] * 7


def test_under_fork_it_needs_no_pickling(pool_factory: Any) -> None:
    lock = threading.Lock()
    pool = pool_factory(2, lambda value: tasks.set_state(seen=value.locked()), (lock,))
    assert pool.apply(tasks.get_state, ("seen",)) is False


@pytest.mark.start_methods("spawn", "forkserver")
def test_one_that_cannot_be_pickled_fails_where_it_must_be(
    pool_factory: Any, start_method: str
) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pool_factory(2, lambda: None)


def test_one_that_cannot_be_called_is_a_type_error(pool_factory: Any) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        pool_factory(1, "not callable")


def test_multiprocessings_own_objects_may_be_handed_over(
    pool_factory: Any, start_method: str
) -> None:
    """The usual way to give workers a lock, a counter or an event."""
    context = multiprocessing.get_context(start_method)
    counter = context.Value("i", 0)
    pool = pool_factory(2, tasks.set_state_pair, ("counter", counter))
    pool.map(tasks.count_up, range(50))
    assert counter.value == 50


def test_one_that_takes_long_keeps_no_task_from_a_worker_that_is_ready(
    pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(2, tasks.first_passes, (gate.path,))
    wait_until(lambda: gate.arrivals() == 1)
    (ready,) = set(procs.worker_pids(pool)) - set(gate.arrived_pids())
    for _ in range(3):
        wait_until(lambda: procs.is_asleep(ready))  # it has nothing to do, and sleeps
        called = threading.Event()
        pool.apply_async(tasks.nothing, callback=lambda _, called=called: called.set())
        assert called.wait(5)
        assert pool.apply(tasks.pid) == ready
        assert set(pool.map(tasks.pid, range(10), 1)) == {ready}
    gate.open()
    assert pool.apply(tasks.square, (3,)) == 9


# --- an initializer that fails ------------------------------------------------------------------


@pytest.mark.fastpool_only
def test_its_error_is_what_every_call_gets(
    pool_factory: Any, start_method: str, traces: Any
) -> None:
    error = tasks.CustomError("no database", 7)
    pool = pool_factory(2, tasks.fail_initializer, (str(traces), error))
    # The first calls are likely to be pending when the error arrives, the last are later calls.
    for call in (
        lambda: pool.apply(tasks.square, (1,)),
        lambda: pool.map(tasks.square, range(10)),
        lambda: pool.apply_async(tasks.square, (1,)).get(10),
        lambda: pool.map_async(tasks.square, range(10)).get(10),
        lambda: next(pool.imap(tasks.square, range(10))),
        lambda: next(pool.imap_unordered(tasks.square, range(10))),
    ):
        with pytest.raises(tasks.CustomError) as caught:
            call()
        assert type(caught.value) is tasks.CustomError
        assert caught.value.args == ("no database", 7)
        cause = caught.value.__cause__
        assert isinstance(cause, multiprocessing.pool.RemoteTraceback)
        assert "fail_initializer" in str(cause)
    pool.close()
    pool.join()


@pytest.mark.fastpool_only
def test_its_failure_starts_no_endless_row_of_workers(pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(2, tasks.fail_initializer, (str(traces), ValueError("never")))
    with pytest.raises(ValueError, match="never"):
        pool.apply(tasks.square, (1,))
    started = len(os.listdir(traces))
    assert started <= 8
    time.sleep(0.3)  # time for the row to go on, if it did
    assert len(os.listdir(traces)) <= started + 2


@pytest.mark.fastpool_only
@pytest.mark.parametrize("processes", [1, 2])
def test_its_failure_reaches_calls_that_are_pending(
    pool_factory: Any, traces: Any, gate: Any, processes: int
) -> None:
    pool = pool_factory(processes, tasks.fail_initializer_at_gate, (gate.path,))
    pending = [pool.apply_async(tasks.square, (i,)) for i in range(10)]
    mapped = pool.map_async(tasks.square, range(10))
    errors: list[Any] = []
    pool.apply_async(tasks.square, (1,), error_callback=errors.append)
    wait_until(lambda: gate.arrivals() == processes)
    gate.open()
    for result in [*pending, mapped]:
        with pytest.raises(ValueError, match="after the gate"):
            result.get(10)
    wait_until(lambda: [str(error) for error in errors] == ["after the gate"])


@pytest.mark.fastpool_only
def test_a_pool_whose_initializer_failed_can_be_ended(pool_factory: Any, traces: Any) -> None:
    for ending in ("close", "terminate"):
        pool = pool_factory(2, tasks.fail_initializer, (str(traces), ValueError("never")))
        getattr(pool, ending)()
        pool.join()
