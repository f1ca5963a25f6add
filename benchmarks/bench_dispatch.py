"""Compare what fastpool's dispatch costs with what multiprocessing's costs, in the same run.

    python benchmarks/bench_dispatch.py [--quick] [--rows NAME ...] [--json]

README.md beside this file tells the method, and what these figures can't tell.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import goals
from rows import REFERENCE, STDLIB, SUBJECT, Outcome, all_rows

from fastpool.bench import formats, limits, timing
from fastpool.bench.formats import show_progress
from fastpool.bench.limits import Limit, LimitsUnavailableError
from fastpool.bench.machine import describe_machine
from fastpool.bench.timing import Summary

HEAD = (
    "row",
    "multiprocessing",
    "",
    "C or serial",
    "ratio",
    "at least",
    "aim",
    "verdict",
    "others",
)


def table_row(outcome: Outcome, known_limits: dict[tuple[str, str], Limit]) -> list[str]:
    """Write an outcome as cells under `HEAD`.

    Parameters
    ----------
    outcome : Outcome
        What was measured.
    known_limits : dict
        The C figures by name and wait; may be empty.

    Returns
    -------
    list of str
    """
    row = outcome.row

    def cell(figure: Summary) -> str:
        return f"{row.show(figure.median)} ±{100 * figure.spread:2.0f}%"

    beside = ""
    if row.reference is not None:
        beside = cell(outcome.figures[REFERENCE])
    elif row.limit in known_limits:
        beside = formats.format_time(known_limits[row.limit].p50)
    at_least, aim = map(row.show_ratio, row.goals) if row.goals else ("", "")
    return [
        row.title,
        cell(outcome.figures[STDLIB]),
        cell(outcome.figures[SUBJECT]),
        beside,
        row.show_ratio(outcome.ratio),
        at_least,
        aim,
        outcome.verdict,
        f"{outcome.others:.0f} %",
    ]


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
        __doc__.splitlines()[0], all_rows(quick=True), "some 20 seconds instead of 2 to 3 minutes"
    )
    parser.add_argument(
        "--python-only", action="store_true", help="leave out the limits measured in C"
    )
    options, sides = goals.parse(parser, arguments)
    machine = describe_machine()
    if not options.json:
        goals.print_head(machine, sides[1], options)
    measured = [] if options.python_only else measure_limits(options)
    outcomes = goals.measure(goals.chosen(all_rows(options.quick), options), sides, options)
    if options.json:
        report = {
            "machine": machine,
            "options": vars(options),
            "rows": [outcome.as_json() for outcome in outcomes],
            "limits": [asdict(limit) for limit in measured],
        }
        print(json.dumps(report, indent=1))
        return 0
    known = {(limit.name, limit.wait): limit for limit in measured}
    head = [name or sides[1].name for name in HEAD]
    print(formats.format_table(head, [table_row(outcome, known) for outcome in outcomes]))
    if measured:
        cells = [
            [limit.title, limit.format(limit.p50), limit.format(limit.tail)] for limit in measured
        ]
        print("\n" + formats.format_table(["limit in C", "p50", "p90 or p10"], cells))
    return 0


def measure_limits(options: argparse.Namespace) -> list[Limit]:
    """Measure the C limits, or say on stderr why not; anew, as the rows, if others disturbed it."""
    show_progress("C limits")
    runs: list[tuple[float, list[Limit]]] = []
    for _ in range(1 + min(options.retries, 5)):
        start, neighbours = timing.clock(), timing.Neighbours()
        try:
            program = limits.build(Path(__file__).parent / "c")
            measured = limits.measure(program, 100 if options.quick else 300)
        except LimitsUnavailableError as error:
            print(f"no C limits: {error}", file=sys.stderr)
            return []
        runs.append((neighbours.percent(timing.clock() - start), measured))
        if runs[-1][0] <= timing.DISTURBED_PERCENT:
            break
    return min(runs, key=lambda run: run[0])[1]


if __name__ == "__main__":
    raise SystemExit(main())
