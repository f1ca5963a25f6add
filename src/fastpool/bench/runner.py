"""All pools in all sections: interleaved rounds of trials, and the report of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastpool.bench import limits, machine, timing
from fastpool.bench.contenders import CONTENDERS
from fastpool.bench.results import SCHEMA, Row, rows_of
from fastpool.bench.sections import SECTIONS, Section
from fastpool.bench.trial import Answer, Setting, run

NOISY_SPREAD = 0.25  # of the rounds' medians: half the distance of the quartiles
NOISY_PERCENT = 10.0  # of one CPU, taken by others
QUICK_DEADLINE, DEADLINE = 60.0, 300.0  # of a trial, in seconds
SERVER_SECONDS = 60.0  # more for pools that start servers


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes
    ----------
    sections, pools : tuple of str
        Names.
    processes : int
        Workers.
    start_method : str, optional
        Of the pools that have a choice; as each likes it, if None.
    rounds, seed : int
        How many, and of their order.
    quick : bool
        Whether seconds count more than digits.
    limits : str, optional
        The C program.
    """

    sections: tuple[str, ...]
    pools: tuple[str, ...]
    processes: int
    start_method: str | None
    rounds: int
    seed: int
    quick: bool
    limits: str | None = None


def steps(options: Options) -> int:
    """How often `measure` calls `advance`."""
    pools = installed(options.pools)
    sections = [SECTIONS[name] for name in options.sections]
    return sum(
        section.rounds(options.rounds, options.quick) * len(_taking_part(section, pools))
        for section in sections
    )


def installed(pools: tuple[str, ...]) -> list[str]:
    """Those of these pools that can be measured here."""
    return [name for name in pools if CONTENDERS[name].version() is not None]


def measure(options: Options, advance: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """Measure everything that was asked for.

    Parameters
    ----------
    options : Options
        What was asked for.
    advance : callable, optional
        Called before each trial, with what it is.

    Returns
    -------
    dict
        The report, which `json` can write; ``docs/benchmarks.md`` tells its fields.
    """
    pools = installed(options.pools)
    bounds, why_no_bounds = _measure_limits(options)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine.describe_machine(),
        "options": asdict(options),
        "versions": {name: CONTENDERS[name].version() for name in pools},
        "absent": {name: "not installed" for name in options.pools if name not in pools},
        "limits": [asdict(bound) for bound in bounds],
        "no_limits": why_no_bounds,
        "sections": {},
    }
    shuffle = random.Random(options.seed)
    for name in options.sections:
        section = SECTIONS[name]
        report["sections"][name] = _measure_section(section, pools, options, shuffle, advance)
    report["warnings"] = [
        warning for name, found in report["sections"].items() for warning in noise(name, found)
    ]
    return report


def _taking_part(section: Section, pools: list[str]) -> list[str]:
    return pools + ["serial"] * (section.with_serial and "serial" not in pools)


def _measure_section(
    section: Section,
    pools: list[str],
    options: Options,
    shuffle: random.Random,
    advance: Callable[[str], object],
) -> dict[str, Any]:
    failures: dict[str, str] = {}

    def trial(pool: str) -> Answer:
        advance(f"{section.name} {pool}")
        if pool in failures:  # it would most likely fail again, and may take long to do so
            return Answer([])
        deadline = QUICK_DEADLINE if options.quick else DEADLINE
        if CONTENDERS[pool].has_servers:
            deadline += SERVER_SECONDS
        answer = run(
            Setting(section.name, pool, options.processes, options.start_method, options.quick),
            deadline,
        )
        if answer.failure:
            failures[pool] = answer.failure
        return answer

    measured = timing.interleave(
        {pool: partial(trial, pool) for pool in _taking_part(section, pools)},
        section.rounds(options.rounds, options.quick),
        shuffle,
    )
    rows: list[Row] = []
    for pool, answers in measured.figures.items():
        rows += rows_of(pool, [answer.records for answer in answers])
    return {
        "title": section.title,
        "unit": section.unit,
        "x": section.x,
        "others_percent_of_one_cpu": round(measured.others, 1),
        "rows": rows,
        "failures": failures,
    }


def noise(name: str, found: dict[str, Any]) -> list[str]:
    """Why the figures of a section may not be believed."""
    warnings = []
    others = found["others_percent_of_one_cpu"]
    if others > NOISY_PERCENT:
        warnings.append(
            f"{name}: other processes took {others:.0f} % of a CPU meanwhile "
            f"(more than {NOISY_PERCENT:.0f} %)"
        )
    noisy = [row for row in found["rows"] if row["spread"] > NOISY_SPREAD]
    if noisy:
        worst = max(noisy, key=lambda row: row["spread"])
        warnings.append(
            f"{name}: in {len(noisy)} of {len(found['rows'])} cases the rounds differ by more than "
            f"±{100 * NOISY_SPREAD:.0f} %; most in {worst['case']!r} of {worst['pool']} "
            f"(±{100 * worst['spread']:.0f} %)"
        )
    return warnings


def _measure_limits(options: Options) -> tuple[list[limits.Limit], str]:
    """The C figures, or why there are none."""
    if options.limits is None:
        return [], "not asked for: --limits names the program, which `make bench` builds"
    try:
        return limits.measure(Path(options.limits), 50 if options.quick else 300), ""
    except limits.LimitsUnavailableError as error:
        return [], str(error)
