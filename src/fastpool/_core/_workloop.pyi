from collections.abc import Callable

from typing_extensions import Self

from fastpool._core._outbox import Outbox

class WorkLoop:
    def __new__(
        cls,
        outbox: Outbox,
        limit: int,
        memory_limit: int,
        stopped: Callable[[int], BaseException],
        min_block_ns: int,
        max_block_ns: int,
        seeder: Callable[[int, int], None] | None = None,
    ) -> Self: ...
    def run(self) -> None: ...
    def judge(self) -> None: ...
