"""Runs programs that may hang, crash, or leave things behind, and tells which they did."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .cases import Case, Event
from .contenders import Contender
from .trial import CALL, finding_of
from .verdicts import Finding, Outcome, Verdict

DEADLINE = 10.0
GRACE = 2.0  # after the program's end its processes have so long to go
TOKEN = "FAULTS_TOKEN"
SETTLE = 0.1  # from the last task's arrival to the event: workers may still be on their way

BESIDE = (Verdict.NOT_OFFERED, Verdict.NOT_YET, Verdict.NOT_TRIED)
"""After one of these nothing else that was seen counts."""

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
            begin = time.monotonic()
            left = [] if ended is None else _wait_gone(token, GRACE)
            gone = time.monotonic() - begin
            # Where processes live on, nobody knows what they would have left.
            leaks = [] if ended is None or left else sorted(_leaks(shm, known))
    finally:
        _kill_all(process, token)
    lines = _lines(report)
    text = stderr.read_text(errors="replace")
    printed = "\n".join([*(json.dumps(line) for line in lines), text[-4000:]])
    findings, seconds = _findings(lines), _seconds(lines)
    beside = [finding for finding in findings if finding.verdict in BESIDE]
    if beside and ended is not None:
        return Outcome(beside[:1], None, printed)
    if ended is None:
        findings.append(Finding(Verdict.HANGS, _where(lines)))
    elif event is Event.KILL:
        if not acted:
            findings.append(Finding(Verdict.CRASHES, _last_line(text)))
        elif not left:
            seconds = gone
    elif not any("done" in line for line in lines):
        findings.append(Finding(Verdict.CRASHES, _last_line(text)))
    if left:
        findings.append(Finding(Verdict.ORPHANS))
    if leaks:
        findings.append(Finding(Verdict.LEAKS, leaks[0].rstrip("0123456789")))
    if event is Event.INTERRUPT and "Traceback" in text:
        findings.append(Finding(Verdict.NOISE))
    if any(finding.verdict is Verdict.HANGS for finding in findings) and not _answered(lines):
        seconds = None
    return Outcome(findings or [Finding(Verdict.RIGHT)], seconds, printed)


# --- the run --------------------------------------------------------------------------------------


def _environment(token: str) -> Mapping[str, str]:
    name, _, value = token.partition("=")
    parts = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, name: value, "PYTHONPATH": os.pathsep.join(filter(None, parts))}


def _private_dev_shm(options: str) -> Callable[[], None]:
    """What a child does before it becomes the program. Without the right to, it does nothing: then
    all entries that are new in /dev/shm count as the program's."""

    def mount() -> None:
        if _libc.unshare(_CLONE_NEWNS) == 0:
            _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            _libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options.encode())

    return mount


@contextlib.contextmanager
def _directory(path: str) -> Any:
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
) -> tuple[bool, float | None]:
    """Whether the event took place, and the seconds from it (or the start) to the program's end;
    None if it doesn't end."""
    begin = time.monotonic()
    acted = False
    if event is not Event.NONE:
        while not acted and time.monotonic() < begin + deadline and process.poll() is None:
            acted = (folder / "ready").exists()
            time.sleep(0.005)
        if acted:
            time.sleep(SETTLE)
            begin = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                if event is Event.KILL:
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(max(0.0, begin + deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return acted, None
    return acted, time.monotonic() - begin


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
    same = os.fstat(shm).st_dev == os.stat("/dev/shm").st_dev
    return _entries(shm) - known if same else _entries(shm)


# --- the report -----------------------------------------------------------------------------------


def _lines(report: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in report.read_text().splitlines()]
    except FileNotFoundError:
        return []


def _findings(lines: list[dict[str, Any]]) -> list[Finding]:
    found = []
    for line in lines:
        if "finding" in line and (finding := finding_of(*line["finding"])) not in found:
            found.append(finding)
    return found


def _steps(lines: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(line["step"], line["at"]) for line in lines if "step" in line]


def _answered(lines: list[dict[str, Any]]) -> bool:
    steps = _steps(lines)
    return any(name == CALL for name, _ in steps) and steps[-1][0] != CALL


def _seconds(lines: list[dict[str, Any]]) -> float | None:
    """The longest of the answers to the event."""
    steps = _steps(lines)
    calls = [after[1] - step[1] for step, after in itertools.pairwise(steps) if step[0] == CALL]
    return max(calls, default=None)


def _where(lines: list[dict[str, Any]]) -> str:
    steps = _steps(lines)
    return "" if not steps or steps[-1][0] == CALL else steps[-1][0]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1].partition(":")[0][:60]
