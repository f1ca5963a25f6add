"""How fast this machine copies and fills memory, by NumPy: what no pool can beat for large data."""

from __future__ import annotations

import functools
import mmap
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data_workloads import Doubles

from fastpool.bench import timing
from fastpool.bench.timing import clock

GIB = 2**30


@dataclass(frozen=True)
class Rate:
    """How fast memory is written in one way."""

    title: str
    gib_per_second: float


def measure_rates() -> list[Rate]:
    """Measure what is printed below the table.

    Returns
    -------
    list of Rate
    """
    small, large = 8_000_000, 80_000_000

    def rate(title: str, size: int, measure: Callable[[int], float]) -> Rate:
        return Rate(title, size / measure(size) / GIB)

    return [
        rate("memcpy of 8 MB into warm memory", small, copy_warm),
        rate("memcpy of 80 MB into warm memory", large, copy_warm),
        rate("memcpy of 80 MB into untouched shared memory", large, copy_fresh),
        rate("filling 80 MB of untouched shared memory", large, fill_fresh_shared),
        rate("filling 80 MB of untouched private memory", large, fill_fresh_private),
    ]


def copy_warm(size: int) -> float:
    """Copy so many bytes of doubles to where there was a copy before.

    Parameters
    ----------
    size : int
        Bytes.

    Returns
    -------
    float
        Seconds, the median of some copies.
    """
    source, target = _warm_pair(size)
    return timing.time_each(lambda: np.copyto(target, source), None, _count(size))


def copy_fresh(size: int) -> float:
    """Copy so many bytes into shared memory (a memfd) that nobody has touched; as `copy_warm`."""
    source, _ = _warm_pair(size)
    return _median_of(lambda: _write_once(_fresh_shared(size), source), _count(size))


def fill_fresh_shared(size: int) -> float:
    """Fill shared memory (a memfd) that nobody has touched; as `copy_warm`."""
    return _median_of(lambda: _write_once(_fresh_shared(size), 1.0), _count(size))


def fill_fresh_private(size: int) -> float:
    """Fill a process's own memory that nobody has touched; as `copy_warm`."""
    return _median_of(lambda: _write_once(_fresh_private(size), 1.0), _count(size))


def huge_pages() -> str:
    """Tell what the kernel does about huge pages, which decide what a first touch costs.

    Returns
    -------
    str
        Such as ``"private madvise, shared never"``; empty if it can't be read.
    """
    folder = Path("/sys/kernel/mm/transparent_hugepage")
    try:
        settings = [(folder / name).read_text() for name in ("enabled", "shmem_enabled")]
    except OSError:
        return ""
    chosen = [setting.partition("[")[2].partition("]")[0] for setting in settings]
    return f"private {chosen[0]}, shared {chosen[1]}"


@functools.cache
def _warm_pair(size: int) -> tuple[Doubles, Doubles]:
    source = np.arange(size // 8, dtype=np.float64)
    return source, source.copy()


def _count(size: int) -> int:
    """So many times that it takes some 50 ms."""
    return max(3, 240_000_000 // size)


def _median_of(measure: Callable[[], float], count: int) -> float:
    return statistics.median(measure() for _ in range(count))


def _fresh_shared(size: int) -> mmap.mmap:
    descriptor = os.memfd_create("bench_data")
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _fresh_private(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _write_once(memory: mmap.mmap, values: Doubles | float) -> float:
    """Time the first writing of a mapping, which is unmapped afterwards."""
    with memory:
        target = np.frombuffer(memory, dtype=np.float64)
        start = clock()
        target[:] = values
        seconds = clock() - start
        del target  # or the mapping can't be closed
    return seconds
