"""Workers are multiprocessing's processes: start methods, names, hooks, and __main__."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import multiprocessing.util
import os
import re
import sys
from multiprocessing import popen_fork
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.impls import START_METHODS

import fastpool

PREFIX = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}


# --- what a worker is ---------------------------------------------------------------------------


def test_a_worker_is_what_multiprocessing_would_make(pool: Any, start_method: str) -> None:
    me = pool.apply(tasks.who_am_i)
    assert re.fullmatch(rf"{PREFIX[start_method]}PoolWorker-\d+(:\d+)*", me["name"]), me
    assert me["pid"] == me["os_pid"] != os.getpid()
    assert me["daemon"] is True
    assert me["name"].endswith(f"-{':'.join(map(str, me['identity']))}")
    assert me["parent_pid"] == os.getpid()
    assert me["parent_name"] == multiprocessing.current_process().name
    assert me["parent_alive"] is True
    assert me["children"] == 0


def test_the_parent_and_the_worker_agree_on_the_name(pool: Any) -> None:
    here = {worker.pid: worker.name for worker in pool._pool}
    there = {who["pid"]: who["name"] for who in (pool.apply(tasks.who_am_i) for _ in range(5))}
    assert there.items() <= here.items()
    assert len(set(here.values())) == 2


def test_the_workers_are_active_children(pool_factory: Any, start_method: str) -> None:
    before = {child.pid for child in multiprocessing.active_children()}
    pool = pool_factory(2)
    children = multiprocessing.active_children()
    assert {child.pid for child in children} - before == set(procs.worker_pids(pool))
    assert all(isinstance(child, multiprocessing.process.BaseProcess) for child in pool._pool)
    pool.close()
    pool.join()
    assert {child.pid for child in multiprocessing.active_children()} == before


def test_the_workers_are_alive_daemonic_processes(pool: Any) -> None:
    for worker in pool._pool:
        assert worker.is_alive()
        assert worker.exitcode is None
        assert worker.daemon is True
        assert procs.is_alive(worker.pid)


@pytest.mark.fastpool_only
def test_a_workers_process_is_asked_for_nothing_that_it_lacks(pool: Any) -> None:
    asked = {name for name in dir(popen_fork.Popen) if not name.startswith("_")}
    asked.remove("duplicate_for_child")  # of a process that is being started
    for worker in pool._pool:
        assert asked <= set(dir(worker._popen))


@pytest.mark.fastpool_only
@pytest.mark.skipif(sys.version_info < (3, 14), reason="Process.interrupt() is of Python 3.14")
def test_interrupting_a_worker_is_like_ctrl_c_the_parents_affair(pool: Any) -> None:
    procs.wait_until(lambda: {info.state for info in pool.workers()} == {"idle"}, what=pool.workers)
    before = procs.worker_pids(pool)
    for worker in pool._pool:
        worker.interrupt()
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]
    assert procs.worker_pids(pool) == before


def test_a_workers_sentinel_tells_its_end(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2)
    pool.apply(tasks.nothing)
    sentinels = [worker.sentinel for worker in pool._pool]
    assert multiprocessing.connection.wait(sentinels, 0) == []
    pool.close()
    ready: set[Any] = set()
    procs.wait_until(
        lambda: ready.update(multiprocessing.connection.wait(sentinels, 0.1)) or len(ready) == 2
    )
    pool.join()


def test_a_daemonic_worker_may_have_no_children(pool: Any) -> None:
    with pytest.raises(AssertionError, match="daemonic processes are not allowed"):
        pool.apply(tasks.start_a_child)


def test_standard_input_is_empty(pool: Any) -> None:
    assert pool.apply(tasks.who_am_i)["stdin"] == ""


def test_the_start_method_is_the_contexts(pool: Any, start_method: str) -> None:
    assert pool._ctx.get_start_method() == start_method


@pytest.mark.fastpool_only
def test_workers_can_be_looked_at(pool: Any) -> None:
    pool.map(tasks.square, range(20), 1)
    infos = pool.workers()
    assert {info.pid for info in infos} == set(procs.worker_pids(pool))
    assert {info.name for info in infos} == {worker.name for worker in pool._pool}
    for info in infos:
        assert isinstance(info.cpus, frozenset) and info.cpus
        assert info.state in ("starting", "idle", "busy"), info
    procs.wait_until(lambda: sum(info.tasks_done for info in pool.workers()) >= 20)


@pytest.mark.fastpool_only
def test_a_busy_worker_is_told_from_an_idle_one(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    procs.wait_until(lambda: gate.arrivals() == 1)
    (busy,) = gate.arrived_pids()
    procs.wait_until(
        lambda: {info.pid: info.state for info in pool.workers()}.get(busy) == "busy",
        what=pool.workers,
    )
    procs.wait_until(lambda: "idle" in {info.state for info in pool.workers()}, what=pool.workers)
    gate.open()
    result.get(10)
    procs.wait_until(lambda: {info.state for info in pool.workers()} == {"idle"}, what=pool.workers)


# --- hooks --------------------------------------------------------------------------------------


def test_finalizers_run_when_a_worker_ends(
    pool_factory: Any, start_method: str, tmp_path: Any
) -> None:
    path = tmp_path / "log"
    pool = pool_factory(2, tasks.finalize_into, (str(path),))
    pids = procs.worker_pids(pool)
    pool.map(tasks.square, range(10))
    pool.close()
    pool.join()
    assert sorted(path.read_text().splitlines()) == sorted(f"finalize {pid}" for pid in pids)


@pytest.mark.start_methods("spawn")
def test_atexit_handlers_run_when_a_spawned_worker_ends(
    pool_factory: Any, start_method: str, tmp_path: Any
) -> None:
    path = tmp_path / "log"
    pool = pool_factory(2, tasks.atexit_into, (str(path),))
    pids = procs.worker_pids(pool)
    pool.map(tasks.square, range(10))
    pool.close()
    pool.join()
    assert sorted(path.read_text().splitlines()) == sorted(f"atexit {pid}" for pid in pids)


_ran_after_fork: list[int] = []


def _note_fork(_obj: object) -> None:
    _ran_after_fork.append(os.getpid())


def _fork_was_noted() -> bool:
    return os.getpid() in _ran_after_fork


def test_hooks_registered_for_after_a_fork_run_in_a_worker(pool_factory: Any) -> None:
    class Anchor:
        pass

    anchor = Anchor()
    multiprocessing.util.register_after_fork(anchor, _note_fork)
    assert pool_factory(1).apply(_fork_was_noted) is True


def test_a_patched_bootstrap_is_used(
    pool_factory: Any, traces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """coverage.py measures workers this way."""
    original = multiprocessing.process.BaseProcess._bootstrap

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        tasks.mark(str(traces), f"{self.name}-{os.getpid()}")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "_bootstrap", patched)
    pool = pool_factory(2)
    pool.map(tasks.square, range(4))
    expected = {f"{worker.name}-{worker.pid}" for worker in pool._pool}
    procs.wait_until(lambda: expected <= set(os.listdir(traces)))


def test_under_fork_a_worker_sees_the_globals_of_the_parent(pool_factory: Any) -> None:
    tasks.set_state(inherited=["from the parent"])
    try:
        pool = pool_factory(2, maxtasksperchild=1)
        assert pool.map(tasks.get_state, ["inherited"] * 3, 1) == [["from the parent"]] * 3
    finally:
        tasks.state.clear()


# --- programs -----------------------------------------------------------------------------------

PROGRAM = """
    import multiprocessing, os, sys
    from {module} import Pool

    class Mine:
        def __init__(self, x):
            self.x = x

    class MineError(Exception):
        pass

    def triple(x):
        return 3 * x

    def wrap(x):
        return Mine(x)

    def unwrap(mine):
        return mine.x

    def fail(x):
        raise MineError(x)

    def name(_):
        return multiprocessing.current_process().name

    if __name__ == "__main__":
        if sys.argv[-1] in ("fork", "spawn", "forkserver"):
            multiprocessing.set_start_method(sys.argv[-1])
        with Pool(2) as pool:
            print(pool.map(triple, range(5)))
            wrapped = pool.map(wrap, range(3))
            print(all(type(item) is Mine for item in wrapped), pool.map(unwrap, wrapped))
            try:
                pool.apply(fail, (1,))
            except MineError as error:
                print("MineError", error.args)
            names = set(pool.map(name, range(20)))
            print(sorted(worker.name for worker in pool._pool))
            print(names <= {{worker.name for worker in pool._pool}})
"""


def expected_output(prefix: str) -> list[str]:
    return [
        "[0, 3, 6, 9, 12]",
        "True [0, 1, 2]",
        "MineError (1,)",
        f"['{prefix}PoolWorker-1', '{prefix}PoolWorker-2']",
        "True",
    ]


@pytest.mark.parametrize("how", ["file", "-m"])
@pytest.mark.parametrize("method", START_METHODS)
def test_a_program_may_use_its_own_functions(
    impl: Any, run_script: Any, how: str, method: str
) -> None:
    script = run_script(PROGRAM.format(module=impl.name), how=how, arguments=[method])
    assert script.finish().splitlines() == expected_output(PREFIX[method])
    assert script.stderr == ""


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_a_program_without_a_file_may_use_its_own_functions_under_fork(
    impl: Any, run_script: Any, how: str
) -> None:
    script = run_script(PROGRAM.format(module=impl.name), how=how, arguments=["fork"])
    assert script.finish().splitlines() == expected_output("Fork")
    assert script.stderr == ""


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_program_without_a_file_may_use_functions_of_modules(
    impl: Any, run_script: Any, start_method: str
) -> None:
    script = run_script(
        f"""
        import multiprocessing
        from {impl.name} import Pool
        import math
        multiprocessing.set_start_method("{start_method}")
        with Pool(2) as pool:
            print(pool.map(math.sqrt, [4, 9]))
        """,
        how="-c",
    )
    assert script.finish() == "[2.0, 3.0]\n"


def test_an_interactive_session_may_use_functions_defined_before_the_pool(
    impl: Any, run_script: Any
) -> None:
    script = run_script(
        f"""
        import multiprocessing
        multiprocessing.set_start_method("fork")
        from {impl.name} import Pool
        def triple(x):
            return 3 * x

        pool = Pool(2)
        print("result", pool.map(triple, range(5)))
        print("one", pool.apply(triple, (7,)))
        pool.close()
        pool.join()
        """,
        how="repl",
    )
    output = script.finish()
    assert "result [0, 3, 6, 9, 12]" in output
    assert "one 21" in output


def test_set_start_method_decides_for_a_pool_without_context(impl: Any, run_script: Any) -> None:
    script = run_script(
        f"""
        import multiprocessing
        from {impl.name} import Pool
        if __name__ == "__main__":
            default = multiprocessing.get_context().get_start_method()
            with Pool(1) as pool:
                print(pool._ctx.get_start_method() == default)
            multiprocessing.set_start_method("spawn", force=True)
            with Pool(1) as pool:
                print(pool._pool[0].name.startswith("SpawnPoolWorker"))
        """
    )
    assert script.finish() == "True\nTrue\n"


def test_what_a_forked_worker_has_made_in_shared_memory_outlives_it(
    impl: Any, run_script: Any
) -> None:
    """It shares the parent's resource tracker, which cleans up when the parent is gone."""
    script = run_script(
        f"""
        import multiprocessing
        from multiprocessing import resource_tracker, shared_memory
        from {impl.name} import Pool

        def make():
            memory = shared_memory.SharedMemory(create=True, size=10)
            memory.buf[0] = 7
            memory.close()
            return memory.name, resource_tracker.getfd()

        if __name__ == "__main__":
            multiprocessing.set_start_method("fork")
            resource_tracker.ensure_running()
            with Pool(1) as pool:
                name, descriptor = pool.apply(make)
                pool.close()
                pool.join()
            memory = shared_memory.SharedMemory(name)
            print(memory.buf[0], descriptor == resource_tracker.getfd())
            memory.close()
            memory.unlink()
        """
    )
    assert script.finish() == "7 True\n"


@pytest.mark.fastpool_only
def test_the_name_of_a_start_method_is_no_context() -> None:
    with pytest.raises(
        TypeError, match=r"context must be a multiprocessing context, such as .*not"
    ):
        fastpool.Pool(1, context="spawn")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", START_METHODS)
def test_what_a_worker_printed_is_flushed_at_its_end(
    impl: Any, run_script: Any, method: str
) -> None:
    script = run_script(
        f"""
        import multiprocessing, sys
        from {impl.name} import Pool

        def say(text):
            sys.stdout.write(text)      # no newline, no flush
            sys.stderr.write("E" + text)

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            sys.stdout.write("before ")
            pool = Pool(1)
            pool.map(say, ["one ", "two "])
            pool.close()
            pool.join()
            print("after")
        """,
        environment={"PYTHONUNBUFFERED": ""},
    )
    output = script.finish()
    assert output.count("one two ") == 1
    assert output.count("before ") == 1
    assert output.count("after") == 1
    assert script.stderr.count("Eone ") == 1


@pytest.mark.fastpool_only
@pytest.mark.parametrize("wanted", [None, ["colorsys"]], ids=["by default", "beside others"])
def test_a_fork_server_imports_fastpool_once_for_all_workers(
    run_script: Any, wanted: list[str] | None
) -> None:
    script = run_script(
        f"""
        import multiprocessing

        NAMES = ("fastpool._runtime.worker", "colorsys")
        LOOK = f"import sys; print(*[name in sys.modules for name in {{NAMES}}])"

        if __name__ == "__main__":
            import fastpool
            context = multiprocessing.get_context("forkserver")
            wanted = {wanted}
            if wanted:
                context.set_forkserver_preload(wanted)
            with fastpool.Pool(1, context=context) as pool:
                pool.map(abs, [1])
            bare = context.Process(target=exec, args=(LOOK,))
            bare.start()
            bare.join()
            print(wanted)
        """
    )
    assert script.finish() == f"True {wanted is not None}\n{wanted}\n"
