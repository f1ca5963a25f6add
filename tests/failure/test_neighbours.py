"""What others on the machine, and programs that tasks start, see of a pool's memory: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.build import SEGMENT

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

#: What a program has open: each descriptor and what is behind it, a line each.
LIST_DESCRIPTORS = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import os\n"
    "for fd in os.listdir('/proc/self/fd'):\n"
    "    try: print(fd, os.readlink('/proc/self/fd/' + fd))\n"
    "    except OSError: pass",
]


def descriptors_of_a_program(*_ignored: Any) -> list[str]:
    """What a program inherits that is started in the most careless way."""
    output = subprocess.run(LIST_DESCRIPTORS, close_fds=False, capture_output=True, check=True)
    return output.stdout.decode().splitlines()


def descriptors_of_this() -> list[str]:
    """What this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{fd} {os.readlink('/proc/self/fd/' + fd)}")
        except OSError:
            continue  # that of the listing itself
    return found


def pools_own(descriptors: list[str]) -> list[str]:
    """Those that are a pool's: its memory, its bell, and what tells of deaths."""
    return [line for line in descriptors if "fastpool" in line or "anon_inode:" in line]


def segments_of(pid: int) -> list[str]:
    """The lines of a process's memory map that are a pool's."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if "fastpool" in line and ".so" not in line]


def openable(paths: list[str]) -> list[str]:
    """Those of these files that this process may open to read or write."""
    found = []
    for path in paths:
        for mode in (os.O_RDONLY, os.O_RDWR):
            try:
                fd = os.open(path, mode)
            except OSError:
                continue
            os.close(fd)
            found.append(path)
            break
    return found


def in_a_child_of_nobody(function: Callable[[], list[str]]) -> list[str]:
    """Call the function in a forked child that has given up all its rights."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer = "\n".join(function())
        except BaseException as error:
            answer = f"failed: {error!r}"
        os.write(writer, answer.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read().decode()
    os.waitpid(child, 0)
    return answer.splitlines()


def files_of(pids: list[int]) -> list[str]:
    """Every path through which the system offers what these processes have open or mapped."""
    paths = []
    for pid in pids:
        paths += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
        paths += [f"/proc/{pid}/map_files/{span}" for span in spans_of_segments(pid)]
        paths.append(f"/proc/{pid}/mem")
    return paths


def spans_of_segments(pid: int) -> list[str]:
    """As /proc/PID/map_files names them."""
    spans = [line.split()[0].split("-") for line in segments_of(pid)]
    return [f"{int(begin, 16):x}-{int(end, 16):x}" for begin, end in spans]


# --- names ----------------------------------------------------------------------------------------


def test_the_memory_has_no_name(pool_factory: Any, start_method: str) -> None:
    before = procs.names_of_memory()
    pool = pool_factory(2)
    kept = pool.apply(tasks.make_bytes, (1 << 20,))
    assert len(kept) == 1 << 20
    procs.wait_until(lambda: all(info.state != "starting" for info in pool.workers()), 10.0)
    for pid in [os.getpid(), *procs.worker_pids(pool)]:
        segments = segments_of(pid)
        assert segments, f"process {pid} doesn't map the segment"
        assert all(SEGMENT in line and line.endswith(" (deleted)") for line in segments), segments
    procs.wait_until(lambda: not procs.names_since(before), 2.0)


# --- another user ---------------------------------------------------------------------------------


@as_root
def test_another_user_cannot_open_the_memory(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2)
    pool.map(tasks.make_bytes, [100_000] * 4)
    pids = [os.getpid(), *procs.worker_pids(pool)]
    starter = procs.parent_of(pids[1])
    assert starter is not None
    paths = files_of(sorted({*pids, starter}))
    assert len(openable(paths)) >= len(pids)  # root can: the paths are right
    assert in_a_child_of_nobody(lambda: openable(paths)) == []


@as_root
def test_another_user_cannot_even_look_at_what_a_worker_has_open(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(1)
    pool.apply(tasks.nothing)
    (worker,) = procs.worker_pids(pool)

    def look() -> list[str]:
        try:
            return os.listdir(f"/proc/{worker}/fd")
        except PermissionError:
            return []

    assert look()
    assert in_a_child_of_nobody(look) == []


# --- programs that are started --------------------------------------------------------------------


def test_programs_that_tasks_start_inherit_no_descriptor_of_the_pool(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(2)
    for inherited in pool.map(descriptors_of_a_program, range(4), 1):
        assert inherited, "the program listed nothing"
        assert pools_own(inherited) == []


def test_programs_that_the_parent_starts_inherit_nothing_of_a_pool(
    pool_factory: Any, start_method: str
) -> None:
    before = descriptors_of_a_program()
    pool = pool_factory(2)
    pool.map(tasks.make_bytes, [100_000] * 4)
    assert pools_own(descriptors_of_this())  # the parent has them, and keeps them
    after = descriptors_of_a_program()
    assert pools_own(after) == []
    assert {line.split()[0] for line in after} == {line.split()[0] for line in before}


def test_programs_that_the_parent_starts_while_workers_start_inherit_nothing(
    pool_factory: Any,
) -> None:
    """There is no moment in which a descriptor can be inherited."""
    pool = pool_factory(2, maxtasksperchild=1)
    result = pool.map_async(tasks.nap, [0.001] * 60, 1)
    seen = 0
    while not result.ready():
        assert pools_own(descriptors_of_a_program()) == []
        seen += 1
    assert seen > 0
    assert result.get(10) == [None] * 60
