"""A pool for the libraries that take one, and a process whose own pools are fastpool's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fastpool
from fastpool._runtime import accounts


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    with fastpool.Pool(2) as made:
        yield made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[accounts.Account]]:
    """Pools and executors of this process are fastpool's; the accounts of those that are made."""
    made: list[accounts.Account] = []
    monkeypatch.setattr(accounts, "_accounts", made)
    fastpool.install(executor=True)
    yield made
    fastpool.uninstall()
