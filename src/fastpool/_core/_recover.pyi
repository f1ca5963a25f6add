from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from fastpool._core._jobs import Job
from fastpool._core._submit import Dispatcher

TIMEOUT: int
CANCEL: int

class Recovery:
    def __new__(
        cls,
        dispatcher: Dispatcher,
        retries: int,
        make_cancelled: Callable[[Any], BaseException],
        make_timeout: Callable[[Any, int, BaseException | None], BaseException],
        stop: Callable[[int, int], None],
    ) -> Self: ...
    def settle_worker(
        self,
        slot: int,
        make_error: Callable[[Any, int, int], BaseException],
        overdue: int = 0,
        spare: bool = False,
    ) -> int: ...
    def cancel(self, job: Job, kill: bool) -> bool: ...
    def unfinished(self) -> list[Any]: ...
    def has_outliving(self) -> bool: ...
    def stopped(self, job: Job, index: int, error: BaseException) -> BaseException: ...
    def condemn(self, slot: int, ticket: int, since: int | None, verdict: int) -> None: ...
    def running(self, slot: int) -> tuple[int, int, int] | None: ...
    def is_held_by(self, slot: int, ticket: int) -> bool: ...
    def is_running(self, slot: int, ticket: int, since: int | None) -> bool: ...
