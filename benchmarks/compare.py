"""Compare the working tree's speed with that of another revision, in interleaved runs.

    python benchmarks/compare.py BASE [--rows NAME ...] [--check] [--json]

README.md beside this file tells the rule, and what these figures can't tell.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import compare_builds
from compare_builds import BuildError
from compare_rows import ROWS
from compare_verdict import MARGIN, Ratio, Verdict, ratio_of_medians

from fastpool.bench.arguments import positive
from fastpool.bench.formats import format_table, format_time, show_progress
from fastpool.bench.machine import describe_machine
from fastpool.bench.timing import DISTURBED_PERCENT, Neighbours, clock, summarise

PROGRAM = Path(__file__).resolve().with_name("compare_rows.py")
HEAD = ("row", "base", "tree", "ratio", "from", "to", "verdict", "others")
#: The longest that one process may take for one row, in seconds; it takes about half a second.
LIMIT = 120.0

BASE, TREE = "base", "tree"
SIDES = (BASE, TREE)


class RunError(RuntimeError):
    """A row could not be measured: a wrong value, a crash, or no end."""


@dataclass
class Measured:
    """What is known of a row.

    Attributes
    ----------
    name : str
    rounds : dict of str to list of float
        Nanoseconds, by side.
    lacks : dict of str to str
        What a side lacks for it.
    others : list of float
        What others took of the machine in each round, in percent of one CPU.
    """

    name: str
    rounds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    lacks: dict[str, str] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Ratio | None:
        """Tree by base; None where one of them lacks the row."""
        if self.lacks:
            return None
        return ratio_of_medians(self.rounds[BASE], self.rounds[TREE])

    @property
    def verdict(self) -> Verdict:
        """What can be said."""
        if self.lacks:
            return Verdict.NEW if BASE in self.lacks else Verdict.LOST
        ratio = self.ratio
        assert ratio is not None
        return ratio.verdict


def run_once(name: str, sources: Path) -> dict[str, float | str]:
    """Measure a row once, in a process of its own that imports fastpool from `sources`."""
    environment = {**os.environ, "PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, PROGRAM, name, sources],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"{name}: {sources} did not end within {LIMIT:.0f} s") from None
    if done.returncode != 0:
        raise RunError(f"{name}: {sources}: status {done.returncode}\n{done.stderr}".rstrip())
    answer: dict[str, float | str] = json.loads(done.stdout)
    return answer


def measure_round(row: Measured, places: Mapping[str, Path], shuffle: random.Random) -> None:
    """Add a round: each side once, one right after the other, in an order drawn anew.

    A base that fails in a row, in whatever way, is only a base without that row.
    """
    start, neighbours = clock(), Neighbours()
    figures = {}
    for side in shuffle.sample(SIDES, len(SIDES)):
        try:
            answer = run_once(row.name, places[side])
        except RunError as error:
            if side == TREE:
                raise
            answer = {"lacks": str(error).splitlines()[-1]}
        if "lacks" in answer:
            row.lacks[side] = str(answer["lacks"])
        else:
            figures[side] = float(answer["ns"])
    if not row.lacks:
        for side, figure in figures.items():
            row.rounds[side].append(figure)
    row.others.append(neighbours.percent(clock() - start))


def measure_all(
    names: Sequence[str], places: Mapping[str, Path], options: argparse.Namespace
) -> list[Measured]:
    """Measure all rows round by round, and those longer of which nothing can be told.

    Rounds of one row are far apart in time, so that a slow minute is no row's alone.
    """
    shuffle = random.Random(options.seed)
    rows = [Measured(name) for name in names]
    for number in range(1, options.rounds + options.more + 1):
        left = [row for row in rows if not row.lacks]
        if number > options.rounds:
            left = [row for row in left if row.verdict is Verdict.UNKNOWN]
        for row in shuffle.sample(left, len(left)):
            show_progress(f"round {number}, {ROWS[row.name].title}")
            measure_round(row, places, shuffle)
    show_progress("")
    return rows


def table_row(row: Measured) -> list[str]:
    """Write a row as cells under `HEAD`."""

    def cell(side: str) -> str:
        if not row.rounds[side]:
            return ""
        figure = summarise(row.rounds[side])
        return f"{format_time(1e-9 * figure.median)} ±{100 * figure.spread:2.0f}%"

    ratio = row.ratio
    figures = ("", "", "") if ratio is None else (ratio.middle, ratio.lower, ratio.upper)
    return [
        ROWS[row.name].title,
        cell(BASE),
        cell(TREE),
        *(figure if isinstance(figure, str) else f"{figure:.3f}" for figure in figures),
        row.verdict.value,
        f"{sum(row.others) / len(row.others):.0f} %" if row.others else "",
    ]


def print_report(rows: Sequence[Measured]) -> None:
    """Print the table, and what it says only in part."""
    print(format_table(HEAD, [table_row(row) for row in rows]))
    print(f"\nmargin {100 * MARGIN:.0f} %; ratio: tree / base, above 1 is slower")
    for row in rows:
        for side, reason in row.lacks.items():
            print(f"{ROWS[row.name].title}: not there in {side} ({reason})")
    if any(others > DISTURBED_PERCENT for row in rows for others in row.others):
        print("others used this machine meanwhile: see the last column")


def as_json(rows: Sequence[Measured], about: Mapping[str, str]) -> str:
    """All rounds, for a plot."""
    return json.dumps(
        {
            **about,
            "machine": describe_machine(),
            "rows": [
                {
                    "name": row.name,
                    "verdict": row.verdict.value,
                    "rounds": row.rounds,
                    "lacks": row.lacks,
                    "others": row.others,
                }
                for row in rows
            ],
        },
        indent=1,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("base", help="the revision to compare with, by any name that git knows")
    add("--rows", nargs="+", choices=ROWS, metavar="NAME", help=f"only these: {', '.join(ROWS)}")
    add("--rounds", type=positive, default=15, help="of all rows (default 15: some four minutes)")
    add("--more", type=int, default=15, help="of rows that can't be told by then (default 15)")
    add("--seed", type=int, default=1, help="of the orders")
    add("--check", action="store_true", help="status 1 if a row is slower, or lost")
    add("--json", action="store_true", help="print JSON with all rounds, instead of the table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build both, measure, and print.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    int
        The exit status: 0; with ``--check`` 1 if a row is slower or lost; 2 if nothing can be
        compared.
    """
    options = parse_arguments(arguments)
    try:
        revision = compare_builds.revision_of(options.base)
        modified = " and what is not committed" if compare_builds.is_modified() else ""
        about = {
            BASE: compare_builds.describe(revision),
            TREE: compare_builds.describe("HEAD") + modified,
        }
        places = {BASE: compare_builds.build_base(revision), TREE: compare_builds.build_tree()}
        if not options.json:
            for name, text in {**describe_machine(), **about}.items():
                print(f"{name + ':':10} {text}")
            print(flush=True)
        rows = measure_all(options.rows or list(ROWS), places, options)
    except (BuildError, RunError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(as_json(rows, about))
    else:
        print_report(rows)
    return 1 if options.check and any(row.verdict.is_bad for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
