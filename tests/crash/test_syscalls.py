"""System calls fail, one after the other: the call says so, and nothing is left behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from helpers import procs
from helpers.sweep import Sweep, Verdict

DEADLINE = 10.0

#: How a call fails. EINTR is no failure: there everything has to be right.
ERRORS = {
    "clone": ("EAGAIN",),
    "clone3": ("EAGAIN",),
    "dup": ("EMFILE",),
    "eventfd2": ("EMFILE",),
    "fallocate": ("ENOSPC", "EINTR"),
    "fork": ("EAGAIN",),
    "ftruncate": ("ENOMEM", "EINTR"),
    "lseek": ("EINVAL",),
    "madvise": ("ENOMEM",),
    "memfd_create": ("EMFILE",),
    "mmap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "openat": ("EMFILE", "EINTR"),
    "pidfd_open": ("EMFILE",),
    "pidfd_send_signal": ("EPERM",),
    "pipe2": ("EMFILE",),
    "poll": ("ENOMEM", "EINTR"),
    "prctl": ("EINVAL",),
    "read": ("EIO", "EINTR"),
    "recvfrom": ("ENOMEM", "EINTR"),
    "recvmsg": ("ENOMEM", "EINTR"),
    "sched_getaffinity": ("EINVAL",),
    "sendmsg": ("ENOBUFS", "EINTR"),
    "sendto": ("ENOBUFS", "EINTR"),
    "socketpair": ("EMFILE",),
    "vfork": ("EAGAIN",),
    "wait4": ("EINTR",),
    "write": ("EINTR",),  # only eventfds are written to: nothing else can happen
}

#: The most calls of a kind that fail, counted in each thread.
MOST = 8

#: What says clearly that the system refused something, or that a worker could not go on.
CLEAR = (
    r"(OSError|BlockingIOError|ChildProcessError|PermissionError|MemoryError|WorkerDiedError): .+",
    r"RuntimeError: (can't start new thread|\d+ workers in a row ended before they could start).*",
    r"ValueError: Pool not running",  # the background thread has ended with an OSError
)

pytestmark = pytest.mark.timeout_s(600)


class Case(NamedTuple):
    """In each thread and process the k-th call of a kind fails."""

    call: str
    error: str
    k: int

    def __str__(self) -> str:
        return f"{self.call}:{self.error}:{self.k}"


class Traced:
    """The program, from the moment on when it makes its pool under strace."""

    def __init__(self, sweep: Sweep, options: Sequence[str]) -> None:
        self.script = script = sweep.program(module="syscalls_subject")
        self.folder = script.stdout_path.parent
        try:
            self._wait_for_folder("READY")
            said = self.folder / "strace"
            self.log = self.folder / "log"
            with said.open("wb") as out:
                self.strace = subprocess.Popen(
                    ["strace", "-f", "-o", self.log, *options, "-p", str(script.pid)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            procs.wait_until(
                lambda: "attached" in said.read_text() or self.strace.poll() is not None
            )
            if self.strace.poll() is not None:
                pytest.skip(f"strace can't trace here: {said.read_text().strip()}")
            procs.kill(script.pid, signal.SIGUSR1)
        except BaseException:
            script.close()
            raise

    def _wait_for_folder(self, name: str) -> None:
        procs.wait_until(
            lambda: (self.folder / name).exists() or self.script.process.poll() is not None,
            DEADLINE,
            lambda: f"the program makes {name}\n{self._hanging()}",
        )

    def _hanging(self) -> str:
        self.end_strace()
        return self.script.report()

    def end_strace(self) -> None:
        """What is called from now on does not fail."""
        if self.strace.poll() is None:
            self.strace.terminate()
        self.strace.wait(5)

    def finish(self) -> dict[str, dict[str, str]]:
        """What the program says at its end."""
        self._wait_for_folder("DONE")
        self.end_strace()
        procs.kill(self.script.pid, signal.SIGUSR1)
        code = self.script.wait(5)
        assert code == 0, f"exit code {code}\n{self.script.report()}"
        self.script.wait_gone(2.0)
        found: dict[str, dict[str, str]] = json.loads(self.script.stdout.splitlines()[-1])
        return found


def counts(sweep: Sweep) -> Counter[str]:
    """How often one thread makes each call, at most."""
    traced = Traced(sweep, [])
    try:
        traced.finish()
        calls = Counter(re.findall(r"^(\d+) +(\w+)\(", traced.log.read_text(), re.MULTILINE))
    finally:
        sweep.forget(traced.script)
    most: Counter[str] = Counter()
    for (_, name), n in calls.items():
        most[name] = max(most[name], n)
    return most


def fail_a_call(sweep: Sweep, case: Case) -> Verdict:
    """Run the program with these failures, and look what came of it."""
    inject = f"inject={case.call}:error={case.error}:when={case.k}"
    traced = Traced(sweep, ["-e", f"trace={case.call}", "-e", inject])
    try:
        found = traced.finish()
        met = "INJECTED" in traced.log.read_text()
        steps = dict(found["steps"])
        wrong = {}
        for step, said in steps.items():
            clear = any(re.fullmatch(pattern, said, re.DOTALL) for pattern in CLEAR)
            if said != "right" and (case.error == "EINTR" or not clear):
                wrong[step] = said
        ended = steps.get("join") == "right" or "error" in steps
        assert not wrong and not found["left"] and ended, f"{found}\n{traced.script.report()}"
        return Verdict(None, met)
    except AssertionError as error:
        return Verdict(f"{error}\n{traced.log.read_text()[-3000:]}", True)
    finally:
        traced.end_strace()
        sweep.forget(traced.script)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_whichever_call_fails_the_program_hears_of_it_and_goes_on(sweep: Sweep) -> None:
    most = counts(sweep)
    cases = [
        Case(call, error, k)
        for call, errors in ERRORS.items()
        for error in errors
        for k in range(1, min(most[call], MOST) + 1)
    ]
    sweep.say("never made: " + " ".join(call for call in ERRORS if most[call] == 0))
    sweep.run("system calls", cases, lambda case: fail_a_call(sweep, case))
