"""Calls in a thread of their own, waited for no longer than a test may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class InThread:
    """Begins to call the function at once; `outcome` is what it returns, or raises."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def outcome(self, timeout: float = 5.0) -> Any:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), f"{self._function} still runs after {timeout:g} s"
        if self._error is not None:
            raise self._error
        return self._value
