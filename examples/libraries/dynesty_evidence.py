"""dynesty: does the course of a disease follow the body mass index in a line or in a curve?

    python examples/libraries/dynesty_evidence.py

Compares the evidence of three polynomials. The data are scikit-learn's (442 patients).
"""

from __future__ import annotations

import time
from typing import Any

import dynesty
import numpy as np
from sklearn.datasets import load_diabetes

from fastpool import Pool

DATA = load_diabetes(scaled=False)
BMI = (DATA.data[:, 2] - 25) / 10
TARGET = (DATA.target - 150) / 100


def log_likelihood(theta: Any) -> float:
    """Normal errors; all but the last number are a polynomial's coefficients."""
    off = (TARGET - np.polyval(theta[:-1], BMI)) / theta[-1]
    return float(-0.5 * off @ off - len(off) * np.log(theta[-1] * np.sqrt(2 * np.pi)))


def prior(unit: Any) -> Any:
    """Coefficients from -5 to 5, errors up to 2."""
    theta = 10 * unit - 5
    theta[-1] = 0.01 + 2 * unit[-1]
    return theta


def evidence(degree: int, pool: Any) -> tuple[float, float]:
    """The logarithm of the evidence of a polynomial, and its error."""
    sampler = dynesty.NestedSampler(
        log_likelihood,
        prior,
        degree + 2,
        nlive=50,
        pool=pool,
        queue_size=8,
        rstate=np.random.default_rng(1),
    )
    sampler.run_nested(print_progress=False, dlogz=1.0)
    return sampler.results.logz[-1], sampler.results.logzerr[-1]


def main() -> None:
    begin = time.perf_counter()
    with Pool() as pool:
        for degree, name in enumerate(("constant", "line", "parabola")):
            print("{:9} log evidence {:7.1f} ± {:.1f}".format(name, *evidence(degree, pool)))
    print(f"{time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
