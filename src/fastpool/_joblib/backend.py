"""The backend for joblib, over a pool of fastpool's."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from multiprocessing.process import current_process
from typing import Any

try:
    import joblib
except ImportError as error:
    raise ImportError(
        "the backend for joblib needs joblib: pip install 'fastpool[joblib]'", name="joblib"
    ) from error
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    mp,
)

from fastpool._joblib import threads
from fastpool._joblib.arrays import Shelf
from fastpool._joblib.parcels import Raised, pack_batch, run_batch
from fastpool._joblib.standing import Lease, Settings, end_pool, lease_pool

if not hasattr(ParallelBackendBase, "supports_retrieve_callback"):
    raise ImportError(f"fastpool's backend needs joblib 1.3 or newer, not {joblib.__version__}")

__all__ = ["FastpoolBackend", "end_pool"]

#: Idle workers stay for so many seconds, as loky's do.
IDLE_SECONDS = 300.0


class FastpoolBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the tasks of :class:`joblib.Parallel` on a :class:`fastpool.Pool` that is kept.

    joblib makes it; what is given to ``parallel_config(backend="fastpool", ...)`` comes here, and
    so does what is given to ``Parallel(backend="fastpool", ...)`` beyond joblib's own arguments.

    Parameters
    ----------
    nesting_level, inner_max_num_threads : int, optional
        joblib's own.
    context : multiprocessing context or str, optional
        How workers start; by default as joblib says: the variable ``JOBLIB_START_METHOD``, or the
        interpreter's default.
    idle_worker_timeout : float
        The workers end when nobody has used them for so many seconds.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` when a worker starts.
    initargs : tuple
    **pool_options
        Further arguments of :class:`fastpool.Pool`, such as `affinity` or `retries`.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = options
        self.parallel: Any = None
        self._call: _Call | None = None

    # ---- how many ------------------------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers `n_jobs` means.

        Raises
        ------
        ValueError
            If it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if mp is None or n_jobs is None:
            return 1  # JOBLIB_MULTIPROCESSING=0
        reason = self._why_sequential()
        if reason is not None:
            if n_jobs != 1:
                warnings.warn(f"{reason}, setting n_jobs=1", stacklevel=3)
            return 1
        if n_jobs < 0:
            return int(max(joblib.cpu_count() + 1 + n_jobs, 1))
        return n_jobs

    def _why_sequential(self) -> str | None:
        if current_process().daemon:
            return "fastpool workers cannot be started by a daemonic process"
        if not (self.in_main_thread() or self.nesting_level == 0):
            return "fastpool-backed parallel loops cannot be nested below threads"
        return None

    # ---- a call's life -------------------------------------------------------------------------

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        max_nbytes: int | None = 1 << 20,
        mmap_mode: str | None = "r",
        temp_folder: str | None = None,
        verbose: int = 0,
        context: BaseContext | None = None,
        **options: Any,
    ) -> int:
        """Have the pool ready; returns the number of workers.

        Raises
        ------
        FallbackToBackend
            For one job, which needs no worker.
        TypeError, ValueError, OSError, MemoryError
            What :class:`fastpool.Pool` raises.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self.parallel is not parallel:
            # All calls under one parallel_config() get the same backend, and generators have
            # several of them run at a time: each Parallel goes on with a backend of its own.
            own = type(self)(self.nesting_level, self.inner_max_num_threads, **self._options)
            own.parallel = parallel
            raise FallbackToBackend(own)
        options = {"context": context, **self._options, **options}
        idle_seconds = options.pop("idle_worker_timeout", None)
        lease = lease_pool(
            n_jobs, _settings(options), IDLE_SECONDS if idle_seconds is None else idle_seconds
        )
        self._call = _Call(
            parallel,
            lease,
            Shelf(lease.pool, max_nbytes, mmap_mode),
            threads.encode(self._prepare_worker_env(n_jobs)),
        )
        return n_jobs

    def start_call(self) -> None:
        """Begin to take tasks."""
        if self._call is not None:
            self._call.begin()

    def submit(
        self, func: Callable[[], list[Any]], callback: Callable[[Any], object] | None = None
    ) -> Any:
        """Send a batch; `callback` gets its results, or the exception."""
        call = self._call
        if call is None:
            raise RuntimeError("this Parallel has ended: nothing can be sent any more")
        return call.submit(func, callback)

    #: What joblib before 1.5 calls.
    apply_async = submit

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return what a callback was given, or raise it."""
        if isinstance(out, BaseException):
            raise out
        return out

    @contextlib.contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Wait until a list of results is complete, where joblib would look every 10 ms."""
        if self._call is not None:
            self._call.wait()
        yield

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is under way, and stop what runs of it."""
        if self._call is not None:
            self._call.abort()

    def terminate(self) -> None:
        """Leave the pool to others; it stays for the next call."""
        if self._call is not None:
            self._call.end()
            self._call = None
        self.reset_batch_stats()


class _Call:
    """What a ``Parallel`` has under way, from its beginning to its end.

    joblib's callbacks take results and read further tasks from the program's iterator. That is code
    of the program's, which may make calls of its own, so it must not hold up the pool's thread: it
    runs in the thread that waits for a list of results, and for a generator in one of its own.
    """

    def __init__(self, parallel: Any, lease: Lease, shelf: Shelf, variables: str) -> None:
        self._parallel = parallel
        self._pool = lease.pool
        self._shelf = shelf
        self._variables = variables
        self._jobs: dict[object, Any] = {}  # a batch's token -> its result object
        self._outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._has_thread = parallel.return_generator or parallel.timeout is not None
        if self._has_thread:
            threading.Thread(target=self._run, name="fastpool-joblib", daemon=True).start()
        self._lease = lease
        # Also where nobody ends it, the pool must not count on this call for ever.
        self._dropped = weakref.finalize(parallel, _drop, lease, self._outcomes)
        self._dropped.atexit = False

    def begin(self) -> None:
        """One of the calls begins that a ``Parallel`` makes as a context manager."""
        self._shelf.begin()

    def submit(
        self, batch: Callable[[], list[Any]], callback: Callable[[Any], object] | None
    ) -> Any:
        """Send a batch."""
        token = object()
        self._jobs[token] = None
        outcomes = self._outcomes
        try:
            parcel = pack_batch(batch, self._shelf)

            def done(outcome: Any) -> None:
                outcomes.put((token, callback, outcome, parcel.held))

            job = self._pool.apply_async(run_batch, (parcel, self._variables), {}, done, done)
        except Exception as error:
            outcomes.put((token, callback, error, None))
            return None
        if token in self._jobs:
            self._jobs[token] = job
        if self._parallel._aborting:  # since the caller looked
            job.cancel(kill=True)
        return job

    def wait(self) -> None:
        """Wait until nothing is under way, or something has failed."""
        if not self._has_thread:
            while self._jobs and not self._parallel._aborting:
                self._hand_on(*self._outcomes.get())

    def _run(self) -> None:
        while (item := self._outcomes.get()) is not None:
            try:
                self._hand_on(*item)
            except BaseException as error:
                # The program's iterator raised what is no Exception, which joblib lets pass: it has
                # to hear of it as of a failed batch, or it would wait for ever.
                batch = type(item[1])(time.time(), 0, self._parallel)
                self._parallel._register_new_job(batch)
                batch(error)

    def _hand_on(self, token: object, callback: Any, outcome: Any, held: list[Any] | None) -> None:
        """Give an outcome to joblib, which then sends more; `held` may go afterwards."""
        if type(outcome) is Raised:
            outcome = outcome.error
        if callback is not None:
            callback(outcome)
        self._jobs.pop(token, None)

    def abort(self) -> None:
        """Cancel what is under way, and stop what runs."""
        for job in list(self._jobs.values()):
            if job is not None:
                job.cancel(kill=True)

    def end(self) -> None:
        """Leave the pool."""
        self._dropped()
        self._lease.end()


def _drop(lease: Lease, outcomes: queue.SimpleQueue[Any]) -> None:
    """Whatever thread this is, and whatever it was doing: a call is over."""
    lease.is_over = True
    outcomes.put(None)


def _settings(options: dict[str, Any]) -> Settings:
    context = options.pop("context")
    if context is None or isinstance(context, str):
        context = get_context(context)
    elif context.get_start_method() == "loky":
        # The default in loky's workers. New interpreters would be told of it, and don't know it.
        context = get_context("fork")
    return Settings(
        context,
        options.pop("initializer", None),
        tuple(options.pop("initargs", ())),
        options,
    )
