from collections.abc import Callable
from typing import final

from fastpool._core._codec import Codec
from fastpool._core._segment import Segment

@final
class WorkLoop:
    def __init__(
        self,
        segment: Segment,
        slot: int,
        codec: Codec,
        report: Callable[[BaseException], bytes],
        report_unsendable: Callable[[Exception, object], bytes],
        limit: int,
        min_block_ns: int,
        max_block_ns: int,
    ) -> None: ...
    def run(self) -> None: ...
    def post_init_error(self, error: BaseException) -> None: ...
