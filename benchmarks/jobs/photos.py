"""Real photographs made ready for a model: read, cut, shrunk, normalised, with their edges.

They are those in scikit-image's wheel, so nothing is downloaded. A task is a path and the part of
the picture that is wanted, its result is a float32 array.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.pools import variants

TITLE = "photographs"
SIDE = 96
NAMES = """
    astronaut brick camera cell chelsea coffee coins grass gravel hubble_deep_field ihc moon
    motorcycle_left motorcycle_right retina rocket"""


Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One task: a square part of a picture, its edges as parts of the shorter side."""

    path: str
    left: float
    upper: float
    size: float


def find_photos() -> list[Path]:
    """The photographs that the installed scikit-image has."""
    spec = find_spec("skimage")
    places = (spec and spec.submodule_search_locations) or ()
    return sorted(
        path
        for place in places
        for path in Path(place, "data").glob("*")
        if path.stem in NAMES.split() and path.suffix in {".png", ".jpg"}
    )


def make_input(quick: bool) -> list[View]:
    """Random views of each photograph, always the same, in a mixed order."""
    draw = random.Random(1)
    photos = find_photos()
    assert photos, "the installed scikit-image has no photographs"
    views = []
    for path in photos[:6] if quick else photos:
        for _ in range(1 if quick else 12):
            size = draw.uniform(0.5, 1.0)
            left, upper = draw.uniform(0, 1 - size), draw.uniform(0, 1 - size)
            views.append(View(str(path), left, upper, size))
    draw.shuffle(views)
    return views


def prepare(view: View) -> Pixels:
    """Two channels, grey and edges, of one view; runs in a worker."""
    from skimage.color import rgb2gray
    from skimage.filters import sobel
    from skimage.io import imread
    from skimage.transform import resize
    from skimage.util import img_as_float32

    picture = img_as_float32(imread(view.path))
    if picture.ndim == 3:
        picture = rgb2gray(picture[..., :3])
    side = min(picture.shape)
    left, upper, size = (round(side * part) for part in (view.left, view.upper, view.size))
    square = picture[upper : upper + size, left : left + size]
    grey = resize(square, (SIDE, SIDE), anti_aliasing=True)
    normal = (grey - grey.mean()) / max(float(grey.std()), 1e-6)
    return np.stack([normal, sobel(grey)]).astype(np.float32)


def run(mapping: Callable[..., list[Pixels]], views: list[View], processes: int) -> Pixels:
    """All views in one array, as a model takes them."""
    return np.stack(mapping(prepare, views, processes))


def run_fastpool_out(views: list[View], processes: int) -> Pixels:
    """Workers fill the rows of the array: nothing is sent back, nothing is stacked."""
    from fastpool import Pool

    with Pool(processes) as pool:
        out = pool.empty((len(views), 2, SIDE, SIDE), np.float32)
        pool.map(prepare, views, out=out)
        return np.asarray(out)


def check(result: Pixels) -> None:
    """Normalised, and edges in every picture."""
    assert result.dtype == np.float32
    assert result.shape[1:] == (2, SIDE, SIDE)
    assert np.abs(result[:, 0].mean(axis=(1, 2))).max() < 1e-3
    assert (result[:, 1].max(axis=(1, 2)) > 0).all()


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(np.array_equal(one, other))


VARIANTS = {**variants(run), "fastpool out=": run_fastpool_out}
