"""One pool in one section, as a program of its own, so that nothing of it is left for the next.

    python -m fastpool.bench.trial SETTING REPORT

SETTING is a JSON object; REPORT the file for the answer, a JSON object in each line. A pool
that hangs, or takes the program with it, leaves the lines that it had come to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastpool.bench.contender import NotOffered
from fastpool.bench.contenders import CONTENDERS
from fastpool.bench.processes import kill_family
from fastpool.bench.sections import SECTIONS
from fastpool.bench.subject import Record, Subject


@dataclass(frozen=True)
class Setting:
    """What is measured, and how."""

    section: str
    pool: str
    processes: int
    method: str | None
    quick: bool


@dataclass(frozen=True)
class Answer:
    """What came of it: the records, and why there are no more of them."""

    records: list[Record]
    failure: str = ""


def run(setting: Setting, deadline: float) -> Answer:
    """Run the program and read its report.

    Parameters
    ----------
    setting : Setting
        What is measured.
    deadline : float
        Seconds; then the program is killed, with all its processes.

    Returns
    -------
    Answer
    """
    with tempfile.TemporaryDirectory(prefix="fastpool-bench-") as folder:
        report, errors = Path(folder) / "report", Path(folder) / "errors"
        command = [sys.executable, "-m", __name__, json.dumps(asdict(setting)), str(report)]
        with open(errors, "wb") as said:
            program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try:
                program.wait(deadline)
            except subprocess.TimeoutExpired:
                return _read(report, f"no answer in {deadline:g} s")
            finally:
                if program.poll() is None:  # too late, or Ctrl-C
                    kill_family(program.pid)
                    program.wait()
        last = errors.read_text(errors="replace").strip().rpartition("\n")[2]
        return _read(report, f"the program ended with {program.returncode}: {last:.200}")


def _read(report: Path, otherwise: str) -> Answer:
    """The lines of a report; `otherwise` is why it has no end, if it has none."""
    lines = report.read_text().split("\n")[:-1] if report.exists() else []
    parsed: list[dict[str, Any]] = [json.loads(line) for line in lines]
    records = [Record(**line) for line in parsed if "case" in line]
    ends = [line["end"] for line in parsed if "end" in line]
    return Answer(records, *(ends[:1] or [otherwise]))


def main(setting_text: str, report: str) -> None:
    """Measure, and write the report; the arguments are those of the command line."""
    setting = Setting(**json.loads(setting_text))
    section = SECTIONS[setting.section]
    contender = CONTENDERS[setting.pool]
    subject = Subject(contender, setting.processes, setting.method, setting.quick)
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(line: dict[str, Any]) -> None:
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    try:
        for record in section.measure(subject):
            write(asdict(record))
    except Exception as error:
        text = str(error) or "does not offer this"
        if not isinstance(error, NotOffered):
            text = f"{type(error).__name__}: {error}"
        write({"end": " ".join(text.split())[:300]})
        kill_family(os.getpid(), with_root=False)
        os._exit(0)  # the pool may be in a state in which it can't be left
    write({"end": ""})


if __name__ == "__main__":
    main(*sys.argv[1:])
