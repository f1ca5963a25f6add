"""What the workers are given to do: functions that pickle by reference under any start method."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any, TypeVar

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


def burnt(iterations: int) -> int:
    """The value of `burn`, without the work: so many steps, put together from doubled ones."""
    factor, summand = 1, 0
    step_factor, step_summand = 1103515245, 12345
    left = iterations
    while left:
        if left % 2:
            factor, summand = factor * step_factor, summand * step_factor + step_summand
        step_factor, step_summand = step_factor**2, step_summand * (step_factor + 1)
        step_factor, step_summand = step_factor % 2**31, step_summand % 2**31
        factor, summand = factor % 2**31, summand % 2**31
        left //= 2
    return (factor * iterations + summand) % 2**31


def process_id(_: object) -> int:
    """Tell which process runs the tasks."""
    return os.getpid()


def burn_beside(task: tuple[int, bytes]) -> tuple[int, int]:
    """Do some work for a task that carries some bytes: the value, and how many they were."""
    iterations, payload = task
    return burn(iterations)[0], len(payload)


def ends(data: Any) -> tuple[int, int, int]:
    """How many bytes there are, the first one and the last one."""
    return len(data), int(data[0]), int(data[-1])


def kept_bytes(size: int) -> bytes:
    """So many bytes, made once, so that sending them is all there is."""
    return _make_bytes(size)


def kept_array(size: int) -> Any:
    """So many bytes as an array, made once."""
    return _make_array(size)


# Behind plain functions, because pools may treat a plain function better than other callables.


@functools.lru_cache(maxsize=1)
def _make_bytes(size: int) -> bytes:
    return b"\x07" * size


@functools.lru_cache(maxsize=1)
def _make_array(size: int) -> Any:
    import numpy as np

    return np.full(size, 7, np.uint8)


def tell_and_wait(path: str, seconds: float) -> None:
    """Write the number of this process into a file, whole or not at all, and wait to be killed."""
    half = f"{path}-{os.getpid()}"
    Path(half).write_text(str(os.getpid()))
    os.rename(half, path)
    time.sleep(seconds)
