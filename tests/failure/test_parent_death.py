"""The parent dies, in whatever way: within a second no process of the pool is left."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from helpers import procs

pytestmark = pytest.mark.timeout_s(20)

PROGRAM = """
    import multiprocessing, os, signal, sys, threading, time
    from {module} import Pool
    from helpers import procs, tasks

    def leave(how):
        if how == "segfault":
            tasks.die(signal.SIGSEGV)
        elif how == "os._exit":
            os._exit(3)
        elif how == "abort":
            os.abort()
        time.sleep(60)      # until the test kills us

    if __name__ == "__main__":
        method, load, how = sys.argv[1:]
        multiprocessing.set_start_method(method)
        pool = Pool(2)
        pool.map(tasks.square, range(10))
        if load == "busy":
            results = [pool.apply_async(tasks.pass_gate, (os.environ["GATE"], i)) for i in range(4)]
            procs.wait_until(lambda: len(os.listdir(os.environ["GATE"])) == 2)
        elif load == "busy in C":
            results = [pool.apply_async(tasks.busy_in_c) for _ in range(2)]
            pids = procs.worker_pids(pool)
            procs.wait_until(lambda: all(procs.state_of(pid) == "R" for pid in pids), 10)
        elif load == "sending":
            results = [pool.apply_async(tasks.make_bytes, (30_000_000,)) for i in range(20)]
        elif load == "iterating":
            results = pool.imap(tasks.square, (i for i in range(10**9)))
            next(results)
        print("READY", *procs.worker_pids(pool))
        leave(how)
"""


def start(run_script: Any, gate: Any, module: str, method: str, load: str, how: str) -> Any:
    script = run_script(
        PROGRAM.format(module=module),
        arguments=[method, load, how],
        environment={"GATE": gate.path},
    )
    script.wait_for("READY")
    return script


def test_idle_workers_leave_when_the_parent_is_killed(
    impl: Any, start_method: str, run_script: Any, gate: Any
) -> None:
    script = start(run_script, gate, impl.name, start_method, "idle", "SIGKILL")
    assert len(script.workers()) >= 2
    script.signal(signal.SIGKILL)
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
def test_busy_workers_leave_when_the_parent_is_killed(
    impl: Any, start_method: str, run_script: Any, gate: Any
) -> None:
    script = start(run_script, gate, impl.name, start_method, "busy", "SIGKILL")
    script.signal(signal.SIGKILL)
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
def test_workers_that_never_come_back_from_c_leave_too(run_script: Any, gate: Any) -> None:
    script = start(run_script, gate, "fastpool", "fork", "busy in C", "SIGKILL")
    script.signal(signal.SIGKILL)
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
@pytest.mark.parametrize("load", ["sending", "iterating"])
def test_workers_leave_in_the_middle_of_traffic(run_script: Any, gate: Any, load: str) -> None:
    script = start(run_script, gate, "fastpool", "fork", load, "SIGKILL")
    script.signal(signal.SIGKILL)
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
@pytest.mark.parametrize(
    ("how", "code"),
    [("os._exit", 3), ("segfault", -signal.SIGSEGV), ("abort", -signal.SIGABRT)],
)
def test_workers_leave_when_the_parent_crashes(
    run_script: Any, gate: Any, how: str, code: int
) -> None:
    script = start(run_script, gate, "fastpool", "fork", "busy", how)
    assert script.wait() == code
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_workers_leave_when_a_signal_ends_the_parent(
    run_script: Any, gate: Any, signum: int
) -> None:
    script = start(run_script, gate, "fastpool", "fork", "busy", "signal")
    script.signal(signum)
    assert script.wait() == -signum
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
def test_the_workers_memory_goes_with_them(run_script: Any, gate: Any) -> None:
    """Nothing with a name is left in /dev/shm: a killed parent can't clean up."""
    before = procs.names_of_memory()
    script = start(run_script, gate, "fastpool", "fork", "sending", "SIGKILL")
    script.signal(signal.SIGKILL)
    script.wait_gone(1.0)
    procs.wait_until(lambda: not procs.names_since(before), 2.0)


@pytest.mark.fastpool_only
def test_a_stopped_worker_leaves_when_it_is_continued_or_at_once(
    run_script: Any, gate: Any
) -> None:
    script = start(run_script, gate, "fastpool", "fork", "idle", "SIGKILL")
    worker = int(script.stdout.split()[1])
    procs.kill(worker, signal.SIGSTOP)
    script.signal(signal.SIGKILL)
    procs.wait_until(lambda: set(script.processes()) <= {worker}, 1.0)
    procs.kill(worker, signal.SIGCONT)
    script.wait_gone(1.0)


@pytest.mark.fastpool_only
def test_workers_leave_when_the_parent_dies_while_they_start(
    start_method: str, run_script: Any
) -> None:
    script = run_script(
        f"""
        import multiprocessing, os, signal, time
        from fastpool import Pool

        def kill_the_parent():
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
            time.sleep(60)

        if __name__ == "__main__":
            multiprocessing.set_start_method("{start_method}")
            pool = Pool(4, kill_the_parent)
            time.sleep(60)
        """
    )
    assert script.wait() == -signal.SIGKILL
    script.wait_gone(1.5)


@pytest.mark.fastpool_only
def test_a_nested_pool_goes_with_the_outermost_parent(run_script: Any, gate: Any) -> None:
    script = run_script(
        """
        import multiprocessing, os, time
        from fastpool import Pool
        from helpers import procs, tasks

        class NoDaemonProcess(multiprocessing.context.ForkProcess):
            daemon = property(lambda self: False, lambda self, value: None)

        class NoDaemonContext(type(multiprocessing.get_context("fork"))):
            Process = NoDaemonProcess

        def outer(gate):
            with Pool(2, context=multiprocessing.get_context("fork")) as pool:
                pool.map(tasks.pass_gate, [gate] * 2, 1)

        if __name__ == "__main__":
            pool = Pool(2, context=NoDaemonContext())
            results = [pool.apply_async(outer, (os.environ["GATE"],)) for _ in range(2)]
            procs.wait_until(lambda: len(os.listdir(os.environ["GATE"])) == 4)
            print("READY")
            time.sleep(60)
        """,
        environment={"GATE": gate.path},
    )
    script.wait_for("READY")
    script.signal(signal.SIGKILL)
    script.wait_gone(1.5)
