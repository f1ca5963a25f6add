"""The first example of `multiprocessing`'s manual: four squares, from creating to leaving."""

from __future__ import annotations

from demo_jobs.pools import Pools


def square(x: int) -> int:
    """Runs in a worker."""
    return x * x


class SquaresJob:
    """A program that uses a pool of five workers once."""

    title = "four squares"
    work = "create Pool(5), map, leave"
    repeats = 9

    def run(self, pools: Pools) -> list[int]:
        """Square four numbers."""
        with pools.open(5) as pool:
            return pool.map(square, [1, 2, 3, 4])

    def same(self, one: list[int], other: list[int]) -> bool:
        """Whether both are right."""
        return one == other == [1, 4, 9, 16]
