"""The rule by which `compare.py` calls a row faster, slower, or the same."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Less than this, either way, is no difference worth a word: where the linker puts a function may
#: make as much.
MARGIN = 0.05
CONFIDENCE = 0.95
RESAMPLES = 4000
#: Fewer rounds have too few resamples that differ for an interval to mean anything.
LEAST_ROUNDS = 5


class Verdict(enum.Enum):
    """What can be said of a row."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "SLOWER"
    UNKNOWN = "can't tell"
    #: The base lacks what the row needs.
    NEW = "not there"
    #: The working tree lacks what the base had.
    LOST = "LOST"

    @property
    def is_bad(self) -> bool:
        """Whether it fails a check."""
        return self in (Verdict.SLOWER, Verdict.LOST)


@dataclass(frozen=True)
class Ratio:
    """Time of the working tree by time of the base.

    Attributes
    ----------
    middle : float
        The ratio of the two medians.
    lower, upper : float
        The interval around it that 95 % of the resamples lie in.
    """

    middle: float
    lower: float
    upper: float

    @property
    def verdict(self) -> Verdict:
        """The whole interval has to lie beyond the margin, or within it."""
        if self.lower > 1 + MARGIN:
            return Verdict.SLOWER
        if self.upper < 1 / (1 + MARGIN):
            return Verdict.FASTER
        if self.lower >= 1 / (1 + MARGIN) and self.upper <= 1 + MARGIN:
            return Verdict.SAME
        return Verdict.UNKNOWN


def ratio_of_medians(base: Sequence[float], tree: Sequence[float], seed: int = 1) -> Ratio:
    """Compare the rounds of both sides.

    Whole rounds are drawn anew, so that a slow stretch of the machine, which both sides met, is
    drawn for both.

    Parameters
    ----------
    base, tree : sequence of float
        A figure for each round, in the same order.
    seed : int, optional
        Of the drawing: the same figures have the same verdict.

    Returns
    -------
    Ratio
        From nought to infinity where there are fewer rounds than can tell anything.
    """
    figures = np.array([base, tree], dtype=np.float64)
    rounds = figures.shape[1]
    middle = float(np.divide(*np.median(figures, axis=1)[::-1]))
    if rounds < LEAST_ROUNDS:
        return Ratio(middle, 0.0, float("inf"))
    drawn = np.random.default_rng(seed).integers(rounds, size=(RESAMPLES, rounds))
    base_medians, tree_medians = np.median(figures[:, drawn], axis=2)
    tail = 50 * (1 - CONFIDENCE)
    lower, upper = np.percentile(tree_medians / base_medians, [tail, 100 - tail])
    return Ratio(middle, float(lower), float(upper))
