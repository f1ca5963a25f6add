"""What the suite's own check counts as left behind in /dev/shm: what is ours, and only that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import procs

pytestmark = [
    pytest.mark.fastpool_only,
    pytest.mark.timeout_s(20),
    pytest.mark.skipif(not procs.HAS_PROC, reason="only Linux has /dev/shm"),
]

#: What multiprocessing does where it makes a lock, and is killed before it takes the name away.
LOCK_HALF_MADE = """if True:
    import _multiprocessing, os, sys
    _multiprocessing.SemLock(1, 1, 1, sys.argv[1], False)
    os._exit(0)
"""


@pytest.fixture
def entry() -> Iterator[Path]:
    """A path of /dev/shm that is free, named as the core's memory isn't."""
    path = Path(f"/dev/shm/sem.mp-test-{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


def test_a_name_of_the_core_is_left_behind() -> None:
    before = procs.names_of_memory()
    path = Path(f"/dev/shm/{procs.OWN_FILES[0]}test-{os.getpid()}")
    path.touch()
    try:
        assert procs.names_since(before) == {path.name}
    finally:
        path.unlink()
    assert procs.names_since(before) == set()


def test_what_a_process_of_ours_uses_is_left_behind(entry: Path) -> None:
    before = procs.names_of_memory()
    with entry.open("w"):
        assert procs.names_since(before) == {entry.name}


def test_what_a_killed_program_left_is_not(entry: Path) -> None:
    before = procs.names_of_memory()
    name = "/" + entry.name.removeprefix("sem.")
    subprocess.run([sys.executable, "-I", "-c", LOCK_HALF_MADE, name], check=True)
    assert entry.exists()
    assert procs.names_since(before) == set()
