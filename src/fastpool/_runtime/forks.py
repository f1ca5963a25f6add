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

_segments: weakref.WeakSet[Segment] = weakref.WeakSet()


def guard(segment: Segment) -> None:
    """See to what the program holds of a segment, from now on, when it forks."""
    _segments.add(segment)


def _before() -> None:
    for segment in list(_segments):
        own_results(segment)


def _after_in_child() -> None:
    for segment in list(_segments):
        segment.disown()


os.register_at_fork(before=_before, after_in_child=_after_in_child)
