"""The table in docs/failure-modes.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from .cases import CASES, Case
from .columns import CONTENDERS
from .verdicts import Outcome, Verdict

BEGIN = "<!-- matrix: from the output of  python benchmarks/fault_matrix.py --write -->"
END = "<!-- /matrix -->"
UNKNOWN = "not tried"

Cells = dict[str, dict[str, str]]
"""Of each case, by its text, the cell of each pool."""


def setting() -> str:
    """When and where: one line."""
    pools = [f"{pool.name} {pool.version()}" for pool in CONTENDERS.values() if pool.distribution]
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{datetime.date.today().isoformat()}, CPython {platform.python_version()}, "
        f"{', '.join(pools).replace(' None', ' (not installed)')}, "
        f"Linux {kernel}, {os.cpu_count()} CPUs"
    )


def columns() -> list[str]:
    return ["event", "promise of fastpool", "test", *CONTENDERS]


def test_cell(case: Case) -> str:
    """The test's own name, with its file to look it up in."""
    path, _, name = case.test.partition("::")
    return f"[`{name}`](../{path})"


def cell(outcome: Outcome) -> str:
    """Everything but right stands out."""
    quiet = (Verdict.RIGHT, Verdict.NOT_OFFERED, Verdict.NOT_TRIED)
    if outcome.findings[0].verdict in quiet:
        return str(outcome)
    first, *rest = str(outcome).split("; ")
    word, comma, time = first.partition(", ")
    return "; ".join([f"**{word}**{comma}{time}", *(f"**{other}**" for other in rest)])


def table(cells: Cells) -> str:
    lines = ["| " + " | ".join(columns()) + " |", "|" + "---|" * len(columns())]
    for case in CASES.values():
        known = cells.get(case.text, {})
        row = [case.text, case.promise, test_cell(case)]
        row += [known.get(pool, UNKNOWN) for pool in CONTENDERS]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def parse(text: str) -> Cells:
    """The cells of a table that `table` has written."""
    head: list[str] | None = None
    cells: Cells = {}
    for line in text.splitlines():
        if not line.startswith("| "):
            continue
        row = [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
        if head is None:
            head = row
        else:
            cells[row[0]] = dict(zip(head[1:], row[1:], strict=False))
    return cells


def between(text: str) -> tuple[str, str, str]:
    """What stands before, between and behind the markers."""
    before, begin, rest = text.partition(BEGIN)
    inner, end, behind = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN!r} followed by {END!r}")
    return before + BEGIN, inner, END + behind


def renew(path: Path, outcomes: Mapping[tuple[str, str], Outcome], deadline: float) -> None:
    """Put these verdicts into the table; cells of what was not run stay as they are."""
    before, inner, behind = between(path.read_text())
    cells = parse(inner)
    for (name, pool), outcome in outcomes.items():
        cells.setdefault(CASES[name].text, {})[pool] = cell(outcome)
    head = f"{setting()}; hangs: no answer in {deadline:g} s."
    path.write_text(f"{before}\n\n{head}\n\n{table(cells)}\n\n{behind}")
