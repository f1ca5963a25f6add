"""A stack of large images, each normalised in a worker: arrays there and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demo_jobs.pools import Pools

LAYERS = 24
SIDE = 1024  # a layer of doubles is 8 MB

Layer = NDArray[np.float64]


def normalise(layer: Layer) -> Layer:
    """Stretch a layer to the range from 0 to 1; runs in a worker, on its own copy."""
    layer -= layer.min()
    layer /= layer.max()
    return layer


def make_layers() -> list[Layer]:
    """Waves of growing frequency, the same ones each time."""
    x = np.linspace(0.0, 1.0, SIDE)
    return [np.sin((3 + i) * x)[:, None] * np.cos(2 * i * x) + i for i in range(LAYERS)]


class VolumeJob:
    """Whole arrays as arguments and as results, one `map` for all."""

    title = "volume"
    work = f"{LAYERS} arrays of 8 MB there and back"
    repeats = 3

    def __init__(self) -> None:
        self._layers = make_layers()

    def run(self, pools: Pools) -> list[Layer]:
        """Normalise all layers."""
        with pools.open() as pool:
            return pool.map(normalise, self._layers, chunksize=1)

    def same(self, one: list[Layer], other: list[Layer]) -> bool:
        """Compare all layers bit by bit."""
        pairs = zip(one, other, strict=True)
        return all(np.array_equal(a, b) for a, b in pairs)
