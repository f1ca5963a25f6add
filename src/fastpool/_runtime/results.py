"""The result objects: the core's, and the standard library's to everyone who asks."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from itertools import islice
from multiprocessing import pool as stdlib
from types import GenericAlias

from fastpool._core._jobs import ApplyJob
from fastpool._core._many import MapJob
from fastpool._core._stream import Stream, StreamJob, begin_stream

TYPE_CHECKING = False  # typing itself is not loaded for this
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import Self

    from fastpool._core._submit import Dispatcher

    T = TypeVar("T")
else:
    T = object

_numbers = stdlib.job_counter  # type: ignore[attr-defined]


class _Awaitable:
    """A result that ``await`` waits for without holding up the event loop."""

    def __await__(self: Any) -> Generator[Any, None, Any]:
        from fastpool._runtime.awaiting import outcome

        return outcome(self).__await__()


class _AsyncIterator:
    """An iterator whose results ``async for`` takes without holding up the event loop."""

    _in_a_row = 0  # results that were there already when they were asked for
    _patience: float | None = None  # how long to wait until `_tick`, in seconds

    def __aiter__(self) -> Self:
        return self

    def __anext__(self: Any) -> Coroutine[Any, Any, Any]:
        """Wait for the next result; raises what its task raised, and goes on after that."""
        from fastpool._runtime.awaiting import next_result

        return next_result(self)

    def _tick(self) -> None:
        """While one waits, and before a result is taken."""

    async def aclose(self: Any) -> None:
        """Have nothing run any more, as ``cancel()`` does: for :func:`contextlib.aclosing`."""
        self.cancel()


class _Numbered:
    """Gives a result the number that the standard library would, when somebody asks."""

    @property
    def _job(self) -> int:
        number: int | None = self.__dict__.get("_number")
        if number is None:
            number = self.__dict__.setdefault("_number", next(_numbers))
        return number


class ApplyResult(ApplyJob, _Awaitable, _Numbered, stdlib.ApplyResult[T]):
    """The result of :meth:`Pool.apply_async`; ``await`` waits for it too."""

    if TYPE_CHECKING:

        def get(self, timeout: float | None = None) -> T: ...
        def __await__(self) -> Generator[Any, None, T]: ...


AsyncResult = ApplyResult


class MapResult(MapJob, _Awaitable, _Numbered, stdlib.MapResult[T]):
    """The list of :meth:`Pool.map_async` and its like; ``await`` waits for it too."""

    if TYPE_CHECKING:

        def get(self, timeout: float | None = None) -> list[T]: ...
        def __await__(self) -> Generator[Any, None, list[T]]: ...


if TYPE_CHECKING:
    _Ordered = stdlib.IMapIterator
    _Unordered = stdlib.IMapUnorderedIterator
else:  # the standard library's take no parameter when they run

    class _Ordered(stdlib.IMapIterator):
        __class_getitem__ = classmethod(GenericAlias)

    class _Unordered(stdlib.IMapUnorderedIterator):
        __class_getitem__ = classmethod(GenericAlias)


class IMapIterator(
    Stream,
    _AsyncIterator,
    _Numbered,
    _Ordered[T],
):
    """The iterator of :meth:`Pool.imap`, in the order of the items; for ``async for`` too."""

    if TYPE_CHECKING:

        def next(self, timeout: float | None = None) -> T: ...
        def __next__(self, timeout: float | None = None) -> T: ...
        def __anext__(self) -> Coroutine[Any, Any, T]: ...


class IMapUnorderedIterator(
    Stream,
    _AsyncIterator,
    _Numbered,
    _Unordered[T],
):
    """The iterator of :meth:`Pool.imap_unordered`, as they come; for ``async for`` too."""

    if TYPE_CHECKING:

        def next(self, timeout: float | None = None) -> T: ...
        def __next__(self, timeout: float | None = None) -> T: ...
        def __anext__(self) -> Coroutine[Any, Any, T]: ...


class Feeder:
    """Reads an iterable for an ``imap``, in a thread of its own.

    The iterable is the user's code: it may block, also on what the consumer does with earlier
    results, so neither the consumer nor the background thread may wait for it.
    """

    def __init__(self, iterable: Iterable[Any], chunksize: int) -> None:
        self._iterable = iterable
        self._chunksize = chunksize
        self.job: StreamJob | None = None
        self.space = threading.Lock()  # open when there may be more room

    def start(self, dispatcher: Dispatcher, *call: Any) -> StreamJob:
        """Begin to read, and the call itself; the arguments are those of `begin_stream`."""
        thread = threading.Thread(target=self._run, name="fastpool-imap-feeder", daemon=True)
        try:
            job = begin_stream(dispatcher, self, *call)
            thread.start()
            return job
        except BaseException:  # a signal handler's, or the system grants no thread
            if self.job is not None:
                self.job.cancel()
            raise

    def _run(self) -> None:
        job, chunksize = self.job, self._chunksize
        assert job is not None
        try:
            items = iter(self._iterable)
            while True:
                while 0 <= job._room() < chunksize:
                    self.space.acquire()
                if job._room() < 0:
                    job._push_end()
                    return
                batch = list(islice(items, chunksize))
                if batch:
                    job._push(batch)
                if len(batch) < chunksize:
                    job._push_end()
                    return
        except BaseException as error:
            job._push_end(error)


def run_callbacks(done: deque[Any]) -> None:
    """Tell of jobs: a callback first, then the result becomes ready, then who awaits it is told.

    A callback that raises is reported through :func:`threading.excepthook`; its result becomes
    ready all the same, and the next callback is called.
    """
    while done:
        job = done.popleft()
        callback, value = job._due()
        if callback is not None:
            _call(callback, value)
        for tell in job._announce():
            _call(tell)


def _call(callback: Callable[..., object], *args: Any) -> None:
    try:
        callback(*args)
    except BaseException:
        report_raising_callback()


def report_raising_callback() -> None:
    """Show the current exception as the uncaught one of this thread."""
    kind, error, trace = sys.exc_info()
    assert kind is not None
    try:
        threading.excepthook(
            threading.ExceptHookArgs((kind, error, trace, threading.current_thread()))
        )
    except BaseException:  # the program's own hook is broken; the pool goes on
        traceback.print_exc()
