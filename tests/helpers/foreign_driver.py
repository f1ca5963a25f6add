"""Runs CPython's own tests on the implementation under test, in processes of their own.

README.md says what is bound and how. Each start method has one process (foreign_runner.py) that is
told the tests one by one; a test that is late has the stacks of all its processes dumped, and they
are killed, so that a hang costs one test.
"""

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

HERE = Path(__file__).resolve().parents[1] / "foreign"
METHODS = ("fork", "spawn", "forkserver")
EVERYTHING = os.environ.get("FASTPOOL_FOREIGN") == "all"
LIMIT = float(os.environ.get("FASTPOOL_FOREIGN_LIMIT", "40"))  # seconds for one test
MARGIN = 15  # what the outer limit adds, for the dump and the killing


def require(module: str) -> None:
    """Skip the file that calls this, unless the interpreter brings these tests."""
    pytest.importorskip("test", reason="the interpreter's test package isn't installed")
    if importlib.util.find_spec(module) is None:
        pytest.skip("the interpreter's test package is not complete", allow_module_level=True)


def environment(
    subject: str, method: str, folder: Path | None = None, impl: str | None = None
) -> dict[str, str]:
    """What the runner and all processes below it need to find the binding and the package."""
    env = dict(os.environ, FASTPOOL_FOREIGN_SUBJECT=subject, FASTPOOL_FOREIGN_METHOD=method)
    if impl is not None:
        env["FASTPOOL_FOREIGN_IMPL"] = impl
    paths = [str(HERE / "startup")]
    spec = importlib.util.find_spec("fastpool")
    if folder is not None:
        env["FASTPOOL_FOREIGN_TRACE"] = str(folder / "trace.txt")
    if folder is not None and spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        if package.parent.name.endswith("-packages"):
            # Installed, but not in the environments that tests make, and the folder's other
            # packages mustn't come before the standard library.
            link = folder / "package" / "fastpool"
            if not link.exists():
                link.parent.mkdir()
                link.symlink_to(package)
            package = link
        paths.append(str(package.parent))
    paths += [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    env["PYTHONPATH"] = os.pathsep.join(paths)
    return env


class Runner:
    """The process that runs the tests of one subject under one start method."""

    def __init__(self, subject: str, method: str, folder: Path, impl: str | None) -> None:
        self.subject = subject
        self.method = method
        self.impl = impl
        self.folder = folder
        self.problems: list[str] = []  # what was left behind, known after close()
        self.used = False
        self.hung_classes: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log.txt"
        self._commands: IO[str]
        self._replies = -1
        self._unread = b""

    def run(self, test_id: str, seconds: float = LIMIT) -> dict[str, Any]:
        """The outcome of one test: passed, failed or skipped, and a text."""
        case = test_id.partition(".")[0]
        if case in self.hung_classes:
            return {"outcome": "failed", "text": self.hung_classes[case]}
        self.used = True
        reply = self._run(test_id, seconds)
        if reply is None:  # the class before this one was at fault: once more, with a new process
            reply = self._run(test_id, seconds)
        return reply or {"outcome": "failed", "text": "\n".join(self.problems[-1:])}

    def _run(self, test_id: str, seconds: float) -> dict[str, Any] | None:
        process = self._process or self._start()
        log_start = self._log.stat().st_size
        deadline = time.monotonic() + seconds
        phase = "teardown"
        try:
            self._commands.write(test_id + "\n")
            self._commands.flush()
        except BrokenPipeError:
            pass  # the reply says how it ended
        while True:
            reply = self._read(deadline)
            if reply is None:
                break
            if reply.get("id") == test_id:
                if reply["outcome"] == "failed":
                    reply["text"] += self._output(log_start)
                return reply
            phase = reply.get("phase", phase)
        code = process.poll()
        how = f"hung for {seconds:g} s" if code is None else f"its process ended with {code}"
        self._kill(dump=code is None)
        output = self._output(log_start)
        if phase == "teardown":
            self.problems.append(f"the end of the class before {test_id}: {how}{output}")
            return None
        if phase == "setup":
            case = test_id.partition(".")[0]
            self.hung_classes[case] = f"the set-up of {case}, see its first test: {how}"
        return {"outcome": "failed", "text": f"{how}, in phase {phase!r}{output}"}

    def close(self, patience: float = LIMIT + 10) -> None:
        """Let the last fixtures run, note what they leave behind, end the process."""
        if self._process is None:
            return
        log_start = self._log.stat().st_size
        try:
            self._commands.close()
        except BrokenPipeError:
            pass
        deadline = time.monotonic() + patience
        reply = self._read(deadline)
        while reply is not None and reply.get("phase") != "end":
            reply = self._read(deadline)
        if reply is None:
            self.problems.append("the last fixtures hung or crashed")
        else:
            self.problems += reply["problems"]
        try:
            code = self._process.wait(max(deadline - time.monotonic(), 1))
            if code:
                self.problems.append(f"the interpreter ended with {code}")
        except subprocess.TimeoutExpired:
            self.problems.append("the interpreter doesn't end")
        deadline = time.monotonic() + 5
        while (left := self._group()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.problems += [f"process left: {name}" for name in left.values()]
        self._kill(dump=bool(left) or reply is None)
        if self.problems:
            self.problems.append(self._output(log_start))

    def _start(self) -> subprocess.Popen[bytes]:
        (self.folder / "trace.txt").touch()
        commands_out, commands = os.pipe()
        self._replies, replies_in = os.pipe()
        self._commands = os.fdopen(commands, "w")
        self._unread = b""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(HERE / "foreign_runner.py"),
                    "--serve",
                    str(commands_out),
                    str(replies_in),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(self.subject, self.method, self.folder, self.impl),
                pass_fds=(commands_out, replies_in),
                start_new_session=True,
            )
        os.close(commands_out)
        os.close(replies_in)
        return self._process

    def _read(self, deadline: float) -> dict[str, Any] | None:
        """The next reply; None when it is late or the process has ended."""
        assert self._process is not None
        while b"\n" not in self._unread:
            ended = self._process.poll() is not None  # workers may hold the pipe open
            if select.select([self._replies], [], [], 0 if ended else 0.25)[0]:
                part = os.read(self._replies, 1 << 16)
                if not part:
                    try:
                        self._process.wait(5)
                    except subprocess.TimeoutExpired:
                        pass
                    return None
                self._unread += part
            elif ended or time.monotonic() > deadline:
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _group(self) -> dict[int, str]:
        """The live processes of the runner's session, but itself."""
        assert self._process is not None
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self._process.pid:
                continue
            try:
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self._process.pid and state not in "ZX":
                    command = (entry / "cmdline").read_text().replace("\0", " ").strip()
                    found[int(entry.name)] = f"{entry.name} ({state}): {command[:200]}"
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def _kill(self, dump: bool) -> None:
        assert self._process is not None
        if dump:
            for pid in [*self._group(), *([self._process.pid] * (self._process.poll() is None))]:
                try:
                    os.kill(pid, signal.SIGUSR2)
                except ProcessLookupError:
                    pass
            time.sleep(0.5)
        deadline = time.monotonic() + 5
        while True:
            left = [*self._group(), *([self._process.pid] * (self._process.poll() is None))]
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not left or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        self._process = None
        os.close(self._replies)
        try:
            self._commands.close()
        except BrokenPipeError:
            pass

    def _output(self, start: int) -> str:
        with open(self._log, "rb") as log:
            log.seek(start)
            text = log.read().decode(errors="replace")
        return f"\n--- output of its processes ---\n{text[-20000:]}"


def listing(subject: str, methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the interpreter's test package has for a subject, for each start method."""
    out = {}
    for method in methods:
        command = [sys.executable, str(HERE / "foreign_runner.py"), "--list"]
        done = subprocess.run(
            command, env=environment(subject, method), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"can't list the tests:\n{done.stderr}")
        out[method] = json.loads(done.stdout)
    return out


def parameters(
    listed: dict[str, dict[str, Any]], slow: Callable[[str, str], str | None], slow_limit: float
) -> Iterator[Any]:
    """A parameter (start method, test id, limit) for each test.

    `slow` says why a test only runs with FASTPOOL_FOREIGN=all, or None; it has a limit of its own.
    """
    for method, found in listed.items():
        for test_id in found["tests"]:
            marks: list[pytest.MarkDecorator] = []
            reason = found["exceptions"].get(test_id)
            if reason is not None:
                marks.append(pytest.mark.skip(reason=reason))
            reason = slow(method, test_id)
            seconds = LIMIT if reason is None else slow_limit
            marks.append(pytest.mark.timeout_s(seconds + MARGIN))
            if reason is not None:
                marks.append(pytest.mark.slow)
                if not EVERYTHING:
                    text = f"{reason}; FASTPOOL_FOREIGN=all runs it"
                    marks.append(pytest.mark.skip(reason=text))
            yield pytest.param(method, test_id, seconds, id=f"{method}-{test_id}", marks=marks)


def run(runners: dict[str, Runner], method: str, test_id: str, seconds: float) -> None:
    """Run one test, and pass, fail or skip as it does."""
    for other, runner in runners.items():
        if other != method:
            runner.close()
    result = runners[method].run(test_id, seconds)
    if result["outcome"] == "skipped":
        pytest.skip(result["text"])
    if result["outcome"] == "failed":
        pytest.fail(result["text"], pytrace=False)


@pytest.mark.timeout_s(LIMIT + MARGIN + 15)
def test_nothing_left(method: str, runners: dict[str, Runner]) -> None:
    """After the tests before it: no process, no thread left, no fixture failed at a class's end.

    Each file of tests has it after the others.
    """
    runner = runners[method]
    runner.close()
    if not runner.used:
        pytest.skip("no test has run")
    if runner.problems:
        pytest.fail("\n".join(runner.problems), pytrace=False)
