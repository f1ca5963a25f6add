"""emcee: what ten measurements tell of the course of a disease, outliers allowed for.

    python examples/libraries/emcee_regression.py

Each step of the walkers is one call of ``pool.map``. The data are scikit-learn's (442 patients).
"""

from __future__ import annotations

import time
from typing import Any

import emcee
import numpy as np
from sklearn.datasets import load_diabetes

from fastpool import Pool

DATA = load_diabetes(scaled=True)
WALKERS, STEPS = 48, 400


def log_posterior(theta: Any) -> float:
    """Student-t errors with three degrees of freedom; a wide normal prior."""
    slopes, middle, log_scale = theta[:-2], theta[-2], theta[-1]
    off = (DATA.target - middle - DATA.data @ slopes) / np.exp(log_scale)
    prior = -0.5 * np.sum((slopes / 1000) ** 2) - 0.5 * ((log_scale - 4) / 2) ** 2
    return float(prior - 2 * np.log1p(off**2 / 3).sum() - len(off) * log_scale)


def sample(pool: Any) -> Any:
    """The walkers' positions after the first half."""
    size = DATA.data.shape[1] + 2
    start = np.random.default_rng(1).normal(size=(WALKERS, size))
    start[:, -2:] = start[:, -2:] * 0.1 + (DATA.target.mean(), 4.0)
    sampler = emcee.EnsembleSampler(WALKERS, size, log_posterior, pool=pool)
    sampler.random_state = np.random.RandomState(2).get_state()
    sampler.run_mcmc(start, STEPS)
    return sampler.get_chain(discard=STEPS // 2, flat=True)


def main() -> None:
    begin = time.perf_counter()
    with Pool() as pool:
        chain = sample(pool)
    parallel = time.perf_counter() - begin
    begin = time.perf_counter()
    assert (sample(None) == chain).all()
    serial = time.perf_counter() - begin
    for name, values in zip(DATA.feature_names, chain.T, strict=False):
        print(f"{name:4} {values.mean():8.1f} ± {values.std():.1f}")
    print(f"{serial:.2f} s without a pool, {parallel:.2f} s with one")


if __name__ == "__main__":
    main()
