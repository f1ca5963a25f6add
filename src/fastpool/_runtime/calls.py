"""Calls over many items: their arguments, checked, become jobs that are under way."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable
from multiprocessing.pool import RUN

from fastpool._core._many import begin_map
from fastpool._core._segment import no_fork
from fastpool._core._stream import begin_stream
from fastpool._runtime import arrays as array_work
from fastpool._runtime.chunks import LARGEST_GUIDED, guided_chunks
from fastpool._runtime.results import Feeder, IMapIterator, IMapUnorderedIterator, MapResult

TYPE_CHECKING = False  # typing itself is not loaded for this
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from numpy import ndarray

    from fastpool._runtime.engine import Engine
    from fastpool._runtime.progress import Asked, Display

    Array = ndarray[Any, Any]
    _T = TypeVar("_T")
    _Stream = TypeVar("_Stream", IMapIterator[Any], IMapUnorderedIterator[Any])

#: Most items of an ``imap`` in flight or unread at a time.
STREAM_ITEMS = 8192

#: Most items in a chunk: what the core counts with.
LARGEST_CHUNK = 2**31 - 1

#: No item takes longer than this, in seconds: a century.
LONGEST_TIMEOUT = 3.2e9

#: What is cut as it is sent; anything else is read first.
_SEQUENCES = (list, tuple, range)


def start_map(
    engine: Engine | None,
    pool: object,
    func: Callable[..., _T],
    iterable: Iterable[Any],
    chunksize: int | None,
    star: bool,
    callback: Callable[[list[_T]], object] | None,
    error_callback: Callable[[BaseException], object] | None,
    awaited: bool,
    out: Array | None,
    timeout: float | None,
    return_exceptions: bool,
    fill: bool,
) -> MapResult[_T]:
    """Begin a ``map`` or one of its like.

    `pool` is kept until the result is there. `star`: call ``func(*item)``. `awaited`: the caller
    waits for the result, and changes nothing meanwhile. `fill`: each item is (the array that the
    result goes into, *arguments).

    Raises
    ------
    ValueError, TypeError
        As :meth:`Pool.map` documents.
    """
    # Positions, and no default: the interpreter makes such a call fastest.
    items: Any = iterable
    error: BaseException | None = None
    if engine is None or engine.state != RUN:
        raise ValueError("Pool not running")
    limit = 0 if timeout is None else check_timeout(timeout)
    if return_exceptions and out is not None:
        raise ValueError("return_exceptions needs a list for the exceptions; it excludes out")
    if chunksize is not None:
        chunksize = _check_chunksize(chunksize)
    if out is not None:
        items = array_work.apart_from(out, items)
    if type(items) not in _SEQUENCES and not array_work.can_be_cut(items):
        try:
            items = list(items)
        except Exception as raised:
            if not hasattr(iterable, "__len__"):
                raise
            items, error, out = (), raised, None
    store = None
    if out is not None and error is None:
        array_work.check_out(out, len(items))
        store = array_work.Store(out, array_work.overlaps(out, items))
    divisor = 0
    if chunksize is None:
        chunksize, divisor = guided_chunks(len(items), engine.wanted)
    return begin_map(
        engine.dispatcher,
        MapResult,
        pool,
        func,
        callback,
        error_callback,
        limit,
        items,
        error,
        chunksize,
        divisor,
        LARGEST_GUIDED,
        star,
        fill,
        awaited,
        out,
        store,
        bool(return_exceptions),
    )


def start_stream(
    engine: Engine | None,
    pool: object,
    kind: type[_Stream],
    func: Callable[..., Any],
    iterable: Iterable[Any],
    chunksize: int | None,
    buffersize: int | None,
    star: bool,
    timeout: float | None,
    progress: Asked,
) -> _Stream:
    """Begin an ``imap`` or one of its like; returns its iterator, of this kind.

    Raises
    ------
    ValueError, TypeError, ImportError
        As :meth:`Pool.imap` documents.
    """
    if engine is None or engine.state != RUN:
        raise ValueError("Pool not running")
    limit_ns = 0 if timeout is None else check_timeout(timeout)
    chunksize = 1 if chunksize is None else _check_chunksize(chunksize)
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
    check_buffersize(buffersize)
    display = None if progress is None else display_for(progress)
    if display is not None:
        from fastpool._runtime.progress import Progress, length_of, shown

        followed = Progress(display, engine.dispatcher, length_of(iterable))
    strict = buffersize is not None
    if buffersize is not None:
        limit = min(buffersize * chunksize, sys.maxsize)
    else:
        limit = max(STREAM_ITEMS, 4 * engine.wanted * chunksize)
    ordered = kind is IMapIterator
    dispatcher = engine.dispatcher
    if type(iterable) in _SEQUENCES:
        job = begin_stream(
            dispatcher, None, func, limit_ns, iterable, chunksize, star, ordered, limit, strict
        )
    else:
        job = Feeder(iterable, chunksize).start(
            dispatcher, func, limit_ns, (), chunksize, star, ordered, limit, strict
        )
    if display is None:
        return kind(job, pool)
    return shown(kind, job, pool, followed)


def display_for(progress: Asked) -> Display | None:
    """Check where a caller wants to see progress; few do, so the rest is loaded for them."""
    with no_fork():
        from fastpool._runtime import progress as shows

    return shows.display_for(progress)


def check_timeout(timeout: float) -> int:
    """How long an item may take, in ns."""
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout must be None or a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be positive, not {timeout!r}")
    return max(1, int(min(timeout, LONGEST_TIMEOUT) * 1e9))


def check_buffersize(buffersize: int | None) -> None:
    """Check how many results may be there that nobody has read; the texts are CPython's."""
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def _check_chunksize(chunksize: int) -> int:
    """An integer that the core can hold; TypeError for what is none."""
    return min(max(operator.index(chunksize), -1), LARGEST_CHUNK)
