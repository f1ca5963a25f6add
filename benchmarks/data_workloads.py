"""What the workers do with arrays, tuples and text: little, so that all time is the pool's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Record = tuple[int, float, str]

MEGABYTE_OF_DOUBLES = 1_000_000 // 8


def ends(array: Doubles) -> float:
    """Touch an array at both ends, so that a pool can't leave it at home."""
    return float(array[0] + array[-1])


def pick(array: Doubles, index: int) -> float:
    """Use one element, and the last, of an array that many tasks share."""
    return float(array[index] + array[-1])


def full(value: float) -> Doubles:
    """Make and return 8 MB in which every element is `value`."""
    return np.full(8 * MEGABYTE_OF_DOUBLES, value)


def rearrange(record: Record) -> Record:
    """Make a new small tuple of a small tuple."""
    number, weight, name = record
    return number + 1, weight / 2, name


def tokens(line: str) -> list[str]:
    """Split a line into its words."""
    return line.split()


def increment(block: NDArray[Any]) -> None:
    """Change a block in place, so that the caller can see that it was its own memory."""
    block += 1
