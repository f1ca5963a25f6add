"""Imports inside of functions, which no fork may cut in two.

A child that is forked while another thread of its parent imports a module would wait for that
thread, which it does not have, as soon as it imports the same module.
"""

from __future__ import annotations

import os
import threading

_lock = threading.RLock()


class NoFork:
    """A block in which no thread forks, but for the one that is in it."""

    def __enter__(self) -> None:
        self._held = _lock  # a child that is forked in here has another one
        self._held.acquire()

    def __exit__(self, *error: object) -> None:
        self._held.release()


def _before() -> None:
    _lock.acquire()


def _after_in_parent() -> None:
    _lock.release()


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # not released: who forks in C may not have called _before


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
