"""Processes seen from outside: who lives, what it costs, what it left behind.

What the system tells about them comes from `procfs`, or from `no_procfs` where there is no /proc.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

HAS_PROC = os.path.isdir("/proc/self")
if HAS_PROC:
    from helpers import procfs as system
else:
    from helpers import no_procfs as system

age_of = system.age_of
all_pids = system.all_pids
catches = system.catches
command_of = system.command_of
context_switches = system.context_switches
cpu_seconds = system.cpu_seconds
describe = system.describe
environment_of = system.environment_of
is_asleep = system.is_asleep
name_of_thread = system.name_of_thread
own_descriptors = system.own_descriptors
own_threads = system.own_threads
parent_of = system.parent_of
peak_bytes = system.peak_bytes
resident_bytes = system.resident_bytes
start_time = system.start_time
state_of = system.state_of
status_field = system.status_field
uses = system.uses

T = TypeVar("T")

#: How names in /dev/shm begin that the core gives, where memory has to have one.
OWN_FILES = ("fastpool-",)

#: How those begin that are never ours: semaphores of joblib's pool, in any program.
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


def is_alive(pid: int) -> bool:
    """True while the process exists and is no zombie."""
    return state_of(pid) not in (None, "Z", "X")


def kill(pid: int, signum: int = signal.SIGKILL) -> bool:
    """Send a signal; False if the process is gone already."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


# --- many processes -----------------------------------------------------------------------------


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
    return [pid for pid in all_pids() if needle in environment_of(pid) and is_alive(pid)]


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
        self.threads = own_threads()
        self.descriptors = set(own_descriptors().items())
        self.shm = names_of_memory()
        self.begin = time.monotonic()

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
            is_young = age_of(pid) < time.monotonic() - self.begin
            if same_session and is_young and parent_of(pid) == 1 and command_of(1) != command:
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
            name = name_of_thread(tid)
            if name and name not in LIBRARY_THREADS:
                lines.append(f"thread {tid} {name}")
        lines += [f"descriptor {fd} -> {link}" for fd, link in now.descriptors - self.descriptors]
        lines += [f"/dev/shm/{name}" for name in sorted(names_since(self.shm))]
        return lines


def names_of_memory() -> set[str]:
    """What lies in /dev/shm: shared memory has the form of files; folders are something else's."""
    try:
        with os.scandir("/dev/shm") as entries:
            names = {entry.name for entry in entries if not entry.is_dir()}
            return {name for name in names if not name.startswith(LIBRARY_FILES)}
    except OSError:
        return set()


def names_since(before: set[str]) -> set[str]:
    """What lies in /dev/shm now, did not before, and is ours.

    That is what the core has named, and what processes of our tree use, where no other process
    uses it too. The rest is other programs': names that are gone in a moment, and what a program
    that was killed amid the making of a semaphore leaves there for good.
    """
    names = names_of_memory() - before
    if not names:
        return set()
    ours = {os.getpid(), *descendants(os.getpid())}
    others = [pid for pid in all_pids() if pid not in ours]
    return {name for name in names if _is_of(ours, name) and not _used_by(others, name)}


def _is_of(ours: Iterable[int], name: str) -> bool:
    return name.startswith(OWN_FILES) or _used_by(ours, name)


def _used_by(pids: Iterable[int], name: str) -> bool:
    """True if one of these processes maps or opened this entry of /dev/shm, or it is gone."""
    try:
        entry = os.stat(f"/dev/shm/{name}")
    except FileNotFoundError:
        return True
    return any(uses(pid, entry) for pid in pids)


def worker_pids(pool: Any) -> list[int]:
    """The pids of a pool's workers, for either implementation."""
    return [process.pid for process in list(pool._pool)]
