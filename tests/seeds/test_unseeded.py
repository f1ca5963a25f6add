"""Without a seed: forked workers draw different numbers, of NumPy's too."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import fastpool

DRAWS: dict[str, Any] = {"random": random.random, "numpy": np.random.random}


def draw(which: str) -> float:
    return float(DRAWS[which]())


@pytest.mark.parametrize("which", DRAWS)
def test_each_forked_worker_draws_other_numbers(which: str) -> None:
    np.random.seed(1)  # as a program may have done; its own stream is not disturbed
    random.seed(1)
    with fastpool.Pool(2, maxtasksperchild=1) as pool:
        numbers = pool.map(draw, [which] * 6, 1)  # each in a worker of its own
    assert len(set(numbers)) == 6
    assert np.random.random() == np.random.RandomState(1).random_sample()


def test_an_initializers_seed_counts() -> None:
    with fastpool.Pool(1, np.random.seed, (1,)) as pool:
        assert pool.apply(draw, ("numpy",)) == np.random.RandomState(1).random_sample()


def test_a_global_generator_of_another_kind_is_kept_and_differs(run_script: Any) -> None:
    script = run_script(
        """
        import multiprocessing
        import numpy as np
        from fastpool import Pool

        def draw(_item=None):
            return type(np.random.get_bit_generator()).__name__, np.random.random()

        if __name__ == "__main__":
            multiprocessing.set_start_method("fork")
            np.random.set_bit_generator(np.random.PCG64(1))
            for seed in (None, 5):
                with Pool(1, maxtasksperchild=1, seed=seed) as pool:
                    found = pool.map(draw, range(3), 1)
                print({name for name, _ in found}, len(set(found)))
        """
    )
    assert script.finish() == "{'PCG64'} 3\n" * 2
