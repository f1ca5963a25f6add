"""Every exception that fastpool itself raises.

::

    Exception
    └── FastpoolError
        ├── WorkerDiedError      (also a RuntimeError)
        ├── PoolTerminatedError  (also a RuntimeError)
        ├── RemoteError
        └── TimeoutError         (also multiprocessing.TimeoutError and the built-in one)

What a task raises comes out unchanged; what the standard library raises in the same place
(``ValueError("Pool not running")``, ``multiprocessing.pool.MaybeEncodingError``) stays that.
"""

from __future__ import annotations

import builtins
import multiprocessing
import signal

__all__ = [
    "FastpoolError",
    "PoolTerminatedError",
    "RemoteError",
    "TimeoutError",
    "WorkerDiedError",
]


class FastpoolError(Exception):
    """The base of fastpool's own exceptions."""


class WorkerDiedError(FastpoolError, RuntimeError):
    """The worker that held a task ended before the task did.

    Only the tasks that this worker held fail; the pool replaces it and goes on.

    Attributes
    ----------
    pid : int
        Process id of the worker.
    exitcode : int or None
        As in :attr:`multiprocessing.Process.exitcode`: the exit status, or the negative number of
        the signal; None when it could not be learned.
    task : str
        Which task it held, in words.
    """

    def __init__(self, pid: int, exitcode: int | None, task: str) -> None:
        super().__init__(pid, exitcode, task)
        self.pid = pid
        self.exitcode = exitcode
        self.task = task

    def __str__(self) -> str:
        text = f"worker {self.pid} {describe_exit(self.exitcode)} while it held {self.task}"
        if self.exitcode == -signal.SIGKILL:
            text += "; SIGKILL without a sender of yours is often the system's out-of-memory killer"
        return text


class PoolTerminatedError(FastpoolError, RuntimeError):
    """The pool was terminated before the task was done."""


class RemoteError(FastpoolError):
    """Stands in for an exception of a worker that can't be unpickled in the parent.

    Attributes
    ----------
    type_name : str
        Qualified name of the exception's class.
    message : str
        ``str()`` of the exception.
    traceback : str
        The worker's traceback, formatted.
    """

    def __init__(self, type_name: str, message: str, traceback: str) -> None:
        super().__init__(type_name, message, traceback)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}\n\n{self.traceback}"


class TimeoutError(FastpoolError, multiprocessing.TimeoutError, builtins.TimeoutError):
    """No result arrived within the time given to ``get()`` or ``next()``."""


def describe_exit(exitcode: int | None) -> str:
    """Say how a process ended, e.g. ``was killed by SIGKILL``."""
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode >= 0:
        return f"exited with status {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"
