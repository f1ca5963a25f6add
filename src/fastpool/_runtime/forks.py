"""The pools of a process that forks, their threads, and what it holds of their memory.

A child inherits the parent's arrays, and expects a copy of them as they are at that moment. Those
that lie in a pool's shared memory would be neither copied by the fork nor safe from being used
anew once the parent drops them. So the parent makes the results that it holds its own, in place.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from fastpool._core._blocks import own_results
from fastpool._core._segment import Segment, no_fork

T = TypeVar("T")


class Living(Generic[T]):
    """Some objects, as long as they live; no fork cuts a change of it in two.

    Not a WeakValueDictionary: that is changed wherever an object dies. Without a GIL, some thread
    may have its lock, or be handed it, when another one forks; in the child nobody opens it again.
    """

    def __init__(self) -> None:
        #: For hooks in C, which look at it without the lock: by `list()`, in one step.
        self.refs: dict[int, weakref.ref[T]] = {}

    def add(self, item: T) -> None:
        """Know this object from now on."""
        with no_fork():
            for key, ref in list(self.refs.items()):
                if ref() is None:
                    del self.refs[key]
            self.refs[id(item)] = weakref.ref(item)

    def remove(self, item: T) -> None:
        """Forget this object, if it is known."""
        with no_fork():
            self.refs.pop(id(item), None)

    def clear(self) -> None:
        """Forget all."""
        with no_fork():
            self.refs.clear()

    def all(self) -> list[T]:
        """Return those that live."""
        with no_fork():
            refs = list(self.refs.values())
        return [item for ref in refs if (item := ref()) is not None]


class OwnThread(threading.Thread):
    """A thread of a pool's that runs beside the program, and is no danger to its forks.

    What it may hold at that moment is put right in the child.
    """

    def __init__(self, name: str, target: Callable[[], None] | None = None) -> None:
        super().__init__(name=f"fastpool-{name}", target=target, daemon=True)


def has_threads_of_the_program() -> bool:
    """Whether there are threads beside this one and those of pools."""
    here = threading.current_thread()
    return any(
        thread is not here and not isinstance(thread, OwnThread) for thread in threading.enumerate()
    )


_segments: Living[Segment] = Living()


def guard(segment: Segment) -> None:
    """See to what the program holds of a segment, from now on, when it forks."""
    _segments.add(segment)


def _disown() -> None:
    for segment in _segments.all():
        segment.disown()


# In C: nobody hears of what a signal handler raises here, and all results have to be owned.
os.register_at_fork(before=functools.partial(own_results, _segments.refs), after_in_child=_disown)
