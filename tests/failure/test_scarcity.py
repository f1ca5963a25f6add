"""The system grants no descriptor or no thread: the call says so, and nothing is left behind."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from helpers import refusals, tasks
from helpers.build import PORTABLE
from helpers.recipes import istarmap_recipe
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_that_lacks_descriptors_says_so_and_leaves_nothing(
    run_script: Any, method: str
) -> None:
    """Wherever its making fails for want of one more, until there are enough."""
    script = run_script(
        f"""
        import gc, json, multiprocessing, os, resource, time
        from multiprocessing import resource_tracker
        from fastpool import Pool
        from helpers import procs, tasks

        def holdings():
            gc.collect()
            return {{
                "descriptors": len(os.listdir("/proc/self/fd")),
                "threads": len(os.listdir("/proc/self/task")),
                "children": len(procs.descendants(os.getpid())),
                "maps": open("/proc/self/maps").read().count("memfd"),
            }}

        def left_since(before):
            after = holdings()
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline and any(after[key] > before[key] for key in after):
                time.sleep(0.01)
                after = holdings()
            return {{key: after[key] - before[key] for key in after if after[key] > before[key]}}

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            resource_tracker.ensure_running()
            with Pool(2) as pool:
                pool.map(tasks.square, range(4))
            pool.join()
            del pool
            before = holdings()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            attempts = []
            for more in range(40):
                used = len(os.listdir("/proc/self/fd")) - 1
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
                try:
                    pool = Pool(2)
                    outcome = "made"
                    pool.terminate()
                    pool.join()
                    del pool
                except Exception as error:
                    outcome = type(error).__name__
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                attempts.append((more, outcome, left_since(before)))
                before = holdings()  # what one attempt leaves is no fault of the next
                if outcome == "made":
                    break
            with Pool(2) as pool:
                assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
            print(json.dumps(attempts))
        """
    )
    attempts = json.loads(script.finish())
    assert len(attempts) > 3
    assert [left for left in attempts if left[2]] == []
    assert {outcome for _, outcome, _ in attempts} == {"OSError", "made"}, attempts


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No thread can be started; `no_threads.undo()` ends that."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    return monkeypatch


def test_a_pool_that_lacks_its_thread_says_so_and_leaves_nothing(
    pool_factory: Any, no_threads: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool_factory(2)
    no_threads.undo()


@pytest.mark.parametrize("kind", ["imap", "imap_unordered", "istarmap", "the istarmap recipe"])
def test_a_call_that_lacks_a_thread_says_so_and_the_pool_works_and_ends(
    pool_factory: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    pool = pool_factory(2)
    no_threads = request.getfixturevalue("no_threads")
    items = iter([(1, 2), (3, 4)])
    with pytest.raises(RuntimeError, match="can't start new thread"):
        if kind == "the istarmap recipe":
            istarmap_recipe(pool, tasks.add, items)
        else:
            getattr(pool, kind)(tasks.add, items)
    no_threads.undo()
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]
    pool.close()
    InThread(pool.join).outcome()


@pytest.mark.timeout_s(60)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_dies_in_scarcity_is_replaced_when_that_is_over(
    run_script: Any, method: str
) -> None:
    """Wherever the replacement fails for want of a descriptor; no process is left unknown."""
    script = run_script(
        f"""
        import json, multiprocessing, os, resource, signal, time
        from multiprocessing import resource_tracker
        from fastpool import Pool
        from helpers import procs, tasks

        def take_all_but(spare):
            "The limit is where we are, and every descriptor below it is in use but for some."
            used = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
            taken = []
            try:
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            for _ in range(spare):
                os.close(taken.pop())
            return taken

        def running():
            return [pid for pid in procs.descendants(os.getpid()) if procs.is_alive(pid)]

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            resource_tracker.ensure_running()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            pool = Pool(3)
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
            others = set(running()) - {{worker.pid for worker in pool.workers()}}
            for spare in {(0, 1, 2, 3) if method == "fork" else (0, 2, 4, 6)}:
                victim = pool.workers()[0].pid
                taken = take_all_but(spare)
                os.kill(victim, signal.SIGKILL)
                time.sleep(0.4)
                assert pool.map(tasks.square, range(100), 1) == [i * i for i in range(100)]
                for fd in taken:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

                def whole_again():
                    pids = {{worker.pid for worker in pool.workers()}}
                    return (
                        len(pids) == 3
                        and victim not in pids
                        and all(worker.state != "starting" for worker in pool.workers())
                        and {{process.pid for process in pool._pool}} == pids
                        and set(running()) == pids | others
                    )

                procs.wait_until(
                    whole_again, 8,
                    lambda: f"spare {{spare}}: {{pool.workers()}}, runs {{running()}}, {{others=}}",
                )
                assert pool.map(tasks.square, range(100), 1) == [i * i for i in range(100)]
                assert pool.apply(tasks.square, (3,)) == 9
            pool.close()
            pool.join()
            print("whole")
        """
    )
    assert script.finish(50) == "whole\n"


@pytest.mark.parametrize("refused", [[], ["pidfd_open"]], ids=["pidfds", "pipes"])
def test_a_pool_takes_as_many_descriptors_as_are_told(
    run_script: Any, start_method: str, refused: list[str]
) -> None:
    """Those of docs/porting.md, for whoever has a limit to plan with."""
    if refused and (PORTABLE or not refusals.is_possible()):
        pytest.skip("this build, or this system, has no second way to be told of deaths")
    script = run_script(
        f"""
        import errno, multiprocessing, os
        from fastpool import Pool
        from helpers import refusals, tasks

        def taken(n):
            before = len(os.listdir("/proc/self/fd"))
            with Pool(n) as pool:
                pool.map(tasks.square, range(10))
                return len(os.listdir("/proc/self/fd")) - before

        if __name__ == "__main__":
            if {refused}:
                refusals.refuse({refused}, errno.EPERM)
            multiprocessing.set_start_method("{start_method}")
            taken(1)  # what multiprocessing keeps to the end of the program
            print(*map(taken, (1, 2, 4)))
        """
    )
    pool, worker = (6, 1) if start_method == "fork" else (4, 3)
    pool += 2 if PORTABLE else len(refused)
    assert script.finish(20).split() == [str(pool + worker * n) for n in (1, 2, 4)]
