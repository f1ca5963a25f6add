"""What a row is and how it is measured; the rows of the dispatch benchmark."""

from __future__ import annotations

import argparse
import faulthandler
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from typing import Any

import measures
from measures import Load, Measure
from rivals import Side, idle_cpu_percent

from fastpool.bench import formats, timing
from fastpool.bench.timing import Summary

HANG_SECONDS = 600  # of a row; then all stacks are shown
STDLIB, SUBJECT, REFERENCE = "stdlib", "subject", "serial"  # as --json calls them


class Kind(Enum):
    """What a row's ratio is."""

    SPEEDUP = "multiprocessing's time / the subject's: the more the better"
    PART = "the subject's time / the reference's: the less the better"
    ITSELF = "the subject's own figure: the less the better"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    name : str
        For ``--rows``.
    title : str
        What the table shows.
    measure : callable
        Measures one side once.
    loads : tuple of Load
        What multiprocessing and the subject do in a round. The slower one may get fewer items,
        since the figure is per item. None instead of the first: multiprocessing can't do it.
    goals : tuple of float, optional
        The ratio that is asked for, and the one that is aimed at; None for a row that only informs.
    kind : Kind
        What the ratio is.
    show : callable
        Writes a figure of this row.
    limit : tuple of str, optional
        Name and wait of the C figure that stands beside the row.
    reference : callable, optional
        Measures what stands beside the row, such as the same work without a pool; a `PART` is a
        part of it, where there is one. It is handed the subject's side.
    within_reference : bool
        Whether the aim is also to take no longer than the reference.
    max_rounds : int
        Fewer rounds for what takes long.
    """

    name: str
    title: str
    measure: Measure
    loads: tuple[Load | None, Load]
    goals: tuple[float, float] | None
    kind: Kind = Kind.SPEEDUP
    show: Callable[[float], str] = formats.format_time
    limit: tuple[str, str] | None = None
    reference: Callable[[Side], float] | None = None
    within_reference: bool = False
    max_rounds: int = 99

    def is_met(self, ratio: float, goal: float) -> bool:
        """Whether a ratio is as good as a goal, or better."""
        return ratio >= goal if self.kind is Kind.SPEEDUP else ratio <= goal

    def show_ratio(self, ratio: float) -> str:
        """Write a ratio, or a goal."""
        number = formats.format_number(ratio)
        return number + "x" if self.kind is Kind.SPEEDUP else number


@dataclass(frozen=True)
class Outcome:
    """A row, what was measured, and what others took meanwhile, in percent of one CPU."""

    row: Row
    figures: dict[str, Summary]
    others: float

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: what slows a whole round cancels out."""
        ours = self.figures[SUBJECT].values
        if self.row.kind is Kind.ITSELF:
            return timing.summarise(ours).median
        if self.row.kind is Kind.SPEEDUP:
            theirs = self.figures[STDLIB].values
            return timing.summarise(them / us for them, us in zip(theirs, ours, strict=True)).median
        return self._part_of(REFERENCE if self.row.reference else STDLIB)

    @property
    def verdict(self) -> str:
        """``aim``, ``ok`` or ``MISS``; empty for a row without goals."""
        if self.row.goals is None:
            return ""
        at_least, aim = self.row.goals
        if self.row.is_met(self.ratio, aim) and self._is_within_reference():
            return "aim"
        return "ok" if self.row.is_met(self.ratio, at_least) else "MISS"

    def as_json(self) -> dict[str, Any]:
        """Write it with all its rounds, in seconds (or the row's own unit), for `json`."""
        return {
            "row": self.row.name,
            "title": self.row.title,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "ratio": self.ratio,
            "ratio_is": self.row.kind.value,
            "goals": self.row.goals,
            "verdict": self.verdict,
            "others_percent_of_one_cpu": self.others,
        }

    def _part_of(self, rival: str) -> float:
        pairs = zip(self.figures[rival].values, self.figures[SUBJECT].values, strict=True)
        return timing.summarise(us / them for them, us in pairs).median

    def _is_within_reference(self) -> bool:
        return not self.row.within_reference or self._part_of(REFERENCE) <= 1


def measure_row(row: Row, sides: tuple[Side, Side], options: argparse.Namespace) -> Outcome:
    """Measure all rivals of one row in interleaved rounds.

    Parameters
    ----------
    row : Row
        What to measure.
    sides : tuple of Side
        multiprocessing, and the subject.
    options : argparse.Namespace
        ``rounds``, ``scale``, ``seed`` and ``retries``.

    Returns
    -------
    Outcome
    """
    theirs, ours = row.loads
    if theirs is not None and sides[0] == sides[1]:
        ours = theirs  # a pool as slow as multiprocessing's gets as little to do
    rivals: dict[str, Callable[[], float]] = {
        name: partial(row.measure, side, load.scaled(options.scale))
        for name, side, load in zip((STDLIB, SUBJECT), sides, (theirs, ours), strict=True)
        if load is not None
    }
    if row.reference is not None:
        rivals[REFERENCE] = partial(row.reference, sides[1])
    rounds = min(options.rounds, row.max_rounds)
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    measured = timing.interleave(rivals, rounds, random.Random(options.seed), options.retries)
    faulthandler.cancel_dump_traceback_later()
    figures = {name: timing.summarise(values) for name, values in measured.figures.items()}
    return Outcome(row, figures, measured.others)


def _percent(figure: float) -> str:
    return f"{figure:.2f} %"


def _idle(seconds: int) -> Row:
    return Row(
        "idle",
        f"idle for {seconds} s, CPU of all processes",
        lambda side, load: idle_cpu_percent(side, load.calls),
        loads=(Load(seconds), Load(seconds)),
        goals=(0.5, 0.1),
        kind=Kind.ITSELF,
        show=_percent,
        max_rounds=1,
    )


def all_rows(quick: bool) -> list[Row]:
    """The rows, in the order of the table.

    Parameters
    ----------
    quick : bool
        Whether an idle pool is watched for a shorter time.

    Returns
    -------
    list of Row
    """
    return [
        Row(
            "apply",
            "apply(f, (1,)), p50",
            measures.apply_int,
            loads=(Load(1000), Load(20_000)),
            goals=(100, 200),
            limit=("forkjoin1", "pause"),
        ),
        Row(
            "apply-dict",
            "apply(f, (small dict,)), p50",
            measures.apply_dict,
            loads=(Load(1000), Load(10_000)),
            goals=(40, 60),
            limit=("forkjoin1", "pause"),
        ),
        Row(
            "apply-idle",
            "apply after 30 ms of idleness, p50",
            measures.apply_after_idle,
            loads=(Load(30), Load(30)),
            goals=(5, 8),
            limit=("pingpong", "futex"),
        ),
        Row(
            "map2",
            "map(f, range(2)), p50",
            measures.map_two,
            loads=(Load(500), Load(5000)),
            goals=(25, 40),
            limit=("forkjoin2", "yield"),
        ),
        Row(
            "map2-busy",
            "the same with 500 us of own work, p50",
            measures.map_two_after_work,
            loads=(Load(250), Load(250)),
            goals=(10, 20),
            limit=("forkjoin2", "yield"),
        ),
        Row(
            "starmap",
            "starmap(f, 64 pairs), p50",
            measures.starmap_pairs,
            loads=(Load(250), Load(2500)),
            goals=(10, 20),
            limit=("forkjoin2", "yield"),
        ),
        Row(
            "map-chunk1",
            "map, chunksize=1, 200 k (mp 20 k), per item",
            measures.map_single,
            loads=(Load(1, 20_000), Load(3, 200_000)),
            goals=(50, 100),
        ),
        Row(
            "async",
            "apply_async, get, 50 k (mp 5 k), per item",
            measures.apply_async_all,
            loads=(Load(1, 5000), Load(3, 50_000)),
            goals=(12, 25),
        ),
        Row(
            "imap",
            "imap, 100 k (mp 10 k), per item",
            measures.imap_ordered,
            loads=(Load(1, 10_000), Load(3, 100_000)),
            goals=(20, 40),
        ),
        Row(
            "imap-unordered",
            "imap_unordered, 100 k (mp 10 k), per item",
            measures.imap_unordered,
            loads=(Load(1, 10_000), Load(3, 100_000)),
            goals=(20, 40),
        ),
        Row(
            "map-noop",
            "map(no-op, 500 k) / serial, per item",
            measures.map_nothing,
            loads=(Load(3), Load(5)),
            goals=(1.0, 0.6),
            kind=Kind.PART,
            reference=measures.map_nothing_serially,
        ),
        Row(
            "map-identity",
            "map(identity, 500 k) / serial, per item",
            measures.map_identity,
            loads=(Load(3), Load(5)),
            goals=None,
            kind=Kind.PART,
            reference=measures.map_identity_serially,
        ),
        Row(
            "map-successor",
            "map(x + 1, 500 k) / serial, per item",
            measures.map_successor,
            loads=(Load(3), Load(5)),
            goals=None,
            kind=Kind.PART,
            reference=measures.map_successor_serially,
        ),
        Row(
            "skew",
            "200 tasks, 0.2 to 6 ms, makespan / ideal",
            measures.map_skewed,
            loads=(Load(1), Load(1)),
            goals=(1.10, 1.03),
            kind=Kind.ITSELF,
            show=formats.format_number,
        ),
        Row(
            "startup",
            "create, first map, leave / mp",
            measures.create_map_leave,
            loads=(Load(9), Load(9)),
            goals=(1.0, 0.7),
            kind=Kind.PART,
        ),
        _idle(1 if quick else 5),
    ]
