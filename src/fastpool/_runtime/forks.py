"""What the program holds of a pool's memory when it forks.

A child inherits the parent's arrays, and expects a copy of them as they are at that moment. Those
that lie in a pool's shared memory would be neither copied by the fork nor safe from being used
anew once the parent drops them. So the parent makes the results that it holds its own, in place.
"""

from __future__ import annotations

import os
import weakref

from fastpool._core._blocks import own_results
from fastpool._core._segment import Segment

# By id. Not a WeakSet, which can't be looked through while another thread adds to it.
_segments: weakref.WeakValueDictionary[int, Segment] = weakref.WeakValueDictionary()


def guard(segment: Segment) -> None:
    """See to what the program holds of a segment, from now on, when it forks."""
    _segments[id(segment)] = segment


def _guarded() -> list[Segment]:
    return [segment for ref in _segments.valuerefs() if (segment := ref()) is not None]


def _before() -> None:
    for segment in _guarded():
        own_results(segment)


def _after_in_child() -> None:
    for segment in _guarded():
        segment.disown()


os.register_at_fork(before=_before, after_in_child=_after_in_child)
