"""From the first call to the end: how workers start, die and leave, and what ends an executor."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import operator
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from helpers import tasks
from helpers.build import PINS
from helpers.procs import wait_until

import fastpool

Executor = fastpool.ProcessPoolExecutor


def fail_to_start(gate: str) -> None:
    tasks.pass_gate(gate)
    raise OSError("no license")


def leave() -> None:
    os._exit(3)


# ---- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child must be an integer"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"mp_context": "spawn"}, TypeError, "mp_context must be a multiprocessing context"),
        ({"retries": -1}, ValueError, "retries"),
        ({"affinity": "nowhere"}, ValueError, "affinity"),
        ({"processes": 2}, TypeError, "unexpected keyword argument 'processes'"),
        ({"colour": "red"}, TypeError, "unexpected keyword argument 'colour'"),
    ],
)
def test_bad_arguments_are_told_when_the_executor_is_made(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Executor(**arguments)


def test_there_are_as_many_workers_as_a_pool_has() -> None:
    with fastpool.Pool() as pool:
        assert Executor()._max_workers == len(pool.workers())


def test_max_tasks_per_child_starts_workers_by_spawn_unless_told_otherwise(
    make_executor: Any,
) -> None:
    assert Executor(1, max_tasks_per_child=3)._mp_context.get_start_method() == "spawn"
    executor = make_executor(1, max_tasks_per_child=3)
    pids = [executor.submit(tasks.pid).result(10) for _ in range(7)]
    assert len(set(pids[:3])) == len(set(pids[3:6])) == 1
    assert len(set(pids)) == 3


@PINS
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_arguments_reach_the_workers(make_executor: Any, method: str) -> None:
    executor = make_executor(
        1,
        method,
        initializer=tasks.set_state_pair,
        initargs=iter(["key", "value"]),
        affinity=[{min(os.sched_getaffinity(0))}],
    )
    assert executor.submit(tasks.get_state, "key").result(20) == "value"
    assert executor.submit(tasks.affinity).result(20) == {min(os.sched_getaffinity(0))}


# ---- the start ---------------------------------------------------------------------------------


def test_workers_know_what_was_defined_before_the_first_call(run_script: Any) -> None:
    script = run_script(
        """
        from multiprocessing import get_context
        from fastpool import ProcessPoolExecutor
        executor = ProcessPoolExecutor(2, get_context("fork"))
        def later(x):
            return x + 1
        print(executor.submit(later, 1).result())
        """
    )
    assert script.finish() == "2\n"


def test_threads_that_submit_first_start_one_pool(make_executor: Any) -> None:
    executor = make_executor()
    threads = [threading.Thread(target=executor.submit, args=(tasks.pid,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(executor._processes) == 2


def test_a_program_may_shut_down_while_workers_start() -> None:
    made: list[Executor] = []

    class Nosy(type(multiprocessing.get_context("fork"))):  # type: ignore[misc]
        def Process(self, *args: Any, **kwds: Any) -> Any:
            for executor in made:
                executor.shutdown(wait=False)
            return super().Process(*args, **kwds)

    made += [Executor(1, Nosy()) for _ in range(2)]
    for executor in made:
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(tasks.pid)
        executor.shutdown()


# ---- deaths ------------------------------------------------------------------------------------


def test_a_dead_worker_fails_its_own_call_only(make_executor: Any, gate: Any) -> None:
    executor = make_executor()
    others = [executor.submit(tasks.pass_gate, gate.path)]
    wait_until(lambda: gate.arrivals() == 1, 10)
    dying = executor.submit(leave)
    others += [executor.submit(tasks.pass_gate, gate.path) for _ in range(20)]
    with pytest.raises(BrokenProcessPool) as caught:
        dying.result(10)
    assert isinstance(caught.value, fastpool.WorkerDiedError)
    assert caught.value.exitcode == 3
    gate.open()
    assert concurrent.futures.wait(others, 10).not_done == set()
    assert [future.exception() for future in others] == [None] * 21
    assert not executor._broken
    assert executor.submit(tasks.add, 1, 2).result(10) == 3


def test_with_retries_another_worker_tries_again(make_executor: Any, traces: Any) -> None:
    executor = make_executor(retries=1)
    assert executor.submit(die_once, str(traces)).result(10) == "lived"


def die_once(directory: str) -> str:
    try:
        tasks.mark(directory, "first")
    except FileExistsError:
        return "lived"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_initializer_that_raises_breaks_the_executor(
    make_executor: Any, method: str, gate: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = make_executor(1, method, initializer=fail_to_start, initargs=(gate.path,))
    futures = [executor.submit(tasks.pid) for _ in range(3)]
    gate.open()
    for future in futures:
        with pytest.raises(BrokenProcessPool, match="no license") as caught:
            future.result(20)
        assert isinstance(caught.value.__cause__, OSError)
    assert executor._broken
    with pytest.raises(BrokenProcessPool, match="no license"):
        executor.submit(tasks.pid)
    if method == "spawn":  # a forked worker has the logging of this test
        assert "Exception in initializer:" in capfd.readouterr().err


# ---- the end -----------------------------------------------------------------------------------


def test_results_of_exit_functions_are_there_after_shutdown() -> None:
    executor = Executor(2, worker_exit=operator.attrgetter("id"))
    assert executor.exit_results() == []
    executor.submit(tasks.square, 3).result(10)
    with pytest.raises(ValueError, match="the executor still has workers"):
        executor.exit_results()
    executor.shutdown()
    assert executor.exit_results() == [0, 1]


def test_shutdown_waits_for_pending_calls_and_their_callbacks(make_executor: Any) -> None:
    seen: list[Any] = []
    with make_executor() as executor:
        for n in range(100):
            executor.submit(tasks.square, n).add_done_callback(lambda f: seen.append(f.result()))
    assert sorted(seen) == [n * n for n in range(100)]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(tasks.pid)
    executor.shutdown()


def test_an_executor_that_was_never_used_can_be_shut_down() -> None:
    executor = Executor(2)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(tasks.pid)


@pytest.mark.parametrize("end", ["shutdown", "drop"])
def test_without_waiting_pending_calls_run_to_their_end(
    make_executor: Any, gate: Any, end: str
) -> None:
    executor = Executor(1, multiprocessing.get_context("fork"))
    futures = [executor.submit(tasks.pass_gate, gate.path, n) for n in range(5)]
    if end == "shutdown":
        executor.shutdown(wait=False)
        assert executor._processes is None
    del executor
    gc.collect()
    gate.open()
    assert [future.result(10) for future in futures] == [0, 1, 2, 3, 4]


def test_shutdown_cancels_what_has_not_begun(make_executor: Any, gate: Any) -> None:
    executor = make_executor(1)
    running = executor.submit(tasks.pass_gate, gate.path, "done")
    wait_until(lambda: gate.arrivals() == 1, 10)
    queued = [executor.submit(tasks.pid) for _ in range(2000)]
    iterator = concurrent.futures.as_completed(queued[:5], 10)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    assert set(iterator) == set(queued[:5])
    gate.open()
    executor.shutdown()
    assert running.result(0) == "done"


def test_a_callback_may_shut_down(make_executor: Any) -> None:
    executor = make_executor()
    down = threading.Event()
    future = executor.submit(tasks.pid)
    future.add_done_callback(lambda f: (executor.shutdown(), down.set()))
    assert down.wait(10)
    executor.shutdown()


@pytest.mark.parametrize("way", ["terminate_workers", "kill_workers"])
def test_workers_can_be_stopped_at_once(make_executor: Any, gate: Any, way: str) -> None:
    executor = make_executor(1)
    running = executor.submit(tasks.pass_gate, gate.path)
    wait_until(lambda: gate.arrivals() == 1, 10)
    queued = executor.submit(tasks.pid)
    getattr(executor, way)()
    with pytest.raises(BrokenProcessPool) as caught:
        running.result(10)
    assert isinstance(caught.value, fastpool.PoolTerminatedError)
    assert queued.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.pid)


PENDING_AT_THE_END = """
from multiprocessing import get_context
from fastpool import ProcessPoolExecutor
from helpers import tasks
import atexit, os

def say(text):
    os.write(1, f"{{text}}\\n".encode())

def late():
    try:
        executor.submit(tasks.pid)
    except RuntimeError as error:
        say(error)

def report(future):
    say(future.result())

if __name__ == "__main__":
    executor = ProcessPoolExecutor(1, get_context({method!r}))
    dropped = ProcessPoolExecutor(1, get_context({method!r}))
    unused = ProcessPoolExecutor(1)
    atexit.register(late)
    executor.submit(tasks.nap, 0.1, "kept").add_done_callback(report)
    executor.submit(say, "said")
    dropped.submit(tasks.nap, 0.2, "dropped").add_done_callback(report)
    del dropped
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_interpreter_waits_for_pending_calls(run_script: Any, method: str) -> None:
    output = run_script(PENDING_AT_THE_END.format(method=method)).finish()
    lines = sorted(output.splitlines())
    assert lines == [
        "cannot schedule new futures after interpreter shutdown",
        "dropped",
        "kept",
        "said",
    ]


INTERRUPTED = """
from multiprocessing import get_context
from fastpool import ProcessPoolExecutor
from helpers import tasks
import time

if __name__ == "__main__":
    executor = ProcessPoolExecutor(1, get_context("fork"))
    running = executor.submit(tasks.nap, 60)
    executor.submit(tasks.nap, 60)
    while not running.running():
        time.sleep(0.001)
    {block}
"""


@pytest.mark.parametrize(
    "block",
    [
        "with executor: print('ready', flush=True); running.result()",
        "with executor: print('ready', flush=True)",
        "print('ready', flush=True); running.result()",
        "print('ready', flush=True)",
    ],
    ids=["in with", "at its end", "without", "at the end"],
)
def test_ctrl_c_stops_what_runs(run_script: Any, block: str) -> None:
    script = run_script(INTERRUPTED.format(block=block))
    script.wait_for("ready")
    script.signal_group(signal.SIGINT)
    script.wait(5)
    script.wait_gone()


def test_importing_fastpool_does_not_import_what_only_executors_need(run_script: Any) -> None:
    script = run_script(
        """
        import sys
        import fastpool
        print("concurrent.futures.process" in sys.modules, "ProcessPoolExecutor" in dir(fastpool))
        print(fastpool.ProcessPoolExecutor.__module__)
        """
    )
    assert script.finish() == "False True\nfastpool.executor\n"
