from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from typing_extensions import Self

from fastpool._core._codec import Codec
from fastpool._core._functions import Functions
from fastpool._core._jobs import Job
from fastpool._core._receive import Receiver
from fastpool._core._segment import Heap, Segment

_T = TypeVar("_T")
_J = TypeVar("_J", bound=Job)

class Dispatcher(Receiver):
    explain: Any
    seeded: bool
    def __new__(
        cls,
        segment: Segment,
        heap: Heap,
        codec: Codec,
        remember: Callable[[object], bool],
        timeout_error: type[BaseException],
        min_block_ns: int,
        max_block_ns: int,
    ) -> Self: ...
    @property
    def functions(self) -> Functions: ...
    @property
    def unfinished(self) -> int: ...
    def disown(self) -> None: ...
    def poll_jobs(self) -> int: ...
    def queue_length(self) -> int: ...
    def stop_accepting(self) -> None: ...
    def attach_worker(self, slot: int) -> None: ...
    def watch(self) -> int | None: ...
    def hold(self) -> None: ...
    def let_go(self) -> None: ...
    def carry(self, func: Any) -> Any: ...
    def apply(
        self, func: Callable[..., _T], args: Iterable[Any], kwds: Mapping[str, Any]
    ) -> _T: ...
    def apply_async(
        self,
        cls: type[_J],
        pool: object,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[Any], object] | None,
        late: bool = False,
        limit: int = 0,
    ) -> _J: ...
    def service(self) -> bool: ...
