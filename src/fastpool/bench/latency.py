"""How long one call takes, there and back."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator

from fastpool.bench import timing, workloads
from fastpool.bench.subject import Record, Subject

IDLE_SECONDS = 30e-3  # workers go to sleep, and their CPUs too
OWN_WORK_SECONDS = 500e-6
MOST_CALLS = 20_000


def measure(subject: Subject) -> Iterator[Record]:
    """One blocking call after another, each by itself; then with something between the calls."""
    cases: list[tuple[str, Callable[[], object] | None, float]] = [
        ("hot", None, subject.few(0.05, 0.6)),
        ("after 30 ms idle", functools.partial(time.sleep, IDLE_SECONDS), subject.few(0.08, 1.5)),
        (
            "after 500 us of own work",
            functools.partial(timing.busy_wait, OWN_WORK_SECONDS),
            subject.few(0.05, 0.6),
        ),
    ]
    pool = subject.warm()
    call = pool.calling(workloads.successor, 1)
    timing.sample(call, 2, count=200, seconds=subject.few(0.02, 0.2))
    for case, between, seconds in cases:
        yield Record(case, timing.sample(call, 2, MOST_CALLS, seconds, between=between))
