"""SciPy's ``workers=``: a pool's map, and the pool that SciPy makes of a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad_vec
from scipy.optimize import brute, differential_evolution, rosen
from scipy.stats import multiscale_graphcorr

pytestmark = [
    pytest.mark.fastpool_only,
    pytest.mark.filterwarnings("ignore:The number of replications is low"),
]

BOUNDS = [(-2, 2), (-2, 2)]


def harmonics(x: float) -> Any:
    """An integrand with many components."""
    return np.exp(-x * x) * np.cos(np.arange(50) * x)


def evolve(workers: Any) -> Any:
    found = differential_evolution(
        rosen, BOUNDS, workers=workers, updating="deferred", maxiter=20, seed=1, polish=False
    )
    return [*found.x, found.fun, found.nfev]


def search(workers: Any) -> Any:
    grid = brute(rosen, BOUNDS, Ns=12, workers=workers, full_output=True, finish=None)
    return [*grid[0], grid[1], *grid[3].ravel()]


def integrate(workers: Any) -> Any:
    values, error = quad_vec(harmonics, 0, 6, workers=workers)
    return [*values, error]


def correlate(workers: Any) -> Any:
    numbers = np.random.default_rng(1).random((2, 30))
    found = multiscale_graphcorr(*numbers, reps=20, workers=workers, random_state=1)
    return [found.statistic, found.pvalue]


JOBS = [evolve, search, integrate, correlate]


@pytest.mark.parametrize("job", JOBS)
def test_it_takes_the_map_of_a_pool(pool: Any, job: Any) -> None:
    assert job(pool.map) == job(1)


@pytest.mark.parametrize("job", JOBS)
def test_the_pool_that_it_makes_of_a_number_is_fastpools(installed: Any, job: Any) -> None:
    assert job(2) == job(1)
    assert installed[0].items > 0
