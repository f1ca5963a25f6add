"""The implementations of one specification, behind one face."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.pool
from collections.abc import Callable
from typing import Any

#: The module to say `from ... import Pool` for. The last one stands in where there is no core.
IMPLEMENTATIONS = {
    "multiprocessing": "multiprocessing",
    "fastpool": "fastpool",
    "fallback": "fastpool._standard.pool",
}
START_METHODS = ("fork", "spawn", "forkserver")


class Implementation:
    """Makes pools of one kind; its `name` is that of the module."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = IMPLEMENTATIONS[kind]
        self.module = importlib.import_module(self.name)

    @property
    def is_fastpool(self) -> bool:
        return self.name == "fastpool"

    @property
    def pool_class(self) -> type[multiprocessing.pool.Pool]:
        if self.name == "multiprocessing":
            return multiprocessing.pool.Pool
        return self.module.Pool

    def make(self, *args: Any, start_method: str | None = None, **kwargs: Any) -> Any:
        """A pool whose workers are started by this method, through the public door."""
        if start_method is None:
            return self.module.Pool(*args, **kwargs)
        context = multiprocessing.get_context(start_method)
        if self.name == "multiprocessing":
            return context.Pool(*args, **kwargs)
        return self.module.Pool(*args, context=context, **kwargs)

    def __repr__(self) -> str:
        return self.name


PoolFactory = Callable[..., Any]
