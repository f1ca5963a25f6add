"""Whole programs as subjects: run, watched from outside, and proved to leave nothing behind."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers import STACKS_VARIABLE, procs

TESTS_DIRECTORY = Path(__file__).resolve().parent.parent
TOKEN_VARIABLE = "FASTPOOL_TEST_TOKEN"


def python_path() -> str:
    """Lets a script import the helpers, and fastpool from where this process has it."""
    parts = [str(TESTS_DIRECTORY)]
    spec = importlib.util.find_spec("fastpool")
    if spec is not None and spec.origin is not None:
        parts.append(str(Path(spec.origin).resolve().parent.parent))
    if os.environ.get("PYTHONPATH"):
        parts.append(os.environ["PYTHONPATH"])
    return os.pathsep.join(parts)


class Script:
    """A running Python program in a session of its own, with its output in files.

    Files, not pipes: a worker that survives its parent would keep a pipe open and the reader
    waiting. A token in its environment finds every process that it ever started.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        *,
        arguments: Sequence[str] = (),
        how: str = "file",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **popen: Any,
    ) -> None:
        self.token = f"{TOKEN_VARIABLE}={uuid.uuid4().hex}"
        directory.mkdir(parents=True, exist_ok=True)
        source = textwrap.dedent(source).lstrip()
        self.stdout_path = directory / "stdout"
        self.stderr_path = directory / "stderr"
        command = [sys.executable, *options]
        stdin: Any = subprocess.DEVNULL
        if how == "-c":
            command += ["-c", source]
        elif how == "-m":
            package = directory / "some_package"
            package.mkdir()
            (package / "__init__.py").write_text("")
            (package / "program.py").write_text(source)
            command += ["-m", "some_package.program"]
        elif how == "stdin":
            path = directory / "program.txt"
            path.write_text(source)
            stdin = path.open("rb")
            command += ["-"]
        elif how == "repl":
            path = directory / "session.txt"
            path.write_text(source)
            stdin = path.open("rb")
            command += ["-i", "-q"]
        else:
            path = directory / "program.py"
            path.write_text(source)
            command += [str(path)]
        env = {
            **os.environ,
            "PYTHONPATH": python_path(),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        env[TOKEN_VARIABLE] = self.token.partition("=")[2]
        popen.setdefault("stdin", stdin)
        popen.setdefault("start_new_session", True)
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdout=popen.pop("stdout", out),
                stderr=popen.pop("stderr", err),
                env=env,
                cwd=directory,
                **popen,
            )
        if hasattr(stdin, "close"):
            stdin.close()
        self.pid = self.process.pid

    # --- looking ---

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def processes(self) -> list[int]:
        """Every living process of this program, orphans included."""
        return procs.with_environment(self.token)

    def workers(self) -> list[int]:
        """Its processes other than the first."""
        return [pid for pid in self.processes() if pid != self.pid]

    def report(self) -> str:
        return (
            f"--- stdout ---\n{self.stdout[-4000:]}\n--- stderr ---\n{self.stderr[-8000:]}\n"
            f"--- exit code: {self.process.poll()} ---\n"
            + procs.stacks(self.processes(), os.environ.get(STACKS_VARIABLE))
        )

    # --- waiting ---

    def wait_for(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        """Wait until its standard output matches."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.stdout, re.MULTILINE)
            if found is None and self.process.poll() is not None:
                found = re.search(pattern, self.stdout, re.MULTILINE)
                assert found, f"the program ended without printing {pattern!r}\n{self.report()}"
            return found

        return procs.wait_until(
            look, timeout, lambda: f"the program prints {pattern!r}\n{self.report()}"
        )  # type: ignore[return-value]

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the first process to end; its exit code as Popen has it."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the program still runs after {timeout:g} s\n{self.report()}"
            ) from None

    def wait_gone(self, timeout: float = 1.0) -> None:
        """Wait until no process of the program is left, whoever started it."""
        procs.wait_until(
            lambda: not self.processes(),
            timeout,
            lambda: f"every process of the program has gone\n{self.report()}",
        )

    def finish(self, timeout: float = 15.0, code: int | None = 0) -> str:
        """Expect a proper end: this exit code, nothing left. Returns standard output."""
        found = self.wait(timeout)
        assert code is None or found == code, f"exit code {found}, not {code}\n{self.report()}"
        self.wait_gone(2.0)
        return self.stdout

    # --- acting ---

    def signal(self, signum: int) -> float:
        """Signal the first process; returns the time."""
        os.kill(self.pid, signum)
        return time.monotonic()

    def signal_group(self, signum: int) -> float:
        """Signal all of them at once, as a terminal does for Ctrl-C; returns the time."""
        os.killpg(self.pid, signum)
        return time.monotonic()

    def close(self) -> None:
        """Kill whatever is left."""
        for pid in self.processes():
            procs.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
