"""What the core under test asks of the system: all that this one has, or only what POSIX has."""

from __future__ import annotations

import os

import pytest


def _name_of_segments() -> str:
    try:
        from fastpool._core._segment import Segment
    except ImportError:  # without a core, or with CPython's own pool only
        return "memfd:fastpool"
    segment = Segment.create(1)
    try:
        link = os.readlink(f"/proc/self/fd/{segment.fd}")
    finally:
        segment.close_descriptors()
    return "memfd:fastpool" if "memfd:" in link else "/dev/shm/fastpool-"


#: What the links of a segment's descriptors, and its lines in /proc/PID/maps, hold.
SEGMENT = _name_of_segments()

#: Whether it is the build with ``FASTPOOL_PORTABLE=1``.
PORTABLE = SEGMENT != "memfd:fastpool"


def beyond_posix(what: str) -> pytest.MarkDecorator:
    """Skip a test of something that POSIX does not have, where the core has no more than that."""
    return pytest.mark.skipif(PORTABLE, reason=f"the portable core: {what}")


PINS = beyond_posix("nobody can be pinned to CPUs")
HOLES = beyond_posix("memory goes back to the system with its pool")
NO_NAMES = beyond_posix("memory lies in /dev/shm")
WAKES = beyond_posix("who sleeps looks around now and then")
