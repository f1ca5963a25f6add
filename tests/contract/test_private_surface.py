"""Names that aren't documented but that programs in the wild use: they keep working."""

from __future__ import annotations

import contextlib
import gc
import inspect
import multiprocessing
import multiprocessing.pool
import multiprocessing.process
import os
import pickle
import signal
import threading
import time
import unittest.mock
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.build import PINS
from helpers.procs import wait_until
from helpers.recipes import istarmap_recipe
from helpers.threads import InThread

# --- the pool object --------------------------------------------------------------------------


def test_a_pool_is_an_instance_of_the_standard_class(pool: Any) -> None:
    assert isinstance(pool, multiprocessing.pool.Pool)


def test_its_representation_tells_class_state_and_size(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2)
    cls = f"{impl.pool_class.__module__}.{impl.pool_class.__qualname__}"
    assert repr(pool) == f"<{cls} state=RUN pool_size=2>"
    pool.close()
    assert repr(pool).startswith(f"<{cls} state=CLOSE ")
    pool.terminate()
    assert repr(pool).startswith(f"<{cls} state=TERMINATE ")


def test_it_cannot_be_pickled(pool: Any) -> None:
    text = "pool objects cannot be passed between processes or pickled"
    for attempt in (pool.__reduce__, lambda: pickle.dumps(pool)):
        with pytest.raises(NotImplementedError) as caught:
            attempt()
        assert str(caught.value) == text


def test_a_running_pool_that_is_dropped_warns_and_goes(pool_factory: Any) -> None:
    pool = pool_factory.implementation.make(2, start_method="fork")
    pids = procs.worker_pids(pool)
    pool.map(tasks.square, range(4))
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
        gc.collect()
    wait_until(lambda: not any(procs.is_alive(pid) for pid in pids))


def test_an_ended_pool_that_is_dropped_does_not_warn(pool_factory: Any) -> None:
    for ending in ("close", "terminate"):
        pool = pool_factory.implementation.make(1, start_method="fork")
        getattr(pool, ending)()
        pool.join()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del pool
            gc.collect()


def test_constructor_arguments_are_kept(pool_factory: Any) -> None:
    context = multiprocessing.get_context("fork")
    pool = pool_factory(3, tasks.set_state_pair, ("a", 1), 50, context=context)
    assert pool._processes == 3
    assert pool._initializer is tasks.set_state_pair
    assert tuple(pool._initargs) == ("a", 1)
    assert pool._maxtasksperchild == 50
    assert pool._ctx is context
    assert pool._wrap_exception is True


def test_the_number_of_workers_is_an_int_by_default_too(pool_factory: Any) -> None:
    pool = pool_factory(None)
    assert isinstance(pool._processes, int)
    assert 1 <= pool._processes == len(pool._pool) <= (os.cpu_count() or 1)


@PINS
@pytest.mark.fastpool_only
def test_the_default_number_of_workers_is_that_of_the_usable_cpus(run_script: Any) -> None:
    script = run_script(
        """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from fastpool import Pool
        if __name__ == "__main__":
            with Pool() as pool:
                print(pool._processes)
        """
    )
    assert script.finish() == "1\n"


def test_the_states_are_the_modules_constants(pool_factory: Any) -> None:
    pool = pool_factory(1)
    assert pool._state == multiprocessing.pool.RUN
    pool.close()
    assert pool._state == multiprocessing.pool.CLOSE
    pool.terminate()
    assert pool._state == multiprocessing.pool.TERMINATE


# --- _pool: the workers -----------------------------------------------------------------------


def test_the_workers_are_process_objects(pool: Any) -> None:
    assert len(pool._pool) == pool._processes == 2
    for worker in pool._pool:
        assert isinstance(worker, multiprocessing.process.BaseProcess)
        assert worker.is_alive() and worker.exitcode is None and worker.pid == worker.ident
    assert set(pool.map(tasks.pid, range(20))) <= {worker.pid for worker in pool._pool}


def test_the_list_of_workers_is_live(pool_factory: Any) -> None:
    pool = pool_factory(1, maxtasksperchild=1)
    first = pool._pool[0].pid
    for _ in range(3):
        pool.apply(tasks.nothing)
    wait_until(lambda: len(pool._pool) == 1 and pool._pool[0].pid != first)


def test_repopulate_starts_more_workers(pool_factory: Any) -> None:
    """The recipe for a pool that grows."""
    pool = pool_factory(1)
    pool._repopulate_pool()
    assert len(pool._pool) == 1
    pool._processes += 1
    pool._repopulate_pool()
    wait_until(lambda: len(pool._pool) == 2)
    assert all(worker.is_alive() for worker in pool._pool)
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]


@pytest.mark.fastpool_only
def test_the_recipe_for_a_violent_end_works(pool_factory: Any) -> None:
    pool = pool_factory(3)
    for _ in range(6):
        pool.apply_async(tasks.nap, (60,))
    workers = list(pool._pool)
    pool._state = multiprocessing.pool.TERMINATE
    pool._worker_handler._state = multiprocessing.pool.TERMINATE
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not any(worker.is_alive() for worker in workers))
    time.sleep(0.2)  # time for a replacement to appear, if there were one
    assert not any(worker.is_alive() for worker in list(pool._pool))
    pool.terminate()
    pool.join()


# --- queues, cache, handlers --------------------------------------------------------------------


def test_the_cache_holds_the_results_that_are_pending(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    assert len(pool._cache) == 0
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    mapped = pool.map_async(tasks.square, range(3))
    assert len(pool._cache) == 2
    gate.open()
    while pool._cache:  # as programs wait for the end
        time.sleep(0.01)
    # The standard library's are ready a moment after they have left the cache.
    assert result.get(10) is None
    assert mapped.get(10) == [0, 1, 4]


def test_the_task_queue_tells_its_size(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    wait_until(lambda: gate.arrivals() == 1)
    results = [pool.apply_async(tasks.square, (i,)) for i in range(10)]
    assert isinstance(pool._taskqueue.qsize(), int)
    assert pool._taskqueue.qsize() >= 0
    gate.open()
    while pool._taskqueue.qsize() > 0:  # as programs hold back
        time.sleep(0.01)
    assert pool._taskqueue.empty()
    result.get(10)
    assert [r.get(10) for r in results] == [i * i for i in range(10)]


def test_holding_back_by_the_size_of_the_task_queue_works(pool: Any) -> None:
    results = []
    for i in range(500):
        while pool._taskqueue.qsize() > 20:
            time.sleep(0.001)
        results.append(pool.apply_async(tasks.square, (i,)))
    assert [r.get(10) for r in results] == [i * i for i in range(500)]


@pytest.mark.parametrize("name", ["_worker_handler", "_task_handler", "_result_handler"])
def test_the_handlers_look_like_threads(pool_factory: Any, name: str) -> None:
    pool = pool_factory(1)
    handler = getattr(pool, name)
    assert handler.is_alive()
    assert handler._state == "RUN"
    handler.join(0.01)
    assert handler.is_alive()
    pool.terminate()
    pool.join()
    handler.join(5)
    assert not handler.is_alive()


@pytest.mark.parametrize("name", ["_inqueue", "_outqueue"])
def test_the_pipes_are_there_or_plainly_not(pool: Any, name: str) -> None:
    try:
        queue = getattr(pool, name)
    except AttributeError as error:
        assert name in str(error)
    else:
        assert isinstance(queue._reader.poll(), bool)
        assert queue._writer is not None


def test_the_terminator_can_be_called(pool_factory: Any) -> None:
    pool = pool_factory(1)
    pool.apply_async(tasks.nap, (60,))
    pool._terminate()
    pool.terminate()
    pool.join()


# --- results ------------------------------------------------------------------------------------


def test_a_map_result_tells_how_much_is_left(pool: Any, gate: Any) -> None:
    """The recipe for a progress display."""
    result = pool.map_async(tasks.pass_gate_if, [(gate.path, 0), *[(None, 1)] * 9], 1)
    assert result._chunksize == 1
    assert isinstance(result._job, int)
    seen = []
    wait_until(lambda: seen.append(result._number_left) or result._number_left == 1)
    gate.open()
    while not result.ready():
        seen.append(result._number_left)
        time.sleep(0.005)
    seen.append(result._number_left)
    assert seen == sorted(seen, reverse=True)
    assert 1 <= seen[0] <= 10
    assert seen[-1] == 0


def test_a_map_result_without_a_chunksize_counts_chunks_too(pool: Any) -> None:
    result = pool.map_async(tasks.square, range(100))
    assert isinstance(result._chunksize, int) and result._chunksize >= 1
    result.get(10)
    assert result._number_left == 0


def test_jobs_have_different_numbers(pool: Any) -> None:
    results = [pool.apply_async(tasks.nothing) for _ in range(5)]
    results.append(pool.map_async(tasks.nothing, [1]))
    assert len({result._job for result in results}) == 6
    for result in results:
        result.wait(10)


# --- recipes that subclass and patch ------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_the_istarmap_recipe_works(pool: Any, chunksize: int) -> None:
    items = [(i, 1) for i in range(50)]
    assert list(istarmap_recipe(pool, tasks.add, items, chunksize)) == list(range(1, 51))
    assert list(istarmap_recipe(pool, tasks.add, iter(()), chunksize)) == []


def test_the_istarmap_recipe_finishes_though_the_pool_is_closed_meanwhile(
    pool_factory: Any,
) -> None:
    pool = pool_factory(2)
    closed = threading.Event()

    def items() -> Iterator[tuple[int, int]]:
        yield 0, 1
        assert closed.wait(10)
        yield from ((i, 1) for i in range(1, 50))

    results = istarmap_recipe(pool, tasks.add, items())
    assert next(results) == 1
    pool.close()
    closed.set()
    assert list(results) == list(range(2, 51))
    InThread(pool.join).outcome()


def test_the_istarmap_recipe_raises_a_tasks_error(pool: Any) -> None:
    results = istarmap_recipe(pool, tasks.divide, [(1, 1), (1, 0)])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_the_istarmap_recipe_works_as_a_patch_of_the_standard_class(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.pool.Pool, "istarmap", istarmap_recipe, raising=False)
    assert list(pool.istarmap(tasks.add, [(i, 1) for i in range(20)])) == list(range(1, 21))


class NoDaemonProcess(multiprocessing.context.ForkProcess):  # type: ignore[misc]
    """As found in many programs: workers that may have children."""

    @property
    def daemon(self) -> bool:
        return False

    @daemon.setter
    def daemon(self, value: bool) -> None:
        pass


class NoDaemonContext(type(multiprocessing.get_context("fork"))):  # type: ignore[misc]
    Process = NoDaemonProcess


def test_workers_that_may_have_children_by_context(pool_factory: Any) -> None:
    pool = pool_factory(2, context=NoDaemonContext())
    assert all(isinstance(worker, NoDaemonProcess) for worker in pool._pool)
    assert pool.apply(tasks.who_am_i)["daemon"] is False
    assert pool.map(tasks.nothing, range(3)) == [None] * 3
    assert [pool.apply(tasks.start_a_child) for _ in range(3)] == [0, 0, 0]


def test_workers_that_may_have_children_by_class_attribute(impl: Any, pool_factory: Any) -> None:
    class NestablePool(impl.pool_class):  # type: ignore[misc]
        @staticmethod
        def Process(ctx: Any, *args: Any, **kwargs: Any) -> Any:
            return NoDaemonProcess(*args, **kwargs)

    pool = pool_factory.own(NestablePool(2, context=multiprocessing.get_context("fork")))
    assert all(isinstance(worker, NoDaemonProcess) for worker in pool._pool)
    assert pool.apply(tasks.start_a_child) == 0


def _sum_in_a_nested_pool(implementation: str, count: int) -> int:
    from helpers.impls import Implementation

    with Implementation(implementation).make(2, start_method="fork") as inner:
        return sum(inner.map(tasks.square, range(count)))


def test_pools_in_workers_of_a_pool(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(2, context=NoDaemonContext())
    items = [(impl.kind, count) for count in (5, 6, 7)]
    expected = [sum(i * i for i in range(count)) for _, count in items]
    assert pool.starmap(_sum_in_a_nested_pool, items, 1) == expected


def test_a_subclass_may_add_to_the_constructor_and_methods(impl: Any, pool_factory: Any) -> None:
    class Counting(impl.pool_class):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.calls = 0
            super().__init__(*args, **kwargs)

        def apply_async(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().apply_async(*args, **kwargs)

    pool = pool_factory.own(Counting(1, context=multiprocessing.get_context("fork")))
    assert pool.apply_async(tasks.square, (3,)).get(10) == 9
    assert pool.calls == 1


# --- a context whose processes don't start --------------------------------------------------------


class _FailsToStart:
    """CPython's own test of a pool that can't start all its workers."""

    made: list[_FailsToStart]
    may_start: int

    def __init__(self, **_kwargs: Any) -> None:
        self.name = "Fake Process"
        self.exitcode = None
        self.state: str | None = None
        self.pid = None
        type(self).made.append(self)

    def start(self) -> None:
        if type(self).may_start <= 0:
            raise OSError("Manually induced OSError")
        type(self).may_start -= 1
        self.state = "started"

    def terminate(self) -> None:
        self.state = "stopping"

    def join(self) -> None:
        if self.state == "stopping":
            self.state = "stopped"

    def is_alive(self) -> bool:
        return self.state in ("started", "stopping")


def test_a_worker_that_cannot_be_started_ends_the_others_and_the_pool(pool_factory: Any) -> None:
    _FailsToStart.made = []
    _FailsToStart.may_start = 3
    with pytest.raises(OSError, match="Manually induced OSError"):
        pool_factory(5, context=unittest.mock.MagicMock(Process=_FailsToStart))
    assert len(_FailsToStart.made) == 4
    assert not any(process.is_alive() for process in _FailsToStart.made)


def test_bad_arguments_leave_nothing_behind(impl: Any, pool_factory: Any) -> None:
    before = {child.pid for child in multiprocessing.active_children()}
    for kwargs in ({"processes": 0}, {"maxtasksperchild": 0}, {"initializer": 5}):
        with contextlib.suppress(ValueError, TypeError):
            pool_factory.own(impl.pool_class(**kwargs))
            pytest.fail(f"{kwargs} were accepted")
    assert {child.pid for child in multiprocessing.active_children()} == before


SIGNATURES = {
    "apply": ["func", "args", "kwds"],
    "apply_async": ["func", "args", "kwds", "callback", "error_callback"],
    "map": ["func", "iterable", "chunksize"],
    "map_async": ["func", "iterable", "chunksize", "callback", "error_callback"],
    "starmap": ["func", "iterable", "chunksize"],
    "starmap_async": ["func", "iterable", "chunksize", "callback", "error_callback"],
    "imap": ["func", "iterable", "chunksize"],
    "imap_unordered": ["func", "iterable", "chunksize"],
}


@pytest.mark.parametrize("method", SIGNATURES)
def test_parameters_have_their_names_and_places(impl: Any, method: str) -> None:
    names = list(inspect.signature(getattr(impl.pool_class, method)).parameters)
    assert names[1 : len(SIGNATURES[method]) + 1] == SIGNATURES[method]


def test_the_constructors_parameters_have_their_names_and_places(impl: Any) -> None:
    names = list(inspect.signature(impl.pool_class).parameters)
    assert names[:5] == ["processes", "initializer", "initargs", "maxtasksperchild", "context"]
