"""A process pool whose dispatch costs microseconds: ``from fastpool import Pool``.

It replaces ``from multiprocessing import Pool``; nothing else in a program changes.
"""

from __future__ import annotations

import importlib
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

from fastpool import _fallback
from fastpool._version import __version__
from fastpool.errors import (
    FallbackWarning,
    FastpoolError,
    PoolTerminatedError,
    RemoteError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerDiedError,
)

TYPE_CHECKING = False  # typing itself is not loaded for this

if TYPE_CHECKING or _fallback.REASON is None:
    from fastpool._runtime.results import ApplyResult, AsyncResult, IMapIterator, MapResult
    from fastpool.errors import TimeoutError
    from fastpool.pool import Pool
else:
    from multiprocessing import TimeoutError
    from multiprocessing.pool import ApplyResult, AsyncResult, IMapIterator, MapResult

    from fastpool._standard.pool import Pool

if TYPE_CHECKING:
    from typing import Any

    from fastpool._joblib.register import register_joblib_backend
    from fastpool._runtime.reports import PoolStats, WorkerInfo
    from fastpool._runtime.seeds import rng
    from fastpool._runtime.worker_context import WorkerContext, current_worker
    from fastpool._unchanged.stand_in import install, uninstall
    from fastpool.executor import ProcessPoolExecutor

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "FallbackWarning",
    "FastpoolError",
    "IMapIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "PoolStats",
    "PoolTerminatedError",
    "ProcessPoolExecutor",
    "RemoteError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TimeoutError",
    "WorkerContext",
    "WorkerDiedError",
    "WorkerInfo",
    "__version__",
    "current_worker",
    "install",
    "register_joblib_backend",
    "rng",
    "uninstall",
]

# What not every program asks for is imported when it is.
_LATER = {
    "PoolStats": "fastpool._runtime.reports",
    "ProcessPoolExecutor": "fastpool.executor",
    "WorkerContext": "fastpool._runtime.worker_context",
    "WorkerInfo": "fastpool._runtime.reports",
    "current_worker": "fastpool._runtime.worker_context",
    "install": "fastpool._unchanged.stand_in",
    "register_joblib_backend": "fastpool._joblib.register",
    "rng": "fastpool._runtime.seeds",
    "uninstall": "fastpool._unchanged.stand_in",
}
if _fallback.REASON is not None:
    _LATER.update(
        ProcessPoolExecutor="fastpool._standard.executor",
        install="fastpool._standard.stand_in",
        uninstall="fastpool._standard.stand_in",
    )


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
