"""The future of an executor: the core's, and the standard library's to everyone who asks."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures._base import FINISHED, LOGGER
from concurrent.futures.process import (
    BrokenProcessPool,
    _RemoteTraceback,
)
from multiprocessing import pool as stdlib
from typing import TYPE_CHECKING, Any, TypeVar

from fastpool._core._futures import FutureJob
from fastpool.errors import PoolTerminatedError, WorkerDiedError

T = TypeVar("T")


class BrokenWorkerError(WorkerDiedError, BrokenProcessPool):
    """A :class:`fastpool.WorkerDiedError` that handlers of ``BrokenProcessPool`` catch, too.

    Only the call that the worker ran fails; the executor replaces the worker and goes on.
    """


class WorkersTerminatedError(PoolTerminatedError, BrokenProcessPool):
    """The executor's workers were terminated before the call had ended."""


class Future(FutureJob, concurrent.futures.Future[T]):
    """The result of :meth:`ProcessPoolExecutor.submit`: a :class:`concurrent.futures.Future`.

    ``result()`` and ``exception()`` read what the workers have sent in the calling thread;
    callbacks, ``concurrent.futures.wait()`` and ``as_completed()`` are served by the executor's
    background thread.
    """

    death_error = BrokenWorkerError

    def __repr__(self) -> str:
        # The standard library's takes the condition, and so would have one made.
        state = "cancelled" if self.cancelled() else self._state.lower()
        outcome = ""
        if self._state == FINISHED and not self.cancelled():
            error = self._exception
            outcome = f" raised {type(error).__name__}"
            if error is None:
                outcome = f" returned {type(self._result).__name__}"
        return f"<{type(self).__name__} at {id(self):#x} state={state}{outcome}>"

    def _call(self, fn: Callable[[Any], object]) -> None:
        """Call a callback that came late."""
        try:
            fn(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    @staticmethod
    def _error_of(error: BaseException, fatal: bool) -> BaseException:
        """The exception of a future in the place of a pool's; `fatal`: every call gets this one."""
        if not fatal:
            return _as_executors_have_it(error)
        if isinstance(error, PoolTerminatedError):
            return WorkersTerminatedError("the workers were terminated before the call had ended")
        broken: BaseException = BrokenProcessPool(f"the workers can't run: {error!r}")
        broken.__cause__ = error
        return broken

    if TYPE_CHECKING:

        def result(self, timeout: float | None = None) -> T: ...


def _as_executors_have_it(error: BaseException) -> BaseException:
    """What a call raised, as a ``ProcessPoolExecutor`` tells it."""
    if isinstance(error, stdlib.MaybeEncodingError):  # type: ignore[attr-defined]
        reason: BaseException | None = getattr(error, "reason", None)
        if reason is not None:
            reason.__cause__ = error
            return reason
    cause = error.__cause__
    if isinstance(cause, stdlib.RemoteTraceback):  # type: ignore[attr-defined]
        error.__cause__ = _RemoteTraceback(cause.tb)
    return error
