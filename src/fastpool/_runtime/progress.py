"""Shows how far a call over many items has come.

Workers say in shared memory which item of a chunk they run, as they do for every call, and the
parent's ledger knows what is done; so nothing is counted for this. Whoever waits for the results
looks, a few times a second, and shows what it finds: no thread does that besides.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from fastpool._core._stream import StreamJob
from fastpool._core._submit import Dispatcher
from fastpool._runtime.results import IMapIterator, IMapUnorderedIterator, MapResult
from fastpool.errors import PoolTerminatedError

T = TypeVar("T")

#: How often to look, in seconds.
TICK = 0.1

#: How many items are done, and how many there are in all, or None if nobody knows.
Show = Callable[[int, int | None], object]

#: What a caller can ask for: a bar, one with a description, or to be called.
Asked = bool | str | Show | None


class Display(Protocol):
    """Where progress is shown."""

    def begin(self, total: int | None) -> None:
        """Show that nothing is done yet."""

    def show(self, done: int, total: int | None, /) -> object:
        """Show how much is done."""

    def end(self) -> None:
        """Show nothing more."""


def display_for(asked: Asked) -> Display | None:
    """Check what a caller asked for; None: nothing.

    Raises
    ------
    TypeError
        If it is none of the things that can be asked for.
    ImportError
        If tqdm is needed and not installed.
    """
    if asked is None or asked is False:
        return None
    if asked is True or isinstance(asked, str):
        return Bar(None if asked is True else asked)
    if callable(asked):
        return Called(asked)
    raise TypeError(
        "progress must be True, a description (str), or a callable that gets the numbers of items "
        f"done and in all, not {asked!r}"
    )


class Called:
    """A function of the caller's."""

    def __init__(self, show: Show) -> None:
        self.show = show

    def begin(self, total: int | None) -> None:
        pass

    def end(self) -> None:
        pass


class Bar:
    """A bar of tqdm's, on a terminal or in a notebook."""

    def __init__(self, description: str | None) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError(
                "a progress bar needs tqdm: pip install 'fastpool[progress]'; or give a callable, "
                "which is called with the numbers of items done and in all"
            ) from error
        self._make = tqdm
        self._description = description
        self._bar: Any = None

    def begin(self, total: int | None) -> None:
        # It is not updated so often that it would have to skip any.
        self._bar = self._make(total=total, desc=self._description, miniters=1)

    def show(self, done: int, total: int | None) -> None:
        self._bar.update(done - self._bar.n)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Countable(Protocol):
    """A call that knows how much of it is done."""

    def _items_done(self, dispatcher: Dispatcher, /) -> int: ...


class Progress:
    """What is shown of one call."""

    def __init__(self, display: Display, dispatcher: Dispatcher, total: int | None) -> None:
        self._display = display
        self._dispatcher = dispatcher
        self._total = total
        self._shown = -1
        self._due = time.monotonic() + TICK
        self._ended = False
        self._busy = threading.Lock()
        display.begin(total)

    def look(self, call: Countable) -> None:
        """Show how far it is, if it is time for that."""
        if time.monotonic() >= self._due:
            self._dispatcher.poll_jobs()
            self._show(call)

    def _show(self, call: Countable) -> None:
        # Not for a second thread, nor for a callable that asks for a result itself.
        if not self._busy.acquire(blocking=False):
            return
        try:
            # Never back: what runs again, because its worker died, was counted.
            done = max(call._items_done(self._dispatcher), self._shown, 0)
            if not self._ended and done != self._shown:
                self._shown = done
                self._display.show(done, self._total)
        finally:
            self._due = time.monotonic() + TICK
            self._busy.release()

    def finish(self, call: Countable) -> None:
        """Show how far it came, and nothing more."""
        try:
            self._show(call)
        finally:
            self.end()

    def end(self) -> None:
        """Show nothing more."""
        if not self._ended:
            self._ended = True
            self._display.end()


def follow(display: Display, dispatcher: Dispatcher, call: MapResult[T]) -> list[T]:
    """Wait for a map as ``get()`` does, and show how far it is; all in the caller's thread."""
    progress = None
    try:
        progress = Progress(display, dispatcher, call._length)
        call.wait(TICK)
        while not call.ready():
            progress.look(call)
            call.wait(TICK)
        progress.finish(call)
    except BaseException:  # Ctrl-C, or an error of the display: nobody wants the results any more
        call.cancel(True)
        raise
    finally:
        if progress is not None:
            progress.end()
    return call.get()


class _Shown:
    """An iterator that shows how far it is, in the thread that asks it for results."""

    _progress: Progress
    _patience: float | None = TICK

    def _tick(self: Any) -> None:
        try:
            self._progress.look(self)
        except Exception:  # of the display: nobody wants the results any more
            self.cancel(True)
            raise

    def next(self: Any, timeout: float | None = None) -> Any:
        """Return the next result, as the iterator does that shows nothing."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                there = self._await_next(min(left, TICK))
                self._tick()
                if there or left <= TICK:
                    # Another thread may have taken it meanwhile.
                    return super().next(None if timeout is None else left * there)  # type: ignore[misc]
        except (StopIteration, PoolTerminatedError):
            self._progress.finish(self)
            raise
        except Exception:
            raise  # of an item: it goes on
        except BaseException:
            self._progress.end()
            raise

    def __next__(self, timeout: float | None = None) -> Any:
        return self.next(timeout)

    def cancel(self: Any, kill: bool = False) -> bool:
        """Have nothing run any more; see ``AsyncResult.cancel``."""
        self._progress.end()
        return super().cancel(kill)  # type: ignore[misc, no-any-return]


class ShownIMapIterator(_Shown, IMapIterator[T]):
    """The iterator of :meth:`Pool.imap` with ``progress=``."""


class ShownIMapUnorderedIterator(_Shown, IMapUnorderedIterator[T]):
    """The iterator of :meth:`Pool.imap_unordered` with ``progress=``."""


Iterator = TypeVar("Iterator", IMapIterator[Any], IMapUnorderedIterator[Any])


def shown(kind: type[Iterator], job: StreamJob, pool: object, progress: Progress) -> Iterator:
    """An iterator of this kind that shows how far it is."""
    stream: Any = (ShownIMapIterator if kind is IMapIterator else ShownIMapUnorderedIterator)(
        job, pool
    )
    stream._progress = progress
    return stream  # type: ignore[no-any-return]


def length_of(iterable: object) -> int | None:
    """How many items it says that it has, or None."""
    try:
        return len(iterable)  # type: ignore[arg-type]
    except Exception:  # no length, or one that depends on what it holds
        return None
