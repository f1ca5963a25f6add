"""Programs that end without ending their pool: promptly, with their own code, leaving nothing."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.program_ends import ends, start

pytestmark = pytest.mark.timeout_s(20)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_program_that_forgets_its_pool_ends(impl: Any, run_script: Any, method: str) -> None:
    script = start(
        run_script,
        impl,
        f"""
    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}")
        pool = Pool(2)
        print(pool.map(tasks.square, range(4)))
        print("END")
        """,
    )
    assert ends(script) == "[0, 1, 4, 9]\nEND\n"
    assert script.stderr == ""


def test_a_pool_that_never_worked_is_forgotten(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        pool = Pool(2)
        print("END")
        """,
    )
    ends(script)
    assert script.stderr == ""


def test_running_and_waiting_tasks_do_not_hold_up_the_end(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        pool = Pool(2)
        results = [pool.apply_async(tasks.nap, (60,)) for _ in range(20)]
        print("END")
        """,
    )
    ends(script)
    assert script.stderr == ""


def test_an_unread_iterator_does_not_hold_up_the_end(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        pool = Pool(2)
        results = pool.imap(tasks.make_bytes, [100_000] * 500)
        next(results)
        print("END")
        """,
    )
    ends(script)


def test_a_tasks_error_at_top_level_is_printed_with_the_workers_traceback(
    impl: Any, run_script: Any
) -> None:
    """From CPython's own tests."""
    script = start(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        with Pool(1) as pool:
            print("END", flush=True)
            pool.apply(tasks.raise_value_error, ("from the worker",))
        """,
    )
    ends(script, code=1)
    assert 'RemoteTraceback: \n"""\nTraceback' in script.stderr
    assert "in raise_value_error" in script.stderr
    assert script.stderr.endswith("ValueError: from the worker\n")


@pytest.mark.parametrize("where", ["inside with", "without with"])
def test_sys_exit_keeps_its_code(impl: Any, run_script: Any, where: str) -> None:
    body = {
        "inside with": """
        with Pool(2) as pool:
            pool.apply_async(tasks.nap, (60,))
            print("END", flush=True)
            sys.exit(5)
        """,
        "without with": """
        pool = Pool(2)
        pool.apply_async(tasks.nap, (60,))
        print("END", flush=True)
        sys.exit(5)
        """,
    }[where]
    script = start(run_script, impl, f'\n    if __name__ == "__main__":{body}')
    ends(script, code=5)
    assert script.stderr == ""


def test_a_pool_in_a_cycle_is_collected(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    import gc

    class Owner:
        def __init__(self):
            self.pool = Pool(2)
            self.me = self

    if __name__ == "__main__":
        owner = Owner()
        print(owner.pool.map(tasks.square, range(4)))
        pids = procs.worker_pids(owner.pool)
        del owner
        gc.collect()
        procs.wait_until(lambda: not any(procs.is_alive(pid) for pid in pids))
        print("END")
        """,
    )
    assert ends(script) == "[0, 1, 4, 9]\nEND\n"


def test_a_pool_in_a_cycle_is_left_at_the_end(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    class Owner:
        def __init__(self):
            self.pool = Pool(2)
            self.me = self
            self.result = self.pool.apply_async(tasks.nap, (60,), callback=self.callback)

        def callback(self, value):
            pass

    if __name__ == "__main__":
        owner = Owner()
        print("END")
        """,
    )
    ends(script)


def test_a_pool_that_is_local_to_a_function_warns(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    def work():
        pool = Pool(2)
        print(pool.map(tasks.square, range(4)))

    if __name__ == "__main__":
        work()
        print("END")
        """,
        options=["-W", "always::ResourceWarning"],
    )
    assert ends(script) == "[0, 1, 4, 9]\nEND\n"
    assert "ResourceWarning: unclosed running multiprocessing pool" in script.stderr


def test_a_closed_pool_does_not_warn(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        pool = Pool(2)
        pool.map(tasks.square, range(4))
        pool.close()
        pool.join()
        with Pool(2) as other:
            other.map(tasks.square, range(4))
        print("END")
        """,
        options=["-X", "dev", "-W", "ignore::DeprecationWarning"],
    )
    ends(script)
    assert script.stderr == ""


def test_many_forgotten_pools(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    if __name__ == "__main__":
        pools = [Pool(2) for _ in range(8)]
        for pool in pools[:4]:
            pool.apply_async(tasks.nap, (60,))
        print("END")
        """,
    )
    ends(script)


def test_exit_handlers_of_the_program_run(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    import atexit

    if __name__ == "__main__":
        atexit.register(print, "at exit")
        pool = Pool(2)
        pool.apply(tasks.nothing)
        print("END")
        """,
    )
    assert ends(script) == "END\nat exit\n"


def test_the_end_of_a_program_is_quick_with_a_pool_in_a_daemon_thread(
    impl: Any, run_script: Any
) -> None:
    script = start(
        run_script,
        impl,
        """
    def work(started):
        pool = Pool(2)
        pool.apply(tasks.nothing)
        started.set()
        pool.map(tasks.nap, [60] * 4)

    if __name__ == "__main__":
        started = threading.Event()
        threading.Thread(target=work, args=(started,), daemon=True).start()
        started.wait()
        time.sleep(0.1)
        print("END")
        """,
    )
    ends(script)


def test_a_pool_that_another_thread_uses_at_the_end(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    def work(pool, started):
        while True:
            try:
                pool.map(tasks.square, range(10))
            except (ValueError, RuntimeError):
                return
            started.set()

    if __name__ == "__main__":
        pool = Pool(2)
        started = threading.Event()
        threading.Thread(target=work, args=(pool, started), daemon=True).start()
        started.wait()
        print("END")
        """,
    )
    ends(script)


@pytest.mark.fastpool_only
def test_the_last_non_daemon_thread_may_end_the_pool(impl: Any, run_script: Any) -> None:
    script = start(
        run_script,
        impl,
        """
    def work(pool):
        time.sleep(0.2)
        print(pool.map(tasks.square, range(4)))
        pool.close()
        pool.join()
        print("END")

    if __name__ == "__main__":
        pool = Pool(2)
        threading.Thread(target=work, args=(pool,)).start()
        """,
    )
    assert ends(script) == "[0, 1, 4, 9]\nEND\n"


@pytest.mark.fastpool_only
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_without_a_main_guard_fails_instead_of_starting_workers_for_ever(
    impl: Any, run_script: Any, method: str
) -> None:
    script = start(
        run_script,
        impl,
        f"""
    if multiprocessing.parent_process() is None:
        multiprocessing.set_start_method("{method}")
    with open(os.environ["LOG"], "a") as log:
        log.write("start\\n")
    pool = Pool(2)
    print(pool.map(tasks.square, range(4)))
        """,
        environment={"LOG": "starts"},
    )
    code = script.wait(15)
    assert code != 0, script.report()
    script.wait_gone(2.0)
    starts = (script.stdout_path.parent / "starts").read_text().count("start")
    assert starts < 60
