"""joblib's own backend of processes, under the name of fastpool's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib.parallel import LokyBackend

from fastpool import _fallback
from fastpool._standard.needs import check_pool_arguments


class FastpoolBackend(LokyBackend):  # type: ignore[misc]
    """joblib's default backend, loky, where fastpool has no native core.

    Parameters
    ----------
    nesting_level, inner_max_num_threads : int, optional
        joblib's own.
    context, daemon
        Ignored: loky has a way of its own to start workers.
    idle_worker_timeout : float, optional
    initializer : callable, optional
    initargs : tuple
    **own
        Further arguments of :class:`fastpool.Pool`, as there.
    """

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        context: Any = None,
        daemon: bool = False,
        idle_worker_timeout: float | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **own: Any,
    ) -> None:
        check_pool_arguments("FastpoolBackend.__init__()", **own)
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._settings: dict[str, Any] = {"idle_worker_timeout": idle_worker_timeout}
        if initializer is not None:
            self._settings.update(initializer=initializer, initargs=initargs)

    def configure(self, *args: Any, **kwds: Any) -> int:
        """Have the workers ready; returns their number."""
        workers: int = super().configure(*args, **{**self._settings, **kwds})
        _fallback.tell(stacklevel=2)
        return workers


def end_pool() -> None:
    """Do nothing: loky ends its idle workers by itself."""
