"""SciPy: how the two photographs of a stereo pair lie over one another.

    python examples/libraries/scipy_registration.py

``differential_evolution`` tries shifts and rotations; each generation is one call of ``pool.map``.
The pair is one that scikit-image brings along.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from scipy.ndimage import affine_transform
from scipy.optimize import differential_evolution
from skimage.io import imread
from skimage.transform import rescale

from fastpool import Pool

Image = Any


def load() -> tuple[Image, Image]:
    """The left and the right photograph, grey and small."""
    folder = Path(skimage.__file__).parent / "data"
    left, right = (
        rescale(imread(folder / f"motorcycle_{side}.png", as_gray=True), 0.25)
        for side in ("left", "right")
    )
    return left, right


def mismatch(motion: Any, left: Image, right: Image) -> float:
    """Mean squared difference where both have pixels, once the right one is moved."""
    down, across, degrees = motion
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = affine_transform(right, turn, (down, across), order=1, cval=np.nan)
    return float(np.nanmean((moved - left) ** 2))


def register(map_function: Callable[..., Any]) -> tuple[Any, float]:
    """The best motion, and the mismatch that it leaves."""
    found = differential_evolution(
        mismatch,
        [(-5, 5), (-30, 30), (-3, 3)],
        args=load(),
        workers=map_function,
        updating="deferred",
        maxiter=15,
        polish=False,
        seed=1,
    )
    return found.x, found.fun


def main() -> None:
    begin = time.perf_counter()
    with Pool() as pool:
        motion, left_over = register(pool.map)
    parallel = time.perf_counter() - begin
    begin = time.perf_counter()
    assert (register(map)[0] == motion).all()
    print("down {:.2f}, across {:.2f} pixels, {:.2f} degrees".format(*motion), end="; ")
    print(f"mismatch {mismatch((0, 0, 0), *load()):.4f} -> {left_over:.4f}")
    print(f"{time.perf_counter() - begin:.2f} s without a pool, {parallel:.2f} s with one")


if __name__ == "__main__":
    main()
