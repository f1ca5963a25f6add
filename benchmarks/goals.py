"""What the two goal tables have in common: the command line, what stands above, the rounds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TypeVar

from rivals import SUBJECTS, Side, load_side
from rows import Outcome, Row, measure_row

from fastpool.bench.arguments import positive
from fastpool.bench.formats import show_progress
from fastpool.bench.timing import DISTURBED_PERCENT

AnyRow = TypeVar("AnyRow", bound=Row)


def make_parser(text: str, rows: Sequence[Row], quick: str) -> argparse.ArgumentParser:
    """The options that both tables have.

    Parameters
    ----------
    text : str
        What the table is about.
    rows : sequence of Row
        What may be chosen from.
    quick : str
        How long a quick table takes, instead of how long.

    Returns
    -------
    ArgumentParser
    """
    names = [row.name for row in rows]
    parser = argparse.ArgumentParser(description=text)
    add = parser.add_argument
    add("--quick", action="store_true", help=quick)
    add("--rows", nargs="+", choices=names, metavar="NAME", help=f"only these: {', '.join(names)}")
    add("--json", action="store_true", help="print JSON with all rounds, instead of the table")
    add("--rounds", type=positive, help="interleaved rounds (default 7, with --quick 3)")
    add("--seed", type=int, default=1, help="of the order within the rounds")
    add(
        "--retries",
        type=int,
        default=0,
        help="so many rounds more for each row, if other processes took more than "
        f"{DISTURBED_PERCENT:.0f} %% of a CPU; the least disturbed count (default 0)",
    )
    add("--processes", type=positive, default=2, help="workers (default 2)")
    add("--start-method", default="fork", choices=["fork", "spawn", "forkserver"])
    add(
        "--subject",
        default="fastpool",
        choices=SUBJECTS,
        help="which pool to compare; with multiprocessing.Pool every speedup has to come out "
        "as 1x, up to the noise of this machine",
    )
    return parser


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, tuple[Side, Side]]:
    """Read the command line.

    Parameters
    ----------
    parser : ArgumentParser
        As `make_parser` made it.
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    tuple
        The options, of which ``rounds`` and ``scale`` follow from ``--quick`` unless given; and
        multiprocessing's side and the subject's. The program ends with status 2 where the subject
        isn't installed.
    """
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.scale = 0.3 if options.quick else 1.0
    try:
        theirs, ours = (
            load_side(name, options.processes, options.start_method)
            for name in ("multiprocessing.Pool", options.subject)
        )
    except ImportError as error:
        print(f"nothing to compare with: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return options, (theirs, ours)


def print_head(machine: dict[str, str], subject: Side, options: argparse.Namespace) -> None:
    """Tell on what is measured, and what."""
    for name, fact in machine.items():
        print(f"{name + ':':12} {fact}")
    print(
        f"{'run:':12} {subject.name} against multiprocessing, {options.processes} workers, "
        f"{options.start_method}, {options.rounds} rounds\n"
    )


def chosen(rows: Sequence[AnyRow], options: argparse.Namespace) -> list[AnyRow]:
    """Those of the rows that are asked for."""
    return [row for row in rows if row.name in (options.rows or [row.name])]


def measure(
    rows: Sequence[Row], sides: tuple[Side, Side], options: argparse.Namespace
) -> list[Outcome]:
    """Measure one row after the other."""
    outcomes = []
    for number, row in enumerate(rows, 1):
        show_progress(f"{number}/{len(rows)} {row.title}")
        outcomes.append(measure_row(row, sides, options))
    show_progress("")
    return outcomes
