"""Measure rivals fairly: rounds in shuffled order, medians with their spread, the machine named.

Nothing here knows of pools. Times are seconds everywhere, and become words only in
`format_time`.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
class Rounds:
    """What `interleave` measured.

    Attributes
    ----------
    figures : dict of str to Summary
        By rival.
    others : float
        What others took of the CPUs meanwhile, in percent of one.
    """

    figures: dict[str, Summary]
    others: float


def interleave(
    rivals: Mapping[str, Callable[[], float]],
    rounds: int,
    shuffle: random.Random,
    retries: int = 0,
) -> Rounds:
    """Let every rival run once in each round, in an order drawn anew for each round.

    So a slow stretch of the machine meets all rivals, and none always runs behind the same other.

    Parameters
    ----------
    rivals : mapping of str to callable
        Each call measures that rival once and returns its figure.
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
    measured: list[tuple[float, dict[str, float]]] = []
    while True:
        start, neighbours, figures = clock(), Neighbours(), {}
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
        {name: summarise(figures[name] for _, figures in kept) for name in rivals},
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
        ticks = [int(field) for field in _read("/proc/stat").partition("\n")[0].split()[1:9]]
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


def time_each(
    call: Callable[[], object],
    right: object,
    count: int,
    between: Callable[[], object] | None = None,
    view: Callable[[Any], object] | None = None,
) -> float:
    """Time `count` calls one by one, checking each value outside the clock.

    Parameters
    ----------
    call : callable
        What is timed. A `functools.partial` adds less of its own than a lambda.
    right : object
        What each call has to return.
    count : int
        How many calls.
    between : callable, optional
        Called before every call, outside the clock.
    view : callable, optional
        Applied to each value before it is compared, outside the clock: `sorted`, where any order
        is right.

    Returns
    -------
    float
        The median call, in seconds. Reading the clock, some 40 ns, is part of it.
    """
    seconds = []
    for _ in range(count):
        if between is not None:
            between()
        start = clock()
        value = call()
        seconds.append(clock() - start)
        expect(value if view is None else view(value), right)
    return statistics.median(seconds)


def busy_wait(seconds: float) -> None:
    """Keep this thread, and the GIL, busy for a while, as a program's own work would."""
    end = clock() + seconds
    while clock() < end:
        pass


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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a command line the options of `interleave`: ``rounds``, ``seed``, ``retries``."""
    add = parser.add_argument
    add("--rounds", type=int, help="interleaved rounds (default 7, with --quick 3)")
    add("--seed", type=int, default=1, help="of the order within the rounds")
    add(
        "--retries",
        type=int,
        default=0,
        help="so many rounds more for each row, if other processes took more than "
        f"{DISTURBED_PERCENT:.0f} %% of a CPU; the least disturbed count (default 0)",
    )


def describe_machine() -> dict[str, str]:
    """Tell on what the figures were measured, as far as the system lets itself be read.

    Returns
    -------
    dict of str to str
        What cannot be read is left out.
    """
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    facts = {
        "CPU": _cpu_model(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "CPU quota": _cpu_quota(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": f"{load} (1, 5 and 15 minutes)",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return f"{value.strip()} ({platform.machine()})"
    return platform.machine()


def _cpu_quota() -> str:
    """The tightest limit among this process's control group and all above it."""
    tightest: tuple[float, str] | None = None
    for line in _read("/proc/self/cgroup").splitlines():
        number, _, path = line.split(":", 2)
        if number != "0":
            continue
        group = Path("/sys/fs/cgroup") / path.lstrip("/")
        for folder in (group, *group.parents):
            quota, _, period = _read(folder / "cpu.max").partition(" ")
            if quota.isdigit() and period.isdigit():
                cpus = int(quota) / int(period)
                if tightest is None or cpus < tightest[0]:
                    tightest = (cpus, f"{cpus:g} CPUs ({folder})")
    return tightest[1] if tightest else ""


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
