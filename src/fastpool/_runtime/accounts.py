"""What the pools of this process have done, for a report at its end.

By default nobody asks; then nothing is kept, and the workers look at no clock.
"""

from __future__ import annotations

import importlib
import sys
import time
from types import FrameType

#: Whose frames are not where the program made a pool.
_MACHINERY = ("fastpool", "multiprocessing", "concurrent")


class Account:
    """One pool, or some of a kind: what its workers had done when they ended.

    Parameters
    ----------
    place : str
        File and line where the program made it.
    method : str
        How its workers start.
    processes : int
    """

    def __init__(self, place: str, method: str, processes: int) -> None:
        self.place = place
        self.method = method
        self.processes = processes
        self.pools = 1
        self.opened = time.monotonic()
        self.seconds = 0.0  # from its beginning to its end
        self.tasks = 0
        self.items = 0
        self.task_seconds = 0.0  # in tasks: a call, and what brings its arguments and results
        self.call_seconds = 0.0  # in the functions alone
        self.worker_seconds = 0.0  # the lives of its workers, added up

    def add(self, report: tuple[int, int, int, int], started: float) -> None:
        """A worker has ended, with this report, that began at this time."""
        tasks, items, task_ns, call_ns = report
        self.tasks += tasks
        self.items += items
        self.task_seconds += task_ns / 1e9
        self.call_seconds += call_ns / 1e9
        self.worker_seconds += time.monotonic() - started

    def close(self) -> None:
        """The pool has ended."""
        self.seconds = time.monotonic() - self.opened

    def merge(self, other: Account) -> None:
        """Take over what another one has in it."""
        self.pools += other.pools
        self.seconds += other.seconds
        self.tasks += other.tasks
        self.items += other.items
        self.task_seconds += other.task_seconds
        self.call_seconds += other.call_seconds
        self.worker_seconds += other.worker_seconds


_accounts: list[Account] | None = None


def keep() -> list[Account]:
    """Keep an account of each pool from now on; they appear in the list that is returned."""
    global _accounts
    importlib.import_module("fastpool._core._clocked")  # now: a forked worker shall import nothing
    _accounts = []
    return _accounts


def open_account(method: str, processes: int) -> Account | None:
    """An account for a new pool; None if none are kept."""
    if _accounts is None:
        return None
    account = Account(_place(sys._getframe(1)), method, processes)
    _accounts.append(account)
    return account


def _place(frame: FrameType | None) -> str:
    """The file and line in the program that led here."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _MACHINERY:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
