"""Ctrl-C in the middle of the constructor: it comes out, and nothing is left behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(30)]

PLACES = {
    "after the thread was started": """
        def start(self):
            original(self)
            raise KeyboardInterrupt""",
    "some time after the thread was started": """
        def start(self):
            original(self)
            time.sleep(0.2)
            raise KeyboardInterrupt""",
    "before the thread was started": """
        def start(self):
            raise KeyboardInterrupt""",
}


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_in_the_constructor_leaves_nothing(run_script: Any, place: str, method: str) -> None:
    script = run_script(
        f"""
        import gc, json, multiprocessing, os, time
        from multiprocessing import resource_tracker
        from fastpool import Pool
        from fastpool._runtime.supervise import Supervisor
        from helpers import procs, tasks

        original = Supervisor.start
        {PLACES[place].strip()}

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
            return {{key: after[key] - before[key] for key in after if after[key] > before[key]}}

        if __name__ == "__main__":
            multiprocessing.set_start_method("{method}")
            resource_tracker.ensure_running()
            with Pool(2) as pool:
                pool.map(tasks.square, range(4))
            pool.join()
            del pool
            before = holdings()
            outcomes = []
            Supervisor.start = start
            for _ in range(3):
                try:
                    Pool(2)
                    outcomes.append("made")
                except BaseException as error:
                    outcomes.append(type(error).__name__)
            Supervisor.start = original
            deadline = time.monotonic() + 5
            while left_since(before) and time.monotonic() < deadline:
                time.sleep(0.01)
            left = left_since(before)
            with Pool(2) as pool:
                assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
            pool.join()
            print(json.dumps([outcomes, left]))
        """
    )
    outcomes, left = json.loads(script.finish(25))
    assert outcomes == ["KeyboardInterrupt"] * 3
    assert left == {}
    assert "Traceback" not in script.stderr, script.stderr


def test_a_thread_about_to_sleep_does_not_wait_for_what_is_opened_next(
    run_script: Any,
) -> None:
    script = run_script(
        """
        import multiprocessing, os, threading, time
        from fastpool import Pool
        from fastpool._runtime.engine import Engine
        from fastpool._runtime.supervise import Supervisor
        from helpers import procs

        start, patience = Supervisor.start, Engine.patience
        about_to_sleep = threading.Event()

        def slow(self):
            found = patience(self)
            about_to_sleep.set()
            time.sleep(0.5)
            return found

        def interrupted(self):
            start(self)
            about_to_sleep.wait()
            raise KeyboardInterrupt

        def supervisors():
            return sum(isinstance(thread, Supervisor) for thread in threading.enumerate())

        if __name__ == "__main__":
            multiprocessing.set_start_method("spawn")
            Supervisor.start, Engine.patience = interrupted, slow
            try:
                Pool(2)
            except KeyboardInterrupt:
                Supervisor.start, Engine.patience = start, patience
            pipes = [os.pipe() for _ in range(20)]  # by the numbers that are free now
            procs.wait_until(lambda: supervisors() == 0)
            print("done")
        """
    )
    assert script.finish(25) == "done\n"


def test_ctrl_c_right_after_the_fork_leaves_no_process(run_script: Any) -> None:
    """Signals are blocked while the process is forked that forks workers; then all come at once."""
    script = run_script(
        """
        import multiprocessing, os
        from fastpool import Pool
        from helpers import procs, tasks

        original = os.close
        armed = False

        def close(fd):
            global armed
            original(fd)
            if armed:
                armed = False
                raise KeyboardInterrupt

        if __name__ == "__main__":
            multiprocessing.set_start_method("fork")
            descriptors = len(os.listdir("/proc/self/fd"))
            os.close = close
            for _ in range(3):
                armed = True
                try:
                    Pool(2)
                    print("made")
                except KeyboardInterrupt:
                    pass
                procs.wait_until(lambda: not procs.descendants(os.getpid()))
            with Pool(2) as pool:
                print(pool.map(tasks.square, range(4)))
            procs.wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        """
    )
    assert script.finish(25) == "[0, 1, 4, 9]\n"
    assert "Traceback" not in script.stderr, script.stderr
