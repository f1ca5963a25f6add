"""Which pool for which tasks: a small grid of lengths and payloads."""

from __future__ import annotations

from collections.abc import Iterator

from fastpool.bench import skew, timing, workloads
from fastpool.bench.subject import Record, Subject

LENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
PAYLOADS = (16, 2**12, 2**16, 2**20)
QUICK_LENGTHS, QUICK_PAYLOADS = (1e-6, 1e-3), (16, 2**20)
MOST_ITEMS, MOST_BYTES = 2000, 2**26
QUICK_ITEMS, QUICK_BYTES = 200, 2**23


def measure(subject: Subject) -> Iterator[Record]:
    """``map`` of tasks, each of which carries bytes of its own, in chunks as the pool likes them.

    Per task. The case tells the payload, the axis the length.
    """
    pool = subject.warm()
    for payload in QUICK_PAYLOADS if subject.quick else PAYLOADS:
        for length in QUICK_LENGTHS if subject.quick else LENGTHS:
            work = skew.iterations(length)
            count = int(subject.few(0.015, 0.06) * subject.processes / length)
            count = min(
                count,
                int(subject.few(QUICK_ITEMS, MOST_ITEMS)),
                int(subject.few(QUICK_BYTES, MOST_BYTES)) // payload,
            )
            count = max(count, 4 * subject.processes)
            items = [(work, bytes(payload)) for _ in range(count)]
            right = [(workloads.burnt(work), payload)] * count
            call = pool.mapping(workloads.burn_beside, items)
            timing.sample(call, right, 1)
            samples = timing.sample(call, right, 3, seconds=subject.few(0.01, 0.2))
            yield Record(str(payload), [sample / count for sample in samples], length)
