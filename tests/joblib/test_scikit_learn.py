"""scikit-learn on fastpool: the results of one process, nested calls, OpenMP after a fork.

One program for all of them: importing scikit-learn takes longer than they do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "libraries"

PROGRAM = """
    import multiprocessing, sys
    import numpy as np
    from joblib import parallel_config
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits, load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    multiprocessing.set_start_method("fork")
    sys.path.insert(0, sys.argv[1])
    import sklearn_grid_search as example
    from fastpool._joblib import standing

    X, y = load_iris(return_X_y=True)
    digits, classes = load_digits(return_X_y=True)

    def grid():
        return float(example.grid_search(X, y).split()[0])

    def forest():
        return float(example.forest(X, y))

    def forest_in_grid():  # calls in calls
        model = RandomForestClassifier(8, random_state=0, n_jobs=2)
        search = GridSearchCV(model, {"max_depth": [2, 4]}, cv=2)
        return search.fit(X, y).cv_results_["mean_test_score"]

    def validation():
        model = make_pipeline(StandardScaler(), LogisticRegression())
        return cross_validate(model, X, y, cv=4, return_train_score=True)["train_score"]

    def clusters():  # OpenMP, which has threads in this process by now
        search = GridSearchCV(KMeans(n_init=1, random_state=0), {"n_clusters": [3, 8]}, cv=2)
        return search.fit(digits).cv_results_["mean_test_score"]

    jobs = clusters, grid, forest, forest_in_grid, validation
    expected = [job() for job in jobs]
    # Two threads in a worker: OpenMP waits for the second one, which a fork hasn't copied.
    with parallel_config(backend="fastpool", n_jobs=2, inner_max_num_threads=2):
        for job, value in zip(jobs, expected):
            found = job()
            assert np.allclose(found, value, rtol=1e-9, atol=0), (job.__name__, found, value)
    assert sum(w.tasks_done for w in standing._current.pool.workers()) > 20
    print("same")
"""


@pytest.mark.timeout_s(60)
def test_results_are_those_of_one_process(run_script: Any) -> None:
    assert run_script(PROGRAM, arguments=[str(EXAMPLES)]).finish(50) == "same\n"
