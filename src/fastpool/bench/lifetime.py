"""The ends of a pool's life: how long it takes to start and leave, and to tell of a dead worker."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fastpool.bench import timing, workloads
from fastpool.bench.contender import Contender, NotOffered
from fastpool.bench.subject import Record, Subject

ARRIVAL_SECONDS = 20.0  # a task that has not begun by then never will
HANG_SECONDS = 15.0  # without an error for a dead worker: there will be none
QUICK_SECONDS, CROWDED_SECONDS = 0.3, 5.0  # long enough on a quiet machine; on a crowded one
CROWDED_PERCENT = 50.0  # of one CPU, taken by others


def startup(subject: Subject) -> Iterator[Record]:
    """Create a pool, make one call, leave it: each step, and all three."""
    if subject.contender.name == "serial":
        raise NotOffered("has nothing to start")
    is_imported = subject.leave()
    for method in _methods(subject):
        if not is_imported:
            _one_life(subject, method)
        steps: dict[str, list[float]] = {"create": [], "first call": [], "leave": []}
        end = timing.clock() + subject.few(0.05, 1.0)
        while not steps["leave"] or (timing.clock() < end and len(steps["leave"]) < 20):
            for samples, seconds in zip(steps.values(), _one_life(subject, method), strict=True):
                samples.append(seconds)
        name = method or "its own way"
        for step, samples in steps.items():
            yield Record(f"{name}: {step}", samples)
        yield Record(f"{name}: all three", [sum(one) for one in zip(*steps.values(), strict=True)])


def _methods(subject: Subject) -> tuple[str, ...]:
    """The start methods that are measured; an empty one where a pool has no choice."""
    offered = subject.contender.methods
    if subject.method and offered != ("",):
        return (subject.method,)
    return offered[:1] if subject.quick else offered


def _one_life(subject: Subject, method: str) -> tuple[float, float, float]:
    begin = timing.clock()
    pool = subject.contender(subject.processes, method=method or None)
    created = timing.clock()
    timing.expect(pool.calling(workloads.successor, 1)(), 2)
    called = timing.clock()
    pool.leave()
    return created - begin, called - created, timing.clock() - called


def death(subject: Subject) -> Iterator[Record]:
    """From SIGKILL of a worker that runs a task to the error in that task's caller."""
    if not subject.contender.has_processes:
        raise NotOffered("has no processes")
    subject.leave()
    samples: list[float] = []
    end = timing.clock() + subject.few(0.1, 4.0)
    while not samples or (timing.clock() < end and len(samples) < 100):
        pool = subject.contender(subject.processes, method=subject.method)
        samples.append(one_death(pool, subject.few(QUICK_SECONDS, HANG_SECONDS)))
        pool.leave()
    yield Record("SIGKILL to the error", samples)


def one_death(pool: Contender, patience: float) -> float:
    """Kill a worker that runs a task, and wait for the error.

    Parameters
    ----------
    pool : Contender
        Left as it is when this raises.
    patience : float
        Seconds; on a crowded machine at least `CROWDED_SECONDS`.

    Returns
    -------
    float
        Seconds from the death to the error.

    Raises
    ------
    NotOffered
        If there is none in that time.
    """
    with tempfile.TemporaryDirectory(prefix="fastpool-bench-") as folder:
        path = Path(folder) / "pid"
        get = pool.submit(workloads.tell_and_wait, str(path), 10 * HANG_SECONDS)
        end = timing.clock() + ARRIVAL_SECONDS
        while not path.exists():
            if timing.clock() > end:
                raise TimeoutError(f"the task has not begun in {ARRIVAL_SECONDS:g} s")
            time.sleep(0.001)
        pid = int(path.read_text())
        start, neighbours = timing.clock(), timing.Neighbours()
        os.kill(pid, signal.SIGKILL)
        waited = 0.0
        for more in (patience, CROWDED_SECONDS - patience):
            waited += more
            try:
                get(more)
            except pool.deaths():
                return timing.clock() - start
            except Exception:
                if timing.clock() - start < waited:
                    raise
            else:
                raise timing.WrongValueError("the task of a killed worker has a value")
            if waited >= CROWDED_SECONDS or neighbours.percent(waited) < CROWDED_PERCENT:
                break
        if int(path.read_text()) != pid:
            raise NotOffered(f"runs the task again; no error in {waited:g} s")
        hangs = "hangs: " if waited >= HANG_SECONDS else ""
        raise NotOffered(f"{hangs}no error {waited:g} s after the death")
