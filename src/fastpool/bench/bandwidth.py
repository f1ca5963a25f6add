"""How fast data travel, there and back, beside a plain copy."""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from fastpool.bench import machine, timing, workloads
from fastpool.bench.contender import Contender, NotOffered
from fastpool.bench.subject import Record, Subject

SIZES = (16, 256, 2**12, 2**16, 2**20, 2**23, 2**26, 2**28)
QUICK_SIZES = (16, 2**16, 2**22)
COPIES = 12  # of the largest payload have to fit into memory
MOST_CALLS = 2000

BYTES_THERE, BYTES_BACK = "bytes as argument", "bytes as result"
ARRAY_THERE, ARRAY_BACK = "array as argument", "array as result"


def measure(subject: Subject) -> Iterator[Record]:
    """One call with a payload, or for one; in seconds."""
    sizes = QUICK_SIZES if subject.quick else SIZES
    fitting = [size for size in sizes if COPIES * size <= machine.available_memory()]
    if subject.contender.name == "serial":
        for size in fitting:
            yield Record("memcpy", _copies(subject, size), size)
        return
    if not subject.contender.has_processes:
        raise NotOffered("moves no data")
    pool = subject.warm()
    if has_numpy():  # each worker imports it
        pool.mapping(workloads.kept_array, [16] * 64, 1)()
    for size in fitting:
        yield Record(BYTES_THERE, _bytes_there(subject, pool, size), size)
        yield Record(BYTES_BACK, _back(subject, pool, size, workloads.kept_bytes), size)
        if has_numpy():
            yield Record(ARRAY_THERE, _array_there(subject, pool, size), size)
            yield Record(ARRAY_BACK, _back(subject, pool, size, workloads.kept_array), size)


def has_numpy() -> bool:
    """Whether there are arrays to send."""
    return importlib.util.find_spec("numpy") is not None


def _copies(subject: Subject, size: int) -> list[float]:
    """memcpy into memory that has been written before."""
    source, target = memoryview(b"\x07" * size), memoryview(bytearray(b"\x01" * size))

    def copy() -> None:
        target[:] = source

    samples = _sample(subject, copy, None)
    timing.expect(target[-1], 7)
    return samples


def _bytes_there(subject: Subject, pool: Contender, size: int) -> list[float]:
    """Two payloads take turns, so that one that was kept would be found out."""
    payloads = [b"\x07" * (size - 1) + last for last in (b"1", b"2")]
    turns = itertools.cycle([(pool.calling(workloads.ends, each), each[-1]) for each in payloads])
    now: Any = None

    def turn() -> None:
        nonlocal now
        now = next(turns)

    return _sample(
        subject,
        lambda: now[0](),
        (size, 7, 0),
        between=turn,
        view=lambda ends: (*ends[:2], ends[2] - now[1]),
    )


def _array_there(subject: Subject, pool: Contender, size: int) -> list[float]:
    """The array changes between the calls."""
    import numpy as np

    array = np.full(size, 7, np.uint8)

    def change() -> None:
        array[-1] = (int(array[-1]) + 1) % 256

    return _sample(
        subject,
        pool.calling(workloads.ends, array),
        (size, 7, 0),
        between=change,
        view=lambda ends: (*ends[:2], ends[2] - int(array[-1])),
    )


def _back(subject: Subject, pool: Contender, size: int, func: Callable[[int], Any]) -> list[float]:
    return _sample(subject, pool.calling(func, size), (size, 7, 7), view=workloads.ends)


def _sample(
    subject: Subject, call: Callable[[], object], right: object, **more: Any
) -> list[float]:
    run = functools.partial(timing.sample, call, right, **more)
    # The first ones touch memory for the first time.
    run(count=subject.processes + 1, seconds=subject.few(0.01, 0.5))
    return run(count=MOST_CALLS, seconds=subject.few(0.01, 0.1))
