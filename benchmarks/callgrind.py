"""Run a program under callgrind, and read how many instructions each of its marked parts took."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Of a part that a program wrote out by a mark: the name of its path, and for how many items.
TRIGGER = re.compile(r"desc: Trigger: Client Request: (?P<path>.*):(?P<items>\d+)\s*$")

#: Longest run of a program, in seconds; each takes less than twenty.
LIMIT = 100.0


class CallgrindUnavailableError(RuntimeError):
    """There is no valgrind here, or the program did not run to its end under it."""


def count(command: Sequence[str], python_path: str) -> dict[str, float]:
    """Run a program that marks its paths (``c/marks.h``), and count.

    What could change a count from run to run is taken away: the environment, the seed of hashes,
    and, where that is allowed, the random addresses.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    python_path : str
        Where Python looks for modules first.

    Returns
    -------
    dict of str to float
        Instructions per item, by path.

    Raises
    ------
    CallgrindUnavailableError
        If there is no valgrind, or the program failed or took too long.
    """
    if shutil.which("valgrind") is None:
        raise CallgrindUnavailableError("there is no valgrind (Debian: apt-get install valgrind)")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONHASHSEED": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "counts"
        valgrind = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            "--combine-dumps=yes",
            "--dump-line=no",
            f"--callgrind-out-file={output}",
        ]
        try:
            done = subprocess.run(
                [*_fixed_addresses(), *valgrind, *command],
                env=environment,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise CallgrindUnavailableError(f"{command[-1]} took {LIMIT:.0f} s") from None
        if done.returncode != 0:
            raise CallgrindUnavailableError(
                f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}"
            )
        with output.open() as lines:
            return per_item(read_parts(lines))


def _fixed_addresses() -> list[str]:
    """What has the system choose no random addresses; some containers forbid it."""
    command = ["setarch", "-R"]
    try:
        allowed = subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return []
    return command if allowed else []


def read_parts(lines: Iterable[str]) -> dict[str, dict[int, int]]:
    """Read the totals of the marked parts of a callgrind file.

    Parameters
    ----------
    lines : iterable of str
        The file. A part that no mark has written, such as the one at the program's end, is left
        out; so is one of a first run, before counting was started.

    Returns
    -------
    dict
        path -> {items: instructions}. Of some parts of the same path and number of items the least
        counts: what comes from outside can only add.
    """
    parts: dict[str, dict[int, int]] = {}
    trigger: re.Match[str] | None = None
    for line in lines:
        if line.startswith("part:"):
            trigger = None
        elif line.startswith("desc: Trigger:"):
            trigger = TRIGGER.match(line)
        elif line.startswith("totals:") and trigger is not None:
            total, items = int(line.split()[1]), int(trigger["items"])
            if total > 0:
                totals = parts.setdefault(trigger["path"], {})
                totals[items] = min(total, totals.get(items, total))
    return parts


def per_item(parts: dict[str, dict[int, int]]) -> dict[str, float]:
    """Subtract N items from 2 N: what is left are the instructions of N, without what comes once.

    Parameters
    ----------
    parts : dict
        As `read_parts` gives it; two numbers of items for each path.

    Returns
    -------
    dict of str to float
    """
    figures = {}
    for path, totals in parts.items():
        if len(totals) != 2:
            raise ValueError(f"{path!r} was counted for {sorted(totals)} items, not for N and 2 N")
        (few, less), (many, more) = sorted(totals.items())
        figures[path] = (more - less) / (many - few)
    return figures
