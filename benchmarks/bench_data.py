"""Compare what fastpool takes to move large or many data with what multiprocessing takes.

    python benchmarks/bench_data.py [--quick] [--rows NAME ...] [--json]

README.md beside this file tells the method, and what these figures can't tell. Needs NumPy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import data_machine
import goals
from data_machine import Rate
from data_rows import DataRow, all_rows, can_do
from rivals import Side
from rows import REFERENCE, STDLIB, SUBJECT, Outcome

from fastpool.bench import formats
from fastpool.bench.formats import show_progress
from fastpool.bench.machine import describe_machine

HEAD = (
    "row",
    "multiprocessing",
    "",
    "GiB/s",
    "reference",
    "ratio",
    "at least",
    "aim",
    "verdict",
    "others",
)


def table_row(row: DataRow, outcome: Outcome) -> list[str]:
    """Write an outcome as cells under `HEAD`.

    Parameters
    ----------
    row : DataRow
        What was to be measured.
    outcome : Outcome
        What was measured.

    Returns
    -------
    list of str
    """

    def cell(name: str) -> str:
        figure = outcome.figures.get(name)
        return f"{row.show(figure.median)} ±{100 * figure.spread:2.0f}%" if figure else ""

    speed = row.size / outcome.figures[SUBJECT].median / data_machine.GIB
    at_least, aim = map(row.show_ratio, row.goals) if row.goals else ("", "")
    return [
        row.title,
        cell(STDLIB),
        cell(SUBJECT),
        formats.format_number(speed) if row.size else "",
        f"{row.reference_is}: {cell(REFERENCE)}",
        row.show_ratio(outcome.ratio),
        at_least,
        f"{aim}, <= ref." if row.within_reference else aim,
        outcome.verdict,
        f"{outcome.others:.0f} %",
    ]


def chosen_rows(options: argparse.Namespace, subject: Side) -> list[DataRow]:
    """The rows that are wanted and possible; says on stderr which ones aren't possible."""
    wanted = goals.chosen(all_rows(options.quick), options)
    for row in wanted:
        if not can_do(subject, row):
            print(f"no {row.name}: {subject.name} has no {row.needs}", file=sys.stderr)
    return [row for row in wanted if can_do(subject, row)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    int
        The exit status: 0, whatever the verdicts are; 2 if the subject can't be imported.
    """
    parser = goals.make_parser(
        __doc__.splitlines()[0], all_rows(quick=True), "about a minute instead of several"
    )
    options, sides = goals.parse(parser, arguments)
    machine = describe_machine()
    if pages := data_machine.huge_pages():
        machine["huge pages"] = pages
    if not options.json:
        goals.print_head(machine, sides[1], options)
    show_progress("memory")
    rates = data_machine.measure_rates()
    rows = chosen_rows(options, sides[1])
    outcomes = goals.measure(rows, sides, options)
    if options.json:
        print(
            json.dumps(report(machine, options, zip(rows, outcomes, strict=True), rates), indent=1)
        )
        return 0
    head = [name or sides[1].name for name in HEAD]
    print(formats.format_table(head, list(map(table_row, rows, outcomes))))
    cells = [[rate.title, formats.format_number(rate.gib_per_second)] for rate in rates]
    print("\n" + formats.format_table(["memory", "GiB/s"], cells))
    return 0


def report(
    machine: dict[str, str],
    options: argparse.Namespace,
    measured: Iterable[tuple[DataRow, Outcome]],
    rates: Sequence[Rate],
) -> dict[str, object]:
    """Gather everything for `json`."""
    return {
        "machine": machine,
        "options": vars(options),
        "rows": [
            outcome.as_json()
            | {
                "bytes_per_item": row.size,
                "reference_is": row.reference_is,
                "within_reference": row.within_reference,
            }
            for row, outcome in measured
        ],
        "memory": [asdict(rate) for rate in rates],
    }


if __name__ == "__main__":
    raise SystemExit(main())
