"""pymoo: which few measurements of a cell tell best whether a tumour is malignant?

    python examples/libraries/pymoo_selection.py

Weighs the number of measurements against the errors of a linear rule on patients that it has not
seen; each generation is one call of ``pool.starmap``. The data are scikit-learn's (569 patients).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling
from pymoo.optimize import minimize
from pymoo.parallelization.starmap import StarmapParallelization
from pymoo.problems.functional import FunctionalProblem
from sklearn.datasets import load_breast_cancer

from fastpool import Pool

DATA = load_breast_cancer()
CELLS = (DATA.data - DATA.data.mean(0)) / DATA.data.std(0)
SIDE = 2.0 * DATA.target - 1
FOLDS = 10


def errors(chosen: Any) -> float:
    """Share of patients on the wrong side of a rule that was fitted without them."""
    cells = np.column_stack([CELLS[:, chosen.astype(bool)], np.ones(len(SIDE))])
    wrong = 0
    for fold in range(FOLDS):
        held = np.arange(len(SIDE)) % FOLDS == fold
        seen = cells[~held]
        rule = np.linalg.solve(seen.T @ seen, seen.T @ SIDE[~held])
        wrong += np.count_nonzero(np.sign(cells[held] @ rule) != SIDE[held])
    return wrong / len(SIDE)


def size(chosen: Any) -> float:
    """How many measurements it takes."""
    return float(chosen.sum())


def front(**runner: Any) -> Any:
    """The choices of which none is better than another in both respects: size, errors."""
    problem = FunctionalProblem(CELLS.shape[1], [size, errors], xl=0, xu=1, **runner)
    algorithm = NSGA2(
        pop_size=40,
        sampling=BinaryRandomSampling(),
        crossover=TwoPointCrossover(),
        mutation=BitflipMutation(),
        eliminate_duplicates=True,
    )
    found = minimize(problem, algorithm, ("n_gen", 15), seed=1)
    return found.F[np.argsort(found.F[:, 0])]


def main() -> None:
    begin = time.perf_counter()
    with Pool(threads_per_worker=1) as pool:  # of the linear algebra's; there are workers enough
        best = front(elementwise_runner=StarmapParallelization(pool.starmap))
    parallel = time.perf_counter() - begin
    begin = time.perf_counter()
    assert (front() == best).all()
    serial = time.perf_counter() - begin
    for count, share in best:
        print(f"{count:2.0f} measurements: {share:.1%} wrong")
    print(f"{serial:.2f} s without a pool, {parallel:.2f} s with one")


if __name__ == "__main__":
    main()
