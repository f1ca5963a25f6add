"""Workers that can never work: the pool fails, and every call is told the reason."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest
from helpers import tasks
from helpers.pool_health import whole

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

KILL = signal.SIGKILL


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
        import multiprocessing, os
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__main__":
            multiprocessing.set_start_method("fork")
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
        import multiprocessing, sys
        from fastpool import Pool
        from helpers import tasks

        if __name__ == "__mp_main__":
            import no_such_module_anywhere

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            try:
                pool = Pool(2)
            except (OSError, EOFError) as error:
                sys.exit(f"no fork server: {{error!r}}")
            try:
                pool.map(tasks.square, range(3))
            except RuntimeError as error:
                print(error)
            pool.terminate()
            pool.join()
        """
    )
    output = script.finish(code=None)
    if "no fork server" in script.stderr:
        # That of Python 3.14 imports the program too, and dies of it before there is a pool.
        assert method == "forkserver" and sys.version_info[:2] == (3, 14)
    else:
        assert "before they could start to work; the last one exited with status 1" in output
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
