"""The pools of a process that forks, and what it holds of their memory.

A child inherits the parent's arrays, and expects a copy of them as they are at that moment. Those
that lie in a pool's shared memory would be neither copied by the fork nor safe from being used
anew once the parent drops them. So the parent makes the results that it holds its own, in place.
"""

from __future__ import annotations

import os
import weakref
from typing import Generic, TypeVar

from fastpool._core._blocks import own_results
from fastpool._core._segment import Segment, begin_fork, end_fork
from fastpool._runtime.late_imports import NoFork

T = TypeVar("T")


class Living(Generic[T]):
    """Some objects, as long as they live; no fork cuts a change of it in two.

    Not a WeakValueDictionary: that is changed wherever an object dies. Without a GIL, some thread
    may have its lock, or be handed it, when another one forks; in the child nobody opens it again.
    """

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[T]] = {}

    def add(self, item: T) -> None:
        """Know this object from now on."""
        with NoFork():
            for key, ref in list(self._refs.items()):
                if ref() is None:
                    del self._refs[key]
            self._refs[id(item)] = weakref.ref(item)

    def remove(self, item: T) -> None:
        """Forget this object, if it is known."""
        with NoFork():
            self._refs.pop(id(item), None)

    def clear(self) -> None:
        """Forget all."""
        with NoFork():
            self._refs.clear()

    def all(self) -> list[T]:
        """Return those that live."""
        with NoFork():
            refs = list(self._refs.values())
        return [item for ref in refs if (item := ref()) is not None]


_segments: Living[Segment] = Living()


def guard(segment: Segment) -> None:
    """See to what the program holds of a segment, from now on, when it forks."""
    _segments.add(segment)


def _before() -> None:
    for segment in _segments.all():
        own_results(segment)
    begin_fork()


def _after_in_child() -> None:
    end_fork()
    for segment in _segments.all():
        segment.disown()


os.register_at_fork(before=_before, after_in_parent=end_fork, after_in_child=_after_in_child)
