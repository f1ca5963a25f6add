"""Photographs made ready for a classifier: decode, crop, resize, normalise, describe."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from demo_jobs.pools import Pools

SUFFIXES = {".jpg", ".jpeg", ".png"}
PACKAGED = {  # the photographs among the pictures that these packages' wheels contain
    ("skimage", "data"): "astronaut brick camera cell chelsea coffee coins grass gravel "
    "hubble_deep_field ihc moon motorcycle_left motorcycle_right retina rocket",
    ("sklearn", "datasets/images"): "china flower",
}
SIDE, THUMBNAIL_SIDE, BINS = 224, 64, 32
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)  # of ImageNet, as classifiers expect
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
CPU_SECONDS = 6.0  # about what all views together should take, on a machine of the 2020s
VIEW_SECONDS, MEGAPIXEL_SECONDS = 0.010, 0.025  # about what one takes
MAX_VIEWS = 32  # of one photograph


class View(NamedTuple):
    """A random part of a photograph: one job.

    Attributes
    ----------
    path : str
        Where the photograph is.
    box : tuple of float
        Left, upper, right and lower edge, as parts of width and height.
    mirrored : bool
        Whether left and right are swapped.
    """

    path: str
    box: tuple[float, float, float, float]
    mirrored: bool


class Features(NamedTuple):
    """What is kept of a view.

    Attributes
    ----------
    mean, deviation : ndarray
        Of each channel, after normalising.
    histogram : ndarray
        `BINS` counts for each channel.
    edges : ndarray
        Strength of the edges in each of 9 directions.
    thumbnail : ndarray
        A small picture, 8 bits a channel.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    histogram: NDArray[np.int64]
    edges: NDArray[np.float64]
    thumbnail: NDArray[np.uint8]


def describe_view(view: View) -> Features | None:
    """Decode one photograph and reduce one view of it to features; runs in a worker.

    Parameters
    ----------
    view : View
        What to look at.

    Returns
    -------
    Features or None
        None for a file that turns out to be damaged.
    """
    try:
        with Image.open(view.path) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))  # JPEGs can be decoded at a smaller scale
            picture = image.convert("RGB")
    except OSError:
        return None
    if view.mirrored:
        picture = ImageOps.mirror(picture)
    left, upper, right, lower = view.box
    box = (
        left * picture.width,
        upper * picture.height,
        right * picture.width,
        lower * picture.height,
    )
    square = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box)
    pixels = np.asarray(square)
    values = (pixels.astype(np.float32) / 255 - MEAN) / DEVIATION
    channels = pixels.reshape(-1, 3)
    return Features(
        values.mean(axis=(0, 1)),
        values.std(axis=(0, 1)),
        np.stack([np.bincount(channels[:, c] // (256 // BINS), minlength=BINS) for c in range(3)]),
        edge_directions(values.mean(axis=2)),
        np.asarray(square.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)),
    )


def edge_directions(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum up the strength of the edges in each of 9 directions.

    Parameters
    ----------
    grey : ndarray
        A picture with one channel.

    Returns
    -------
    ndarray
    """
    down, across = np.gradient(grey)
    direction = (np.arctan2(down, across) % np.pi * (9 / np.pi)).astype(np.int64) % 9
    strength = np.hypot(down, across).ravel()
    return np.bincount(direction.ravel(), strength, minlength=9).astype(np.float64)


def find_photos(folder: Path | None) -> list[Path]:
    """List the photographs of a folder, or those that installed packages bring along.

    Parameters
    ----------
    folder : Path or None
        Searched with its subfolders.

    Returns
    -------
    list of Path
        May be empty.
    """
    if folder is not None:
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = []
    for (package, subfolder), names in PACKAGED.items():
        spec = importlib.util.find_spec(package)  # finds the folder without importing it
        for place in (spec and spec.submodule_search_locations) or ():
            pictures = Path(place, subfolder).glob("*")
            found += [path for path in pictures if path.stem in names.split()]
    return sorted(path for path in found if path.suffix in SUFFIXES)


def plan_views(photos: Sequence[Path]) -> list[View]:
    """Draw random views of every photograph, always the same, in a mixed order.

    Parameters
    ----------
    photos : sequence of Path
        What is not a readable picture is left out.

    Returns
    -------
    list of View
        As many of each photograph as keep the job at a few seconds.
    """
    seconds = {}
    for path in photos:
        try:
            with Image.open(path) as image:  # reads the header only
                megapixels = image.width * image.height / 1e6
                seconds[str(path)] = VIEW_SECONDS + MEGAPIXEL_SECONDS * megapixels
        except OSError:
            continue
    count = round(CPU_SECONDS / max(sum(seconds.values()), VIEW_SECONDS))
    draw = random.Random(1)
    views = []
    for name in seconds:
        for _ in range(min(max(count, 1), MAX_VIEWS)):
            size = draw.uniform(0.5, 1.0)
            left, upper = draw.uniform(0, 1 - size), draw.uniform(0, 1 - size)
            box = (left, upper, left + size, upper + size)
            views.append(View(name, box, draw.random() < 0.5))
    draw.shuffle(views)
    return views


class PhotosJob:
    """Describe many views of real photographs: jobs of some milliseconds, passed by path.

    Parameters
    ----------
    photos : sequence of Path
        The photographs.
    """

    title = "photographs"
    repeats = 1

    def __init__(self, photos: Sequence[Path]) -> None:
        self._views = plan_views(photos)
        self.work = f"{len(self._views)} views of {len({v.path for v in self._views})} photos"

    def run(self, pools: Pools) -> list[Features | None]:
        """Describe all views; they come from `imap` in order, each as soon as it is ready."""
        with pools.open() as pool:
            features = pool.imap(describe_view, self._views)
            return list(pools.watch(features, len(self._views), "views"))

    def same(self, one: list[Features | None], other: list[Features | None]) -> bool:
        """Whether two runs gave the very same arrays, types included."""
        return list(map(_exactly, one)) == list(map(_exactly, other))


def _exactly(features: Features | None) -> list[tuple[str, tuple[int, ...], bytes]]:
    """All there is to an array, in a form that can be compared."""
    return [(array.dtype.str, array.shape, array.tobytes()) for array in features or ()]
