"""maxtasksperchild: a worker leaves after so many chunks, and another takes its place."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until


def test_a_worker_does_no_more_tasks_than_that(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(2, maxtasksperchild=2)
    pids = [pool.apply(tasks.pid) for _ in range(9)]
    assert max(Counter(pids).values()) <= 2
    assert len(set(pids)) >= 5


def test_none_means_that_workers_stay(pool_factory: Any) -> None:
    pool = pool_factory(2, maxtasksperchild=None)
    before = set(procs.worker_pids(pool))
    pool.map(tasks.square, range(500), 1)
    assert set(procs.worker_pids(pool)) == before


def test_a_chunk_counts_as_one_task(pool_factory: Any) -> None:
    pool = pool_factory(1, maxtasksperchild=1)
    pids = pool.map(tasks.pid, range(12), chunksize=4)
    assert [len(set(pids[begin : begin + 4])) for begin in (0, 4, 8)] == [1, 1, 1]
    assert len(set(pids)) == 3


@pytest.mark.timeout_s(60)  # some 200 forks, each of which copies what all tests before have left
@pytest.mark.parametrize("chunksize", [1, 3])
def test_no_result_is_lost_at_the_change(pool_factory: Any, chunksize: int) -> None:
    pool = pool_factory(2, maxtasksperchild=1)
    assert pool.map(tasks.square, range(60), chunksize) == [i * i for i in range(60)]
    assert list(pool.imap(tasks.square, range(40), chunksize)) == [i * i for i in range(40)]
    found = sorted(pool.imap_unordered(tasks.square, range(40), chunksize))
    assert found == [i * i for i in range(40)]
    results = [pool.apply_async(tasks.make_bytes, (i * 10_000,)) for i in range(30)]
    assert [len(result.get(20)) for result in results] == [i * 10_000 for i in range(30)]


def test_the_pool_keeps_its_size(pool_factory: Any) -> None:
    pool = pool_factory(3, maxtasksperchild=1)
    pool.map(tasks.square, range(12), 1)
    wait_until(
        lambda: len(pool._pool) == 3 and all(worker.is_alive() for worker in list(pool._pool)),
        what=lambda: f"three living workers: {pool._pool}",
    )


def test_a_replacements_name_counts_on(pool_factory: Any) -> None:
    pool = pool_factory(1, maxtasksperchild=1)
    names = [pool.apply(tasks.who_am_i)["name"] for _ in range(3)]
    numbers = []
    for name in names:
        match = re.fullmatch(r"ForkPoolWorker-(\d+)", name)
        assert match, name
        numbers.append(int(match[1]))
    assert numbers == sorted(set(numbers))


def test_a_worker_that_leaves_runs_its_finalizers(pool_factory: Any, tmp_path: Any) -> None:
    path = tmp_path / "log"
    pool = pool_factory(1, tasks.finalize_into, (str(path),), 1)
    pids = [pool.apply(tasks.pid) for _ in range(3)]
    pool.close()
    pool.join()
    lines = path.read_text().splitlines()
    assert set(lines) >= {f"finalize {pid}" for pid in pids}
    assert len(lines) == len(set(lines))


def test_the_pool_ends_while_workers_change(pool_factory: Any) -> None:
    for ending in ("close", "terminate"):
        pool = pool_factory(2, maxtasksperchild=1)
        results = [pool.apply_async(tasks.square, (i,)) for i in range(10)]
        getattr(pool, ending)()
        pool.join()
        if ending == "close":
            assert [result.get(0) for result in results] == [i * i for i in range(10)]


@pytest.mark.parametrize("value", [0, -1, 1.5, "1"])
def test_anything_but_a_positive_int_is_refused(pool_factory: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
        pool_factory(1, maxtasksperchild=value)


@pytest.mark.parametrize("processes", [0, -1])
def test_a_pool_needs_a_worker(pool_factory: Any, processes: int) -> None:
    with pytest.raises(ValueError, match="Number of processes must be at least 1"):
        pool_factory(processes)
