"""Runs programs that may hang, crash, or leave things behind, and tells which they did."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fastpool.bench.contender import Contender

from .cases import Case, Event
from .outcomes import Seen, outcome
from .verdicts import Finding, Outcome, Verdict

DEADLINE = 10.0
GRACE = 2.0  # after the program's end its processes have so long to go
TOKEN = "FAULTS_TOKEN"
SETTLE = 0.1  # from the last task's arrival to the event: workers may still be on their way

_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def judge(case: Case, contender: type[Contender], deadline: float = DEADLINE) -> Outcome:
    """Run one case on one pool.

    Parameters
    ----------
    case : Case
    contender : type
    deadline : float
        Seconds until it hangs. Everything that the program started is killed then.

    Returns
    -------
    Outcome
    """
    if contender.version() is None:
        return Outcome([Finding(Verdict.NOT_TRIED, "not installed")])
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        report = Path(folder) / ".report"
        arguments = ["-m", f"{__package__}.program", case.name, contender.name, str(report)]
        return watch(arguments, folder, report, case.event, deadline, case.dev_shm)


def watch(
    arguments: Sequence[str],
    folder: str,
    report: Path,
    event: Event = Event.NONE,
    deadline: float = DEADLINE,
    dev_shm: str = "size=2g",
) -> Outcome:
    """Run a Python program in a session, and with a /dev/shm, of its own, and judge what it does.

    Parameters
    ----------
    arguments : sequence of str
        Of the interpreter.
    folder : str
        The program's current directory.
    report : Path
        Where the program writes what `Trial` writes.
    event : Event
        What is done to it from outside.
    deadline : float
        Seconds.
    dev_shm : str
        Options of the mount, where one is permitted.

    Returns
    -------
    Outcome
    """
    token = f"{TOKEN}={uuid.uuid4().hex}"
    stderr = Path(folder) / ".stderr"
    known = _entries("/dev/shm")
    with stderr.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=_environment(token),
            start_new_session=True,
            preexec_fn=_private_dev_shm(dev_shm),
        )
    try:
        with _directory(f"/proc/{process.pid}/root/dev/shm") as shm:
            acted, ended = _until_the_end(process, Path(folder), event, deadline)
            seen = Seen(event, acted, ended)
            if ended:
                begin = time.monotonic()
                seen.orphans = bool(_wait_gone(token, GRACE))
                seen.gone_after = time.monotonic() - begin
                if not seen.orphans:  # or nobody knows what they would have left
                    seen.leaks = sorted(_leaks(shm, known))
    finally:
        _kill_all(process, token)
    return outcome(seen, report, stderr.read_text(errors="replace"))


# --- the run --------------------------------------------------------------------------------------


def _environment(token: str) -> Mapping[str, str]:
    name, _, value = token.partition("=")
    parts = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, name: value, "PYTHONPATH": os.pathsep.join(filter(None, parts))}


def _private_dev_shm(options: str) -> Callable[[], None]:
    """What a child does before it becomes the program. Without the right to, it does nothing: then
    all entries that are new in /dev/shm, and that nobody uses, count as the program's."""

    def mount() -> None:
        if _libc.unshare(_CLONE_NEWNS) == 0:
            _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            _libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options.encode())

    return mount


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int | None]:
    """An open directory: it can be read when the namespace that it was mounted in has gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _until_the_end(
    process: subprocess.Popen[bytes], folder: Path, event: Event, deadline: float
) -> tuple[float | None, bool]:
    """When the event took place, and whether the program ended, in time after it."""
    begin = time.monotonic()
    acted = None
    if event is not Event.NONE:
        ready = folder / "ready"
        while not ready.exists() and time.monotonic() < begin + deadline and process.poll() is None:
            time.sleep(0.005)
        if ready.exists():
            time.sleep(SETTLE)
            acted = begin = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                if event is Event.KILL:
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(max(0.0, begin + deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return acted, False
    return acted, True


# --- what is left ---------------------------------------------------------------------------------


def processes_with(token: str) -> list[int]:
    """Living processes of a program, orphans included: a fork keeps the environment of its exec,
    and an exec hands on what it has."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and token.encode() in Path(f"/proc/{name}/environ").read_bytes():
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append(int(name))
    return found


def _wait_gone(token: str, seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    while (left := processes_with(token)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def _kill_all(process: subprocess.Popen[bytes], token: str) -> None:
    """Until none is left: one may be starting another just now."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        pids = processes_with(token)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.poll() is not None and not pids:
            return
        time.sleep(0.01)
    process.kill()
    process.wait()


def _entries(path: str | int) -> set[str]:
    try:
        return set(os.listdir(path))
    except OSError:
        return set()


def _leaks(shm: int | None, known: set[str]) -> set[str]:
    if shm is None:
        return set()
    if os.fstat(shm).st_dev != os.stat("/dev/shm").st_dev:
        return _entries(shm)
    found = {}
    for name in _entries(shm) - known:
        with contextlib.suppress(FileNotFoundError):
            found[name] = os.stat(name, dir_fd=shm).st_ino
    used = _mapped_in_shm()  # by other programs: this one has gone
    return {name for name, inode in found.items() if inode not in used} & _entries(shm)


def _mapped_in_shm() -> set[int]:
    """Inodes: a semaphore is mapped under a name that it had only while it was made."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            lines = maps.read_text(errors="replace").splitlines()
            found |= {int(line.split()[4]) for line in lines if " /dev/shm/" in line}
    return found
