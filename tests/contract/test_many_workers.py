"""Many more workers than CPUs: all of them start, work, and leave."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until

COUNT = 64


def test_all_of_them_work_at_the_same_time(pool_factory: Any, traces: Any) -> None:
    many = pool_factory(COUNT)
    items = [(str(traces), i, COUNT) for i in range(COUNT)]
    pids = many.map(tasks.hold_all, items, 1)
    assert len(set(pids)) == COUNT
    assert set(pids) == set(procs.worker_pids(many))


def test_every_kind_of_call_is_right(pool_factory: Any) -> None:
    many = pool_factory(COUNT)
    assert many.map(tasks.square, range(5000)) == [i * i for i in range(5000)]
    assert many.map(tasks.square, range(500), 1) == [i * i for i in range(500)]
    assert list(many.imap(tasks.square, range(500))) == [i * i for i in range(500)]
    assert sorted(many.imap_unordered(tasks.add, range(500))) == list(range(500))
    assert [many.apply(tasks.add, (i, 1)) for i in range(100)] == list(range(1, 101))
    results = [many.apply_async(tasks.make_bytes, (i * 1000,)) for i in range(200)]
    assert [len(result.get(20)) for result in results] == [i * 1000 for i in range(200)]


def test_a_map_shorter_than_the_pool(pool_factory: Any) -> None:
    many = pool_factory(COUNT)
    for count in (0, 1, 2, 63):
        assert many.map(tasks.square, range(count)) == [i * i for i in range(count)]


@pytest.mark.fastpool_only
def test_more_of_them_than_a_socket_holds_orders_for(run_script: Any) -> None:
    """The long name makes long orders, so that fewer workers will do."""
    script = run_script(
        """
        import multiprocessing, resource
        from multiprocessing.context import ForkContext, ForkProcess
        from fastpool import Pool

        class Context(ForkContext):
            Process = type("P" * 1000 + "Process", (ForkProcess,), {})

        if __name__ == "__main__":
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
            with Pool(400, context=Context()) as pool:
                assert len({worker.pid for worker in pool._pool}) == 400
                print(pool.map(abs, range(-1000, 0), 1) == list(range(1000, 0, -1)))
        """
    )
    assert script.finish() == "True\n"


def test_close_and_join_end_all_of_them(pool_factory: Any) -> None:
    many = pool_factory(COUNT)
    pids = procs.worker_pids(many)
    many.map(tasks.square, range(COUNT), 1)
    many.close()
    many.join()
    assert not any(procs.is_alive(pid) for pid in pids)


def test_workers_that_all_change(pool_factory: Any) -> None:
    pool = pool_factory(16, maxtasksperchild=1)
    assert pool.map(tasks.square, range(64), 1) == [i * i for i in range(64)]
    wait_until(lambda: len(pool._pool) == 16)


@pytest.mark.fastpool_only
def test_all_of_them_are_listed(pool_factory: Any) -> None:
    many = pool_factory(COUNT)
    many.map(tasks.square, range(COUNT), 1)
    infos = many.workers()
    assert len({info.pid for info in infos}) == len({info.name for info in infos}) == COUNT
    wait_until(lambda: sum(info.tasks_done for info in many.workers()) >= COUNT)
