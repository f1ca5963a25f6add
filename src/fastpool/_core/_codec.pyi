from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from fastpool._core._blocks import Exchange

class Codec:
    def __new__(
        cls,
        exchange: Exchange,
        pack: Callable[[object], tuple[list[bytes], list[Any]]],
        loads: Callable[..., Any],
    ) -> Self: ...
    @property
    def pack(self) -> Callable[[object], tuple[list[bytes], list[Any]]]: ...
    @property
    def loads(self) -> Callable[..., Any]: ...
    @property
    def exchange(self) -> Exchange: ...
