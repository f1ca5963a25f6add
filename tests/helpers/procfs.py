"""What /proc tells about processes: `procs` has it from here, where there is one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def all_pids() -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


# --- one process --------------------------------------------------------------------------------


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (index 0 is field 3 of proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def state_of(pid: int) -> str | None:
    """The state letter (R, S, D, T, Z, …), or None if there is no such process."""
    stat = _stat(pid)
    return stat[0] if stat else None


def is_asleep(pid: int) -> bool:
    """True if it waits for something."""
    return state_of(pid) == "S"


def parent_of(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def start_time(pid: int) -> int | None:
    """When it started, in clock ticks after boot: (pid, start_time) names a process for good."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def age_of(pid: int) -> float:
    """Seconds since it started; the clock of both begins with the system."""
    return time.monotonic() - (start_time(pid) or 0) / TICKS_PER_SECOND


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / TICKS_PER_SECOND if stat else 0.0


def context_switches(pid: int) -> int:
    """Voluntary context switches of all its threads: how often one of them went to sleep."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def status_field(pid: int, name: str) -> str | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return None


def resident_bytes(pid: int) -> int:
    """Memory of the process itself: resident pages less those shared with others."""
    try:
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most memory that the process has had at a time.

    Not ru_maxrss, which begins with the peak of the process that started this one.
    """
    text = status_field(pid, "VmHWM")
    return int(text.split()[0]) << 10 if text else 0


def catches(pid: int, signum: int) -> bool:
    """True if the process has a handler for the signal (so that sending it is harmless)."""
    mask = status_field(pid, "SigCgt")
    return mask is not None and bool(int(mask, 16) >> (signum - 1) & 1)


def command_of(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def environment_of(pid: int) -> bytes:
    """Its environment at exec time, or at that of the process it was forked from."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def describe(pid: int) -> str:
    """What /proc tells about a process and its threads, a few lines."""
    lines = [f"pid {pid}, parent {parent_of(pid)}, state {state_of(pid)}: {command_of(pid)[:120]}"]
    try:
        tasks = sorted(os.listdir(f"/proc/{pid}/task"), key=int)
    except OSError:
        tasks = []
    for task in tasks:
        base = f"/proc/{pid}/task/{task}"
        kernel = " < ".join(line.split()[-1] for line in _read(f"{base}/stack").splitlines()[:4])
        lines.append(
            f"    thread {task} {_read(base + '/comm')}: waits in {_read(base + '/wchan') or '-'};"
            f" syscall {_read(base + '/syscall')[:60]}" + (f"; kernel {kernel}" if kernel else "")
        )
    return "\n".join(lines)


def uses(pid: int, file: os.stat_result) -> bool:
    """True if the process maps the file or has it open.

    Told by its inode: maps show a semaphore under a name that it had only while it was made.
    """
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    if f" {device} {file.st_ino} " in _read(f"/proc/{pid}/maps"):
        return True
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for fd in descriptors:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), file):
                return True
    return False


# --- this process -------------------------------------------------------------------------------


def own_threads() -> set[int]:
    """The ids of this process's threads."""
    return set(map(int, os.listdir("/proc/self/task")))


def name_of_thread(tid: int) -> str:
    """The name of one of them; none if it has ended."""
    return _read(f"/proc/self/task/{tid}/comm")


def own_descriptors() -> dict[int, str]:
    """What this process has open, and what that is.

    Without what multiprocessing.heap keeps: its arenas (Value, Array).
    """
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of the listing itself
        if "/pym-" not in link:
            found[int(fd)] = link
    return found
