from collections.abc import Callable
from typing import Any

from fastpool._core._jobs import Job
from fastpool._core._submit import Dispatcher

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
    @property
    def _length(self) -> int: ...
    def _items_done(self, d: Dispatcher) -> int: ...

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
