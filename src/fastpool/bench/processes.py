"""This process and its descendants, as ``/proc`` tells of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def family(root: int) -> list[int]:
    """The process and all its descendants: workers may be children of a helper process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while it is walked
        found += children.get(pid, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads so far: in nanoseconds where the kernel tells, else in ticks."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return 1e-9 * sum(int((t / "schedstat").read_text().split()[0]) for t in threads)
    except OSError:
        fields = _stat_fields(pid)
        return (int(fields[11]) + int(fields[12])) * TICK if fields else 0.0


def idle_percent(seconds: float) -> float:
    """What this process and all its descendants take while it sleeps.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    float
        In percent of one CPU.
    """
    pids = family(os.getpid())
    before = sum(map(cpu_seconds, pids))
    start = time.perf_counter()
    time.sleep(seconds)
    spent = sum(map(cpu_seconds, pids)) - before
    return 100 * spent / (time.perf_counter() - start)


def proportional_memory(pid: int) -> int:
    """Bytes of memory (PSS), of which each page counts by how many processes share it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return 1024 * int(value.split()[0])
    raise OSError(f"/proc/{pid}/smaps_rollup has no Pss")


def ends_within(pid: int, seconds: float) -> bool:
    """Whether a child ends in so many seconds; it is left to be waited for."""
    descriptor = os.pidfd_open(pid)  # a wait that looks again and again would be in the figures
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def kill_session(leader: int) -> None:
    """End all processes of a session, those too whose parents have gone, and all their descendants.

    Resource trackers stay. They end when nobody is left who could tell them anything, and then
    remove what the others had named: semaphores, shared memory, folders.
    """
    while left := [pid for pid in members(leader) if not is_resource_tracker(pid)]:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)  # until they are gone; one may be starting another just now


def members(leader: int) -> set[int]:
    """The living processes of a session, and all their descendants."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields and int(fields[3]) == leader:
                found.update(family(int(entry.name)))
    return {pid for pid in found if (_stat_fields(pid) or "Z")[0] not in "ZX"}


def is_resource_tracker(pid: int) -> bool:
    """One of multiprocessing, loky, or billiard, which calls it a semaphore tracker."""
    try:
        return b"_tracker import main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _stat_fields(pid: int) -> list[str]:
    """``/proc/PID/stat`` from its third field on; the second may hold spaces and parentheses."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
