"""One standing pool for the tests of a file, and none after them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

pytest.importorskip("joblib", minversion="1.3")

from helpers import procs

from fastpool import joblib_backend


@pytest.fixture(scope="module", autouse=True)
def _no_pool_is_left(_standing_helpers: None) -> Iterator[None]:
    before = procs.Snapshot()
    yield
    joblib_backend.end_pool()

    def nothing_left() -> bool:
        gc.collect()
        return not before.left_since()

    procs.wait_until(nothing_left, 5.0, before.left_since)
