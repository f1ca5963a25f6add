"""The price of an Asian option by Monte Carlo: a few hundred tasks that share nothing.

Each task has a seed of its own, so whoever runs it gets the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.pools import variants

TITLE = "Monte Carlo"
SPOT, STRIKE, RATE, VOLATILITY, STEPS = 100.0, 105.0, 0.03, 0.25, 64  # for one year


@dataclass(frozen=True)
class Batch:
    """One task: so many paths, from this seed."""

    seed: int
    paths: int


def make_input(quick: bool) -> list[Batch]:
    """The batches."""
    return [Batch(seed, 1000) for seed in range(24 if quick else 1200)]


def price_batch(batch: Batch) -> float:
    """The mean discounted payoff of a batch's paths; runs in a worker."""
    draw = np.random.default_rng(batch.seed).standard_normal((batch.paths, STEPS))
    step = 1 / STEPS
    drift = (RATE - VOLATILITY**2 / 2) * step
    logs = np.cumsum(drift + VOLATILITY * math.sqrt(step) * draw, axis=1)
    payoffs = np.maximum(SPOT * np.exp(logs).mean(axis=1) - STRIKE, 0.0)
    return float(math.exp(-RATE) * payoffs.mean())


def run(mapping: Callable[..., list[float]], batches: list[Batch], processes: int) -> float:
    """The mean of all batches, summed in their order, so equal to the last bit."""
    return math.fsum(mapping(price_batch, batches, processes)) / len(batches)


def check(result: float) -> None:
    """About what any long run gives: an Asian call is cheaper than the European one, 8.9."""
    assert 3.5 < result < 5.5, result


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(one == other)


VARIANTS = variants(run)
