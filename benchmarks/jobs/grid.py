"""A grid search over a small model: many short fits on one real data set.

The data set is scikit-learn's own, of handwritten digits. A task is a setting and a fold; the data
go along in a `functools.partial`, as in most programs that don't know of initializers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.pools import variants

TITLE = "grid search"
FOLDS = 5


@dataclass(frozen=True)
class Setting:
    """One task: the parameters of a tree, and the fold that is left for the test."""

    depth: int
    leaf: int
    criterion: str
    fold: int


class Search(NamedTuple):
    """The data, their classes, and all that is tried."""

    data: NDArray[np.float64]
    target: NDArray[np.int64]
    settings: list[Setting]


def make_input(quick: bool) -> Search:
    """Read the data and lay out the grid."""
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    grid = itertools.product(
        (4, 8) if quick else (2, 3, 4, 5, 6, 8, 10, 12),
        (1,) if quick else (1, 2, 4, 8, 16),
        ("gini",) if quick else ("gini", "entropy"),
        range(FOLDS),
    )
    return Search(data, target, [Setting(*values) for values in grid])


def score(data: NDArray[np.float64], target: NDArray[np.int64], setting: Setting) -> float:
    """Fit one tree and tell how many of the others it gets right; runs in a worker."""
    from sklearn.tree import DecisionTreeClassifier

    held = np.arange(len(data)) % FOLDS == setting.fold
    tree = DecisionTreeClassifier(
        max_depth=setting.depth,
        min_samples_leaf=setting.leaf,
        criterion=setting.criterion,
        random_state=0,
    )
    return float(tree.fit(data[~held], target[~held]).score(data[held], target[held]))


def run(mapping: Callable[..., list[float]], search: Search, processes: int) -> list[float]:
    """The score of every setting and fold."""
    return mapping(partial(score, search.data, search.target), search.settings, processes)


def run_fastpool_shared(search: Search, processes: int) -> list[float]:
    """The data in shared memory: no worker is sent a copy."""
    from fastpool import Pool

    with Pool(processes) as pool:
        data, target = pool.copy_to_shared(search.data), pool.copy_to_shared(search.target)
        return pool.map(partial(score, data, target), search.settings)


def check(result: list[float]) -> None:
    """Each better than a guess among ten digits, the best far better."""
    assert min(result) > 0.15
    assert max(result) > 0.7


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(one == other)


VARIANTS = {**variants(run), "fastpool shared": run_fastpool_shared}
