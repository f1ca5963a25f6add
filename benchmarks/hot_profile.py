"""Where the time of the hot paths goes: sampled with perf, sorted by what was running.

    python benchmarks/hot_profile.py [--paths NAME ...] [--seconds S] [--top N]

Needs Linux's `perf`, and a kernel that lets it sample (`kernel.perf_event_paranoid` below 3, or
root). Each path runs in a fresh program under `perf record`, for a while, on a pool that is warm.
Every sample is CPU time of the parent or of a worker; the table says what that is for each item of
the path, in ns. Samples stop processes some thousand times a second, so the sums are a few percent
above what `python -m fastpool bench` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hot_paths import PATHS

SAMPLES_PER_SECOND = 4999  # no multiple of anything that a kernel does at regular intervals
PROGRAM = Path(__file__).resolve().with_name("hot_paths.py")

# Who looks for tasks or results, again and again, while there are none. A loop that claims or reads
# is compiled into the same function as the look before it, so the part of these is an upper bound.
LOOKING = (
    "Receiver_glance",
    "Receiver_wait",
    "WorkLoop_3run",
    "fp_parent_wait",
    "fp_worker_wait",
    "fp_os_park",
    "fp__something",
    "sched_yield",
    "clock_gettime",
)
GROUPS = {
    "look, wait": LOOKING,
    "dispatch": (
        "_submit.",
        "_send.",
        "_receive.",
        "_jobs.",
        "_futures.",
        "_many.",
        "_stream.",
        "_functions.",
        "_recover.",
        "_system.",
        "_outbox.",
        "_workloop.",
        "_clocked.",
    ),
    "encode, decode": ("_codec.", "_plain.", "_chunk.", "_blocks.", "_arrays.", "_segment."),
    "kernel": ("[kernel", "[k]", "kallsyms"),
    "Python": ("libpython", "bin/python", "math.", "_operator."),
}
COLUMNS = [*GROUPS, "libc, other"]


def group_of(symbol: str, library: str) -> str:
    """The column that a sample belongs to."""
    where = f"{library} {symbol}"
    for group, marks in GROUPS.items():
        if any(mark in where for mark in marks):
            return group
    return COLUMNS[-1]


def add_samples(lines: Iterable[str], parent: int) -> dict[str, Counter[tuple[str, str]]]:
    """Add up the samples of `perf script -F pid,period,ip,sym,dso`.

    Parameters
    ----------
    lines : iterable of str
        Each ``PID PERIOD ADDRESS SYMBOL (LIBRARY)``, the period in ns.
    parent : int
        Its pid; all others count as workers.

    Returns
    -------
    dict of str to Counter
        For ``"parent"`` and ``"workers"``: ns by symbol and library.
    """
    found: dict[str, Counter[tuple[str, str]]] = {"parent": Counter(), "workers": Counter()}
    for line in filter(str.strip, lines):
        pid, period, _address, rest = line.split(maxsplit=3)
        symbol, _, library = rest.rpartition(" (")
        side = "parent" if int(pid) == parent else "workers"
        found[side][symbol, library.rstrip(")")] += int(period)
    return found


def table_row(name: str, side: str, spent: Counter[tuple[str, str]], items: int) -> list[str]:
    """The cells under the columns, in ns per item."""
    columns = Counter[str]()
    for (symbol, library), nanoseconds in spent.items():
        columns[group_of(symbol, library)] += nanoseconds
    figures = [spent.total(), *(columns[column] for column in COLUMNS)]
    return [name, side, *(f"{figure / items:.0f}" for figure in figures)]


def largest(spent: Counter[tuple[str, str]], items: int, count: int) -> list[str]:
    """A line for each of the symbols that took most."""
    lines = []
    for (symbol, library), nanoseconds in spent.most_common(count):
        where = f"{symbol.removeprefix('__pyx_')}  ({Path(library).name})"
        lines.append(f"    {nanoseconds / items:8.1f} ns  {where}")
    return lines


def profile(name: str, seconds: float) -> tuple[int, dict[str, Counter[tuple[str, str]]]]:
    """Sample one path; returns the number of items, and `add_samples`'s sums."""
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "perf.data"))
        control, answer = (str(Path(folder, fifo)) for fifo in ("control", "answer"))
        os.mkfifo(control)
        os.mkfifo(answer)
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND)]
        record += ["-o", data, "-D", "-1", f"--control=fifo:{control},{answer}", "--"]
        program = [sys.executable, str(PROGRAM), name, str(seconds), folder]
        said = run([*record, *program], seconds + 60)
        parent, items = json.loads(said.splitlines()[0])
        script = ["perf", "script", "-i", data, "-F", "pid,period,ip,sym,dso"]
        lines = run(script, 60).splitlines()
    return items, add_samples(lines, parent)


def run(command: list[str], seconds: float) -> str:
    """Run a program that has to succeed; returns what it printed."""
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds
    ).stdout


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print it as Markdown."""
    print("| " + " | ".join(head) + " |")
    print("|---|---|" + "---:|" * (len(head) - 2))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, sample, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=list(PATHS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each path (default 4)")
    parser.add_argument("--top", type=int, default=0, help="name so many functions, too")
    options = parser.parse_args(arguments)
    if shutil.which("perf") is None:
        parser.error("there is no perf here (Debian: linux-perf, Fedora: perf)")
    rows, lists = [], []
    for name in options.paths:
        items, found = profile(name, options.seconds)
        for side, spent in found.items():
            rows.append(table_row(name, side, spent, items))
            lists += [f"\n{name}, {side}", *largest(spent, items, options.top)]
    print_table(["path", "process", "ns per item", *COLUMNS], rows)
    if options.top:
        print("\n".join(lists))


if __name__ == "__main__":
    main()
