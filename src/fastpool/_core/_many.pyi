from collections.abc import Callable
from typing import Any, TypeVar

from fastpool._core._jobs import Job
from fastpool._core._submit import Dispatcher

_J = TypeVar("_J", bound=MapJob)

class ManyJob(Job):
    @property
    def _chunksize(self) -> int: ...
    @property
    def _length(self) -> int: ...
    def _items_done(self, d: Dispatcher) -> int: ...

class MapJob(ManyJob):
    def _get_or_drop(self) -> list[Any]: ...
    @property
    def _number_left(self) -> int: ...

def begin_map(
    d: Dispatcher,
    cls: type[_J],
    pool: object,
    func: Callable[..., Any],
    callback: Callable[[Any], object] | None,
    error_callback: Callable[[BaseException], object] | None,
    limit: int,
    items: Any,
    error: BaseException | None,
    chunksize: int,
    divisor: int,
    largest: int,
    star: bool,
    fill: bool,
    awaited: bool,
    out: Any,
    store: Callable[[int, Any], None] | None,
    catch: bool,
) -> _J: ...
