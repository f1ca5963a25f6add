"""What a worker is to the program's functions: its id, and its state."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class WorkerContext:
    """A worker as it sees itself: what :func:`fastpool.current_worker` returns.

    Attributes
    ----------
    id : int
        0 for the first worker of the pool, 1 for the next one, and so on. A replacement has the id
        of its predecessor.
    pool_size : int
        How many workers the pool was to have when this one was started.
    state : types.SimpleNamespace
        Empty at first; for what the worker's tasks share, such as a connection or a model.
    """

    __slots__ = ("id", "pool_size", "state")

    def __init__(self, worker_id: int, pool_size: int) -> None:
        self.id = worker_id
        self.pool_size = pool_size
        self.state: Any = SimpleNamespace()

    def __repr__(self) -> str:
        return f"<worker {self.id} of {self.pool_size}>"


Hook = Callable[[WorkerContext], object]

#: What this process is, if it is a worker.
_current: WorkerContext | None = None


def current_worker() -> WorkerContext:
    """Return the worker that this process is, with its ``id`` and its ``state``.

    Returns
    -------
    WorkerContext
        The same object in all tasks, and in ``initializer``, ``worker_init`` and ``worker_exit``.

    Raises
    ------
    RuntimeError
        In a process that is no worker of a pool, such as the one that made the pool.
    """
    if _current is None:
        raise RuntimeError("this process is no worker of a fastpool.Pool")
    return _current


def become(worker: WorkerContext) -> None:
    """In a new worker: this is what it is. What it forks is no worker."""
    global _current
    _current = worker
    os.register_at_fork(after_in_child=_forget_worker)


def _forget_worker() -> None:
    global _current
    _current = None
