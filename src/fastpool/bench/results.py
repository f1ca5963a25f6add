"""From samples to the report: few enough figures to be kept, enough to draw them again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from fastpool.bench import timing
from fastpool.bench.subject import Record

SCHEMA = "fastpool-bench/1"
QUANTILES = 200
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

Row = dict[str, Any]


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """A percentile of ordered samples; None where not even one of them would lie above it."""
    count = len(ordered)
    if part > 0.5 and count * (1 - part) < 0.9999:
        return None
    return ordered[min(count - 1, int(count * part))]


def quantiles(ordered: Sequence[float]) -> list[float]:
    """At most `QUANTILES` samples, evenly spread over the ranks, with the first and the last."""
    if len(ordered) <= QUANTILES:
        chosen = list(ordered)
    else:
        last = len(ordered) - 1
        chosen = [ordered[round(at * last / (QUANTILES - 1))] for at in range(QUANTILES)]
    return [_short(value) for value in chosen]


def rows_of(pool: str, rounds: Sequence[Sequence[Record]]) -> list[Row]:
    """One row for each case of a pool, from the records of all rounds.

    Parameters
    ----------
    pool : str
        Whose.
    rounds : sequence of sequence of Record
        What each round gave; some may have ended early.

    Returns
    -------
    list of dict
        ``case``, ``x``, ``pool``; ``median`` and ``spread`` of the rounds' medians, which are in
        ``rounds``; ``count`` of samples, their percentiles and ``quantiles``.
    """
    cases: dict[tuple[str, float | None], list[list[float]]] = {}
    for records in rounds:
        for record in records:
            if record.values:
                cases.setdefault((record.case, record.x), []).append(record.values)
    rows = []
    for (case, x), measured in cases.items():
        ordered = sorted(value for values in measured for value in values)
        summary = timing.summarise(statistics.median(values) for values in measured)
        shares = {name: percentile(ordered, part) for name, part in PERCENTILES.items()}
        rows.append(
            {
                "case": case,
                "x": x,
                "pool": pool,
                "median": _short(summary.median),
                "spread": round(summary.spread, 4),
                "rounds": [_short(value) for value in summary.values],
                "count": len(ordered),
                **{name: None if v is None else _short(v) for name, v in shares.items()},
                "quantiles": quantiles(ordered),
            }
        )
    return rows


def _short(value: float) -> float:
    """Four digits: more are noise, and take room."""
    return float(f"{value:.4g}")
