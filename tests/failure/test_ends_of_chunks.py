"""A chunk ends in an unusual way: its results can't be sent, or are slow to be read."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

PARENT = os.getpid()


class Big:
    """Too large to be saved while its chunk runs."""

    def __init__(self) -> None:
        self.data = b"x" * (5 << 20)


class Deadly:
    """Kills who pickles it."""

    def __reduce__(self) -> Any:
        os._exit(3)


class Slow:
    """Takes its time when the parent reads it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return read_slowly, (Slow, self.number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slow) and other.number == self.number

    def __hash__(self) -> int:
        return self.number


class SlowExit(SystemExit):
    """The same of an exception that ends its worker."""

    def __reduce__(self) -> Any:
        return read_slowly, (SlowExit, 7)


def read_slowly(kind: Any, number: int) -> Any:
    if os.getpid() == PARENT:
        time.sleep(0.2)
    return kind(number)


def number_of_the_worker(pool: Any) -> int:
    return int(pool.workers()[0].name.rpartition("-")[2])


def big_or_deadly(item: int) -> Any:
    return {0: Big, 3: Deadly}.get(item, lambda: item)()


def slow_and_one_too_late(item: int) -> Slow:
    if item == 2:
        time.sleep(30)
    return Slow(item)


def exit_slowly_at_one(item: int) -> int:
    if item == 1:
        raise SlowExit(7)
    return item * 10


def lambda_and_one_too_late(item: int) -> Any:
    if item == 1:
        time.sleep(30)
    return (lambda: 0) if item == 0 else item


@pytest.mark.fastpool_only
def test_a_worker_that_dies_of_sending_a_chunk_is_not_replaced_for_ever(
    impl: Any, pool_factory: Any
) -> None:
    pool = pool_factory(1)
    before = number_of_the_worker(pool)
    result = pool.map_async(big_or_deadly, range(5), 5)
    with pytest.raises(impl.module.WorkerDiedError):
        result.get(10)
    assert pool.apply(abs, (-1,)) == 1
    assert number_of_the_worker(pool) == before + 1, "one death, one successor"


@pytest.mark.fastpool_only
def test_an_error_that_is_slow_to_read_is_its_items_own(pool_factory: Any) -> None:
    pool = pool_factory(1)
    for _ in range(3):
        found = pool.map(exit_slowly_at_one, range(5), 5, return_exceptions=True)
        assert [found[0], *found[2:]] == [0, 20, 30, 40]
        assert isinstance(found[1], SlowExit)


@pytest.mark.fastpool_only
def test_the_pool_may_be_terminated_while_an_error_is_read(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    result = pool.map_async(exit_slowly_at_one, range(5), 5, return_exceptions=True)
    stopper = threading.Timer(0.1, pool.terminate)
    stopper.start()
    try:
        result.get(10)
    except impl.module.PoolTerminatedError:
        pass
    stopper.join()


@pytest.mark.fastpool_only
def test_parts_of_a_chunk_that_are_slow_to_read_come_in_order(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    results = pool.imap(slow_and_one_too_late, range(5), 5, timeout=0.3)
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            break
        except impl.module.TaskTimeoutError as error:
            found.append(error)
    assert [*found[:2], *found[3:]] == [Slow(0), Slow(1), Slow(3), Slow(4)]
    assert isinstance(found[2], impl.module.TaskTimeoutError)


@pytest.mark.fastpool_only
def test_a_late_item_behind_one_that_cannot_be_sent(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    found = pool.map(lambda_and_one_too_late, range(4), 4, timeout=0.3, return_exceptions=True)
    assert isinstance(found[0], impl.module.MaybeEncodingError)
    assert isinstance(found[1], impl.module.TaskTimeoutError)
    assert found[2:] == [2, 3]
    with pytest.raises((impl.module.MaybeEncodingError, impl.module.TaskTimeoutError)):
        pool.map(lambda_and_one_too_late, range(4), 4, timeout=0.3)
    assert pool.apply(abs, (-1,)) == 1
