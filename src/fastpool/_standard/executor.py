"""The standard library's executor, with the arguments that programs give to fastpool's."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable
from typing import Any

from fastpool import _fallback
from fastpool._standard.needs import check_pool_arguments


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """``concurrent.futures.ProcessPoolExecutor`` where fastpool has no native core.

    Parameters
    ----------
    max_workers, mp_context, initializer, initargs, max_tasks_per_child
        As of the standard library's; the last one needs Python 3.11.
    daemon : bool
        Ignored.
    **own
        The other keyword-only arguments of :class:`fastpool.Pool`, as there.

    Raises
    ------
    NotImplementedError
        If an argument asks for what the standard library can't do.
    TypeError, ValueError
        If there is no such argument, or one that is ignored is not what it may be.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        daemon: bool = False,
        **own: Any,
    ) -> None:
        check_pool_arguments("ProcessPoolExecutor.__init__()", **own)
        _fallback.tell(stacklevel=2)
        limit: dict[str, Any] = {}
        if max_tasks_per_child is not None:
            limit["max_tasks_per_child"] = max_tasks_per_child
        super().__init__(max_workers, mp_context, initializer, tuple(initargs), **limit)
