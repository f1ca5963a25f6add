"""``import fastpool`` is quick, brings little, and starts nothing."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import Any

import pytest
from helpers.build import FREE_THREADED

#: What it may bring of the standard library beside what multiprocessing.pool has brought.
BROUGHT = {"__future__", "importlib"}

#: How much CPU time more than ``import multiprocessing.pool`` it may take, in seconds. Where that
#: takes longer than on the machine that this is meant for, so may this: half of it.
MOST_SECONDS = 0.015
MOST_PART = 0.5


def import_seconds(program: str) -> float:
    """The CPU time of a new interpreter, which other programs disturb less than its duration."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or it would compile what was just edited
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=20)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_it_takes_little_longer_than_the_standard_librarys_pool() -> None:
    programs = ("pass", "import multiprocessing.pool", "import fastpool")
    least = [float("inf")] * len(programs)
    for _ in range(7):
        least = [min(t, import_seconds(p)) for t, p in zip(least, programs, strict=True)]
    nothing, standard, ours = least
    allowed = max(MOST_SECONDS, MOST_PART * (standard - nothing))
    assert ours - standard < allowed, f"{(ours - standard) * 1e3:.1f} ms more"


LOADED = """
import json, sys, multiprocessing.pool
before = set(sys.modules)
import fastpool
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that it brings beside those that multiprocessing.pool brings."""
    shown = subprocess.check_output([sys.executable, "-c", LOADED], timeout=20)
    return set(json.loads(shown))


def test_it_brings_little_of_the_standard_library(loaded: set[str]) -> None:
    names = {name.partition(".")[0] for name in loaded}
    assert names & sys.stdlib_module_names <= BROUGHT


def test_it_brings_no_other_package(loaded: set[str]) -> None:
    others = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"fastpool"}
    assert {name for name in others if "cython" not in name} == set()


def test_it_brings_nothing_that_only_a_pool_needs(loaded: set[str]) -> None:
    for name in ("engine", "worker", "serializers", "progress", "seeds", "lifecycle"):
        assert f"fastpool._runtime.{name}" not in loaded
    assert "fastpool._core._workloop" not in loaded


FORKED = """
import sys
from multiprocessing import get_context
from fastpool import Pool

def modules(_):
    return set(sys.modules)

with Pool(1, context=get_context("fork")) as pool:
    here = modules(0)
    print(*set.union(*pool.map(modules, range(3))) - here)
"""


def test_a_forked_worker_has_all_that_a_task_needs() -> None:
    # Or the first task of each worker would wait for imports, and none of that would be shared.
    shown = subprocess.check_output([sys.executable, "-c", FORKED], timeout=20, text=True)
    assert shown.split() == []


STARTED = """
import atexit, json, os, signal, sys, threading, multiprocessing.pool, warnings

def state():
    tasks = os.listdir("/proc/self/task")
    return {
        "threads": (len(threading.enumerate()), len(tasks)),
        "children": [open(f"/proc/self/task/{task}/children").read() for task in tasks],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "shared memory": [line for line in open("/proc/self/maps") if "memfd:" in line],
        "signal handlers": [str(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
        "exit handlers": atexit._ncallbacks(),
        "environment": dict(os.environ),
        "hooks": [str(h) for h in (sys.excepthook, sys.unraisablehook, threading.excepthook)],
        "warning filters": str(warnings.filters),
        "the standard library's pool": str(vars(multiprocessing.pool.Pool)),
    }

before = state()
import fastpool
after = state()
print(json.dumps({name: (before[name], after[name]) for name in before}))
"""


@pytest.fixture(scope="module")
def states() -> dict[str, Any]:
    """The state of a process before the import and after it."""
    shown = subprocess.check_output([sys.executable, "-c", STARTED], timeout=20)
    return dict(json.loads(shown))


@pytest.mark.parametrize(
    "what",
    [
        "threads",
        "children",
        "descriptors",
        "shared memory",
        "signal handlers",
        "exit handlers",
        "environment",
        "hooks",
        "warning filters",
        "the standard library's pool",
    ],
)
def test_it_starts_and_changes_nothing(states: dict[str, Any], what: str) -> None:
    before, after = states[what]
    assert after == before


@pytest.mark.skipif(
    not FREE_THREADED or sys.version_info >= (3, 15),
    reason="this Python always has a GIL, or one that the import turns on",
)
def test_it_turns_no_gil_on() -> None:
    program = "import sys, fastpool, fastpool.executor; print(sys._is_gil_enabled())"
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert (output.stdout, output.stderr) == ("False\n", "")
