from collections.abc import Callable

from typing_extensions import Self

from fastpool._core._codec import Codec
from fastpool._core._segment import Segment

class WorkLoop:
    def __new__(
        cls,
        segment: Segment,
        slot: int,
        codec: Codec,
        report: Callable[[BaseException], bytes],
        report_unsendable: Callable[[Exception, object], bytes],
        limit: int,
        min_block_ns: int,
        max_block_ns: int,
    ) -> Self: ...
    def run(self) -> None: ...
    def post_init_error(self, error: BaseException) -> None: ...
