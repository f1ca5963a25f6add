"""The outcomes of the jobs as a table, and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastpool.bench.formats import format_table, format_time
from fastpool.bench.timing import Summary
from jobs.runner import STDLIB, Outcome

HEAD = ("job, pool", "wall time", "speed", "CPU time", "CPU")


def ratio(one: Summary, other: Summary) -> float:
    """The median of the rounds' ratios."""
    pairs = zip(one.values, other.values, strict=True)
    return statistics.median(a / max(b, 1e-9) for a, b in pairs)


def rows(title: str, outcomes: Sequence[Outcome], others: float) -> list[list[str]]:
    """Write a job as cells under `HEAD`.

    Parameters
    ----------
    title : str
        Of the job.
    outcomes : sequence of Outcome
        Its variants.
    others : float
        What others took of the CPUs, in percent of one.

    Returns
    -------
    list of list of str
        The ratios are left out where multiprocessing was not measured.
    """
    standard = next((outcome for outcome in outcomes if outcome.variant == STDLIB), None)
    cells = [[title, "", "", f"others {others:.0f} %", ""]]
    for outcome in outcomes:
        speed = cost = ""
        if standard is not None:
            speed = f"{ratio(standard.wall, outcome.wall):.2f}x"
            cost = f"{ratio(outcome.cpu, standard.cpu):.2f}x"
        cells.append(
            [f"  {outcome.variant}", _figure(outcome.wall), speed, _figure(outcome.cpu), cost]
        )
    return cells


def render(jobs: Sequence[list[list[str]]]) -> str:
    """All jobs in one table."""
    return format_table(HEAD, [row for job in jobs for row in job])


def as_json(title: str, outcomes: Sequence[Outcome], others: float) -> dict[str, Any]:
    """Everything that was measured of a job."""
    return {
        "title": title,
        "others_percent": others,
        "variants": {
            outcome.variant: {"wall": asdict(outcome.wall), "cpu": asdict(outcome.cpu)}
            for outcome in outcomes
        },
    }


def _figure(summary: Summary) -> str:
    return f"{format_time(max(summary.median, 0.0))} ±{100 * summary.spread:2.0f}%"
