"""scikit-learn on fastpool: a grid search and a forest, on the digits that scikit-learn ships.

    python examples/libraries/sklearn_grid_search.py

All that a program needs is the import of fastpool.joblib_backend, and the name of the backend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from joblib import cpu_count, parallel_config
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.tree import DecisionTreeClassifier

import fastpool.joblib_backend  # noqa: F401 - makes the name known to joblib

GRID = {
    "max_depth": [4, 8, 12, 16],
    "min_samples_leaf": [1, 2, 4],
    "criterion": ["gini", "entropy"],
}


def grid_search(data: Any, target: Any) -> str:
    """Find the best tree."""
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), GRID).fit(data, target)
    return f"{search.best_score_:.4f} with {search.best_params_}"


def forest(data: Any, target: Any) -> str:
    """Validate a forest: each of its five fits is a task."""
    scores = cross_validate(RandomForestClassifier(40, random_state=0), data, target)
    return f"{scores['test_score'].mean():.4f}"


def timed(job: Callable[[Any, Any], str], data: Any, target: Any) -> tuple[str, float]:
    """What a job finds, and the seconds that it takes."""
    begin = time.perf_counter()
    found = job(data, target)
    return found, time.perf_counter() - begin


def main() -> None:
    """Do both in this process and in workers; the results are the same."""
    data, target = load_digits(return_X_y=True)
    print(f"{cpu_count()} CPUs, {len(data)} digits")
    for job in (grid_search, forest):
        alone, seconds = timed(job, data, target)
        print(f"{job.__name__:12} one process  {seconds:6.2f} s  {alone}")
        with parallel_config(backend="fastpool", n_jobs=-1):
            found, seconds = timed(job, data, target)
        print(f"{'':12} fastpool     {seconds:6.2f} s  {'the same' if found == alone else found}")


if __name__ == "__main__":
    main()
