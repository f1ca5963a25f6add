"""A process pool whose dispatch costs microseconds: ``from fastpool import Pool``.

It replaces ``from multiprocessing import Pool``; nothing else in a program changes.
"""

from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

from fastpool._joblib.register import register_joblib_backend
from fastpool._runtime.lifecycle import WorkerContext, current_worker
from fastpool._runtime.reports import WorkerInfo
from fastpool._runtime.results import ApplyResult, AsyncResult, IMapIterator, MapResult
from fastpool._version import __version__
from fastpool.errors import (
    FastpoolError,
    PoolTerminatedError,
    RemoteError,
    TaskCancelledError,
    TaskTimeoutError,
    TimeoutError,
    WorkerDiedError,
)
from fastpool.pool import Pool

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "FastpoolError",
    "IMapIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "PoolTerminatedError",
    "RemoteError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TimeoutError",
    "WorkerContext",
    "WorkerDiedError",
    "WorkerInfo",
    "__version__",
    "current_worker",
    "register_joblib_backend",
]
