"""Optimizers that take a pool's map or starmap: pymoo and deap."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.fastpool_only]


def sphere(x: Any) -> float:
    return float(np.square(x).sum())


def fitness(individual: list[float]) -> tuple[float]:
    return (sphere(individual),)


def test_pymoo_takes_starmap(pool: Any) -> None:
    pytest.importorskip("pymoo.parallelization", reason="no pymoo 0.6 for Python 3.15 yet")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize
    from pymoo.parallelization.starmap import StarmapParallelization
    from pymoo.problems.functional import FunctionalProblem

    def front(**kwds: Any) -> Any:
        problem = FunctionalProblem(2, [sphere, np.ptp], xl=-2, xu=2, **kwds)
        return minimize(problem, NSGA2(pop_size=12), ("n_gen", 4), seed=1).F

    assert (front(elementwise_runner=StarmapParallelization(pool.starmap)) == front()).all()


def test_deap_takes_map(pool: Any) -> None:
    from deap import algorithms, base, creator, tools

    creator.create("Least", base.Fitness, weights=(-1.0,))
    creator.create("Individual", list, fitness=creator.Least)

    def evolve(map_function: Any) -> list[list[float]]:
        random.seed(1)
        box = base.Toolbox()
        box.register("individual", tools.initRepeat, creator.Individual, random.random, 4)
        box.register("mate", tools.cxTwoPoint)
        box.register("mutate", tools.mutGaussian, mu=0, sigma=0.1, indpb=0.5)
        box.register("select", tools.selTournament, tournsize=3)
        box.register("evaluate", fitness)
        box.register("map", map_function)
        start = tools.initRepeat(list, box.individual, 20)
        return algorithms.eaSimple(start, box, 0.5, 0.3, 5, verbose=False)[0]

    try:
        assert evolve(pool.map) == evolve(map)
    finally:
        del creator.Least, creator.Individual
