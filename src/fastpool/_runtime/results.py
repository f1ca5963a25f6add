"""The result objects: the core's, and the standard library's to everyone who asks."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from multiprocessing import pool as stdlib
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastpool._core._jobs import ApplyJob
from fastpool._core._many import MapJob
from fastpool._core._stream import Stream, StreamJob

T = TypeVar("T")

_numbers = stdlib.job_counter  # type: ignore[attr-defined]


class _Numbered:
    """Gives a result the number that the standard library would, when somebody asks."""

    @property
    def _job(self) -> int:
        number: int | None = self.__dict__.get("_number")
        if number is None:
            number = self.__dict__["_number"] = next(_numbers)
        return number


class ApplyResult(ApplyJob, _Numbered, stdlib.ApplyResult[T]):
    """The result of :meth:`Pool.apply_async`."""

    if TYPE_CHECKING:

        def get(self, timeout: float | None = None) -> T: ...


AsyncResult = ApplyResult


class MapResult(MapJob, _Numbered, stdlib.MapResult[T]):
    """The result of :meth:`Pool.map_async` and :meth:`Pool.starmap_async`."""

    if TYPE_CHECKING:

        def get(self, timeout: float | None = None) -> list[T]: ...


class IMapIterator(Stream, _Numbered, stdlib.IMapIterator, Generic[T]):  # type: ignore[type-arg]
    """The iterator of :meth:`Pool.imap`: results in the order of the items."""

    if TYPE_CHECKING:

        def next(self, timeout: float | None = None) -> T: ...
        def __next__(self, timeout: float | None = None) -> T: ...


class IMapUnorderedIterator(
    Stream,
    _Numbered,
    stdlib.IMapUnorderedIterator,  # type: ignore[type-arg]
    Generic[T],
):
    """The iterator of :meth:`Pool.imap_unordered`: results as they come."""

    if TYPE_CHECKING:

        def next(self, timeout: float | None = None) -> T: ...
        def __next__(self, timeout: float | None = None) -> T: ...


class Feeder(Generic[T]):
    """Reads an iterable for an ``imap``, in a thread of its own.

    The iterable is the user's code: it may block, also on what the consumer does with earlier
    results, so neither the consumer nor the background thread may wait for it.
    """

    def __init__(self, job: StreamJob, iterable: Iterable[T], chunksize: int) -> None:
        self._job = job
        self._iterable = iterable
        self._chunksize = chunksize
        self._space = threading.Event()

    def start(self, ordered: bool, limit: int, strict: bool) -> None:
        """Begin to read, and let the job begin."""
        self._job._start(ordered, limit, strict, self._space.set)
        thread = threading.Thread(target=self._run, name="fastpool-imap-feeder", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system grants no thread
            self._job._push_end(error)
            raise

    def _run(self) -> None:
        job, chunksize = self._job, self._chunksize
        try:
            items = iter(self._iterable)
            while True:
                while 0 <= job._room() < chunksize:
                    self._space.clear()
                    if 0 <= job._room() < chunksize:
                        self._space.wait()
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


Callback = Callable[[Any], object]


def run_callbacks(done: deque[Any]) -> None:
    """Call the callbacks of settled jobs, each before its result becomes ready.

    A callback that raises is reported through :func:`threading.excepthook`; its result becomes
    ready all the same, and the next callback is called.
    """
    while done:
        job = done.popleft()
        callback, value = job._due()
        try:
            callback(value)
        except BaseException:
            report_raising_callback()
        finally:
            job._publish()


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
