"""The face of ``multiprocessing.Pool``."""

from __future__ import annotations

import functools
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import pool as stdlib
from multiprocessing import util
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from fastpool._core._segment import no_fork
from fastpool._runtime import arrays as array_work
from fastpool._runtime.calls import check_timeout, display_for, start_map, start_stream
from fastpool._runtime.private import HandlerThread, JobCache, TaskQueue
from fastpool._runtime.results import (
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
)

TYPE_CHECKING = False  # typing itself is not loaded for this
if TYPE_CHECKING:
    from contextvars import ContextVar
    from typing import Any, Literal, TypeVar

    from numpy import ndarray
    from numpy.random import SeedSequence
    from numpy.typing import ArrayLike, DTypeLike

    from fastpool._runtime.cpus import Affinity
    from fastpool._runtime.engine import Engine
    from fastpool._runtime.progress import Asked
    from fastpool._runtime.reports import PoolStats, WorkerInfo
    from fastpool._runtime.serializers import OwnSerializer
    from fastpool._runtime.thread_limits import Threads
    from fastpool._runtime.worker_context import Hook

    Array = ndarray[Any, Any]
    _S = TypeVar("_S")
    _T = TypeVar("_T")

__all__ = ["Pool"]

_NO_KWDS: Mapping[str, Any] = {}


class Pool(stdlib.Pool):
    """A pool of worker processes, called like :class:`multiprocessing.pool.Pool`.

    Parameters
    ----------
    processes : int, optional
        Number of workers. By default as many as this process may use CPUs: those in its affinity
        mask, or less when a cgroup's CPU quota (a container's limit) is smaller.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` when a worker starts. If it raises, the pool fails:
        that exception comes out of every pending and later call.
    initargs : iterable
        Arguments of the initializer.
    maxtasksperchild : int, optional
        A worker is replaced after so many tasks (chunks count as one).
    context : multiprocessing context, optional
        Decides how workers start: ``multiprocessing.get_context("fork" | "spawn" | "forkserver")``.
        By default the interpreter's default.
    affinity : None, "compact", "scatter", "auto", or sequence of CPU sets
        Pins each worker: near one another, far apart, or to the given sets of CPU numbers;
        ``"auto"`` is compact when every worker can have a CPU of its own, and else no pinning.
    blocktime : float, optional
        Seconds that an idle worker, and a thread that waits for a result, spin before they sleep;
        they yield the CPU to any other process meanwhile. By default it adapts to the pace of the
        program, up to 5 ms. 0 sleeps at once.
    memory : int, optional
        Bytes of unused shared memory that the pool's processes keep for reuse, all together; the
        rest goes back to the system. It bounds nothing else: what is larger travels too. By default
        a sixteenth of the machine's memory, or of what a cgroup leaves this process.
    on_worker_death : "raise" or "retry"
        What becomes of the item that a worker ran when it died: it fails with
        :class:`~fastpool.WorkerDiedError`, or is tried again once. Other items of its chunk are
        not lost, and those that were done do not run again; only where tasks return what others
        hold too, or what has to be pickled, the last short ones may, and large ones (4 MiB in all).
    retries : int, optional
        Try such an item again so often before it fails.
    max_memory_per_child : int, optional
        A worker is replaced when it has, after a task, so many bytes of memory of its own more than
        it began with.
    daemon : bool
        Whether workers are daemonic processes, which may not have children. With False, tasks can
        make pools of their own. Nobody is left behind in either case.
    worker_init : callable, optional
        Called as ``worker_init(worker)`` when a worker starts, after `initializer`; `worker` is its
        :class:`~fastpool.WorkerContext`. If it raises, the pool fails as with `initializer`.
    worker_exit : callable, optional
        Called as ``worker_exit(worker)`` when a worker has done its last task: when the pool is
        closed, the worker replaced, or the pool made smaller; not when it is killed or the pool is
        terminated. :meth:`exit_results` has what it returned. With `worker_init` or `worker_exit`,
        a replacement starts when its predecessor has ended, and not before.
    threads_per_worker : int or "auto", optional
        How many threads BLAS, OpenMP and their like use in a worker; ``"auto"`` shares out the
        CPUs. Where such libraries are loaded before a worker starts (with ``fork``: in this
        process), this needs `threadpoolctl`, which ``pip install 'fastpool[threads]'`` brings.
    logging : "forward", optional
        What workers log is handled in this process, by the logger of the same name.
    warnings : "inherit", optional
        Workers have the warning filters of this process, as forked ones have in any case.
    context_vars : iterable of contextvars.ContextVar, optional
        What these are where a call is made, they are in its tasks. With ``spawn`` and
        ``forkserver`` they have to be globals of modules.
    serializer : "pickle", "cloudpickle", "dill", "auto", or object with dumps() and loads()
        What pickles functions, arguments and results. ``"cloudpickle"`` and ``"dill"`` send
        lambdas, closures and what is defined in ``__main__`` by value; ``"auto"`` does so only
        where pickle can't.
    seed : int, sequence of int, or numpy.random.SeedSequence, optional
        Each item of each call has random streams of its own, made from this, the number of the
        call, and the index of the item: those of :mod:`random`, of ``numpy.random``, and the
        generator :func:`fastpool.rng`. So results are the same for any number of workers and any
        chunks. Without it, workers draw different numbers.

    Raises
    ------
    ValueError
        If `processes`, `maxtasksperchild`, `affinity`, `blocktime`, `memory`, `on_worker_death`,
        `retries`, `max_memory_per_child` or `threads_per_worker` is out of range, `logging` or
        `warnings` is not what it may be, a worker could not find one of `context_vars`, no
        `serializer` has that name, or `seed` is negative.
    TypeError
        If `initializer` is not callable, `context` is something else, `worker_init` or
        `worker_exit` can't be called with one argument, `context_vars` has something else in it, a
        number or `seed` is of a wrong type, or `serializer` has no ``dumps()`` and ``loads()``.
    ImportError
        If `threads_per_worker` needs `threadpoolctl`, or the package of `serializer` is not
        installed.
    AssertionError
        In a daemonic process, which may not have children.
    OSError, MemoryError
        If the system grants no process, descriptor or memory.

    Notes
    -----
    ``with Pool() as pool`` terminates the pool at its end, as in the standard library; call
    :meth:`close` and :meth:`join` where asynchronous calls shall run to their end.

    Workers that die are replaced. The item that a dead worker ran fails with
    :class:`fastpool.WorkerDiedError`, or is tried again; nothing else is disturbed, and nothing
    waits for ever.

    Examples
    --------
    >>> from fastpool import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        affinity: Affinity = None,
        blocktime: float | None = None,
        memory: int | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        retries: int | None = None,
        max_memory_per_child: int | None = None,
        daemon: bool = True,
        worker_init: Hook | None = None,
        worker_exit: Hook | None = None,
        threads_per_worker: Threads = None,
        logging: Literal["forward"] | None = None,
        warnings: Literal["inherit"] | None = None,
        context_vars: Iterable[ContextVar[Any]] | None = None,
        serializer: Literal["pickle", "cloudpickle", "dill", "auto"] | OwnSerializer = "pickle",
        seed: int | Sequence[int] | SeedSequence | None = None,
    ) -> None:
        # Not super().__init__(): it would start the standard library's machinery.
        self._engine: Engine | None = None
        self._final_state = "INIT"
        # Here, so that who only imports this module waits for none of it.
        with no_fork():
            from fastpool._runtime.engine import Engine
            from fastpool._runtime.options import check_context, check_options
            from fastpool._runtime.thread_limits import check_controller

        options = check_options(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            affinity,
            blocktime,
            memory,
            on_worker_death,
            retries,
            max_memory_per_child,
            daemon,
            worker_init=worker_init,
            worker_exit=worker_exit,
            threads_per_worker=threads_per_worker,
            logging=logging,
            warnings=warnings,
            context_vars=context_vars,
            serializer=serializer,
            seed=seed,
        )
        self._ctx = context or multiprocessing.get_context()
        check_context("context", self._ctx)
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        self._wrap_exception = True
        if threads_per_worker is not None and self._ctx.get_start_method() == "fork":
            check_controller()  # what is loaded here will be in workers: so an error can come here
        engine = Engine(
            _process_factory(type(self), self._ctx),
            self._ctx.get_start_method(),
            options,
        )
        self._dispatcher = engine.dispatcher
        self._pool = engine.processes
        self._cache = JobCache(engine)
        self._taskqueue = TaskQueue(engine, _submit_through(engine), self._cache)
        self._worker_handler = HandlerThread(engine, "worker handler")
        self._task_handler = HandlerThread(engine, "task handler")
        self._result_handler = HandlerThread(engine, "result handler")
        # Before anything runs: when all does, a signal handler may raise, and nobody has the pool.
        self._terminate = util.Finalize(self, engine.terminate, exitpriority=15)
        engine.start()
        self._engine = engine

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # Not by the state, as in the standard library: a pool in a cycle, or at the interpreter's
        # end, has been terminated by its finalizer before this is called.
        engine = getattr(self, "_engine", None)
        if engine is not None and not engine.was_ended:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    # ---- one call ------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NO_KWDS,
    ) -> _T:
        """Call ``func(*args, **kwds)`` in a worker and return its result.

        Parameters
        ----------
        func : callable
        args : iterable
            Positional arguments.
        kwds : mapping
            Keyword arguments.

        Returns
        -------
        object
            What `func` returned.

        Raises
        ------
        ValueError
            If the pool is not running.
        Exception
            What `func` raised, with a ``RemoteTraceback`` as its cause; what pickling raised;
            :class:`~fastpool.WorkerDiedError` if the worker died.
        """
        return self._dispatcher.apply(func, args, kwds)

    def apply_async(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NO_KWDS,
        callback: Callable[[_T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> ApplyResult[_T]:
        """Call ``func(*args, **kwds)`` in a worker; return a result object at once.

        Arguments are pickled before this returns; an error of pickling comes out of ``get()``.

        Parameters
        ----------
        func : callable
        args : iterable
            Positional arguments.
        kwds : mapping
            Keyword arguments.
        callback : callable, optional
            Called with the result, in the pool's background thread, before the result object
            becomes ready. If it raises, :func:`threading.excepthook` shows that, and all goes on.
        error_callback : callable, optional
            Called with the exception in the same way.
        timeout : float, optional
            Seconds that the call may take, from the moment that a worker begins it. Then it is
            stopped, and fails with :class:`~fastpool.TaskTimeoutError`.

        Returns
        -------
        AsyncResult
            With ``get(timeout=None)``, ``wait(timeout=None)``, ``ready()``, ``successful()``,
            ``cancel(kill=False)`` and ``cancelled()``.

        Raises
        ------
        ValueError
            If the pool is not running, or `timeout` is not positive.
        TypeError
            If `timeout` is no number.
        """
        if timeout is None:
            return self._dispatcher.apply_async(
                ApplyResult, self, func, args, kwds, callback, error_callback
            )
        limit = check_timeout(timeout)
        return self._dispatcher.apply_async(
            ApplyResult, self, func, args, kwds, callback, error_callback, False, limit
        )

    # ---- many calls ----------------------------------------------------------------------------

    def map(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        *,
        out: Array | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: Asked = None,
    ) -> list[_T]:
        """Call `func` on each item in the workers and return the list of results.

        Parameters
        ----------
        func : callable
            Called with one item.
        iterable : iterable
            Read to its end before the first call, unless it is a list, tuple, range or NumPy array.
        chunksize : int, optional
            Send so many items as one task. By default chunks begin large and get smaller, so that
            uneven work ends together.
        out : numpy.ndarray of shape (items, ...), optional
            Takes the results instead of a list: result i is stored in ``out[i]``.
        timeout : float, optional
            Seconds that each item may take, from the moment that a worker begins it. An item that
            takes longer is stopped, and fails with :class:`~fastpool.TaskTimeoutError`.
        return_exceptions : bool
            An exception is the result of its item: all items run, and nothing is raised.
        progress : bool, str, or callable, optional
            Show how many items are done: True a bar (of tqdm's), a str one with this description.
            A callable is called as ``progress(done, total)`` in the calling thread, at most ten
            times a second, and with the last numbers at the end.

        Returns
        -------
        list
            The results in the order of the items; or `out`.

        Raises
        ------
        ValueError
            If the pool is not running; if `out` has another length, is read-only, or is given with
            `return_exceptions`; if `timeout` is not positive.
        TypeError
            If `out` is no array, `timeout` no number, or `progress` is none of the above.
        ImportError
            If tqdm is needed and not installed.
        Exception
            The first exception that a chunk raised, when all chunks are done. An exception ends
            its chunk.
        """
        display = None if progress is None else display_for(progress)
        result = start_map(
            self._engine,
            self,
            func,
            iterable,
            chunksize,
            False,
            None,
            None,
            display is None,
            out,
            timeout,
            return_exceptions,
            False,
        )
        if display is not None:
            from fastpool._runtime.progress import follow

            return follow(display, self._dispatcher, result)
        return result._get_or_drop()

    def map_async(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        out: Array | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
    ) -> MapResult[_T]:
        """Like :meth:`map`, but return a result object at once."""
        return start_map(
            self._engine,
            self,
            func,
            iterable,
            chunksize,
            False,
            callback,
            error_callback,
            False,
            out,
            timeout,
            return_exceptions,
            False,
        )

    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        out: Array | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: Asked = None,
    ) -> list[_T]:
        """Like :meth:`map`, but call ``func(*item)`` for each item."""
        display = None if progress is None else display_for(progress)
        result = start_map(
            self._engine,
            self,
            func,
            iterable,
            chunksize,
            True,
            None,
            None,
            display is None,
            out,
            timeout,
            return_exceptions,
            False,
        )
        if display is not None:
            from fastpool._runtime.progress import follow

            return follow(display, self._dispatcher, result)
        return result._get_or_drop()

    def starmap_async(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        out: Array | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
    ) -> MapResult[_T]:
        """Like :meth:`starmap`, but return a result object at once."""
        return start_map(
            self._engine,
            self,
            func,
            iterable,
            chunksize,
            True,
            callback,
            error_callback,
            False,
            out,
            timeout,
            return_exceptions,
            False,
        )

    def imap(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: Asked = None,
    ) -> IMapIterator[_T]:
        """Call `func` on each item; return an iterator over the results, in the items' order.

        The iterable is read as room becomes free: at most a few thousand items are in flight or
        unread, fewer when they or their results are large, so it may be endless. After
        :meth:`close` everything runs to its end, whether somebody reads the results or not.

        Parameters
        ----------
        func : callable
            Called with one item.
        iterable : iterable
            Read in a thread of the pool, unless it is a list, tuple or range.
        chunksize : int
            Send so many items as one task.
        buffersize : int, optional
            Most tasks whose results have not been handed out (as in Python 3.16). With it,
            :meth:`close` stops the reading of the iterable.
        timeout : float, optional
            Seconds that each item may take, as in :meth:`map`.
        progress : bool, str, or callable, optional
            As in :meth:`map`, in the thread that asks for results, when it does; `total` is None if
            `iterable` has no length.

        Returns
        -------
        IMapIterator
            It has ``next(timeout=None)`` and ``cancel(kill=False)`` too, and goes on after an
            exception; one that the iterable raised comes after the results of all items before it.

        Raises
        ------
        ValueError
            If the pool is not running, `chunksize` or `buffersize` is below 1, or `timeout` is not
            positive.
        TypeError
            If `buffersize` is neither None nor an integer, `timeout` no number, or `progress` is
            none of the above.
        ImportError
            If tqdm is needed and not installed.
        """
        return start_stream(
            self._engine,
            self,
            IMapIterator,
            func,
            iterable,
            chunksize,
            buffersize,
            False,
            timeout,
            progress,
        )

    def imap_unordered(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: Asked = None,
    ) -> IMapUnorderedIterator[_T]:
        """Like :meth:`imap`, with the results in the order in which they come."""
        return start_stream(
            self._engine,
            self,
            IMapUnorderedIterator,
            func,
            iterable,
            chunksize,
            buffersize,
            False,
            timeout,
            progress,
        )

    def istarmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: Asked = None,
    ) -> IMapIterator[_T]:
        """Like :meth:`imap`, but call ``func(*item)`` for each item."""
        return start_stream(
            self._engine,
            self,
            IMapIterator,
            func,
            iterable,
            chunksize,
            buffersize,
            True,
            timeout,
            progress,
        )

    def istarmap_unordered(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: Asked = None,
    ) -> IMapUnorderedIterator[_T]:
        """Like :meth:`istarmap`, with the results in the order in which they come."""
        return start_stream(
            self._engine,
            self,
            IMapUnorderedIterator,
            func,
            iterable,
            chunksize,
            buffersize,
            True,
            timeout,
            progress,
        )

    # ---- arrays --------------------------------------------------------------------------------

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = float) -> Array:
        """Return a new array in the pool's shared memory, not filled.

        Such an array, and every view of it (not of a subclass), goes to a task and comes back as a
        reference: nothing is copied, and what a task writes, the parent and all other tasks see.
        Its memory is given back when the last array over it is gone, in whichever process; it
        outlives the pool.

        Parameters
        ----------
        shape : int or sequence of int
        dtype : data type, optional

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        ValueError
            If the pool is not running, or `dtype` contains Python objects.
        MemoryError
            If there is not so much memory.
        ImportError
            If NumPy is not installed.

        Examples
        --------
        >>> from fastpool import Pool
        >>> with Pool(2) as pool:
        ...     a = pool.empty(4)
        ...     pool.apply(a.fill, (7.0,))
        ...     a.tolist()
        [7.0, 7.0, 7.0, 7.0]
        """
        self._check_running()
        return array_work.new_array(self._running_engine().exchange, shape, dtype)

    def zeros(self, shape: int | Sequence[int], dtype: DTypeLike = float) -> Array:
        """Like :meth:`empty`, filled with zeros."""
        self._check_running()
        return array_work.new_array(self._running_engine().exchange, shape, dtype, zeroed=True)

    def copy_to_shared(self, array: ArrayLike) -> Array:
        """Return a copy of an array in the pool's shared memory, as :meth:`empty` makes them.

        Parameters
        ----------
        array : array_like
            Of any shape, and any dtype without Python objects.

        Returns
        -------
        numpy.ndarray
            Of the same shape and dtype, in C order.
        """
        self._check_running()
        return array_work.copy_array(self._running_engine().exchange, array)

    def map_blocks(
        self,
        func: Callable[..., Any],
        *arrays: ArrayLike,
        out: Array | None = None,
        axis: int = 0,
        blocks: int | None = None,
    ) -> Any:
        """Call `func` on consecutive blocks of arrays in the workers: a parallel loop over arrays.

        Parameters
        ----------
        func : callable
            Called as ``func(*parts)``, with a view of each array.
        *arrays : array_like
            Of the same length along `axis`. Those that :meth:`empty` made are not copied, and
            `func` may write into them.
        out : numpy.ndarray, optional
            Takes the results: the part of `out` that belongs to a block is set to what `func`
            returns for it. If it is a shared array, the worker writes into it; then it may be one
            of `arrays`, but no other part of one.
        axis : int
            The axis to split.
        blocks : int, optional
            How many blocks; by default one for each worker. More blocks even out work of uneven
            cost.

        Returns
        -------
        numpy.ndarray or list or None
            `out` if it was given. Else the arrays that `func` returned, joined along `axis` if they
            have it; None if it always returned None; otherwise the list of what it returned.

        Raises
        ------
        TypeError
            If there is no array, or `out` is none, or `blocks` is no integer.
        ValueError
            If lengths along `axis` differ, `blocks` is below 1, `out` is read-only, or the pool is
            not running. An axis that an array does not have is a ``numpy.exceptions.AxisError``.
        Exception
            What `func` raised.

        Examples
        --------
        >>> import numpy as np
        >>> from fastpool import Pool
        >>> with Pool(2) as pool:
        ...     pool.map_blocks(np.sqrt, np.array([1.0, 4.0, 9.0])).tolist()
        [1.0, 2.0, 3.0]
        """
        self._check_running()
        engine = self._running_engine()

        def run(function: Callable[..., Any], items: list[Any], fill: bool) -> list[Any]:
            return start_map(
                engine, self, function, items, 1, True, None, None, True, None, None, False, fill
            )._get_or_drop()

        return array_work.map_blocks(
            run, engine.exchange, engine.wanted, func, arrays, out, axis, blocks
        )

    # ---- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls; the workers leave when everything submitted is done."""
        self._running_engine().close()

    def terminate(self) -> None:
        """Drop what is queued, stop the workers at once, and wait until they are gone.

        Pending results raise :class:`~fastpool.PoolTerminatedError`. May be called from any thread,
        and from a callback.
        """
        engine = self._running_engine()
        engine.was_ended = True
        engine.terminate()
        self._terminate.cancel()

    def join(self) -> None:
        """Wait for the workers to leave; call :meth:`close` or :meth:`terminate` before.

        Raises
        ------
        ValueError
            If the pool is still running.
        """
        if self._state == stdlib.RUN:
            raise ValueError("Pool is still running")
        if self._state not in (stdlib.CLOSE, stdlib.TERMINATE):
            raise ValueError("In unknown state")
        self._running_engine().join()

    def resize(self, processes: int) -> None:
        """Have another number of workers.

        New ones start at once. Those that are too many leave, idle ones first; one that runs a task
        finishes it.

        Parameters
        ----------
        processes : int
            At most twice the number that the pool began with, or twice the number of CPUs that this
            process may use, whichever is more.

        Raises
        ------
        ValueError
            If `processes` is out of range, or the pool is not running.
        OSError, MemoryError
            If the system grants no process, descriptor or memory.
        """
        self._running_engine().resize(processes)

    def workers(self) -> list[WorkerInfo]:
        """Return what each worker is doing.

        Returns
        -------
        list of WorkerInfo
            Each with ``pid``, ``name``, ``cpus``, ``state`` and ``tasks_done``.
        """
        return self._running_engine().workers()

    def exit_results(self, *, return_exceptions: bool = False) -> list[Any]:
        """Return what `worker_exit` returned in each worker; call :meth:`join` before.

        Parameters
        ----------
        return_exceptions : bool
            An exception is the result of its worker, as in :meth:`map`.

        Returns
        -------
        list
            By worker id; of a worker and its replacements in the order in which they ended. A
            worker that was killed, or died by itself, has no result.

        Raises
        ------
        ValueError
            If the pool still has workers.
        Exception
            The first exception that `worker_exit` raised.

        Examples
        --------
        >>> from operator import attrgetter
        >>> from fastpool import Pool
        >>> pool = Pool(2, worker_exit=attrgetter("id"))
        >>> pool.close()
        >>> pool.join()
        >>> pool.exit_results()
        [0, 1]
        """
        engine = self._running_engine()
        if engine.is_alive():
            raise ValueError("the pool still has workers: close() and join() it before")
        return engine.exit_results.get(return_exceptions)

    def stats(self) -> PoolStats:
        """Return how much shared memory is in use, and what was not copied.

        Returns
        -------
        PoolStats
            With ``bytes_in_use``, ``blocks_in_use``, ``bytes_warm``, ``bytes_peak``,
            ``copies_avoided`` and ``bytes_not_copied``.
        """
        return self._running_engine().stats()

    # ---- inside --------------------------------------------------------------------------------

    def _running_engine(self) -> Engine:
        if self._engine is None:
            raise ValueError("Pool not running")
        return self._engine

    @property
    def _state(self) -> str:
        if self._engine is None:
            return self._final_state
        return self._engine.state

    @_state.setter
    def _state(self, state: str) -> None:
        if self._engine is not None:
            self._engine.set_state(state)

    @property
    def _processes(self) -> int:
        return self._running_engine().wanted

    @_processes.setter
    def _processes(self, processes: int) -> None:
        self._running_engine().wanted = processes

    def _check_running(self) -> None:
        if self._state != stdlib.RUN:
            raise ValueError("Pool not running")

    def _repopulate_pool(self) -> None:
        self._running_engine().repopulate()

    def _maintain_pool(self) -> None:
        self._running_engine().repopulate()

    def __repr__(self) -> str:
        kind = type(self)
        return (
            f"<{kind.__module__}.{kind.__qualname__} state={self._state} "
            f"pool_size={len(self.__dict__.get('_pool', ()))}>"
        )


def _process_factory(kind: type[Pool], context: Any) -> Callable[..., BaseProcess]:
    """What makes a worker's process object: ``Process`` of the pool class, or of a subclass."""
    process: Any = kind.Process
    if isinstance(process, type):  # an old recipe: `Process = NoDaemonProcess` in the class
        return process
    return functools.partial(process, context)


def _submit_through(engine: Engine) -> Callable[..., Any]:
    """``apply_async`` that also works while the pool is closing, and holds no pool."""

    def submit(
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[Any], object],
        error_callback: Callable[[Any], object],
    ) -> Any:
        return engine.dispatcher.apply_async(
            ApplyResult, None, func, args, kwds, callback, error_callback, late=True
        )

    return submit
