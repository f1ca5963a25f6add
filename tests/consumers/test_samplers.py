"""Samplers that take ``pool=``, or wrap a pool of their own: emcee and dynesty."""

from __future__ import annotations

import multiprocessing
from typing import Any

import dynesty
import dynesty.pool
import emcee
import numpy as np
import pytest

import fastpool

pytestmark = [
    pytest.mark.fastpool_only,
    pytest.mark.filterwarnings("ignore:The sampling was stopped short"),
]


def log_normal(x: Any) -> float:
    return -0.5 * float(x @ x)


def unit_to_box(u: Any) -> Any:
    return 10 * u - 5


def chain(pool: Any, **kwds: Any) -> Any:
    """What emcee has walked through; the same for the same seed."""
    start = np.random.default_rng(1).normal(size=(16, 3))
    sampler = emcee.EnsembleSampler(16, 3, log_normal, pool=pool, **kwds)
    sampler.random_state = np.random.RandomState(2).get_state()
    sampler.run_mcmc(emcee.State(start), 40)
    return sampler.get_chain()


def evidence(pool: Any, log_likelihood: Any = log_normal, prior: Any = unit_to_box) -> Any:
    """What dynesty has found; the same for the same seed and queue."""
    sampler = dynesty.NestedSampler(
        log_likelihood, prior, 2, nlive=30, pool=pool, queue_size=2, rstate=np.random.default_rng(1)
    )
    sampler.run_nested(maxiter=90, print_progress=False)
    return sampler.results


def test_emcee_walks_the_same_way(pool: Any) -> None:
    assert (chain(pool) == chain(None)).all()


@pytest.fixture(scope="module")
def expected() -> Any:
    with multiprocessing.Pool(1) as reference:
        return evidence(reference)


def test_dynesty_finds_the_same(pool: Any, expected: Any) -> None:
    found = evidence(pool)
    assert (found.samples == expected.samples).all()
    assert found.logz[-1] == expected.logz[-1]


def test_dynestys_own_wrapper_has_a_pool_of_fastpool(installed: Any, expected: Any) -> None:
    with dynesty.pool.Pool(1, log_normal, unit_to_box) as wrapped:
        assert type(wrapped.pool) is fastpool.Pool
        found = evidence(wrapped, wrapped.loglike, wrapped.prior_transform)
    assert (found.samples == expected.samples).all()
