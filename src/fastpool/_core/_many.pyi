from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from fastpool._core._submit import Job

class ManyJob(Job):
    @property
    def _chunksize(self) -> int: ...
    def _plan(
        self,
        items: Any,
        chunksize: int,
        divisor: int,
        largest: int,
        star: bool,
        fill: bool = False,
    ) -> None: ...

class MapJob(ManyJob):
    def _start(
        self,
        awaited: bool,
        out: Any = None,
        store: Callable[[int, Any], None] | None = None,
        catch: bool = False,
    ) -> None: ...
    def _get_or_drop(self) -> list[Any]: ...
    @property
    def _number_left(self) -> int: ...

class Failure:
    def __new__(cls, error: BaseException) -> Self: ...

class StreamJob(ManyJob):
    def _start(
        self,
        ordered: bool,
        limit: int,
        strict: bool,
        space: Callable[[], object] | None = None,
    ) -> None: ...
    def _room(self) -> int: ...
    def _push(self, batch: list[Any]) -> None: ...
    def _push_end(self, error: BaseException | None = None) -> None: ...

class Stream:
    _pool: Any
    def __init__(self, job: StreamJob, pool: object) -> None: ...
    @property
    def _chunksize(self) -> int: ...
    def cancel(self, kill: bool = False) -> bool: ...
    def cancelled(self) -> bool: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def next(self, timeout: float | None = None) -> Any: ...
