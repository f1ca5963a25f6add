"""Heat that spreads along a rod: a simulation that calls `pool.map` in every small time step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo_jobs.pools import Pools

CELLS = 256
CONDUCTION = 0.45  # conductivity * time step / cell width ** 2; stable below 0.5

Block = NDArray[np.float64]


class Rod(NamedTuple):
    """How a run ended.

    Attributes
    ----------
    temperature : ndarray
        Of each cell.
    warmest : list of float
        The highest temperature after each step.
    """

    temperature: Block
    warmest: list[float]


def advance(block: Block) -> Block:
    """Let heat flow for one time step; runs in a worker.

    Parameters
    ----------
    block : ndarray
        A part of the rod, with one cell of the neighbour at each end.

    Returns
    -------
    ndarray
        The part itself, without the neighbours' cells.
    """
    inner = block[1:-1]
    new: Block = inner + CONDUCTION * (block[2:] - 2.0 * inner + block[:-2])
    return new


def initial_rod() -> Block:
    """A cold rod that was heated at two places, with a mirror cell beyond each end."""
    rod = np.zeros(CELLS + 2)
    rod[CELLS // 8 : CELLS // 4] = 100.0
    rod[CELLS // 2 : CELLS // 2 + 8] = 400.0
    return rod


class HeatJob:
    """A hot loop: thousands of `map` calls, each with one tiny task for each worker.

    Parameters
    ----------
    steps : int
        How many time steps, which is how many calls.
    blocks : int
        Into how many parts the rod is cut.
    """

    title = "heat in a rod"
    repeats = 1

    def __init__(self, steps: int, blocks: int) -> None:
        self._steps = steps
        self._parts = [(CELLS * i // blocks, CELLS * (i + 1) // blocks) for i in range(blocks)]
        self.work = f"{steps} steps, a map of {blocks} blocks each"

    def run(self, pools: Pools) -> Rod:
        """Advance the rod step by step; each step needs all of the one before."""
        rod, warmest = initial_rod(), []
        with pools.open() as pool:
            for _ in pools.watch(range(self._steps), self._steps, "steps"):
                blocks = [rod[start : end + 2] for start, end in self._parts]
                for (start, end), new in zip(self._parts, pool.map(advance, blocks), strict=True):
                    rod[start + 1 : end + 1] = new
                rod[0], rod[-1] = rod[1], rod[-2]  # no heat leaves at the ends
                warmest.append(float(rod.max()))
        return Rod(rod, warmest)

    def same(self, one: Rod, other: Rod) -> bool:
        """Whether two runs agree in every bit of every step."""
        return (
            one.temperature.tobytes() == other.temperature.tobytes()
            and one.warmest == other.warmest
        )
