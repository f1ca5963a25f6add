"""The two implementations of one specification, behind one face."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.pool
from collections.abc import Callable
from typing import Any

IMPLEMENTATIONS = ("multiprocessing", "fastpool")
START_METHODS = ("fork", "spawn", "forkserver")


class Implementation:
    """Makes pools of one kind: `name` is the module to say `from ... import Pool` for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = importlib.import_module(name)

    @property
    def is_fastpool(self) -> bool:
        return self.name == "fastpool"

    @property
    def pool_class(self) -> type[multiprocessing.pool.Pool]:
        if self.is_fastpool:
            return self.module.Pool
        return multiprocessing.pool.Pool

    def make(self, *args: Any, start_method: str | None = None, **kwargs: Any) -> Any:
        """A pool whose workers are started by this method, through the public door."""
        if start_method is None:
            return self.module.Pool(*args, **kwargs)
        context = multiprocessing.get_context(start_method)
        if self.is_fastpool:
            return self.module.Pool(*args, context=context, **kwargs)
        return context.Pool(*args, **kwargs)

    def __repr__(self) -> str:
        return self.name


PoolFactory = Callable[..., Any]
