"""The same random numbers for any number of workers and any chunks: an estimate of pi.

python examples/random_numbers.py
"""

from __future__ import annotations

import statistics

import fastpool


def estimate(points: int) -> float:
    """Draw points in a square, and count those in the circle."""
    x, y = fastpool.rng().random((2, points))
    return 4 * float((x * x + y * y < 1).mean())


def main() -> None:
    work = [100_000] * 40
    for processes, chunksize in ((1, None), (2, 1), (3, 7)):
        with fastpool.Pool(processes, seed=42) as pool:
            estimates = pool.map(estimate, work, chunksize)
            again = pool.map(estimate, work, chunksize)
        print(
            f"{processes} workers, chunks of {chunksize}: {statistics.mean(estimates):.10f}, "
            f"and the next call {statistics.mean(again):.10f}"
        )


if __name__ == "__main__":
    main()
