"""Points of the Python part where ``FASTPOOL_CRASH`` can have a process killed: csrc/README.md.

``crash_point("what.when")`` does nothing, but in a build with crash points. It is not for hot
paths: a call costs what a call costs.
"""

from __future__ import annotations

from fastpool._core._system import crash_point, crash_role

__all__ = ["crash_point", "crash_role"]
