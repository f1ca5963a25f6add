"""What the benchmarks and the fault cases ask of a pool, whichever it is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

Getter = Callable[..., Any]
"""Waits for a result, and returns it or raises; a time limit in seconds may be given."""

Call = Callable[[], Any]
"""Makes one blocking call from beginning to end."""


class NotOffered(Exception):
    """The pool has nothing of that kind."""


class Contender:
    """One pool of `workers` processes.

    Parameters
    ----------
    workers : int
    method : {"fork", "spawn"}, optional
        How workers start, where the pool lets its user choose; by default as the pool likes it, but
        ``fork`` where the interpreter's default decides.
    initializer : callable, optional
    own : bool
        Not one that other parts of the program may be using, too.
    """

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    methods: ClassVar[tuple[str, ...]] = ("fork", "forkserver", "spawn")  # ("",): no choice
    has_processes: ClassVar[bool] = True  # its tasks run in other processes than the caller's
    has_servers: ClassVar[bool] = False  # it starts servers, which need their seconds
    fewest: ClassVar[int] = 1  # workers; with less, its tasks run in the caller
    pool: Any

    def __init__(
        self,
        workers: int = 2,
        *,
        method: str | None = None,
        initializer: Callable[[], object] | None = None,
        own: bool = False,
    ) -> None:
        self.workers, self.method, self.initializer = workers, method, initializer
        self.own = own
        self.open()

    @classmethod
    def version(cls) -> str | None:
        """Its version, or None where it is not installed."""
        if not cls.distribution:
            return platform.python_version()
        if importlib.util.find_spec(cls.distribution) is None:
            return None
        try:
            return importlib.metadata.version(cls.distribution)
        except importlib.metadata.PackageNotFoundError:  # a folder of that name, or no metadata
            return None

    @classmethod
    def deaths(cls) -> tuple[type[BaseException], ...]:
        """The exceptions by which it tells that a worker died."""
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def submit(
        self, func: Callable[..., Any], *args: Any, callback: Callable[[Any], object] | None = None
    ) -> Getter:
        raise NotImplementedError

    def calling(self, func: Callable[..., Any], *args: Any) -> Call:
        """One task and its result, with as little as possible beside what the pool does."""
        submit = self.submit
        return lambda: submit(func, *args)()

    def mapping(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Call:
        """All items and the list of their results, in chunks as the pool likes them by default."""
        raise NotImplementedError

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        results: list[Any] = self.mapping(func, items)()
        return results

    def imap(self, func: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Its workers."""
        raise NotImplementedError

    def leave(self) -> None:
        """What the end of a ``with`` block does, and waiting for that where it doesn't."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Drop everything, running tasks too."""
        raise NotImplementedError

    def limited(self, seconds: float, func: Callable[..., Any], *args: Any) -> Getter:
        """Submit a task that may take so many seconds."""
        raise NotOffered

    def cancellable(self, func: Callable[..., Any], *args: Any) -> tuple[Getter, Getter]:
        """Submit a task; what waits for it, and what cancels it though it runs."""
        raise NotOffered

    def retried(self, retries: int, func: Callable[..., Any], *args: Any) -> Getter:
        """Submit a task that is tried again so often when its worker dies."""
        raise NotOffered
