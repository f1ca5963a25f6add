"""What the core under test asks of the system: all that this one has, or only what POSIX has."""

from __future__ import annotations

import os
import sysconfig

import pytest

from helpers import procs


def _name_of_segments() -> str:
    try:
        from fastpool._core._segment import Segment
        from fastpool._core._system import can_pin
    except ImportError:  # without a core, or with CPython's own pool only
        return "memfd:fastpool"
    if not procs.HAS_PROC:
        return "memfd:fastpool" if can_pin() else "/dev/shm/fastpool-"
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

#: Whether this Python is one that can run without a GIL.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def beyond_posix(what: str) -> pytest.MarkDecorator:
    """Skip a test of something that POSIX does not have, where the core has no more than that."""
    return pytest.mark.skipif(PORTABLE, reason=f"the portable core: {what}")


PINS = beyond_posix("nobody can be pinned to CPUs")
HOLES = beyond_posix("memory goes back to the system with its pool")
NO_NAMES = beyond_posix("memory lies in /dev/shm")
WAKES = beyond_posix("who sleeps looks around now and then")

#: For tests that look at what only /proc tells.
PROC = pytest.mark.skipif(not procs.HAS_PROC, reason="there is no /proc")

#: For tests of what a process has after it gave memory back.
GIVES_BACK = pytest.mark.skipif(
    FREE_THREADED, reason="a Python without a GIL keeps the memory that it has freed"
)
