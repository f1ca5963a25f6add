"""Processes seen from outside, through /proc: who lives, what it costs, what it left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

#: How names in /dev/shm begin that are never ours: semaphores of joblib's pool, in any program.
LIBRARY_FILES = ("sem.loky-",)

#: Threads that other libraries start when they like, here the allocator inside of Arrow and Polars.
LIBRARY_THREADS = ("jemalloc_bg_thd",)


def wait_until(predicate: Callable[[], T], timeout: float = 5.0, what: object = None) -> T:
    """Call `predicate` until it is true and return its value; fail after `timeout` seconds.

    `what` is told in the failure; a callable is asked for the text at that moment.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not so within {timeout:g} s: {text or predicate}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


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


def is_alive(pid: int) -> bool:
    """True while the process exists and is no zombie."""
    return state_of(pid) not in (None, "Z", "X")


def parent_of(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def start_time(pid: int) -> int | None:
    """When it started, in clock ticks after boot: (pid, start_time) names a process for good."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


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


def kill(pid: int, signum: int = signal.SIGKILL) -> bool:
    """Send a signal; False if the process is gone already."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


# --- many processes -----------------------------------------------------------------------------


def all_pids() -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def descendants(root: int) -> list[int]:
    """Children, grandchildren and so on, zombies included, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        parent = parent_of(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        for child in children.get(queue.pop(0), []):
            found.append(child)
            queue.append(child)
    return found


def with_environment(text: str) -> list[int]:
    """Living processes whose environment at exec time holds `text`, whoever their parent is now.

    A forked child keeps the environment of the program it was forked from, so a token given to a
    script finds all its processes, orphans included.
    """
    needle = text.encode()
    found = []
    for pid in all_pids():
        try:
            if needle in Path(f"/proc/{pid}/environ").read_bytes() and is_alive(pid):
                found.append(pid)
        except OSError:
            continue
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


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


def stacks(pids: Iterable[int], stacks_path: str | None, patience: float = 1.0) -> str:
    """Describe every process, then add the Python stacks of those that answer SIGUSR2."""
    parts = []
    for pid in pids:
        parts.append(describe(pid))
        if stacks_path is None or not catches(pid, signal.SIGUSR2):
            continue
        begin = os.path.getsize(stacks_path) if os.path.exists(stacks_path) else 0
        if not kill(pid, signal.SIGUSR2):
            continue
        deadline = time.monotonic() + patience
        size = begin
        while time.monotonic() < deadline:  # until the file grew and then stopped growing
            time.sleep(0.02)
            now = os.path.getsize(stacks_path) if os.path.exists(stacks_path) else 0
            if now > begin and now == size:
                break
            size = now
        try:
            with open(stacks_path, errors="replace") as file:
                file.seek(begin)
                lines = file.read().splitlines()
            # A forked worker's stack ends in the frames of the test runner: no news.
            parts += [line for line in lines if "/_pytest/" not in line and "/pluggy/" not in line]
        except OSError:
            pass
    return "\n".join(parts)


# --- what a test left behind --------------------------------------------------------------------


class Snapshot:
    """The resources this process holds at one moment, to be compared with a later moment."""

    def __init__(self) -> None:
        me = os.getpid()
        self.children = {(pid, start_time(pid)) for pid in descendants(me)}
        self.threads = set(os.listdir("/proc/self/task"))
        self.descriptors = self._descriptors()
        self.shm = self._shm()
        self.begin = time.monotonic()

    @staticmethod
    def _descriptors() -> set[tuple[str, str]]:
        found = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                link = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue  # the descriptor of the listing itself
            if "/pym-" not in link:  # multiprocessing.heap keeps its arenas (Value, Array)
                found.add((fd, link))
        return found

    @staticmethod
    def _shm() -> set[str]:
        """Shared memory has the form of files; folders there are something else's."""
        try:
            with os.scandir("/dev/shm") as entries:
                names = {entry.name for entry in entries if not entry.is_dir()}
                return {name for name in names if not name.startswith(LIBRARY_FILES)}
        except OSError:
            return set()

    def _orphans(self, later: Snapshot) -> set[int]:
        """Forked copies of this very program that lost their parent since then."""
        command, session = command_of(os.getpid()), os.getsid(0)
        known = {pid for pid, _ in self.children | later.children}
        found = set()
        for pid in all_pids():
            if pid in known or pid == os.getpid() or command_of(pid) != command:
                continue
            try:
                same_session = os.getsid(pid) == session
            except OSError:
                continue
            parent = parent_of(pid)
            if same_session and parent is not None and command_of(parent) != command:
                age = time.monotonic() - (start_time(pid) or 0) / TICKS_PER_SECOND
                if age < time.monotonic() - self.begin and parent == 1:
                    found.add(pid)
        return found

    def left_since(self) -> list[str]:
        """One line for everything that is here now and was not at the time of the snapshot."""
        now = Snapshot()
        lines = []
        for pid, _ in now.children - self.children:
            if start_time(pid) is not None:
                lines.append(f"child process: {describe(pid)}")
        lines += [f"orphan: {describe(pid)}" for pid in self._orphans(now)]
        for tid in now.threads - self.threads:
            name = _read(f"/proc/self/task/{tid}/comm")
            if name and name not in LIBRARY_THREADS:
                lines.append(f"thread {tid} {name}")
        lines += [f"descriptor {fd} -> {link}" for fd, link in now.descriptors - self.descriptors]
        shm = now.shm - self.shm
        if shm:
            lines += [f"/dev/shm/{name}" for name in sorted(shm) if not used_by_others(name)]
        return lines


def used_by_others(name: str) -> bool:
    """True if a process outside our tree maps or opened this entry: it is not ours."""
    ours = {os.getpid(), *descendants(os.getpid())}
    needle = f"/dev/shm/{name}"
    for pid in all_pids():
        if pid in ours:
            continue
        if needle in _read(f"/proc/{pid}/maps"):
            return True
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == needle:
                    return True
        except OSError:
            continue
    return False


def worker_pids(pool: Any) -> list[int]:
    """The pids of a pool's workers, for either implementation."""
    return [process.pid for process in list(pool._pool)]
