"""One pool in some sections, as a program of its own, so that nothing of it is left for the next.

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

from fastpool.bench import stopping
from fastpool.bench.contender import NotOffered
from fastpool.bench.contenders import CONTENDERS
from fastpool.bench.processes import ends_within, kill_session
from fastpool.bench.sections import SECTIONS
from fastpool.bench.subject import Record, Subject

LONGEST_FOLDER = 60  # bytes: the path of a socket in it has 108, and pools add some forty


@dataclass(frozen=True)
class Setting:
    """What is measured, and how."""

    sections: tuple[str, ...]
    pool: str
    processes: int
    method: str | None
    quick: bool


@dataclass(frozen=True)
class Answer:
    """What came of a section: the records, and why there are no more of them."""

    records: list[Record]
    failure: str = ""


def run(setting: Setting, deadline: float) -> dict[str, Answer]:
    """Run the program and read its report.

    Parameters
    ----------
    setting : Setting
        What is measured.
    deadline : float
        Seconds; then the program is killed, with all its processes.

    Returns
    -------
    dict of str to Answer
        By section, in their order; those behind one that failed are not there.
    """
    with tempfile.TemporaryDirectory(
        prefix="fastpool-bench-",
        ignore_cleanup_errors=True,  # a resource tracker may be removing its own meanwhile
    ) as folder:
        report, errors = Path(folder) / "report", Path(folder) / "errors"
        command = [sys.executable, "-m", __name__, json.dumps(asdict(setting)), str(report)]
        program: subprocess.Popen[bytes] | None = None
        with open(errors, "wb") as said:
            try:
                with stopping.held_back():
                    program = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=said,
                        stderr=said,
                        start_new_session=True,
                        env=_environment(setting.pool, folder),
                    )
                if not ends_within(program.pid, deadline):
                    return _read(setting, report, f"no answer in {deadline:g} s")
            finally:  # in time or not, and after Ctrl-C, which its session has not heard of
                if program is not None:
                    with stopping.held_back():
                        kill_session(program.pid)
                        program.wait()
        last = errors.read_text(errors="replace").strip().rpartition("\n")[2]
        why = f"the program ended with {program.returncode}: {last:.200}"
        return _read(setting, report, why)


def _environment(pool: str, folder: str) -> dict[str, str]:
    """Temporary files go into the folder, so that those of killed pools are removed with it.

    Not those of servers: the paths of Ray's sockets are nearly too long as they are.
    """
    if CONTENDERS[pool].has_servers or len(os.fsencode(folder)) > LONGEST_FOLDER:
        return dict(os.environ)
    return os.environ | {"TMPDIR": folder}


def _read(setting: Setting, report: Path, otherwise: str) -> dict[str, Answer]:
    """The sections of a report; `otherwise` is why it has no end, if it has none."""
    lines = report.read_text().split("\n")[:-1] if report.exists() else []
    parsed: list[dict[str, Any]] = [json.loads(line) for line in lines]
    answers: dict[str, Answer] = {}
    records: list[Record] = []
    for line in parsed:
        if "end" not in line:
            records.append(Record(**line))
            continue
        answers[setting.sections[len(answers)]] = Answer(records, line["end"])
        records = []
        if "last" in line:
            return answers
    if len(answers) < len(setting.sections):
        answers[setting.sections[len(answers)]] = Answer(records, otherwise)
    return answers


def main(setting_text: str, report: str) -> None:
    """Measure, and write the report; the arguments are those of the command line."""
    setting = Setting(**json.loads(setting_text))
    contender = CONTENDERS[setting.pool]
    subject = Subject(contender, setting.processes, setting.method, setting.quick)
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(line: dict[str, Any]) -> None:
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    for name in setting.sections:
        try:
            for record in SECTIONS[name].measure(subject):
                write(asdict(record))
        except NotOffered as reason:
            write({"end": str(reason) or "does not offer this"})
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            write({"end": " ".join(text.split())[:300], "last": True})
            break
        else:
            write({"end": ""})
    else:
        subject.leave()
    os._exit(0)  # pools that failed, or lost a worker, can perhaps not be left


if __name__ == "__main__":
    main(*sys.argv[1:])
