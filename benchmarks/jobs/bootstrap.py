"""A bootstrap: how certain is the slope of a regression on a real data set?

The data are scikit-learn's own, of 442 diabetes patients. A task has a seed and draws some hundred
samples. What each finds is a number, so the interval is the same whoever drew it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.pools import variants

TITLE = "bootstrap"
DRAWS = 200

Values = NDArray[np.float64]


class Study(NamedTuple):
    """Body mass index, progression of the disease, and the seeds of the tasks."""

    index: Values
    progression: Values
    seeds: list[int]


def make_input(quick: bool) -> Study:
    """Read the data."""
    from sklearn.datasets import load_diabetes

    data, target = load_diabetes(return_X_y=True, scaled=False)
    return Study(
        np.ascontiguousarray(data[:, 2]),
        np.ascontiguousarray(target),
        list(range(20 if quick else 1000)),
    )


def slopes(index: Values, progression: Values, seed: int) -> list[float]:
    """The slope in each of `DRAWS` samples; runs in a worker."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(DRAWS):
        chosen = draw.integers(0, len(index), len(index))
        x, y = index[chosen], progression[chosen]
        x = x - x.mean()
        found.append(float((x * y).sum() / (x * x).sum()))
    return found


def run(
    mapping: Callable[..., list[list[float]]], study: Study, processes: int
) -> tuple[float, float]:
    """The 95 % interval."""
    task = partial(slopes, study.index, study.progression)
    return _interval(mapping(task, study.seeds, processes))


def run_fastpool_shared(study: Study, processes: int) -> tuple[float, float]:
    """The data in shared memory."""
    from fastpool import Pool

    with Pool(processes) as pool:
        shared = map(pool.copy_to_shared, (study.index, study.progression))
        return _interval(pool.map(partial(slopes, *shared), study.seeds))


def _interval(found: list[list[float]]) -> tuple[float, float]:
    lower, upper = np.percentile(np.concatenate(found), [2.5, 97.5])
    return float(lower), float(upper)


def check(result: tuple[float, float]) -> None:
    """Around the slope of the data themselves, 10.2."""
    assert 8.0 < result[0] < 10.2 < result[1] < 12.5, result


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(one == other)


VARIANTS = {**variants(run), "fastpool shared": run_fastpool_shared}
