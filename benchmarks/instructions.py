"""Count the instructions of the hot paths with valgrind, and set them beside the kept table.

    python benchmarks/instructions.py [--check | --write]

README.md beside this file tells how it is counted, and what these figures can't tell.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import callgrind
from callgrind import CallgrindUnavailableError
from instruction_table import (
    Comparison,
    Table,
    Toolchain,
    compare,
    find_table,
    read_tables,
    this_toolchain,
    tolerance_for,
    write_table,
)

from fastpool.bench.formats import format_table

HERE = Path(__file__).resolve().parent
TABLE = HERE / "instructions.json"
HEAD = ("path", "now", "table", "difference", "")


def count_all() -> dict[str, float]:
    """Build what is counted in C, and count all paths.

    Returns
    -------
    dict of str to float
        Instructions per item, by path.
    """
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    try:
        subprocess.run(["make", "-s", "-C", HERE / "c", "paths"], check=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CallgrindUnavailableError(str(error)) from error
    build = HERE / "c" / "build"
    sources = str(HERE.parent / "src")
    program = [sys.executable, str(HERE / "instruction_paths.py"), str(build / "libmarks.so")]
    return {
        **callgrind.count(program, sources),
        **callgrind.count([str(build / "ring_paths")], sources),
    }


def table_row(comparison: Comparison) -> list[str]:
    """Write a comparison as cells under `HEAD`."""

    def cell(number: float | None) -> str:
        return "" if number is None else f"{number:.1f}"

    change = comparison.change
    return [
        comparison.path,
        cell(comparison.now),
        cell(comparison.then),
        "" if change is None else f"{100 * change:+.1f} %",
        comparison.verdict,
    ]


def report(now: dict[str, float], table: Table | None, here: Toolchain, check: bool) -> int:
    """Print the counts beside the table's, and judge them.

    Returns
    -------
    int
        The exit status: 1 if `check` and a path takes too many.
    """
    then = Table(here, {}) if table is None else table
    tolerance = tolerance_for(then.toolchain, here)
    print(f"{here.python}, {here.machine}\nhere:  {here.compiler}, Cython {here.cython}")
    if table is None:
        print("table: none of this Python and machine\n")
    else:
        print(f"table: {then.toolchain.compiler}, Cython {then.toolchain.cython}\n")
    rows = compare(then, now, tolerance)
    print(format_table(HEAD, [table_row(row) for row in rows]))
    if table is None:
        print("\nnothing is judged; --write makes a table")
        return 0
    print(f"\nup to {100 * tolerance:.0f} % more is tolerated")
    too_much = [row.path for row in rows if row.is_too_much]
    if too_much:
        print(f"too many instructions: {'; '.join(too_much)}")
    if any(row.verdict in ("less", "new") for row in rows):
        print("the table is behind: renew it with --write")
    return 1 if check and too_much else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and print, check or write.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    int
        The exit status: 0; with ``--check`` 1 if a path takes too many; 2 if nothing can be
        counted.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="status 1 if a path takes too many")
    choice.add_argument("--write", action="store_true", help="renew the table")
    options = parser.parse_args(arguments)
    try:
        now = count_all()
    except CallgrindUnavailableError as error:
        print(f"nothing can be counted: {error}", file=sys.stderr)
        return 2
    here = this_toolchain()
    if options.write:
        write_table(TABLE, Table(here, now))
    return report(now, find_table(read_tables(TABLE), here), here, options.check)


if __name__ == "__main__":
    sys.exit(main())
