"""affinity= pins workers to CPUs: none, compact, scatter, auto, or sets given one by one."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import procs, tasks
from helpers.build import PINS
from helpers.procs import wait_until

pytestmark = pytest.mark.fastpool_only

USABLE = tasks.affinity()
needs_two_cpus = pytest.mark.skipif(len(USABLE) < 2, reason="there is one CPU only")


def seen(pool: Any) -> dict[int, frozenset[int]]:
    """The CPUs of each worker once all have started, as the system tells them."""
    wait_until(lambda: all(info.state != "starting" for info in pool.workers()))
    return {pid: tasks.affinity(pid) for pid in procs.worker_pids(pool)}


def test_without_it_workers_may_use_what_the_parent_may(pool_factory: Any) -> None:
    for pool in (pool_factory(2), pool_factory(2, affinity=None)):
        assert set(seen(pool).values()) == {USABLE}
        assert pool.apply(tasks.affinity) == USABLE


@pytest.mark.parametrize("affinity", ["compact", "scatter", "auto"])
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_a_named_policy_uses_only_cpus_that_the_parent_may_use(
    pool_factory: Any, affinity: str, processes: int
) -> None:
    pool = pool_factory(processes, affinity=affinity)
    cpus = seen(pool)
    assert len(cpus) == processes
    assert all(each and each <= USABLE for each in cpus.values())
    assert pool.map(tasks.square, range(20)) == [i * i for i in range(20)]


@PINS
@needs_two_cpus
@pytest.mark.parametrize("affinity", ["compact", "scatter"])
def test_pinned_workers_do_not_share_a_cpu_while_there_are_enough(
    pool_factory: Any, affinity: str
) -> None:
    first, second = seen(pool_factory(2, affinity=affinity)).values()
    assert len(first) == len(second) == 1
    assert first != second


@PINS
@needs_two_cpus
def test_explicit_sets_go_to_the_workers_one_by_one(pool_factory: Any, start_method: str) -> None:
    low, high = sorted(USABLE)[:2]
    pool = pool_factory(3, affinity=[{low}, {high}, {low, high}])
    cpus = seen(pool)
    found = [cpus[worker.pid] for worker in pool._pool]
    assert sorted(map(sorted, found)) == sorted([[low], [high], [low, high]])


@pytest.mark.parametrize("affinity", [None, "compact", [{min(USABLE)}]], ids=repr)
def test_all_workers_start_and_work(
    pool_factory: Any, start_method: str, affinity: Any, traces: Any
) -> None:
    pool = pool_factory(3, affinity=affinity)
    assert len(seen(pool)) == len(pool.workers()) == 3
    pids = pool.map(tasks.hold_all, [(str(traces), i, 3) for i in range(3)], 1)
    assert sorted(pids) == sorted(procs.worker_pids(pool))


def test_the_workers_listing_tells_the_truth(pool_factory: Any) -> None:
    pool = pool_factory(2, affinity="compact")
    cpus = seen(pool)
    assert {info.pid: info.cpus for info in pool.workers()} == cpus


@PINS
def test_a_task_runs_on_the_cpus_of_its_worker(pool_factory: Any) -> None:
    only = min(USABLE)
    pool = pool_factory(1, affinity=[{only}])
    assert pool.apply(tasks.affinity) == {only}


@PINS
def test_a_replacement_takes_over_the_cpus(pool_factory: Any) -> None:
    only = min(USABLE)
    pool = pool_factory(1, maxtasksperchild=1, affinity=[{only}])
    assert [pool.apply(tasks.affinity) for _ in range(3)] == [{only}] * 3


def test_the_parent_keeps_its_own_cpus(pool_factory: Any) -> None:
    pool = pool_factory(2, affinity="compact")
    pool.map(tasks.square, range(4))
    assert tasks.affinity() == USABLE


@pytest.mark.parametrize(
    "affinity",
    ["no such policy", "", 5, [set()], [], [{100_000}], [{-1}], [{"a"}], ["compact"]],
    ids=repr,
)
def test_nonsense_is_refused_at_once(impl: Any, pool_factory: Any, affinity: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        pool_factory(1, affinity=affinity)


@pytest.mark.parametrize("blocktime", [0, 0.0, 0.0002, 0.01, 1])
def test_a_block_time_changes_no_result(pool_factory: Any, blocktime: float) -> None:
    pool = pool_factory(2, blocktime=blocktime)
    assert pool.map(tasks.square, range(20)) == [i * i for i in range(20)]
    assert pool.apply(tasks.add, (1, 2)) == 3


@pytest.mark.parametrize("blocktime", [-1, "long", float("nan")], ids=repr)
def test_a_nonsensical_block_time_is_refused(pool_factory: Any, blocktime: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        pool_factory(1, blocktime=blocktime)
