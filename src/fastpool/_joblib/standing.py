"""The pool that stands between calls: starting workers takes longer than many a call."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from typing import Any

from fastpool.pool import Pool

#: How often the thread that ends idle pools looks at one that is in use.
LOOK_SECONDS = 300.0


#: Nobody spins: joblib's own work between two batches takes longer than to wake a sleeper, and who
#: spins is no sooner back where others want the CPU. And workers are daemonic, as a Pool's are: one
#: that has processes of loky's waits for these when it ends, for minutes.
DEFAULTS = {"blocktime": 0}


@dataclass(frozen=True)
class Settings:
    """What a pool is made with, beside its number of workers."""

    context: BaseContext
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, processes: int) -> Pool:
        """Start a pool."""
        return Pool(
            processes,
            self.initializer,
            self.initargs,
            context=self.context,
            **{**DEFAULTS, **self.options},
        )


class Lease:
    """The use of a pool by one call."""

    def __init__(self, standing: _Standing, processes: int, idle_seconds: float) -> None:
        self._standing = standing
        self.pool = standing.pool
        self.processes = processes
        self.idle_seconds = idle_seconds
        #: The call is over. Whoever only says so, as a finalizer in whatever thread, need not wait
        #: for the lock: it is seen the next time that somebody looks.
        self.is_over = False

    def end(self) -> None:
        """Give it back."""
        self.is_over = True
        with _lock:
            self._standing.look()


class _Standing:
    """A pool and its tenants; everything under the lock."""

    def __init__(self, settings: Settings, processes: int) -> None:
        self._settings = settings
        self.pool = settings.make(processes)
        self._size = processes
        self._tenants: list[Lease] = []
        self._retired = False
        self.deadline = float("inf")  # of an idle pool

    def serves(self, settings: Settings) -> bool:
        """Whether it is what these settings ask for, and works."""
        try:
            same = bool(self._settings == settings)
        except Exception:  # arguments that can't be compared, such as arrays
            same = False
        return same and not self._is_broken()

    def _is_broken(self) -> bool:
        """Whether every call fails; an idle worker is told of one that does nothing."""
        try:
            probe = self.pool.apply_async(os.getpid)
        except ValueError:  # somebody has ended it
            return True
        return probe.ready() and not probe.successful()

    def let(self, processes: int, idle_seconds: float) -> Lease:
        """Have another tenant.

        Raises
        ------
        ValueError
            If the pool can't have so many workers.
        """
        self.look()
        # As many workers as the largest of the calls that share it asks for.
        size = max([processes, *(tenant.processes for tenant in self._tenants)])
        if size != self._size:
            self.pool.resize(size)
            self._size = size
        lease = Lease(self, processes, idle_seconds)
        self._tenants.append(lease)
        self.deadline = float("inf")
        return lease

    def look(self) -> None:
        """Let go of tenants that have left; the last one's wish says when an idle pool ends."""
        gone = [tenant for tenant in self._tenants if tenant.is_over]
        if not gone:
            return
        self._tenants = [tenant for tenant in self._tenants if tenant not in gone]
        if self._tenants:
            return
        if self._retired:
            self.end()
        else:
            self.deadline = time.monotonic() + gone[-1].idle_seconds
            _see_to_idle_pools(self.deadline)

    def retire(self) -> None:
        """End it, as soon as the last tenant has left."""
        self._retired = True
        self.look()
        if not self._tenants:
            self.end()

    def end(self) -> None:
        """Stop the workers."""
        self.pool.terminate()


_lock = threading.RLock()
_current: _Standing | None = None
_inherited: list[_Standing] = []  # the parent's, in a fork: not to be touched, nor to be dropped
_watch: _IdleWatch | None = None


def lease_pool(processes: int, settings: Settings, idle_seconds: float) -> Lease:
    """Return the use of the standing pool; it is made, made larger or smaller, or replaced.

    Raises
    ------
    TypeError, ValueError, OSError, MemoryError
        What ``Pool`` raises.
    """
    global _current
    with _lock:
        if _current is not None and _current.serves(settings):
            with contextlib.suppress(ValueError):  # more workers than it has room for
                return _current.let(processes, idle_seconds)
        end_pool()
        _current = _Standing(settings, processes)
        return _current.let(processes, idle_seconds)


def end_pool() -> None:
    """End the standing pool; calls that use it end before."""
    global _current
    with _lock:
        if _current is not None:
            _current.retire()
            _current = None
        if _watch is not None:
            _watch.heed(0.0)  # it has nothing to watch


class _IdleWatch(threading.Thread):
    """Ends the standing pool when nobody has used it for long."""

    def __init__(self) -> None:
        super().__init__(name="fastpool-joblib-idle", daemon=True)
        self._sooner = threading.Event()
        self.wakes_at = 0.0

    def run(self) -> None:
        global _watch
        while True:
            with _lock:
                if _current is not None:
                    _current.look()
                    if _current.deadline <= time.monotonic():
                        end_pool()
                if _current is None:
                    _watch = None
                    return
                self.wakes_at = min(_current.deadline, time.monotonic() + LOOK_SECONDS)
                self._sooner.clear()
            self._sooner.wait(max(0.0, self.wakes_at - time.monotonic()))

    def heed(self, deadline: float) -> None:
        """There is a deadline; this thread need not be woken for one that it will look at."""
        if deadline < self.wakes_at:
            self._sooner.set()


def _see_to_idle_pools(deadline: float) -> None:
    global _watch
    if _watch is None:
        _watch = _IdleWatch()
        _watch.start()
    _watch.heed(deadline)


def _end_at_exit() -> None:
    global _current
    with _lock:
        if _current is not None:
            _current.end()
            _current = None


def _begin_anew() -> None:
    """In a fork: the pool, and the lock that somebody may have held, are the parent's."""
    global _lock, _current, _watch
    _lock = threading.RLock()
    if _current is not None:
        _inherited.append(_current)
    _current = _watch = None


atexit.register(_end_at_exit)
os.register_at_fork(after_in_child=_begin_anew)
