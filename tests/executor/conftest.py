"""Executors for tests: two workers unless said otherwise, and proved to leave nothing behind."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import procs

import fastpool

MakeExecutor = Callable[..., fastpool.ProcessPoolExecutor]


@pytest.fixture(scope="module")
def executor() -> Iterator[fastpool.ProcessPoolExecutor]:
    """One executor for all tests of a file that don't end it."""
    made = fastpool.ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    yield made
    made.terminate_workers()


@pytest.fixture
def make_executor(_standing_helpers: None) -> Iterator[MakeExecutor]:
    """`make_executor(2, ...)` makes an executor; after the test nothing of it may be left."""
    gc.collect()
    before = procs.Snapshot()
    made: list[fastpool.ProcessPoolExecutor] = []

    def make(
        workers: int = 2, start_method: str = "fork", **arguments: Any
    ) -> fastpool.ProcessPoolExecutor:
        context = multiprocessing.get_context(start_method)
        made.append(fastpool.ProcessPoolExecutor(workers, context, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.terminate_workers()
    made.clear()
    procs.wait_until(
        lambda: gc.collect() is not None and not before.left_since(), 5.0, before.left_since
    )
