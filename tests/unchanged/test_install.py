"""``fastpool.install()``: which pools become fastpool's, and which stay what they are."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool as imported_before
from multiprocessing.pool import Pool as class_imported_before
from typing import Any

import pytest
from helpers import tasks

import fastpool

pytestmark = [pytest.mark.fastpool_only]


@pytest.fixture
def installed() -> Iterator[None]:
    fastpool.install()
    yield
    fastpool.uninstall()


FACTORIES: dict[str, Callable[..., Any]] = {
    "multiprocessing.Pool": lambda *args: multiprocessing.Pool(*args),
    "Pool, imported before": imported_before,
    "pool.Pool": lambda *args: multiprocessing.pool.Pool(*args),
    "pool.Pool, imported before": class_imported_before,
    "a context's": lambda *args: multiprocessing.get_context("forkserver").Pool(*args),
}


class Derived(multiprocessing.pool.Pool):
    """What programs derive from the standard library's pool."""

    def __new__(cls, label: str, processes: int) -> Any:
        made = super().__new__(cls)
        made.label = label
        return made

    def __init__(self, label: str, processes: int) -> None:
        super().__init__(processes)


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_factory_makes_a_pool_of_fastpool(installed: None, factory: str) -> None:
    with FACTORIES[factory](1, tasks.set_state, ()) as pool:
        assert type(pool) is fastpool.Pool
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]


def test_a_manager_makes_pools_of_fastpool(installed: None) -> None:
    with multiprocessing.Manager() as manager:
        pool = manager.Pool(1)
        assert str(pool).startswith("<fastpool.pool.Pool ")
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]
        assert pool.apply_async(tasks.square, (3,)).get(10) == 9
        pool.terminate()


def test_the_pool_has_the_start_method_of_its_context(installed: None) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool._ctx.get_start_method() == "spawn"
        assert pool.apply(tasks.who_am_i)["name"].startswith("SpawnPoolWorker")


def test_a_derived_class_stays_the_standard_librarys(installed: None) -> None:
    with Derived("mine", 1) as pool:
        assert not isinstance(pool, fastpool.Pool)
        assert pool.label == "mine"
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]


def test_a_pool_of_threads_stays_one(installed: None) -> None:
    with multiprocessing.pool.ThreadPool(1) as pool:
        assert not isinstance(pool, fastpool.Pool)
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]


def test_a_wrong_argument_is_told_as_before(installed: None) -> None:
    with pytest.raises(ValueError, match="Number of processes must be at least 1"):
        multiprocessing.Pool(0)
    with pytest.raises(TypeError, match="nonsense"):
        multiprocessing.Pool(nonsense=1)  # type: ignore[call-arg]


def test_uninstalled_the_pools_are_the_standard_librarys_again(installed: None) -> None:
    with multiprocessing.Pool(1) as before:
        fastpool.uninstall()
        fastpool.uninstall()
        with multiprocessing.Pool(1) as pool:
            assert type(pool) is multiprocessing.pool.Pool
            assert pool.map(tasks.square, range(3)) == [0, 1, 4]
        with Derived("mine", 1) as pool:
            assert pool.apply(tasks.square, (2,)) == 4
        assert before.apply(tasks.square, (3,)) == 9


def test_an_executor_is_fastpools_if_that_is_asked_for() -> None:
    fastpool.install(executor=True)
    try:
        with ProcessPoolExecutor(1) as executor:
            assert type(executor) is fastpool.ProcessPoolExecutor
            assert list(executor.map(tasks.square, range(3))) == [0, 1, 4]
    finally:
        fastpool.uninstall()
    with ProcessPoolExecutor(1) as executor:
        assert type(executor) is ProcessPoolExecutor
        assert executor.submit(tasks.square, 2).result() == 4


def test_an_executor_stays_what_it_is_otherwise(installed: None) -> None:
    with ProcessPoolExecutor(1) as executor:
        assert type(executor) is ProcessPoolExecutor


def _tell_kinds(queue: Any) -> None:
    with multiprocessing.Pool(1) as pool:
        queue.put([type(thing).__module__ for thing in (pool, ProcessPoolExecutor(1))])


def install_all() -> None:
    fastpool.install(executor=True)
    fastpool.install()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_make_the_pools_that_their_parent_made_when_it_started_them(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    told = []
    for act in (install_all, fastpool.uninstall):
        act()
        child = context.Process(target=_tell_kinds, args=(queue,))
        child.start()
        told.append(queue.get())
        child.join()
    assert told == [
        ["fastpool.pool", "fastpool.executor"],
        ["multiprocessing.pool", "concurrent.futures.process"],
    ]
