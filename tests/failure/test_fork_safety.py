"""os.fork by the user: the child can neither use nor disturb the parent's pool."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import procs, tasks

pytestmark = pytest.mark.timeout_s(20)

# `in_child(action)` forks, lets the child do something, and prints what it had to say.
PREAMBLE = """
    import multiprocessing, os, signal, sys, threading, time
    from {module} import Pool
    from helpers import procs, tasks

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")

    def in_child(action, leave=os._exit):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 0
            try:
                print("child:", action())
            except RuntimeError as error:
                print("child: RuntimeError")
            except BaseException as error:
                print("child:", type(error).__name__, error)
            sys.stdout.flush()
            leave(0)
        pid, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def works(pool, workers=None):
        right = (
            pool.apply(tasks.square, (3,)) == 9
            and pool.map(tasks.square, range(20), 1) == [i * i for i in range(20)]
            and list(pool.imap(tasks.square, range(5))) == [0, 1, 4, 9, 16]
        )
        if workers is not None and procs.worker_pids(pool) != workers:
            print("other workers")
        print("parent:", right)

"""


WARNING = (
    f"This process (pid={os.getpid()}) is multi-threaded, "
    "use of fork() may lead to deadlocks in the child."
)


@contextlib.contextmanager
def beside_a_thread() -> Iterator[None]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def start(run_script: Any, body: str, module: str = "fastpool") -> Any:
    return run_script(PREAMBLE.format(module=module) + body)


USES = {
    "apply": "pool.apply(tasks.square, (2,))",
    "apply_async": "pool.apply_async(tasks.square, (2,)).get(5)",
    "map": "pool.map(tasks.square, range(4))",
    "map_async": "pool.map_async(tasks.square, range(4)).get(5)",
    "starmap": "pool.starmap(tasks.add, [(1, 2)])",
    "imap": "list(pool.imap(tasks.square, range(4)))",
    "imap_unordered": "list(pool.imap_unordered(tasks.square, range(4)))",
}


@pytest.mark.fastpool_only
def test_using_the_pool_in_the_child_is_a_runtime_error(run_script: Any) -> None:
    uses = ", ".join(f"lambda: {use}" for use in USES.values())
    script = start(
        run_script,
        f"""
    if __name__ == "__main__":
        with Pool(2) as pool:
            workers = procs.worker_pids(pool)
            for use in [{uses}]:
                assert in_child(use) == 0
                works(pool, workers)
        """,
    )
    assert script.finish() == "child: RuntimeError\nparent: True\n" * len(USES)


@pytest.mark.fastpool_only
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_of_multiprocessing_may_not_use_it_either(run_script: Any, method: str) -> None:
    """Nor does its end, which runs exit handlers, harm the parent's pool."""
    script = start(
        run_script,
        f"""
    def use():
        try:
            print("child:", pool.map(tasks.square, range(4)))
        except RuntimeError:
            print("child: RuntimeError")

    if __name__ == "__main__":
        with Pool(2, context=multiprocessing.get_context("{method}")) as pool:
            workers = procs.worker_pids(pool)
            child = multiprocessing.get_context("fork").Process(target=use)
            child.start()
            child.join()
            print(child.exitcode)
            works(pool, workers)
        """,
    )
    assert script.finish() == "child: RuntimeError\n0\nparent: True\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize("kind", ["get", "wait", "next"])
def test_waiting_in_the_child_for_a_result_of_the_parent_ends(run_script: Any, kind: str) -> None:
    wait = {"get": "result.get(5)", "wait": "result.wait(5)", "next": "iterator.next(5)"}[kind]
    script = start(
        run_script,
        f"""
    if __name__ == "__main__":
        with Pool(2) as pool:
            result = pool.apply_async(tasks.nap, (1, "value"))
            iterator = pool.imap(tasks.nap, [1])
            assert in_child(lambda: {wait}) == 0
            print("parent:", result.get())
            works(pool)
        """,
    )
    output = script.finish()
    assert output.endswith("parent: value\nparent: True\n")
    if kind != "wait":
        assert output.startswith("child: RuntimeError\n")


@pytest.mark.fastpool_only
def test_a_result_that_is_ready_may_be_read_in_the_child(run_script: Any) -> None:
    script = start(
        run_script,
        """
    if __name__ == "__main__":
        with Pool(2) as pool:
            result = pool.map_async(tasks.square, range(3))
            result.wait()
            assert in_child(lambda: result.get(1)) == 0
            works(pool)
        """,
    )
    assert script.finish() == "child: [0, 1, 4]\nparent: True\n"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_child_that_leaves_by_os_exit_disturbs_nothing(
    impl: Any, run_script: Any, busy: bool
) -> None:
    script = start(
        run_script,
        f"""
    if __name__ == "__main__":
        with Pool(2) as pool:
            workers = procs.worker_pids(pool)
            pool.apply(tasks.nothing)
            if {busy}:
                pending = pool.map_async(tasks.nap, [0.1] * 6, 1)
            for _ in range(3):
                in_child(lambda: "leaves")
            if {busy}:
                print(pending.get())
            works(pool, workers)
        """,
        impl.name,
    )
    expected = "child: leaves\n" * 3 + ("[None, None, None, None, None, None]\n" if busy else "")
    assert script.finish() == expected + "parent: True\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_that_leaves_by_sys_exit_disturbs_nothing(run_script: Any, method: str) -> None:
    """With the standard library it terminates the parent's pool."""
    script = start(
        run_script,
        f"""
    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}", force=True)
        with Pool(2) as pool:
            workers = procs.worker_pids(pool)
            pool.apply(tasks.nothing)
            pending = pool.map_async(tasks.nap, [0.1] * 6, 1)
            for _ in range(3):
                print(in_child(lambda: "leaves", sys.exit))
            pending.get()
            works(pool, workers)
        """,
    )
    assert script.finish() == "child: leaves\n0\n" * 3 + "parent: True\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize(
    "action",
    [
        "pool.terminate()",
        "pool.close()",
        "pool.__exit__(None, None, None)",
        "globals().pop('pool') and None",
        "(pool.terminate(), pool.join())",
        "(pool.close(), pool.join())",
    ],
)
def test_a_child_that_ends_the_pool_ends_nothing_of_the_parents(
    run_script: Any, action: str
) -> None:
    script = start(
        run_script,
        f"""
    import gc

    if __name__ == "__main__":
        pool = Pool(2)
        workers = procs.worker_pids(pool)
        pending = pool.map_async(tasks.nap, [0.05] * 4, 1)
        for leave in (os._exit, sys.exit):
            assert in_child(lambda: ({action}, gc.collect()) and None, leave) == 0
        pending.get()
        works(pool, workers)
        pool.close()
        pool.join()
        """,
    )
    output = script.finish().splitlines()
    assert output[-1] == "parent: True"
    assert len(output) == 3, "the child came back each time, with whatever answer"


def test_the_child_may_make_a_pool_of_its_own(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        """
    def own():
        with Pool(2) as pool:
            return pool.map(tasks.square, range(4))

    if __name__ == "__main__":
        with Pool(2) as pool:
            workers = procs.worker_pids(pool)
            pool.apply(tasks.nothing)
            in_child(own)
            works(pool, workers)
        """,
        impl.name,
    )
    assert script.finish() == "child: [0, 1, 4, 9]\nparent: True\n"


@pytest.mark.parametrize("module", ["engine", "progress"])
def test_the_child_may_make_one_while_a_thread_loads_what_it_needs(
    run_script: Any, module: str
) -> None:
    """A child that began with half of a module would wait for ever for the rest."""
    script = run_script(
        f"""
        import multiprocessing, os, sys, threading, time
        from fastpool import Pool

        class Slowly:
            def find_spec(self, name, path=None, target=None):
                if name == "fastpool._runtime.{module}":
                    loading.set()
                    time.sleep(0.2)

        def work():
            with Pool(1, context=multiprocessing.get_context("fork")) as pool:
                return pool.map(abs, [-1, 2], progress=lambda *numbers: None)

        loading = threading.Event()
        sys.meta_path.insert(0, Slowly())
        thread = threading.Thread(target=work)
        thread.start()
        loading.wait()
        child = os.fork()
        if child == 0:
            print(work(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        thread.join()
        """,
        options=["-W", "ignore"],
    )
    assert script.finish().strip() == "[1, 2]"


@pytest.mark.fastpool_only
def test_the_child_outlives_the_parents_pool(run_script: Any) -> None:
    """A child that holds copies of all descriptors keeps neither the pool nor its workers."""
    script = start(
        run_script,
        """
    if __name__ == "__main__":
        pool = Pool(2)
        workers = procs.worker_pids(pool)
        pool.apply(tasks.nothing)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        begin = time.monotonic()
        pool.close()
        pool.join()
        print(time.monotonic() - begin < 2, any(procs.is_alive(pid) for pid in workers))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        """,
    )
    assert script.finish() == "True False\n"


@pytest.mark.fastpool_only
def test_the_parents_death_is_seen_though_a_child_lives_on(run_script: Any) -> None:
    script = start(
        run_script,
        """
    if __name__ == "__main__":
        pool = Pool(2)
        pool.apply(tasks.nothing)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print("READY", child, *procs.worker_pids(pool))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert script.wait() == -9
    _, child, *_workers = script.stdout.split()
    procs.wait_until(lambda: script.processes() == [int(child)], 1.0, script.report)


def test_forking_beside_threads_warns_as_os_fork_does(pool_factory: Any) -> None:
    with beside_a_thread(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool_factory(1)
    told = [str(each.message) for each in caught if each.category is DeprecationWarning]
    # New in Python 3.12. multiprocessing says so for each worker.
    assert set(told) == {WARNING} if sys.version_info >= (3, 12) else not told


@pytest.mark.fastpool_only  # multiprocessing leaves its child behind
def test_that_warning_is_an_error_where_os_fork_raises_it(pool_factory: Any) -> None:
    with beside_a_thread(), warnings.catch_warnings():
        warnings.simplefilter("error")
        if sys.version_info >= (3, 15):
            with pytest.raises(DeprecationWarning, match="multi-threaded"):
                pool_factory(1)
        else:
            assert pool_factory(1).apply(tasks.square, (3,)) == 9


@pytest.mark.fastpool_only
@pytest.mark.parametrize("change", ["a worker is killed", "maxtasksperchild"])
def test_a_replacement_does_not_inherit_a_lock_that_a_thread_holds(
    run_script: Any, change: str
) -> None:
    """The parent is never forked again: a thread of it may hold a lock at that very moment."""
    limit = "None" if change == "a worker is killed" else "1"
    script = start(
        run_script,
        f"""
    import logging
    lock = threading.Lock()
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)

    def use_locks(x):
        with lock:
            logging.getLogger().debug("x")
            handler.acquire()
            handler.release()
            return x

    if __name__ == "__main__":
        pool = Pool(2, maxtasksperchild={limit})
        print(pool.map(use_locks, range(4)))
        held, done = threading.Event(), threading.Event()

        def hold():
            with lock, handler.lock:
                held.set()
                done.wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        before = procs.worker_pids(pool)
        if {limit} is None:
            for pid in before:
                os.kill(pid, signal.SIGKILL)
        # Each worker leaves after a task; who gets one is anybody's guess.
        procs.wait_until(lambda: ({limit} is None or pool.map(tasks.nothing, range(2), 1))
                         and len(procs.worker_pids(pool)) == 2
                         and not set(before) & set(procs.worker_pids(pool)))
        print(pool.map_async(use_locks, range(8), 1).get(10))
        done.set()
        pool.close()
        pool.join()
        """,
    )
    assert script.finish() == "[0, 1, 2, 3]\n[0, 1, 2, 3, 4, 5, 6, 7]\n"


@pytest.mark.fastpool_only
def test_forking_all_the_time_beside_a_working_pool(run_script: Any) -> None:
    script = start(
        run_script,
        """
    if __name__ == "__main__":
        with Pool(2) as pool:
            workers = procs.worker_pids(pool)
            results = [pool.map_async(tasks.nap, [0.02] * 4, 1) for _ in range(10)]
            for i in range(40):
                child = os.fork()
                if child == 0:
                    (os._exit if i % 2 else sys.exit)(0)
                assert os.waitpid(child, 0)[1] == 0
                assert pool.apply_async(tasks.square, (i,)).get(5) == i * i
            for result in results:
                result.get(5)
            works(pool, workers)
        """,
    )
    assert script.finish() == "parent: True\n"


@pytest.mark.fastpool_only
def test_what_a_thread_alone_holds_is_not_given_back_by_workers_of_another_pool(
    impl: Any, run_script: Any
) -> None:
    """A forked process drops what the parent's other threads had, before any hook of ours runs."""
    pytest.importorskip("numpy")
    script = run_script(
        PREAMBLE.format(module=impl.name)
        + """
    import numpy

    def held(number):
        return pool.apply(tasks.identity, (numpy.full(100_000, float(number)),))

    def hold():
        own.array = held(-1)
        there.set()
        done.wait(15)
        print((own.array == -1).all())

    if __name__ == "__main__":
        pool = Pool(1)
        own, there, done = threading.local(), threading.Event(), threading.Event()
        thread = threading.Thread(target=hold)
        thread.start()
        there.wait(15)
        for _ in range(3):
            with Pool(2) as other:
                other.map(tasks.square, range(4))
        others = [held(number) for number in range(6)]
        print(all((array == number).all() for number, array in enumerate(others)))
        done.set()
        thread.join()
        """,
    )
    assert script.finish(timeout=18) == "True\nTrue\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize("place", ["before all others", "after the fork"])
def test_a_handler_that_raises_amid_a_fork_changes_nothing(run_script: Any, place: str) -> None:
    """In Python functions that are registered for forks: what is raised there is only reported."""
    script = run_script(
        f"""
        import _thread, functools, multiprocessing, os, signal, threading
        come = functools.partial(_thread.interrupt_main, signal.SIGALRM)
        if "{place}" == "after the fork":
            os.register_at_fork(before=come)  # called as the last one before it
        from fastpool import Pool
        from helpers import procs, tasks

        def interrupt(number, frame):
            raise KeyboardInterrupt

        def fork():
            try:
                return os.fork()
            except KeyboardInterrupt:
                return -1

        if __name__ == "__main__":
            import numpy
            with Pool(2) as pool:
                held = pool.starmap(numpy.full, [(100_000, 7)] * 2, 1)
                changed, go = os.pipe()
                signal.signal(signal.SIGALRM, interrupt)
                if "{place}" == "before all others":
                    os.register_at_fork(before=come)
                child = fork()
                if child == 0:
                    os.read(changed, 1)
                    os._exit(0 if (held[0] == 7).all() else 1)
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                held[0][:] = 8
                os.write(go, b"x")
                print(os.wait()[1])
            made = []

            def make():
                with Pool(2, context=multiprocessing.get_context("spawn")) as other:
                    made.append(other.map(tasks.square, range(4)))

            thread = threading.Thread(target=make, daemon=True)
            thread.start()
            thread.join(10)
            print(made)
        """
    )
    assert script.finish(15) == "0\n[[0, 1, 4, 9]]\n"
