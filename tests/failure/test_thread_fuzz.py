"""Eight threads at once, for a moment; `make threads` goes on for minutes."""

from __future__ import annotations

import random

import pytest
from failure.thread_fuzz import THREADS, run_ends, run_threads


@pytest.mark.timeout_s(60)
def test_each_of_eight_threads_gets_its_own_values_from_all_kinds_of_calls() -> None:
    assert run_threads(2.5, seed=7).total() >= THREADS  # more, where there is a CPU for it


def test_a_pool_may_end_amid_the_calls_of_several_threads() -> None:
    for seed in range(3):
        run_ends(random.Random(seed))
