"""The program that sets a pool's life beside bare forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "fork_costs.py"


def test_it_sets_both_pools_beside_the_forks_that_they_consist_of() -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "--rounds", "2", "--import", "json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *lines, others = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "forks",
        "chain",
        "multiprocessing.Pool",
        "fastpool.Pool",
    ]
    assert all(float(line.split()[1]) > 0 for line in lines)
    assert others.startswith("others took")
