"""A pool that went through something: it has its workers again, and they work."""

from __future__ import annotations

from typing import Any

from helpers import tasks
from helpers.procs import wait_until


def size(pool: Any, count: int) -> None:
    """The pool comes to have this many workers, all of them alive, and no others."""
    wait_until(
        lambda: (
            len(pool._pool) == count
            and all(worker.is_alive() for worker in list(pool._pool))
            and len(pool.workers()) == count
        ),
        what=lambda: f"{count} living workers: {pool._pool} {pool.workers()}",
    )


def whole(pool: Any, count: int) -> None:
    """The pool has its size again, all its workers live, and all calls work."""
    size(pool, count)
    assert pool.apply(tasks.add, (1, 2)) == 3
    assert pool.map(tasks.square, range(100)) == [i * i for i in range(100)]
    assert pool.map(tasks.square, range(20), 1) == [i * i for i in range(20)]
    assert list(pool.imap(tasks.square, range(20))) == [i * i for i in range(20)]
