"""The standard library's pool, with the arguments that programs give to fastpool's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as stdlib
from typing import Any, NoReturn

from fastpool import _fallback
from fastpool._standard.needs import check_pool_arguments, needs_core, refuse

_NO_KWDS: Mapping[str, Any] = {}


def _missing(name: str) -> Callable[..., NoReturn]:
    """A method of fastpool's pool that has no counterpart."""

    def method(self: Pool, *args: object, **kwds: object) -> NoReturn:
        raise needs_core(f"Pool.{name}()")

    method.__name__ = name
    method.__doc__ = "Raise NotImplementedError: this needs the native core."
    return method


class Pool(stdlib.Pool):
    """``multiprocessing.Pool`` where fastpool has no native core, or is not to use it.

    Parameters
    ----------
    processes, initializer, initargs, maxtasksperchild, context
        As of :class:`multiprocessing.pool.Pool`.
    daemon : bool
        Workers are daemonic; False is refused.
    **own
        The other arguments of fastpool's pool. Those that change nothing but speed are ignored.

    Raises
    ------
    NotImplementedError
        If an argument, here or of a method, asks for what the standard library can't do.
    TypeError, ValueError
        If there is no such argument, or one that is ignored is not what it may be.
    """

    _state = "INIT"  # also of one that was refused an argument: __del__ asks

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        daemon: bool = True,
        **own: Any,
    ) -> None:
        check_pool_arguments("Pool.__init__()", **own)
        if not daemon:
            raise needs_core("daemon=False")
        _fallback.tell(stacklevel=2)
        super().__init__(processes, initializer, initargs, maxtasksperchild, context)

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NO_KWDS,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> stdlib.ApplyResult[Any]:
        refuse(timeout=timeout)
        return super().apply_async(func, args, kwds, callback, error_callback)

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        out: object = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: object = None,
    ) -> list[Any]:
        refuse(out=out, timeout=timeout, return_exceptions=return_exceptions or None)
        return super().map(func, iterable, chunksize)

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        out: object = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
    ) -> stdlib.MapResult[Any]:
        refuse(out=out, timeout=timeout, return_exceptions=return_exceptions or None)
        return super().map_async(func, iterable, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        out: object = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: object = None,
    ) -> list[Any]:
        refuse(out=out, timeout=timeout, return_exceptions=return_exceptions or None)
        return super().starmap(func, iterable, chunksize)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        out: object = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
    ) -> stdlib.ApplyResult[list[Any]]:
        refuse(out=out, timeout=timeout, return_exceptions=return_exceptions or None)
        return super().starmap_async(func, iterable, chunksize, callback, error_callback)

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: object = None,
    ) -> stdlib.IMapIterator[Any]:
        refuse(buffersize=buffersize, timeout=timeout)
        return super().imap(func, iterable, 1 if chunksize is None else chunksize)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: object = None,
    ) -> stdlib.IMapIterator[Any]:
        refuse(buffersize=buffersize, timeout=timeout)
        return super().imap_unordered(func, iterable, 1 if chunksize is None else chunksize)

    def istarmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: object = None,
    ) -> stdlib.IMapIterator[Any]:
        """Like :meth:`imap`, but call ``func(*item)`` for each item."""
        call = functools.partial(_call, func)
        return self.imap(call, iterable, chunksize, buffersize, timeout=timeout)

    def istarmap_unordered(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        progress: object = None,
    ) -> stdlib.IMapIterator[Any]:
        """Like :meth:`istarmap`, with the results in the order in which they come."""
        call = functools.partial(_call, func)
        return self.imap_unordered(call, iterable, chunksize, buffersize, timeout=timeout)

    copy_to_shared = _missing("copy_to_shared")
    empty = _missing("empty")
    exit_results = _missing("exit_results")
    map_blocks = _missing("map_blocks")
    resize = _missing("resize")
    stats = _missing("stats")
    workers = _missing("workers")
    zeros = _missing("zeros")


def _call(func: Callable[..., Any], item: Iterable[Any]) -> Any:
    return func(*item)
