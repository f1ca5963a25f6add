"""Event loops for tests: the running ones of the standard library's, and uvloop's where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

#: Seconds that anything awaited may take.
LIMIT = 20.0


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """`run(coroutine)` in a new loop, which is closed after that."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(coroutine, LIMIT))

    return run


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """`await until(condition)` lets the loop run meanwhile."""

    async def until(condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    return until
