"""CPython's tests of ``concurrent.futures.ProcessPoolExecutor``, bound to the one under test.

The tests are imported from the running interpreter's own ``test`` package; no line of them is here.
Each class bound is a subclass of one of theirs. Workers import this module too, because some tests
send class methods to them.
"""

import gc
import importlib
import pkgutil
import re
import threading
import time
import unittest
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import foreign_binding
import foreign_ids

METHOD = foreign_binding.METHOD or "fork"
PACKAGE = "test.test_concurrent_futures"

DIES_ALONE = "a dead worker breaks the executor; here it fails the call that it ran"
ONE_FAILS = "what can't be unpickled breaks the executor; here the call raises that error"
INSIDE = "looks at, or replaces, what the standard library's executor is made of"
ALL_START = "counts workers that start one by one; here all start with the first call"

# The end of the test's id -> why it can't apply. Shown as skipped, with the reason.
REASONS = {
    "FailingInitializerTest.test_initializer": "reads the worker's log as soon as its failure is "
    "known; here that is before the worker has ended, and flushed its log",
    "test_killed_child": DIES_ALONE,
    "test_broken_process_pool_traceback": DIES_ALONE,
    "test_traceback_when_child_process_terminates_abruptly": "has the process id and the exit code "
    "in the error's cause; here the error itself tells them",
    "test_error_at_task_unpickle": ONE_FAILS,
    "test_exit_at_task_unpickle": ONE_FAILS,
    "test_error_during_result_unpickle_in_result_handler": ONE_FAILS,
    "test_exit_during_result_unpickle_in_result_handler": ONE_FAILS,
    "test_cancel_futures": "the first calls count as running before a worker has begun them; "
    "here they can be cancelled until then",
    "test_del_shutdown": INSIDE,
    "test_shutdown_no_wait": INSIDE,
    "test_python_finalization_error": INSIDE,
    "Test.test_kill_workers": INSIDE,
    "Test.test_terminate_workers": INSIDE,
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": INSIDE,
}
REASONS_OF_FORK = {
    "test_max_tasks_per_child": "max_tasks_per_child is refused under fork; here it works",
}
REASONS_OF_OTHERS = {
    "test_idle_process_reuse_one": ALL_START,
    "test_idle_process_reuse_multiple": ALL_START,
    "test_processes_terminate": ALL_START,
}


def _modules() -> Iterator[ModuleType]:
    """One module up to Python 3.11, a package since."""
    package = importlib.import_module(PACKAGE)
    yield package
    for info in pkgutil.iter_modules(getattr(package, "__path__", [])):
        if info.name.startswith("test_"):
            yield importlib.import_module(f"{PACKAGE}.{info.name}")


def _bind() -> Iterator[type]:
    """The classes for executors of this start method; CPython names them ``ProcessPoolFork...``."""
    pattern = re.compile(f"ProcessPool{METHOD.capitalize()}(?=[A-Z])")
    for module in _modules():
        if hasattr(module, "setUpModule"):
            globals()["setUpModule"] = module.setUpModule
        for name, case in vars(module).items():
            if (
                pattern.match(name)
                and isinstance(case, type)
                and issubclass(case, unittest.TestCase)
            ):
                yield type(name, (case,), {"__module__": __name__})


CASES: dict[str, type] = {}
for _case in _bind():
    CASES[_case.__name__] = globals()[_case.__name__] = _case


def bind_scripts() -> None:
    """Bind the scripts, and have what looks for threads left over wait for them."""
    foreign_ids.bind_scripts()
    threads: Any = importlib.import_module("test.support.threading_helper")
    count_left = threads.threading_cleanup
    dangling: Any = vars(threading)["_dangling"]

    def collect_and_count(*before: Any) -> None:
        # The thread object of an executor that has ended is part of a cycle; Python 3.10 neither
        # collects nor waits.
        deadline = time.monotonic() + 1.0
        while any(not thread.is_alive() for thread in dangling) and time.monotonic() < deadline:
            gc.collect()
        count_left(*before)

    threads.threading_cleanup = collect_and_count


def _exceptions() -> dict[str, str]:
    reasons = REASONS | (REASONS_OF_FORK if METHOD == "fork" else REASONS_OF_OTHERS)
    return {
        test_id: reason
        for test_id in foreign_ids.test_ids(CASES)
        for end, reason in reasons.items()
        if test_id.endswith(end)
    }


# "Class.test" -> why it can't apply to another implementation.
EXCEPTIONS = _exceptions()


def unbound() -> list[str]:
    """Classes of CPython's for executors that are bound under no start method."""
    return [
        name
        for module in _modules()
        for name in vars(module)
        if name.startswith("ProcessPool")
        and not re.match("ProcessPool(Fork|Forkserver|Spawn)(?=[A-Z])", name)
        and name not in ("ProcessPoolExecutorTest", "ProcessPoolShutdownTest")
    ]
