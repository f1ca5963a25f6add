"""The pools, each used as its documentation does, behind the interface of `contender`.

A pool's own module is imported when it is opened, in the process of one case: what a pool does on
import concerns no other.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastpool.bench.contender import Call, Contender, Getter, NotOffered


class MultiprocessingPool(Contender):
    name = "multiprocessing.Pool"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return ()

    @classmethod
    def pool_class(cls) -> Any:
        return importlib.import_module("multiprocessing.pool").Pool

    def open(self) -> None:
        context = multiprocessing.get_context(self.method or "fork")
        self.pool = self.pool_class()(self.workers, self.initializer, context=context)

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        return self.pool.apply_async(func, args, callback=callback).get

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        return functools.partial(self.pool.apply, func, args)

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        return functools.partial(self.pool.map, func, items, chunksize)

    def imap(self, func: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.pool.imap(func, items)

    def pids(self) -> list[int]:
        return [process.pid for process in list(self.pool._pool)]

    def leave(self) -> None:
        self.pool.terminate()
        self.pool.join()

    def terminate(self) -> None:
        self.pool.terminate()


class FastPool(MultiprocessingPool):
    name = "fastpool"
    distribution = "fastpool"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("fastpool").WorkerDiedError,)

    @classmethod
    def pool_class(cls) -> Any:
        return importlib.import_module("fastpool").Pool

    def limited(self, seconds: float, func: Callable[..., Any], *args: Any) -> Getter:
        return self.pool.apply_async(func, args, timeout=seconds).get

    def cancellable(self, func: Callable[..., Any], *args: Any) -> tuple[Getter, Getter]:
        result = self.pool.apply_async(func, args)
        return result.get, lambda: result.cancel(kill=True)

    def retried(self, retries: int, func: Callable[..., Any], *args: Any) -> Getter:
        self.leave()  # how often, is a property of the pool
        context = multiprocessing.get_context(self.method or "fork")
        self.pool = self.pool_class()(self.workers, retries=retries, context=context)
        return self.pool.apply_async(func, args).get


class Executor(Contender):
    name = "ProcessPoolExecutor"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("concurrent.futures.process").BrokenProcessPool,)

    def open(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context(self.method or "fork")
        self._own: Any = ProcessPoolExecutor(self.workers, context, self.initializer)

    @property
    def executor(self) -> Any:
        return self._own

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        future = self.executor.submit(func, *args)
        if callback is not None:
            future.add_done_callback(lambda done: callback(done.result()))
        return future.result

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        submit = self.executor.submit
        return lambda: submit(func, *args).result()

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        executor_map = self.executor.map
        return lambda: list(executor_map(func, items, chunksize=chunksize or 1))

    def imap(self, func: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.executor.map(func, items)

    def pids(self) -> list[int]:
        return list(self.executor._processes or ())

    def leave(self) -> None:
        self.executor.shutdown(wait=True)

    def terminate(self) -> None:
        if not hasattr(self.executor, "terminate_workers"):  # before Python 3.14
            raise NotOffered
        self.executor.terminate_workers()

    def cancellable(self, func: Callable[..., Any], *args: Any) -> tuple[Getter, Getter]:
        raise NotOffered  # Future.cancel() refuses when the task runs


class Loky(Executor):
    """The reusable executor is asked for before each call, as loky's documentation does: after a
    breakdown that gives a new one."""

    name = "loky"
    distribution = "loky"
    methods = ("",)

    def open(self) -> None:
        self._last: Any = None
        self._last = self.executor

    @property
    def executor(self) -> Any:
        loky = importlib.import_module("loky")
        context = loky.backend.get_context(self.method) if self.method else None
        if self.own:
            return self._last or loky.ProcessPoolExecutor(self.workers, context=context)
        self._last = loky.get_reusable_executor(
            self.workers, context=context, initializer=self.initializer
        )
        return self._last

    def pids(self) -> list[int]:
        return list(self._last._processes or ())

    def leave(self) -> None:
        self._last.shutdown(wait=True)

    def terminate(self) -> None:
        self._last.shutdown(wait=False, kill_workers=True)


class Mpire(Contender):
    name = "mpire"
    distribution = "mpire"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return (RuntimeError,)

    def open(self) -> None:
        mpire = importlib.import_module("mpire")
        # By default each call starts workers of its own: no pool that could suffer.
        self.pool = mpire.WorkerPool(
            self.workers, start_method=self.method or "fork", keep_alive=True
        )

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        return self.pool.apply_async(
            func, args, callback=callback, worker_init=self.initializer
        ).get

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        items = list(items)
        if items and isinstance(items[0], tuple):  # it would make arguments of them
            items = [(item,) for item in items]
        return functools.partial(
            self.pool.map, func, items, chunk_size=chunksize, worker_init=self.initializer
        )

    def imap(self, func: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.pool.imap(func, items, chunk_size=1)

    def pids(self) -> list[int]:
        return [worker.pid for worker in list(self.pool._workers) if worker is not None]

    def leave(self) -> None:
        self.pool.terminate()

    def terminate(self) -> None:
        self.pool.terminate()

    def limited(self, seconds: float, func: Callable[..., Any], *args: Any) -> Getter:
        return self.pool.apply_async(func, args, task_timeout=seconds).get


class ThreadPool(MultiprocessingPool):
    """No processes: what the GIL leaves of a pool."""

    name = "ThreadPool"
    methods = ("",)
    has_processes = False

    def open(self) -> None:
        pool_class = importlib.import_module("multiprocessing.pool").ThreadPool
        self.pool = pool_class(self.workers, self.initializer)

    def pids(self) -> list[int]:
        return []


class Serial(Contender):
    """No pool."""

    name = "serial"
    methods = ("",)
    has_processes = False

    def open(self) -> None:
        self.workers = 1

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        return functools.partial(func, *args)

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        return lambda: list(map(func, items))

    def pids(self) -> list[int]:
        return []

    def leave(self) -> None:
        pass


class Billiard(MultiprocessingPool):
    name = "billiard"
    distribution = "billiard"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        # The one that is raised wraps a WorkerLostError. A task's own error comes out unwrapped.
        return (importlib.import_module("billiard.einfo").ExceptionWithTraceback,)

    @classmethod
    def pool_class(cls) -> Any:
        return importlib.import_module("billiard.pool").Pool

    def open(self) -> None:
        billiard = importlib.import_module("billiard")
        context = billiard.get_context(self.method or "fork")
        self.pool = context.Pool(self.workers, self.initializer)


class Pebble(Executor):
    name = "pebble"
    distribution = "pebble"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("pebble").ProcessExpired,)

    def open(self) -> None:
        pebble = importlib.import_module("pebble")
        context = multiprocessing.get_context(self.method or "fork")
        self._own = pebble.ProcessPool(self.workers, initializer=self.initializer, context=context)

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        future = self._own.schedule(func, args)
        if callback is not None:
            future.add_done_callback(lambda done: callback(done.result()))
        return future.result

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        schedule = self._own.schedule
        return lambda: schedule(func, args).result()

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        pool_map = self._own.map
        return lambda: list(pool_map(func, items, chunksize=chunksize or 1).result())

    def imap(self, func: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return iter(self._own.map(func, items).result())

    def pids(self) -> list[int]:
        return list(self._own._pool_manager.worker_manager.workers)

    def leave(self) -> None:
        self._own.stop()
        self._own.join()

    def terminate(self) -> None:
        self._own.stop()

    def limited(self, seconds: float, func: Callable[..., Any], *args: Any) -> Getter:
        return self._own.schedule(func, args, timeout=seconds).result


class Joblib(Contender):
    """The default backend, which is a loky executor that all calls reuse.

    Not in a ``with`` block: it would save half a millisecond of the ten that a call waits, but
    there an array that has changed since the last call is not sent again.
    """

    name = "joblib"
    distribution = "joblib"
    methods = ("",)
    fewest = 2

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return (
            importlib.import_module("joblib.externals.loky.process_executor").BrokenProcessPool,
        )

    def open(self) -> None:
        self._joblib = importlib.import_module("joblib")
        self._parallel = self._joblib.Parallel(n_jobs=self.workers, backend="loky")
        self._threads = ThreadPoolExecutor(self.workers)

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        # There are only calls that are waited for; so another thread waits.
        future = self._threads.submit(self.calling(func, *args))
        return future.result

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        parallel, task = self._parallel, self._joblib.delayed(func)(*args)
        return lambda: parallel([task])[0]

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        parallel, delayed = self._parallel, self._joblib.delayed
        if chunksize:
            parallel = self._joblib.Parallel(
                n_jobs=self.workers, backend="loky", batch_size=chunksize
            )
        return lambda: parallel(delayed(func)(item) for item in items)

    def _executor(self) -> Any:
        loky = importlib.import_module("joblib.externals.loky")
        return loky.get_reusable_executor(reuse=True)

    def pids(self) -> list[int]:
        return list(self._executor()._processes or ())

    def leave(self) -> None:
        self._executor().shutdown(wait=True)
        self._threads.shutdown()


class Ray(MultiprocessingPool):
    name = "ray"
    distribution = "ray"
    methods = ("",)
    has_servers = True

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        errors = importlib.import_module("ray.exceptions")
        return (errors.RayActorError, errors.WorkerCrashedError)

    def open(self) -> None:
        ray = importlib.import_module("ray")
        ray.init(num_cpus=self.workers, log_to_driver=False, include_dashboard=False)
        pool_class = importlib.import_module("ray.util.multiprocessing").Pool
        self.pool = pool_class(self.workers, self.initializer)

    def pids(self) -> list[int]:
        return []  # asked by tasks: its actors tell no process

    def leave(self) -> None:
        super().leave()
        importlib.import_module("ray").shutdown()


class Dask(Executor):
    name = "dask"
    distribution = "distributed"
    methods = ("",)
    has_servers = True

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return (importlib.import_module("distributed").scheduler.KilledWorker,)

    def open(self) -> None:
        distributed = importlib.import_module("distributed")
        self._own = distributed.Client(
            distributed.LocalCluster(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None
            )
        )

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        return self._own.submit(func, *args, pure=False).result

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        submit = self._own.submit
        return lambda: submit(func, *args, pure=False).result()

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        client = self._own
        return lambda: client.gather(
            client.map(func, list(items), pure=False, batch_size=chunksize)
        )

    def pids(self) -> list[int]:
        return list(self._own.run(_process_id).values())

    def leave(self) -> None:
        cluster = self._own.cluster
        self._own.close()
        cluster.close()


def _process_id() -> int:
    return os.getpid()


CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        FastPool,
        MultiprocessingPool,
        ThreadPool,
        Executor,
        Loky,
        Joblib,
        Mpire,
        Billiard,
        Pebble,
        Ray,
        Dask,
        Serial,
    )
}
