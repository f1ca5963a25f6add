from collections.abc import Callable

from typing_extensions import Self

from fastpool._core._codec import Codec
from fastpool._core._segment import Segment

class Outbox:
    def __new__(
        cls,
        segment: Segment,
        slot: int,
        codec: Codec,
        report: Callable[[BaseException], bytes],
        unsendable: Callable[[Exception, object], BaseException],
    ) -> Self: ...
    @property
    def segment(self) -> Segment: ...
    @property
    def codec(self) -> Codec: ...
    def post_init_error(self, error: BaseException) -> None: ...
