"""What a pool costs that stands: uneven tasks, idleness, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastpool.bench import processes, skew, timing, workloads
from fastpool.bench.contender import NotOffered
from fastpool.bench.subject import Record, Subject


def uneven(subject: Subject) -> Iterator[Record]:
    """``map`` of tasks that get longer and longer: makespan / ideal."""
    tasks, right = skew.tasks(max(16 * subject.processes, int(subject.few(0, skew.COUNT))))
    pool = subject.warm()
    call: Any = pool.mapping(workloads.burn, tasks)
    values = [skew.quotient(call, right, pool.workers) for _ in range(int(subject.few(1, 2)))]
    yield Record("tasks of 0.2 to 6 ms, growing", values)


def idle(subject: Subject) -> Iterator[Record]:
    """CPU time of a pool that has worked and now waits."""
    pool = subject.warm()
    count = int(subject.few(100, 1000))
    timing.expect(pool.map(workloads.successor, range(count)), list(range(1, count + 1)))
    yield Record("CPU of all processes", [processes.idle_percent(subject.few(0.1, 2.0))])


def memory(subject: Subject) -> Iterator[Record]:
    """The workers' proportional share of memory after their first tasks."""
    if not subject.contender.has_processes:
        raise NotOffered("has no processes")
    pool = subject.warm()
    pids = pool.pids() or set(pool.mapping(workloads.process_id, range(64), 1)())
    shares = [float(processes.proportional_memory(pid)) for pid in pids]
    yield Record("PSS of a worker", shares)
