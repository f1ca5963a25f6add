"""worker_init, worker_exit, what a worker knows of itself, and what exit functions return."""

from __future__ import annotations

import operator
import os
import signal
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from typing import Any

import pytest
from helpers import procs, tasks, worker_tasks
from helpers.procs import wait_until

import fastpool

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


def _end(pool: Any) -> None:
    pool.close()
    pool.join()


# --- the worker and its state -------------------------------------------------------------------


def test_hooks_and_tasks_share_the_workers_state(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2, worker_init=worker_tasks.begin, worker_exit=worker_tasks.tasks_done)
    ids = pool.map(worker_tasks.count_task, range(20), 1)
    _end(pool)
    assert pool.exit_results() == [(0, ids.count(0)), (1, ids.count(1))]


def test_the_initializer_comes_first_and_knows_the_worker_already(pool_factory: Any) -> None:
    pool = pool_factory(1, worker_tasks.note_initializer, worker_init=worker_tasks.begin)
    assert pool.apply(worker_tasks.order_of_start) == ["initializer", "worker_init"]


def test_a_worker_has_an_id_and_a_state_without_hooks_too(pool_factory: Any) -> None:
    pool = pool_factory(1)
    assert pool.map(worker_tasks.count_task, [0, 0]) == [0, 0]
    assert pool.apply(worker_tasks.is_a_worker)


def test_ids_count_from_0_and_a_replacement_has_its_predecessors(
    pool_factory: Any, tmp_path: Any
) -> None:
    pool = pool_factory(3)

    def ids(meeting: str) -> dict[int, int]:
        folder = tmp_path / meeting
        folder.mkdir()
        calls = [pool.apply_async(worker_tasks.meet, (str(folder), 3)) for _ in range(3)]
        return dict(call.get(10) for call in calls)

    first = ids("first")
    assert sorted(first) == [0, 1, 2]
    os.kill(first[1], signal.SIGKILL)
    wait_until(lambda: first[1] not in procs.worker_pids(pool) and len(pool._pool) == 3)
    second = ids("second")
    assert sorted(second) == [0, 1, 2]
    assert {i for i in second if second[i] != first[i]} == {1}


def test_a_process_that_is_no_worker_is_told_so(pool_factory: Any) -> None:
    with pytest.raises(RuntimeError, match="no worker of a fastpool"):
        fastpool.current_worker()
    assert pool_factory(1).apply(worker_tasks.is_a_child_of_a_task_a_worker) is False


def test_a_worker_of_a_pool_in_a_task_is_the_inner_pools(pool_factory: Any) -> None:
    pool = pool_factory(2, daemon=False)
    for _ in range(4):
        inner, outer = pool.apply(worker_tasks.ids_of_an_inner_pool)
        assert inner == 0
        assert outer in (0, 1)


def test_a_worker_init_that_raises_fails_the_pool(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(1, worker_init=worker_tasks.fail_to_begin, worker_exit=worker_tasks.begin)
    for _ in range(2):
        with pytest.raises(LookupError, match="no database for worker 0"):
            pool.apply(tasks.nothing)
    _end(pool)
    assert pool.exit_results() == []


# --- the end of a worker ------------------------------------------------------------------------


def test_each_replaced_worker_has_its_exit_result(pool_factory: Any) -> None:
    pool = pool_factory(
        1,
        worker_init=worker_tasks.begin,
        worker_exit=worker_tasks.tasks_done,
        maxtasksperchild=2,
    )
    assert {pool.apply(worker_tasks.count_task) for _ in range(5)} == {0}
    _end(pool)
    assert pool.exit_results() == [(0, 2), (0, 2), (0, 1)]


def test_a_replacement_waits_until_its_predecessor_has_ended(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(
        1,
        worker_tasks.know_gate,
        (gate.path,),
        maxtasksperchild=1,
        worker_exit=worker_tasks.leave_slowly,
    )
    first = pool.apply(tasks.pid)
    wait_until(lambda: gate.arrivals() == 1)
    second = pool.apply_async(tasks.pid)
    assert [worker.pid for worker in pool.workers()] == [first]
    gate.open()
    assert second.get(10) != first
    _end(pool)
    assert set(pool.exit_results()) == {0}


def test_an_id_has_one_worker_while_the_pool_gets_smaller_and_larger(
    pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(2, worker_exit=operator.attrgetter("id"))
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(2)]
    wait_until(lambda: gate.arrivals() == 2)
    pool.resize(1)
    pool.resize(2)
    assert len(pool.workers()) == 2
    gate.open()
    assert [call.get(10) for call in held] == [0, 1]
    wait_until(lambda: len(pool._pool) == 2)
    _end(pool)
    assert sorted(pool.exit_results()) in ([0, 0, 1], [0, 1, 1])


def test_a_worker_that_a_smaller_pool_lets_go_has_its_exit_result(pool_factory: Any) -> None:
    pool = pool_factory(3, worker_exit=operator.attrgetter("id"))
    pool.resize(1)
    wait_until(lambda: len(pool.workers()) == 1)
    pool.resize(2)
    _end(pool)
    results = pool.exit_results()
    assert len(results) == 4 and set(results) == {0, 1, 2}


def test_a_worker_that_a_task_ends_has_its_exit_result(pool_factory: Any) -> None:
    pool = pool_factory(1, worker_init=worker_tasks.begin, worker_exit=worker_tasks.tasks_done)
    pool.apply(worker_tasks.count_task)
    with pytest.raises(SystemExit):
        pool.apply(worker_tasks.call_sys_exit)
    _end(pool)
    assert pool.exit_results()[0] == (0, 1)


def test_a_killed_worker_has_no_exit_result(pool_factory: Any) -> None:
    pool = pool_factory(1, worker_init=worker_tasks.begin, worker_exit=worker_tasks.tasks_done)
    pool.apply(worker_tasks.count_task)
    with pytest.raises(fastpool.WorkerDiedError):
        pool.apply(tasks.die, (signal.SIGKILL,))
    pool.apply(worker_tasks.count_task)
    pool.apply(worker_tasks.count_task)
    _end(pool)
    assert pool.exit_results() == [(0, 2)]


def test_terminate_calls_no_exit_function(pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(
        2, worker_tasks.survive_sigterm, (str(traces),), worker_exit=worker_tasks.leave_a_trace
    )
    pool.apply(tasks.nothing)
    pool.terminate()
    pool.join()
    assert pool.exit_results() == []
    assert os.listdir(traces) == []


def test_an_exit_function_that_raises_is_told_by_exit_results(pool_factory: Any) -> None:
    pool = pool_factory(3, worker_exit=worker_tasks.fail_to_end)
    _end(pool)
    with pytest.raises(LookupError, match="nothing to close") as caught:
        pool.exit_results()
    assert "fail_to_end" in str(caught.value.__cause__)
    first, error, last = pool.exit_results(return_exceptions=True)
    assert (first, last) == (0, 2)
    assert isinstance(error, LookupError)


def test_an_exit_result_that_cannot_be_pickled_is_an_error(pool_factory: Any) -> None:
    pool = pool_factory(1, worker_exit=worker_tasks.return_a_lock)
    _end(pool)
    with pytest.raises(MaybeEncodingError, match="cannot pickle"):
        pool.exit_results()


def test_an_exit_result_may_be_large(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2, worker_exit=worker_tasks.return_a_megabyte)
    _end(pool)
    assert pool.exit_results() == [b"\0" * 2**20, b"\1" * 2**20]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["worker_init", "worker_exit"])
def test_a_hook_that_cannot_be_called_with_the_worker_is_refused(
    pool_factory: Any, name: str
) -> None:
    with pytest.raises(TypeError, match=rf"{name} must be a callable or None"):
        pool_factory(1, **{name: "not callable"})
    with pytest.raises(TypeError, match=rf"{name} is called with one argument, the worker.*\(\)"):
        pool_factory(1, **{name: worker_tasks.order_of_start})


def test_exit_results_are_for_pools_that_have_ended(pool_factory: Any) -> None:
    pool = pool_factory(1, worker_exit=worker_tasks.tasks_done)
    with pytest.raises(ValueError, match="still has workers"):
        pool.exit_results()
