"""Figures as words, and cells as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def format_time(seconds: float) -> str:
    """Write a duration with three digits and the unit that suits it.

    Parameters
    ----------
    seconds : float
        Any duration.

    Returns
    -------
    str
        Such as ``"1.25 us"``.
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= 0.9995 * unit:
            return f"{format_number(seconds / unit)} {name}"
    return f"{format_number(seconds * 1e9)} ns"


def format_number(number: float) -> str:
    """Write a figure with three digits, never with an exponent.

    Parameters
    ----------
    number : float
        Not negative.

    Returns
    -------
    str
    """
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f}"


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns, the first to the left and all others to the right.

    Parameters
    ----------
    head : sequence of str
        The names of the columns.
    rows : sequence of sequence of str
        The cells, as many in each row as there are columns.

    Returns
    -------
    str
        Lines without a final newline.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, rows)])


def show_progress(text: str) -> None:
    """Keep one line of a terminal up to date; say nothing where there is none."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
