"""The pools, each used as its documentation does, behind one small interface.

A pool's own module is imported when it is opened, in the process of one case: what a pool does on
import concerns no other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

Getter = Callable[[], Any]
"""Waits for a result, and returns it or raises."""


class NotOffered(Exception):
    """The pool has nothing of that kind."""


class NotYet(Exception):
    """fastpool will have it."""


class Contender:
    """One pool of `workers` processes.

    Parameters
    ----------
    workers : int
    method : {"fork", "spawn"}, optional
        How workers start, where the pool lets its user choose; by default as the pool likes it, but
        ``fork`` where the interpreter's default decides.
    initializer : callable, optional
    own : bool
        Not one that other parts of the program may be using, too.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""

    def __init__(
        self,
        workers: int = 2,
        *,
        method: str | None = None,
        initializer: Callable[[], object] | None = None,
        own: bool = False,
    ) -> None:
        self.workers, self.method, self.initializer = workers, method, initializer
        self.own = own
        self.open()

    @classmethod
    def version(cls) -> str | None:
        """Its version, or None where it is not installed."""
        if not cls.distribution:
            return platform.python_version()
        if importlib.util.find_spec(cls.distribution) is None:
            return None
        return importlib.metadata.version(cls.distribution)

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        """The exceptions by which it tells that a worker died."""
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        raise NotImplementedError

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        raise NotImplementedError

    def imap(self, func: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Its workers."""
        raise NotImplementedError

    def leave(self) -> None:
        """What the end of a ``with`` block does, and waiting for that where it doesn't."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Drop everything, running tasks too."""
        raise NotImplementedError

    def limited(self, seconds: float, func: Callable[..., Any], *args: Any) -> Getter:
        """Submit a task that may take so many seconds."""
        raise NotOffered

    def cancellable(self, func: Callable[..., Any], *args: Any) -> tuple[Getter, Getter]:
        """Submit a task; what waits for it, and what cancels it though it runs."""
        raise NotOffered

    def retried(self, retries: int, func: Callable[..., Any], *args: Any) -> Getter:
        """Submit a task that is tried again so often when its worker dies."""
        raise NotOffered


class MultiprocessingPool(Contender):
    name = "multiprocessing.Pool"

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        return ()

    def pool_class(self) -> Any:
        return importlib.import_module("multiprocessing.pool").Pool

    def open(self) -> None:
        context = multiprocessing.get_context(self.method or "fork")
        self.pool = self.pool_class()(self.workers, self.initializer, context=context)

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        return self.pool.apply_async(func, args, callback=callback).get

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return self.pool.map(func, items)

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

    def pool_class(self) -> Any:
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
        self._own = ProcessPoolExecutor(self.workers, context, self.initializer)

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

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return list(self.executor.map(func, items))

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

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return self.pool.map(func, items, worker_init=self.initializer)

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


CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (FastPool, MultiprocessingPool, Executor, Loky, Mpire)
}
