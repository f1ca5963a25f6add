"""What can be found out about processes where there is no /proc, with psutil: as `procfs` does.

On Linux psutil itself reads /proc; on macOS it needs none.
"""

from __future__ import annotations

import os
import resource
import stat
import sys
import threading
import time
from collections.abc import Iterator

import psutil

_LETTERS = {
    psutil.STATUS_RUNNING: "R",  # on macOS, who sleeps as well
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_DEAD: "X",
}


def all_pids() -> Iterator[int]:
    yield from psutil.pids()


# --- one process --------------------------------------------------------------------------------


def state_of(pid: int) -> str | None:
    """The state letter (R, S, D, T, Z, …), or None if there is no such process."""
    try:
        return _LETTERS.get(psutil.Process(pid).status(), "S")
    except psutil.ZombieProcess:
        return "Z"
    except psutil.Error:
        return None


def is_asleep(pid: int) -> bool:
    """True if it needs next to no CPU time for a moment: the state may not tell."""
    before = cpu_seconds(pid)
    time.sleep(0.02)
    return cpu_seconds(pid) - before < 0.005


def parent_of(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None


def start_time(pid: int) -> int | None:
    """When it started, in µs: (pid, start_time) names a process for good."""
    try:
        return round(psutil.Process(pid).create_time() * 1e6)
    except psutil.Error:
        return None


def age_of(pid: int) -> float:
    """Seconds since it started."""
    return time.time() - (start_time(pid) or 0) / 1e6


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def context_switches(pid: int) -> int:
    """Voluntary context switches: how often it went to sleep."""
    try:
        return psutil.Process(pid).num_ctx_switches().voluntary
    except psutil.Error:
        return 0


def status_field(pid: int, name: str) -> str | None:
    """Of /proc/PID/status; so none."""
    return None


def resident_bytes(pid: int) -> int:
    """Memory of the process, shared memory included: nobody tells how much that is."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0


_most_seen: dict[int, int] = {}


def peak_bytes(pid: int) -> int:
    """The most memory that this process has had at a time; of others, the most seen here."""
    if pid != os.getpid():
        _most_seen[pid] = max(resident_bytes(pid), _most_seen.get(pid, 0))
        return _most_seen[pid]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def catches(pid: int, signum: int) -> bool:
    """Nobody tells which signals another process has a handler for."""
    return False


def command_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline()).strip()
    except (psutil.Error, OSError):
        return ""


def environment_of(pid: int) -> bytes:
    """Its environment at exec time, or at that of the process it was forked from."""
    try:
        variables = psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return b""
    return os.fsencode("\0".join(f"{name}={value}" for name, value in variables.items()))


def describe(pid: int) -> str:
    """What can be told about a process, on a line."""
    try:
        threads = psutil.Process(pid).num_threads()
    except psutil.Error:
        threads = 0
    return (
        f"pid {pid}, parent {parent_of(pid)}, state {state_of(pid)}: {command_of(pid)[:120]}\n"
        f"    {threads} threads, {cpu_seconds(pid):.2f} s of CPU time"
    )


def uses(pid: int, file: os.stat_result) -> bool:
    """Nobody tells which shared memory another process has mapped."""
    return False


# --- this process -------------------------------------------------------------------------------


def own_threads() -> set[int]:
    """The ids of this process's threads that run Python."""
    return set(sys._current_frames())


def name_of_thread(ident: int) -> str:
    """The name of one of them; none if it has ended."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return names.get(ident, "without a name") if ident in own_threads() else ""


def own_descriptors() -> dict[int, str]:
    """What this process has open, and what that is, as far as `stat` tells.

    Without what multiprocessing.heap keeps: its arenas (Value, Array).
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 4096 if soft == resource.RLIM_INFINITY else min(soft, 4096)
    found = {fd: _file_of(fd) for fd in range(most)}  # each new one has the lowest number
    heap = sys.modules.get("multiprocessing.heap")
    arenas = heap.BufferWrapper._heap._arenas if heap is not None else []
    not_ours = {"", *(found.get(arena.fd, "") for arena in arenas)}
    return {fd: file for fd, file in found.items() if file not in not_ours}


def _file_of(fd: int) -> str:
    """Kind, device and number of an open file, empty where there is none."""
    try:
        status = os.fstat(fd)
    except OSError:
        return ""
    return f"{stat.filemode(status.st_mode)[0]} {status.st_dev}:{status.st_ino}"
