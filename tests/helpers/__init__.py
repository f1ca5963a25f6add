"""What the tests share: tasks that workers run, process bookkeeping, scripts in subprocesses.

Any process that imports this package (a spawned worker does, when it looks up its first task)
answers SIGUSR2 by writing the Python stack of all its threads to the file named in the
environment, so that a test that runs out of time can show where everybody was.
"""

from __future__ import annotations

import faulthandler
import os
import signal

STACKS_VARIABLE = "FASTPOOL_TEST_STACKS"
"""Environment variable naming the file that collects stacks; set once by conftest.py."""

_stacks_fd = -1


def register_stack_dump() -> None:
    """Make SIGUSR2 append this process's stacks to the agreed file; forked children inherit it."""
    global _stacks_fd
    path = os.environ.get(STACKS_VARIABLE)
    if not path or _stacks_fd >= 0:
        return
    try:
        _stacks_fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        faulthandler.register(signal.SIGUSR2, file=_stacks_fd, all_threads=True, chain=False)
    except (OSError, ValueError, RuntimeError):
        pass  # no descriptors left, or not the main interpreter: a test may well cause this


register_stack_dump()
