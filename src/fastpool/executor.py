"""The face of ``concurrent.futures.ProcessPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import inspect
import itertools
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures._base import LOGGER
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar

from fastpool._core._futures import submit
from fastpool._core._submit import Dispatcher
from fastpool._runtime.calls import check_buffersize
from fastpool._runtime.futures import Future
from fastpool._runtime.options import check_context, check_options
from fastpool._runtime.private import HandlerThread
from fastpool.pool import Pool

__all__ = ["ProcessPoolExecutor"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PARAMETERS = inspect.signature(Pool).parameters
_EXTRAS = {name for name, each in _PARAMETERS.items() if each.kind is each.KEYWORD_ONLY}
_CHECKED = inspect.signature(check_options).parameters


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """A pool of worker processes, called like :class:`concurrent.futures.ProcessPoolExecutor`.

    Parameters
    ----------
    max_workers : int, optional
        Number of workers. By default as many as this process may use CPUs, as in
        :class:`fastpool.Pool`.
    mp_context : multiprocessing context, optional
        Decides how workers start. By default the interpreter's default; ``spawn`` with
        `max_tasks_per_child`, as in the standard library.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` when a worker starts. If it raises, that is logged, and
        the executor is broken: every pending and later call gets a ``BrokenProcessPool``.
    initargs : iterable
        Arguments of the initializer.
    max_tasks_per_child : int, optional
        A worker is replaced after so many calls. Works with every start method.
    **extras
        The keyword-only arguments of :class:`fastpool.Pool`, such as `affinity`, `blocktime` and
        `retries`. `daemon` is False by default: calls may start processes of their own.

    Raises
    ------
    ValueError
        If a number is out of range, or an argument has no such value.
    TypeError
        If `initializer` is not callable, `mp_context` is something else, a number is of a wrong
        type, or there is no such argument.
    ImportError
        If the package of `serializer` is not installed.

    Notes
    -----
    The workers start with the first call, all of them: what a program defines after it has made its
    executor, they know too. That call raises what the system refuses (OSError, MemoryError), and an
    ImportError if `threads_per_worker` needs threadpoolctl.

    A worker that dies is replaced. The call that it ran fails with an exception that is a
    :class:`fastpool.WorkerDiedError` and a ``BrokenProcessPool``; all others go on.

    An executor that is dropped runs what it was given to its end, and the interpreter waits for
    that before it exits.

    Examples
    --------
    >>> from fastpool import ProcessPoolExecutor
    >>> with ProcessPoolExecutor(2) as executor:
    ...     future = executor.submit(pow, 2, 8)
    ...     future.result()
    256
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        **extras: Any,
    ) -> None:
        # Not super().__init__(): it would start the standard library's machinery.
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        if mp_context is None:
            method = None if max_tasks_per_child is None else "spawn"
            mp_context = multiprocessing.get_context(method)
        check_context("mp_context", mp_context)
        arguments = _pool_arguments(
            extras,
            processes=max_workers,
            initializer=initializer,
            initargs=initargs,
            maxtasksperchild=max_tasks_per_child,
            context=mp_context,
        )
        # Now, so that what is wrong is told here and not by the first call.
        options = check_options(**{name: arguments[name] for name in _CHECKED})
        arguments["processes"] = self._max_workers = options.processes
        if initializer is not None:
            arguments["initializer"] = _initialize
            arguments["initargs"] = (initializer, options.plan.initargs)
        self._arguments = arguments
        self._mp_context = mp_context
        self._initializer = initializer  # type: ignore[assignment]
        self._initargs = options.plan.initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._shutdown_thread = False
        self._pool: Pool | None = None
        self._dispatcher: Dispatcher | None = None

    # ---- calls ---------------------------------------------------------------------------------

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call ``fn(*args, **kwargs)`` in a worker; return a future at once.

        Arguments are pickled before this returns; an error of pickling comes out of the future.

        Parameters
        ----------
        fn : callable
        *args, **kwargs
            Its arguments.

        Returns
        -------
        concurrent.futures.Future
            Its ``cancel()`` has an argument more: ``cancel(kill=True)`` stops a call that runs.

        Raises
        ------
        RuntimeError
            After :meth:`shutdown`, at the end of the interpreter, or in a process that was forked
            after the first call. (Such a process needs an executor of its own.)
        concurrent.futures.process.BrokenProcessPool
            If the initializer raised, or workers ended again and again before they could work.
        """
        future = submit(self._dispatcher or self._start(), Future, fn, args, kwargs)
        if future is None:
            self._refuse()
        return future

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]:
        """Call ``fn`` on the items of the iterables; return an iterator over the results, in order.

        Parameters
        ----------
        fn : callable
            Called with one item of each iterable, until the shortest is at its end.
        *iterables : iterable
            Read to their end before this returns, unless there is a `buffersize`.
        timeout : float, optional
            The iterator raises when a result is not there so many seconds after this call.
        chunksize : int
            Send so many calls as one task.
        buffersize : int, optional
            Most tasks whose results have not been handed out (as in Python 3.14): the iterables are
            read as the results are.

        Returns
        -------
        iterator
            It raises what a call raises, and ends there. When it ends or is dropped before its end,
            calls that no worker has begun are cancelled.

        Raises
        ------
        ValueError
            If `chunksize` or `buffersize` is below 1.
        TypeError
            If `buffersize` is neither None nor an integer.
        concurrent.futures.TimeoutError
            From the iterator, after `timeout`.
        RuntimeError, BrokenProcessPool
            As :meth:`submit`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        check_buffersize(buffersize)
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        tasks: Iterator[Future[Any]]
        if chunksize == 1:
            tasks = (self.submit(fn, *args) for args in calls)
        else:
            chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
            tasks = (self.submit(_call_each, fn, chunk) for chunk in chunks)
        futures = deque(itertools.islice(tasks, buffersize))
        results = _results(futures, tasks, deadline)
        return results if chunksize == 1 else _each_of(results)

    # ---- life ----------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the workers leave when everything submitted is done.

        Parameters
        ----------
        wait : bool
            Return when they have left and every callback was called. (In a callback: at once.)
        cancel_futures : bool
            Cancel the calls that no worker has begun.
        """
        with _starting:
            self._shutdown_thread = True
        if self._pool is None or self._pool._dispatcher.foreign:
            return
        _leave(self._pool)
        if cancel_futures:
            for future in self._pool._dispatcher.recovery.unfinished():
                future.cancel()
        if wait:
            self._pool.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down, and wait; after Ctrl-C, stop what runs."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate_workers()
        self.shutdown()

    def terminate_workers(self) -> None:
        """Stop the workers at once, by SIGTERM, and shut down (as in Python 3.14).

        Calls that no worker has begun are cancelled; those that run fail with a
        ``BrokenProcessPool``. A worker that is there after half a second is killed.
        """
        self._stop(kill=False)

    def kill_workers(self) -> None:
        """Like :meth:`terminate_workers`, by SIGKILL."""
        self._stop(kill=True)

    def exit_results(self, *, return_exceptions: bool = False) -> list[Any]:
        """Return what `worker_exit` returned in each worker; call :meth:`shutdown` before.

        As :meth:`fastpool.Pool.exit_results`; an empty list if no worker was ever started.

        Parameters
        ----------
        return_exceptions : bool
            An exception is the result of its worker.

        Returns
        -------
        list

        Raises
        ------
        ValueError
            If the executor still has workers.
        Exception
            The first exception that `worker_exit` raised.
        """
        if self._pool is None:
            return []
        engine = self._pool._running_engine()
        if engine.is_alive():
            raise ValueError("the executor still has workers: shutdown() it before")
        return engine.exit_results.get(return_exceptions)

    def _stop(self, kill: bool) -> None:
        self.shutdown(wait=False, cancel_futures=True)
        if self._pool is not None:
            self._pool._running_engine().terminate(kill)

    def _start(self) -> Dispatcher:
        """Start the workers, unless another thread just did."""
        with _starting:
            if self._pool is None:
                if self._shutdown_thread or _exiting:
                    self._refuse()
                self._pool = Pool(**self._arguments)
                self._dispatcher = self._pool._dispatcher
                _pools.add(self._pool)
                weakref.finalize(self, _leave, self._pool).atexit = False
                if self._shutdown_thread:  # by what ran while the workers started
                    _leave(self._pool)
            return self._pool._dispatcher

    def _refuse(self) -> NoReturn:
        """Say why there are no more calls."""
        if self._broken:
            raise BrokenProcessPool(self._broken)
        after = "shutdown" if self._shutdown_thread else "interpreter shutdown"
        raise RuntimeError(f"cannot schedule new futures after {after}")

    # ---- private attributes that programs touch --------------------------------------------------

    @property
    def _processes(self) -> dict[int, BaseProcess] | None:  # type: ignore[override]
        if self._shutdown_thread:
            return None
        processes = [] if self._pool is None else list(self._pool._pool)
        return {process.pid: process for process in processes if process.pid is not None}

    @property
    def _executor_manager_thread(self) -> HandlerThread | None:  # type: ignore[override]
        return None if self._pool is None else self._pool._result_handler

    @property
    def _pending_work_items(self) -> dict[int, Future[Any]]:  # type: ignore[override]
        if self._pool is None:
            return {}
        return dict(enumerate(self._pool._dispatcher.recovery.unfinished()))

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        failure = None if self._dispatcher is None else self._dispatcher.failure
        return False if failure is None else f"the workers can't run: {failure!r}"


def _pool_arguments(extras: dict[str, Any], **named: Any) -> dict[str, Any]:
    """Every argument of ``Pool()``: its defaults, what the executor was given, and its extras."""
    for name in extras:
        if name not in _EXTRAS:
            raise TypeError(
                f"ProcessPoolExecutor.__init__() got an unexpected keyword argument {name!r}"
            )
    defaults = {name: parameter.default for name, parameter in _PARAMETERS.items()}
    arguments = {**defaults, "daemon": False, **named, **extras}
    # They are read twice.
    return {
        name: tuple(value) if isinstance(value, Iterator) else value
        for name, value in arguments.items()
    }


# ---- in workers --------------------------------------------------------------------------------


def _initialize(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> None:
    """Log what an initializer raises, as the standard library does."""
    try:
        initializer(*initargs)
    except BaseException:
        LOGGER.critical("Exception in initializer:", exc_info=True)
        raise


def _call_each(func: Callable[..., _T], calls: list[tuple[Any, ...]]) -> list[_T]:
    """Several calls of a ``map``, one after the other."""
    return [func(*args) for args in calls]


# ---- results of a map --------------------------------------------------------------------------


def _results(
    futures: deque[Future[_T]], more: Iterator[Future[_T]], deadline: float | None
) -> Iterator[_T]:
    """The results of futures, with one more submitted before each; no result is held here."""
    try:
        while futures:
            futures.extend(itertools.islice(more, 1))
            yield _take(futures.popleft(), deadline)
    finally:
        for future in futures:
            future.cancel()


def _take(future: Future[_T], deadline: float | None) -> _T:
    """The result of a future that nobody else has: what is not waited for shall not run."""
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future  # an exception holds this frame, and the future that exception


def _each_of(chunks: Iterator[list[_T]]) -> Iterator[_T]:
    """The items of lists; none of them is held here."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


# ---- the end -----------------------------------------------------------------------------------

# Reentrant: while workers start, code of the program runs in this thread (a context of its own, a
# signal handler, a __del__), which may shut an executor down.
_starting = threading.RLock()
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_exiting = False


def _leave(pool: Pool) -> None:
    """Let a pool run to its end, whoever still has it."""
    if not pool._dispatcher.foreign:
        pool._running_engine().leave(pool)


def _wait_for_all() -> None:
    """At the interpreter's end: what was submitted runs to its end, unless Ctrl-C is the reason."""
    global _exiting
    with _starting:
        _exiting = True
        pools = list(_pools)
    try:
        if issubclass(getattr(sys, "last_type", None) or Exception, KeyboardInterrupt):
            raise KeyboardInterrupt
        for pool in pools:
            _leave(pool)
        for pool in pools:
            pool.join()
    except KeyboardInterrupt:
        for pool in pools:
            pool.terminate()


def _after_fork_in_child() -> None:
    global _starting, _pools
    _starting = threading.RLock()
    _pools = weakref.WeakSet()  # not emptied: without a GIL, some thread may have had its lock


threading._register_atexit(_wait_for_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork_in_child)
