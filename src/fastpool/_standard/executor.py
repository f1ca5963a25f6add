"""The standard library's executor, with the arguments that programs give to fastpool's."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastpool import _fallback
from fastpool._standard.needs import check_pool_arguments, needs_core, refuse


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
        If an argument, here or of a method, asks for what the standard library can't do in this
        version of Python.
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
        limit: dict[str, Any] = {}
        if sys.version_info >= (3, 11):
            limit["max_tasks_per_child"] = max_tasks_per_child
        else:
            refuse(max_tasks_per_child=max_tasks_per_child)
        _fallback.tell(stacklevel=2)
        super().__init__(max_workers, mp_context, initializer, tuple(initargs), **limit)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As the standard library's; `buffersize` needs Python 3.14."""
        more: dict[str, Any] = {}
        if sys.version_info >= (3, 14):
            more["buffersize"] = buffersize
        else:
            refuse(buffersize=buffersize)
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize, **more)

    def terminate_workers(self) -> None:
        """As the standard library's since Python 3.14."""
        if sys.version_info < (3, 14):
            raise needs_core("ProcessPoolExecutor.terminate_workers()")
        super().terminate_workers()

    def kill_workers(self) -> None:
        """As the standard library's since Python 3.14."""
        if sys.version_info < (3, 14):
            raise needs_core("ProcessPoolExecutor.kill_workers()")
        super().kill_workers()

    def exit_results(self, *, return_exceptions: bool = False) -> list[Any]:
        """Raise NotImplementedError: this needs the native core."""
        raise needs_core("ProcessPoolExecutor.exit_results()")
