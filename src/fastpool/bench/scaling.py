"""What a call costs as it grows: with the workers, the chunks, and the length of its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastpool.bench import skew, timing, workloads
from fastpool.bench.contender import Call, Contender, NotOffered
from fastpool.bench.subject import Record, Subject

CHUNKS = (1, 4, 16, 64, 256, 1024, 4096)
LENGTHS, QUICK_LENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2), (1e-6, 1e-4, 1e-3)
MOST_ITEMS = 200_000


def worker_counts(processes: int) -> list[int]:
    """The powers of two up to the number of workers, and that number."""
    powers = {2**at for at in range(processes.bit_length())}
    return sorted(powers | {processes})


def forkjoin(subject: Subject) -> Iterator[Record]:
    """``map`` of one trivial task for each worker, again and again."""
    # A pool for each count: some take a second to start.
    counts = [subject.processes] if subject.quick else worker_counts(subject.processes)
    for workers in counts:
        if workers < subject.contender.fewest:
            continue
        pool = subject.warm(workers)
        call = pool.mapping(workloads.successor, range(workers), 1)
        right = list(range(1, workers + 1))
        timing.sample(call, right, count=100, seconds=subject.few(0.02, 0.1))
        samples = timing.sample(call, right, 10_000, subject.few(0.04, 0.4))
        yield Record("map of one task for each worker", samples, workers)


def chunksize(subject: Subject) -> Iterator[Record]:
    """``map`` of tasks that do nothing; per task."""
    per_task = 0.0
    pool = subject.warm()
    for size in CHUNKS[:: 1 if not subject.quick else 3]:
        fewest = 2 * size * subject.processes
        if fewest * per_task > subject.few(1, 30):  # chunks are no help to this pool
            raise NotOffered(f"chunks of {size} and more would take too long")

        def call_of(count: int, size: int = size) -> Call:
            return pool.mapping(workloads.identity, range(count), size)

        seconds = subject.few(0.01, 0.15)
        count = timing.enough(call_of, fewest, MOST_ITEMS, seconds)
        samples = timing.sample(call_of(count), list(range(count)), 5, 2 * seconds)
        per_task = min(samples) / count
        yield Record("map of no-ops", [sample / count for sample in samples], size)


def efficiency(subject: Subject) -> Iterator[Record]:
    """``map`` of tasks of one length, in chunks as the pool likes them: CPU time of the tasks, as a
    part of what the workers' CPUs could have given."""
    pool = subject.warm()
    for length in QUICK_LENGTHS if subject.quick else LENGTHS:
        values = list(_efficiencies(subject, pool, length))
        yield Record("map, chunks by default", values, length)


def _efficiencies(subject: Subject, pool: Contender, length: float) -> Iterator[float]:
    task = skew.iterations(length)
    value = workloads.burnt(task)

    def call_of(count: int) -> Call:
        return pool.mapping(workloads.burn, [task] * count)

    seconds = subject.few(0.012, 0.2)
    count = timing.enough(call_of, 4 * pool.workers, MOST_ITEMS, seconds)
    call: Any = call_of(count)
    for _ in range(2):
        yield 1 / skew.quotient(call, [value] * count, pool.workers)
