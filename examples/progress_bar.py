"""A grid search with a bar that moves: which support vector machine reads handwritten digits best?

    python examples/progress_bar.py

Each item fits a classifier to two thirds of the digits that scikit-learn brings along, and scores
it on the rest. The chunks are large, since the fits are short; the bar moves inside of them. Where
the output is not a terminal, a line tells now and then.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from statistics import fmean
from typing import NamedTuple

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from fastpool import Pool

PENALTIES = (0.1, 1.0, 10.0)
WIDTHS = (3e-4, 1e-3, 3e-3)
FOLDS = 3

DIGITS = load_digits()
PARTS = list(StratifiedKFold(FOLDS).split(DIGITS.data, DIGITS.target))


class Fit(NamedTuple):
    """One item: a classifier, and the part of the digits that it is scored on."""

    penalty: float
    width: float
    fold: int


def score(fit: Fit) -> tuple[Fit, float]:
    train, test = PARTS[fit.fold]
    model = SVC(C=fit.penalty, gamma=fit.width)
    model.fit(DIGITS.data[train], DIGITS.target[train])
    return fit, float(model.score(DIGITS.data[test], DIGITS.target[test]))


class Lines:
    """Progress for files: a line a second."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() >= self._due or done == total:
            self._due = time.monotonic() + 1
            print(f"{done} of {total} fits")


def main() -> None:
    fits = [Fit(*values) for values in itertools.product(PENALTIES, WIDTHS, range(FOLDS))]
    scores: dict[tuple[float, float], list[float]] = defaultdict(list)
    progress = "fits" if sys.stderr.isatty() else Lines()
    with Pool() as pool:
        for fit, accuracy in pool.imap_unordered(score, fits, chunksize=9, progress=progress):
            scores[fit.penalty, fit.width].append(accuracy)
    best = max(scores, key=lambda key: fmean(scores[key]))
    for (penalty, width), values in sorted(scores.items()):
        mark = "  <- best" if (penalty, width) == best else ""
        print(f"C={penalty:<5} gamma={width:<7} {fmean(values):.1%}{mark}")


if __name__ == "__main__":
    main()
