"""Compare joblib's backends: fastpool, loky and multiprocessing, in one run.

    python benchmarks/bench_joblib.py [--quick] [--rounds N] [--jobs N] [--rows NAME ...]

Cold is a call that has to start its workers; warm is one that finds them. The bound is the time of
one process divided by the number of workers: what a pool without any cost would take. Needs
scikit-learn.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from fastpool import joblib_backend
from fastpool.bench import formats, timing
from fastpool.bench.arguments import positive
from fastpool.bench.machine import describe_machine

BACKENDS = ("fastpool", "loky", "multiprocessing")
ALONE = "sequential"


@dataclass(frozen=True)
class Row:
    """What is timed.

    Attributes
    ----------
    title : str
        What it is, in the table.
    job : callable
        Does it on the backend that is set, and returns what came out.
    cold : bool
        Without workers that stand from before.
    rounds : float
        The part of all rounds that it takes part in.
    """

    title: str
    job: Callable[[], Any]
    cold: bool = False
    rounds: float = 1.0


def half(x: float) -> float:
    """What a short task does."""
    return x / 2


def short_tasks(tasks: int) -> list[float]:
    """One call of many tasks that do next to nothing."""
    values: list[float] = Parallel()(delayed(half)(i) for i in range(tasks))
    return values


def short_calls(calls: int) -> list[list[float]]:
    """Many calls of two tasks that do next to nothing."""
    return [Parallel()(delayed(half)(i + j) for j in range(2)) for i in range(calls)]


def part_sum(array: Any, i: int) -> float:
    """What a task does that reads a part of an array."""
    return float(array[i::1000].sum())


def array_tasks(array: Any, tasks: int) -> list[float]:
    """Tasks that read a part of one large array each."""
    values: list[float] = Parallel()(delayed(part_sum)(array, i) for i in range(tasks))
    return values


def grid_search(data: Any, target: Any, settings: int) -> list[float]:
    """Fit a small model for each of many settings, and five folds."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB

    grid = {"var_smoothing": np.logspace(-12, 0, settings)}
    search = GridSearchCV(GaussianNB(), grid, cv=5, refit=False).fit(data, target)
    scores: list[float] = search.cv_results_["mean_test_score"].tolist()
    return scores


def all_rows() -> dict[str, Row]:
    """Every row by its name."""
    from sklearn.datasets import load_iris

    search = partial(grid_search, *load_iris(return_X_y=True), 40)
    array = np.random.default_rng(1).random(1_000_000)
    return {
        "grid": Row("GridSearchCV, 200 short fits", search),
        "grid-cold": Row("the same, workers to start", search, cold=True, rounds=0.4),
        "tasks": Row("5000 short tasks in a call", partial(short_tasks, 5000)),
        "calls": Row("20 calls of two short tasks", partial(short_calls, 20)),
        "array": Row("100 tasks with one 8 MB array", partial(array_tasks, array, 100)),
    }


def run(row: Row, backend: str, jobs: int, right: Any) -> float:
    """Seconds of one run on one backend; its value is checked."""
    if row.cold:
        joblib_backend.end_pool()
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
    with parallel_config(backend=backend, n_jobs=jobs):
        begin = timing.clock()
        value = row.job()
        seconds = timing.clock() - begin
    timing.expect(value, right)
    return seconds


def measure(row: Row, options: argparse.Namespace) -> list[str]:
    """Measure a row; returns its cells."""
    with parallel_config(n_jobs=1):
        right = row.job()
    rivals = {name: partial(run, row, name, options.jobs, right) for name in (*BACKENDS, ALONE)}
    for rival in rivals.values():
        rival()
    rounds = max(3, round(row.rounds * options.rounds))
    measured = timing.interleave(rivals, rounds, random.Random(options.seed))
    ours = measured.figures["fastpool"]
    alone = timing.summarise(measured.figures[ALONE]).median
    cells = [row.title]
    for name in BACKENDS:
        figures = measured.figures[name]
        summary = timing.summarise(figures)
        cells.append(f"{formats.format_time(summary.median)} ±{100 * summary.spread:2.0f}%")
        if name != "fastpool":
            ratios = [theirs / own for theirs, own in zip(figures, ours, strict=True)]
            cells.append(f"{timing.summarise(ratios).median:.2f}")
    return [*cells, formats.format_time(alone / options.jobs), f"{measured.others:.0f} %"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    rows = all_rows()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five rounds")
    parser.add_argument("--rounds", type=positive, help="how many (15)")
    parser.add_argument("--jobs", type=positive, default=2, help="workers (2)")
    parser.add_argument("--seed", type=int, default=1, help="of the order in each round")
    parser.add_argument("--rows", nargs="+", choices=list(rows), default=list(rows))
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (5 if options.quick else 15)
    print(", ".join(f"{name}: {value}" for name, value in describe_machine().items()))
    cells = []
    for name in options.rows:
        formats.show_progress(name)
        cells.append(measure(rows[name], options))
    formats.show_progress("")
    head = ("", "fastpool", "loky", "ratio", "multiprocessing", "ratio", "bound", "others")
    print(formats.format_table(head, cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
