"""Results in an event loop: what ``await`` and ``async for`` wait with.

Imported only by programs that do so, since ``asyncio`` takes longer to import than fastpool. No
thread waits: the pool's background thread, which reads the results as long as somebody is to be
told of one, tells the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

T = TypeVar("T", covariant=True)

#: After so many results in a row that were there already, other tasks of the loop have a turn: a
#: stream that is faster than its reader would keep them out.
MOST_IN_A_ROW = 64


class Awaited(Protocol):
    """What can tell that it has news."""

    def _watch(self, tell: Callable[[], object]) -> bool: ...
    def _unwatch(self, tell: Callable[[], object]) -> int: ...
    def cancel(self, kill: bool = False) -> bool: ...


class Result(Awaited, Protocol[T]):
    """A single result."""

    def ready(self) -> bool: ...
    def get(self) -> T: ...


class Results(Awaited, Protocol[T]):
    """A stream of results."""

    _in_a_row: int
    _patience: float | None

    def _tick(self) -> None: ...
    def _is_ready(self) -> bool: ...
    def next(self) -> T: ...


async def outcome(result: Result[T]) -> T:
    """Wait for a result, and return it or raise what its task raised."""
    if not result.ready():
        await _news_of(result)
    return result.get()


async def next_result(stream: Results[T]) -> T:
    """Wait for the next result of a stream."""
    stream._in_a_row += 1
    while not stream._is_ready() or stream._in_a_row > MOST_IN_A_ROW:
        stream._in_a_row = 0
        await _news_of(stream, stream._patience)
        stream._tick()
    try:
        return stream.next()
    except StopIteration:
        raise StopAsyncIteration from None


async def _news_of(source: Awaited, patience: float | None = None) -> None:
    """Wait for news, but no longer than `patience` seconds; where there are some already, only let
    other tasks have a turn.

    If the task is cancelled, and no other waits for the same, the call is cancelled; not when the
    coroutine is merely dropped (GeneratorExit), since that may happen anywhere.
    """
    loop = asyncio.get_running_loop()
    news = loop.create_future()
    tell = partial(_tell, loop, news)
    cancelled = False
    try:
        if not source._watch(tell):
            await asyncio.sleep(0)
        elif patience is None:
            await news
        else:
            await asyncio.wait([news], timeout=patience)
    except asyncio.CancelledError:
        cancelled = True
        raise
    finally:
        if source._unwatch(tell) == 0 and cancelled:
            source.cancel()


def _tell(loop: asyncio.AbstractEventLoop, news: asyncio.Future[Any]) -> None:
    """In the pool's background thread: have a loop go on with who waits for these news."""
    try:
        loop.call_soon_threadsafe(_arrive, news)
    except RuntimeError:
        if not loop.is_closed():
            raise
        # Nobody waits in a loop that was closed.


def _arrive(news: asyncio.Future[Any]) -> None:
    if not news.done():  # the task may have been cancelled meanwhile
        news.set_result(None)
