"""What the workers are given to do: functions that pickle by reference under any start method."""

from __future__ import annotations

import os
import time
from typing import TypeVar

T = TypeVar("T")


def nothing(_: object) -> None:
    """Do nothing and return nothing."""


def identity(x: T) -> T:
    """Return what was sent, so that all time is the pool's."""
    return x


def successor(x: int) -> int:
    """Return another value than the one that was sent, so that the work can be seen in it."""
    return x + 1


def add(x: int, y: int) -> int:
    """Take two arguments, for `starmap`."""
    return x + y


def burn(iterations: int) -> tuple[int, float]:
    """Do work that cannot be skipped.

    Parameters
    ----------
    iterations : int
        How much work.

    Returns
    -------
    value : int
        Depends on every iteration.
    seconds : float
        The CPU time that the work took in this very run.
    """
    start = time.thread_time()
    x = iterations
    for _ in range(iterations):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x, time.thread_time() - start


def process_id(_: object) -> int:
    """Tell which process runs the tasks."""
    return os.getpid()
