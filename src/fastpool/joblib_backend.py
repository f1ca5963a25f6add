"""The backend for joblib: ``joblib.parallel_config(backend="fastpool")``.

Importing this module registers it; so does :func:`fastpool.register_joblib_backend`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import joblib
except ImportError as error:
    raise ImportError(
        "the backend for joblib needs joblib: pip install 'fastpool[joblib]'", name="joblib"
    ) from error

from fastpool import _fallback

if TYPE_CHECKING or _fallback.REASON is None:
    from fastpool._joblib.backend import FastpoolBackend, end_pool
else:
    from fastpool._standard.joblib_backend import FastpoolBackend, end_pool

__all__ = ["FastpoolBackend", "end_pool"]


def register(make_default: bool) -> None:
    """Make the name known to joblib; :func:`fastpool.register_joblib_backend` for programs."""
    joblib.register_parallel_backend("fastpool", FastpoolBackend, make_default=make_default)


register(make_default=False)
