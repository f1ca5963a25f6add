"""This process and its descendants, as ``/proc`` tells of them."""

from __future__ import annotations

import contextlib
import os
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


def kill_family(root: int, with_root: bool = True) -> None:
    """End a process that doesn't answer, and everything below it; or only what is below it."""
    for pid in family(root)[0 if with_root else 1 :]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _stat_fields(pid: int) -> list[str]:
    """``/proc/PID/stat`` from its third field on; the second may hold spaces and parentheses."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
