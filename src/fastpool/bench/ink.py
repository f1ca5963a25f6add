"""How the pictures look: a colour and a marker for each pool, labels that keep clear of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand for the page's own colours, which follow the reader's choice of light or dark.
INK, PAPER, FAINT = "#212223", "#fdfefe", "#8a8b8c"

STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": PAPER,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.alpha": 0.3,
    "grid.color": FAINT,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

# Okabe and Ito's palette, which colour-blind readers can tell apart; there are more pools than
# colours, so markers and dashes tell the rest.
_BLUE, _ORANGE, _GREEN, _RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_SKY, _PURPLE = "#56B4E9", "#CC79A7"
HEAT = (_RED, _BLUE, _SKY, _ORANGE, _PURPLE, _GREEN)


@dataclass(frozen=True)
class Look:
    """How the line of a pool is drawn."""

    color: str
    marker: str
    dashes: str = "-"
    width: float = 1.4

    def line(self) -> dict[str, Any]:
        """Arguments of ``plot``."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
            "linewidth": self.width,
            "markersize": 4.5,
        }


LOOKS = {
    "fastpool": Look(_RED, "o", width=3.0),
    "multiprocessing.Pool": Look(_BLUE, "s"),
    "ThreadPool": Look(_SKY, "s", "--"),
    "ProcessPoolExecutor": Look(_ORANGE, "^"),
    "loky": Look(_GREEN, "v"),
    "joblib": Look(_GREEN, "D", "--"),
    "mpire": Look(_PURPLE, "P"),
    "billiard": Look(_BLUE, "X", "--"),
    "pebble": Look(_ORANGE, "<", "--"),
    "ray": Look(_PURPLE, "*", "--"),
    "dask": Look(_SKY, ">", "-"),
    "serial": Look(FAINT, "."),
}
BOUND = Look(INK, "", ":", 1.6)


def look_of(pool: str) -> Look:
    """The look of a pool; that of a bound for everything else."""
    return LOOKS.get(pool, BOUND)


def drawn_order(pools: Sequence[str]) -> list[str]:
    """In the order of drawing: fastpool last, on top of all others."""
    known = [pool for pool in LOOKS if pool in pools] + [p for p in pools if p not in LOOKS]
    return sorted(known, key=lambda pool: pool == "fastpool")


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, float]]) -> None:
    """Write names at the right ends of lines, moved apart where they would overlap.

    Parameters
    ----------
    axes : Axes
        With its scales and limits as they will be.
    ends : sequence of tuple
        Name, x and y of each.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()  # so that the transforms are known
    step = 12.5 * figure.dpi / 72
    placed = sorted((axes.transData.transform((x, y))[1], name) for name, x, y in ends)
    heights = [height for height, _ in placed]
    for at in range(1, len(heights)):
        heights[at] = max(heights[at], heights[at - 1] + step)
    top = axes.bbox.y1
    for at in reversed(range(len(heights))):  # what was pushed out at the top comes back down
        heights[at] = min(heights[at], top - step * (len(heights) - 1 - at))
    edge = axes.transAxes.inverted()
    for height, (_, name) in zip(heights, placed, strict=True):
        _label(axes, name, edge.transform((0, height))[1])


def label_distributions(axes: Axes, lines: Sequence[tuple[str, Sequence[float]]]) -> None:
    """Write names beside cumulative distributions, each at a height of its own, with a thin line
    from there to the distribution: they all end at the same height.

    Parameters
    ----------
    axes : Axes
        Of which the y axis goes from 0 to 1, and the x axis has its limits.
    lines : sequence of tuple
        Name and ordered samples of each.
    """
    ordered = sorted(lines, key=lambda line: line[1][len(line[1]) // 2])
    for at, (name, samples) in enumerate(ordered):
        height = (at + 0.5) / len(ordered)
        x = samples[min(len(samples) - 1, int(height * len(samples)))]
        thin: dict[str, Any] = {"color": look_of(name).color, "lw": 0.7, "alpha": 0.7, "zorder": 1}
        axes.plot([x, axes.get_xlim()[1]], [height] * 2, **thin)
        _label(axes, name, height)


def _label(axes: Axes, name: str, height: float) -> None:
    """A name right of the axes, behind a piece of its line: two pools may have one colour."""
    place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    axes.plot([1.015, 1.04, 1.065], [height] * 3, **look_of(name).line(), markevery=[1], **place)
    weight = "bold" if name == "fastpool" else "normal"
    axes.text(1.08, height, name, va="center", fontsize=9, fontweight=weight, **place)
