"""All pools in all sections: interleaved rounds of trials, and the report of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastpool.bench import bandwidth, limits, machine, timing
from fastpool.bench.contenders import CONTENDERS
from fastpool.bench.results import SCHEMA, Row, rows_of
from fastpool.bench.sections import SECTIONS
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
    programs = sum(len(_taking_part(group, pools)) for group in _groups(options))
    return options.rounds * programs


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
    shuffle = random.Random(options.seed)
    found: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for group in _groups(options):
        others = _measure_group(group, pools, options, shuffle, advance, found)
        warnings += neighbours_warning(group, others)
    sections = {name: found[name] for name in options.sections}
    return {
        "schema": SCHEMA,
        "machine": machine.describe_machine(),
        "options": asdict(options),
        "versions": {name: CONTENDERS[name].version() for name in pools},
        "absent": _absent(options, pools),
        "limits": [asdict(bound) for bound in bounds],
        "no_limits": why_no_bounds,
        "sections": sections,
        "warnings": warnings
        + [text for name in sections for text in spread_warning(name, sections[name]["rows"])],
    }


def _absent(options: Options, pools: list[str]) -> dict[str, str]:
    absent = {name: "not installed" for name in options.pools if name not in pools}
    if "bandwidth" in options.sections and not bandwidth.has_numpy():
        absent["arrays"] = "NumPy is not installed"
    return absent


def _groups(options: Options) -> list[tuple[str, ...]]:
    """The sections that one program measures: one, or all where seconds count."""
    if not options.quick:
        return [(name,) for name in options.sections]
    ordered = tuple(sorted(options.sections, key=lambda name: SECTIONS[name].turn))
    return [ordered] if ordered else []


def _taking_part(group: tuple[str, ...], pools: list[str]) -> dict[str, tuple[str, ...]]:
    """The sections of a group that are measured with each pool."""
    taking_part = dict.fromkeys(pools, group)
    without = tuple(name for name in group if SECTIONS[name].with_serial)
    if without:
        taking_part.setdefault("serial", without)
    return taking_part


def _measure_group(
    group: tuple[str, ...],
    pools: list[str],
    options: Options,
    shuffle: random.Random,
    advance: Callable[[str], object],
    found: dict[str, dict[str, Any]],
) -> float:
    """Measure some sections, and put them into `found`; what others took, in percent of a CPU."""
    failures: dict[str, dict[str, str]] = {name: {} for name in group}
    taking_part = _taking_part(group, pools)

    def trial(pool: str) -> dict[str, Answer]:
        advance(pool if len(group) > 1 else f"{group[0]} {pool}")
        # What has failed would most likely fail again, and may take long to do so.
        left = tuple(name for name in taking_part[pool] if pool not in failures[name])
        answers: dict[str, Answer] = {}
        while left:
            answers |= _run(left, pool, options)
            left = tuple(name for name in left if name not in answers)
        for name, answer in answers.items():
            if answer.failure:
                failures[name][pool] = answer.failure
        return answers

    rivals = {pool: partial(trial, pool) for pool in taking_part}
    measured = timing.interleave(rivals, options.rounds, shuffle)
    for name in group:
        rows: list[Row] = []
        for pool, rounds in measured.figures.items():
            rows += rows_of(pool, [one[name].records for one in rounds if name in one])
        found[name] = {
            "title": SECTIONS[name].title,
            "unit": SECTIONS[name].unit,
            "x": SECTIONS[name].x,
            "others_percent_of_one_cpu": round(measured.others, 1),
            "rows": rows,
            "failures": failures[name],
        }
    return measured.others


def _run(sections: tuple[str, ...], pool: str, options: Options) -> dict[str, Answer]:
    deadline = QUICK_DEADLINE if options.quick else DEADLINE
    if CONTENDERS[pool].has_servers:
        deadline += SERVER_SECONDS
    setting = Setting(sections, pool, options.processes, options.start_method, options.quick)
    return run(setting, deadline)


def neighbours_warning(group: tuple[str, ...], others: float) -> list[str]:
    """Why the figures of some sections may not be believed, if others were busy meanwhile."""
    if others <= NOISY_PERCENT:
        return []
    where = "all sections" if len(group) > 1 else group[0]
    return [
        f"{where}: other processes took {others:.0f} % of a CPU meanwhile "
        f"(more than {NOISY_PERCENT:.0f} %)"
    ]


def spread_warning(name: str, rows: list[Row]) -> list[str]:
    """Why those of a section may not be believed, if its rounds differ."""
    noisy = [row for row in rows if row["spread"] > NOISY_SPREAD]
    if not noisy:
        return []
    worst = max(noisy, key=lambda row: row["spread"])
    return [
        f"{name}: in {len(noisy)} of {len(rows)} cases the rounds differ by more than "
        f"±{100 * NOISY_SPREAD:.0f} %; most in {worst['case']!r} of {worst['pool']} "
        f"(±{100 * worst['spread']:.0f} %)"
    ]


def _measure_limits(options: Options) -> tuple[list[limits.Limit], str]:
    """The C figures, or why there are none."""
    if options.limits is None:
        return [], "not asked for: --limits names the program, which `make bench` builds"
    try:
        return limits.measure(Path(options.limits), 30 if options.quick else 300), ""
    except limits.LimitsUnavailableError as error:
        return [], str(error)
