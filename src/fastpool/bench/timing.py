"""Measure rivals fairly: rounds in shuffled order, medians with their spread, who else was there.

Nothing here knows of pools. Times are seconds everywhere.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastpool.bench.machine import read_text

T = TypeVar("T")

clock = time.perf_counter

DISTURBED_PERCENT = 5.0  # of one CPU, taken by others during a round


class WrongValueError(AssertionError):
    """A rival was fast, but what it returned was not the right value."""


@dataclass(frozen=True)
class Summary:
    """The rounds of one rival.

    Attributes
    ----------
    median : float
        The middle of the rounds.
    spread : float
        Half the distance between the quartiles, as a part of the median.
    values : tuple of float
        Every round, in the order of measuring.
    """

    median: float
    spread: float
    values: tuple[float, ...]


def summarise(values: Iterable[float]) -> Summary:
    """Reduce the rounds of one rival to their median and spread.

    Parameters
    ----------
    values : iterable of float
        At least one figure.

    Returns
    -------
    Summary
    """
    rounds = tuple(values)
    median = statistics.median(rounds)
    if len(rounds) < 2 or not median:
        return Summary(median, 0.0, rounds)
    lower, _, upper = statistics.quantiles(rounds, n=4, method="inclusive")
    return Summary(median, (upper - lower) / 2 / median, rounds)


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """What `interleave` measured.

    Attributes
    ----------
    figures : dict of str to list
        What each rival returned, round by round.
    others : float
        What others took of the CPUs meanwhile, in percent of one.
    """

    figures: dict[str, list[T]]
    others: float


def interleave(
    rivals: Mapping[str, Callable[[], T]],
    rounds: int,
    shuffle: random.Random,
    retries: int = 0,
) -> Rounds[T]:
    """Let every rival run once in each round, in an order drawn anew for each round.

    So a slow stretch of the machine meets all rivals, and none always runs behind the same other.

    Parameters
    ----------
    rivals : mapping of str to callable
        Each call measures that rival once and returns what it found.
    rounds : int
        How often.
    shuffle : random.Random
        Draws the orders.
    retries : int, optional
        So many rounds more may be measured while some were disturbed by others; those that were
        disturbed least count, whatever their figures.

    Returns
    -------
    Rounds
        With its figures in the order of `rivals`.
    """
    measured: list[tuple[float, dict[str, T]]] = []
    while True:
        start, neighbours = clock(), Neighbours()
        figures: dict[str, T] = {}
        for name in shuffle.sample(list(rivals), len(rivals)):
            gc.collect()  # nobody pays for the garbage of the one before
            figures[name] = rivals[name]()
        measured.append((neighbours.percent(clock() - start), figures))
        quiet = sum(others <= DISTURBED_PERCENT for others, _ in measured)
        if quiet >= rounds or len(measured) >= rounds + retries:
            break
    quietest = sorted(range(len(measured)), key=lambda at: max(measured[at][0], DISTURBED_PERCENT))
    kept = [measured[at] for at in sorted(quietest[:rounds])]
    return Rounds(
        {name: [figures[name] for _, figures in kept] for name in rivals},
        statistics.fmean(others for others, _ in kept),
    )


class Neighbours:
    """Tells how much of this machine others took since it was made.

    Others are all processes but this one and those descendants of it that have ended and were
    waited for, and the host of a virtual machine as far as the kernel knows.
    """

    def __init__(self) -> None:
        self._start = self._read()

    @staticmethod
    def _read() -> tuple[float, float]:
        """CPU seconds so far, of all CPUs: the busy ones, and our own."""
        ticks = [int(field) for field in read_text("/proc/stat").partition("\n")[0].split()[1:9]]
        busy = sum(ticks) - sum(ticks[3:5])  # idle, and idle while waiting for a disk
        return busy / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])

    def percent(self, seconds: float) -> float:
        """What others took.

        Parameters
        ----------
        seconds : float
            How long it is since the object was made.

        Returns
        -------
        float
            In percent of one CPU; never below zero, though the kernel rounds.
        """
        busy, own = (now - then for now, then in zip(self._read(), self._start, strict=True))
        return max(0.0, 100 * (busy - own) / seconds)


def expect(value: object, right: object) -> None:
    """Raise `WrongValueError` unless a measured call returned what it should."""
    if value != right:
        raise WrongValueError(f"got {value!r:.200}, not {right!r:.200}")


def sample(
    call: Callable[[], object],
    right: object,
    count: int,
    seconds: float = float("inf"),
    between: Callable[[], object] | None = None,
    view: Callable[[Any], object] | None = None,
) -> list[float]:
    """Time calls one by one, checking each value outside the clock.

    Parameters
    ----------
    call : callable
        What is timed. A `functools.partial` adds less of its own than a lambda.
    right : object
        What each call has to return.
    count : int
        How many calls, at most.
    seconds : float, optional
        No further call begins after so long; one is made in any case.
    between : callable, optional
        Called before every call, outside the clock.
    view : callable, optional
        Applied to each value before it is compared, outside the clock: `sorted`, where any order
        is right.

    Returns
    -------
    list of float
        Seconds. Reading the clock, some 40 ns, is part of each.
    """
    found = []
    end = clock() + seconds
    for number in itertools.count(1):
        if between is not None:
            between()
        start = clock()
        value = call()
        stop = clock()
        found.append(stop - start)
        expect(value if view is None else view(value), right)
        if number >= count or stop >= end:
            break
    return found


def time_each(
    call: Callable[[], object],
    right: object,
    count: int,
    between: Callable[[], object] | None = None,
    view: Callable[[Any], object] | None = None,
) -> float:
    """The median of `count` calls, in seconds; see `sample`."""
    return statistics.median(sample(call, right, count, between=between, view=view))


def enough(
    call_of: Callable[[int], Callable[[], object]], fewest: int, most: int, seconds: float
) -> int:
    """How many items a call must have to take some time.

    Parameters
    ----------
    call_of : callable
        Makes a call of so many items.
    fewest, most : int
        The bounds.
    seconds : float
        How long the call should take at least.

    Returns
    -------
    int
    """
    count = fewest
    while count < most:
        start = clock()
        call_of(count)()
        if clock() - start >= seconds / 2:
            break
        count = min(most, 4 * count)
    return count


def busy_wait(seconds: float) -> None:
    """Keep this thread, and the GIL, busy for a while, as a program's own work would."""
    end = clock() + seconds
    while clock() < end:
        pass
