"""Every exception that fastpool itself raises, and its one warning.

::

    Exception
    └── FastpoolError
        ├── WorkerDiedError      (also a RuntimeError)
        ├── TaskTimeoutError     (also the built-in TimeoutError)
        ├── TaskCancelledError
        ├── PoolTerminatedError  (also a RuntimeError)
        ├── RemoteError
        └── TimeoutError         (also multiprocessing.TimeoutError and the built-in one)
    RuntimeWarning
    └── FallbackWarning

What a task raises comes out unchanged; what the standard library raises in the same place
(``ValueError("Pool not running")``, ``multiprocessing.pool.MaybeEncodingError``) stays that.
"""

from __future__ import annotations

import builtins
import multiprocessing
import signal

__all__ = [
    "FallbackWarning",
    "FastpoolError",
    "PoolTerminatedError",
    "RemoteError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TimeoutError",
    "WorkerDiedError",
]


class FastpoolError(Exception):
    """The base of fastpool's own exceptions."""


class WorkerDiedError(FastpoolError, RuntimeError):
    """The worker that ran a task ended before the task did.

    Only the item that this worker ran fails; the pool replaces the worker and goes on.

    Attributes
    ----------
    pid : int
        Process id of the worker.
    exitcode : int or None
        As in :attr:`multiprocessing.Process.exitcode`: the exit status, or the negative number of
        the signal; None when it could not be learned.
    task : str
        Which item of which call it ran, in words.
    peak_memory : int or None
        The most memory that the worker ever had resident, in bytes, with what it shared with its
        parent when it was forked; None when the system does not say (workers of ``forkserver``).
    out_of_memory : bool
        Whether it was killed, and the system has counted a process of this cgroup that it killed as
        memory ran out, since the pool's last death or beginning.
    stack : str or None
        What :mod:`faulthandler` wrote as the worker crashed: the stacks of its threads.
    deaths : int
        How many workers have died of this item: 1, or more with ``retries``.
    """

    def __init__(
        self,
        pid: int,
        exitcode: int | None,
        task: str,
        peak_memory: int | None = None,
        out_of_memory: bool = False,
        stack: str | None = None,
        deaths: int = 1,
    ) -> None:
        super().__init__(pid, exitcode, task, peak_memory, out_of_memory, stack, deaths)
        self.pid = pid
        self.exitcode = exitcode
        self.task = task
        self.peak_memory = peak_memory
        self.out_of_memory = out_of_memory
        self.stack = stack
        self.deaths = deaths

    def __str__(self) -> str:
        text = f"worker {self.pid} {describe_exit(self.exitcode)} while it ran {self.task}"
        if self.deaths > 1:
            text += f"; {self.deaths} workers have died of it"
        if self.peak_memory:
            text += f"; it had at most {self.peak_memory / 2**20:.0f} MiB of memory"
        if self.out_of_memory:
            text += "; the system's out-of-memory killer ended a process of this cgroup"
        elif self.exitcode == -signal.SIGKILL:
            text += "; SIGKILL without a sender of yours is often the system's out-of-memory killer"
        if self.stack:
            text += f"\n\n{self.stack.rstrip()}"
        return text


class TaskTimeoutError(FastpoolError, builtins.TimeoutError):
    """An item ran longer than its call's ``timeout``, and was stopped.

    Attributes
    ----------
    task : str
        Which item of which call, in words.
    timeout : float or None
        How long it was allowed to take, in seconds.
    """

    def __init__(self, task: str = "a task", timeout: float | None = None) -> None:
        super().__init__(task, timeout)
        self.task = task
        self.timeout = timeout

    def __str__(self) -> str:
        limit = "its timeout" if self.timeout is None else f"its timeout of {self.timeout:g} s"
        return f"{self.task} ran longer than {limit} and was stopped"


class TaskCancelledError(FastpoolError):
    """The call was cancelled with ``AsyncResult.cancel()``."""


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


class FallbackWarning(RuntimeWarning):
    """The pools are the standard library's, for want of a native core or by ``FASTPOOL_DISABLE``.

    Comes once in a process: where it makes the first one, or asks for fastpool's instead of others.
    """


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
