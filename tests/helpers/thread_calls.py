"""What eight threads do to pools at once; each checks every value that it gets.

Used by a test for a moment, and by the thread fuzz for minutes. A turn is a function of two pools,
an executor, what other threads have left to be read, and a source of random numbers.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import fastpool
from helpers import tasks

WAIT = 60.0
"""Seconds that a result may take. Who waits longer has found a hang."""


class Ground(NamedTuple):
    """What the threads share."""

    pools: tuple[Any, Any]
    executor: Any
    handed_over: deque[tuple[Any, Any]]  # (result of another thread's call, its value)


Turn = Callable[[Ground, random.Random], object]
TURNS: list[Turn] = []


def turn(function: Turn) -> Turn:
    TURNS.append(function)
    return function


def pool_of(ground: Ground, rng: random.Random) -> Any:
    return rng.choice(ground.pools)


@turn
def one_call(ground: Ground, rng: random.Random) -> None:
    pool, x = pool_of(ground, rng), rng.randrange(10**6)
    assert pool.apply(tasks.add, (x, 1)) == x + 1
    assert pool.apply(tasks.Multiplier(x), (3,)) == 3 * x
    assert pool.apply(tasks.arguments, (x,), {"k": [x]}) == ((x,), {"k": [x]})


@turn
def many_calls(ground: Ground, rng: random.Random) -> None:
    pool, n = pool_of(ground, rng), rng.randrange(1, 300)
    chunk = rng.choice((None, 1, 7))
    assert pool.map(tasks.square, range(n), chunk) == [i * i for i in range(n)]
    texts = [f"{i:x}" * (i % 9) for i in range(n)]
    assert pool.map(tasks.identity, texts, chunk) == texts
    mixed = [{"i": i, "l": [i, None]} for i in range(n)]
    assert pool.map(tasks.identity, mixed, chunk) == mixed


@turn
def a_stream(ground: Ground, rng: random.Random) -> None:
    pool, n = pool_of(ground, rng), rng.randrange(1, 200)
    assert list(pool.imap(tasks.square, range(n), 3)) == [i * i for i in range(n)]
    assert sorted(pool.imap_unordered(tasks.square, iter(range(n)))) == [i * i for i in range(n)]


@turn
def a_stream_of_several_readers(ground: Ground, rng: random.Random) -> None:
    stream = pool_of(ground, rng).imap_unordered(tasks.square, range(60))
    found: list[int] = []

    def read() -> None:
        found.extend(stream)  # append and extend are atomic

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(WAIT)
        assert not reader.is_alive(), "a reader hangs"
    assert sorted(found) == [i * i for i in range(60)]


@turn
def for_others_to_read(ground: Ground, rng: random.Random) -> None:
    pool, x = pool_of(ground, rng), rng.randrange(1000)
    ground.handed_over.append((pool.apply_async(tasks.square, (x,)), x * x))
    ground.handed_over.append((pool.map_async(tasks.square, [x] * 9), [x * x] * 9))


@turn
def what_others_left(ground: Ground, _: random.Random) -> None:
    for _ in range(4):
        try:
            result, value = ground.handed_over.popleft()
        except IndexError:
            return
        result.wait(0)
        result.ready()
        assert result.get(WAIT) == value
        assert result.successful()


@turn
def callbacks(ground: Ground, rng: random.Random) -> None:
    seen: list[int] = []
    pool = pool_of(ground, rng)
    results = [pool.apply_async(tasks.square, (i,), callback=seen.append) for i in range(20)]
    assert [result.get(WAIT) for result in results] == [i * i for i in range(20)]
    assert sorted(seen) == [i * i for i in range(20)]


@turn
def errors(ground: Ground, rng: random.Random) -> None:
    pool = pool_of(ground, rng)
    for call in (pool.apply, pool.apply_async):
        try:
            result = call(tasks.raise_value_error, (7,))
            result.get(WAIT)
        except ValueError as error:
            assert error.args == (7,)
        else:
            raise AssertionError("no error")
    found = pool.map(tasks.raise_value_error, range(5), return_exceptions=True)
    assert [error.args for error in found] == [(i,) for i in range(5)]


@turn
def cancelled_by_another(ground: Ground, rng: random.Random) -> None:
    pool = pool_of(ground, rng)
    results = [pool.apply_async(tasks.square, (i,)) for i in range(10)]
    many = pool.map_async(tasks.square, range(200), 2)
    stream = pool.imap(tasks.square, range(200))
    other = threading.Thread(target=lambda: [call.cancel() for call in (*results, many, stream)])
    other.start()
    for i, result in enumerate(results):
        try:
            assert result.get(WAIT) == i * i
        except fastpool.TaskCancelledError:
            assert result.cancelled()
    try:
        assert many.get(WAIT) == [i * i for i in range(200)]
    except fastpool.TaskCancelledError:
        pass
    try:
        for i, value in enumerate(stream):
            assert value == i * i
    except fastpool.TaskCancelledError:
        pass
    other.join(WAIT)
    assert not other.is_alive(), "who cancels hangs"


@turn
def futures(ground: Ground, rng: random.Random) -> None:
    executor, told = ground.executor, deque[int]()
    made = [executor.submit(tasks.square, i) for i in range(20)]
    for future in made:
        future.add_done_callback(lambda future: told.append(future.result(0)))
    if rng.random() < 0.5:
        done, _ = concurrent.futures.wait(made, WAIT)
        assert len(done) == 20
    for future in concurrent.futures.as_completed(made, WAIT):
        assert future.result(0) in {i * i for i in range(20)}
    assert [future.result(WAIT) for future in made] == [i * i for i in range(20)]
    late = executor.submit(tasks.square, 5)
    assert late.cancel() or late.result(WAIT) == 25
    assert list(executor.map(tasks.add, range(9), range(9))) == [2 * i for i in range(9)]


@turn
def large_values(ground: Ground, rng: random.Random) -> None:
    pool, size = pool_of(ground, rng), rng.randrange(1, 300_000)
    data = bytes([size % 256]) * size
    results = [pool.apply_async(tasks.identity, (data,)) for _ in range(4)]
    for result in results:
        assert result.get(WAIT) == data
    shared = pool.apply(tasks.identity, ([data, data],))
    assert shared == [data, data]


@turn
def arrays(ground: Ground, rng: random.Random) -> None:
    try:
        import numpy
    except ImportError:
        return
    pool, size = pool_of(ground, rng), rng.randrange(1, 200_000)
    array = numpy.arange(size, dtype=float)
    result = pool.apply(tasks.identity, (array,))
    again = ground.pools[0].apply(tasks.identity, (result,))
    assert (again == array).all()
    kept = pool.map(tasks.identity, [array] * 3)
    assert all((each == array).all() for each in kept)
    mine = pool.zeros(10)
    assert pool.apply(tasks.identity, (mine,)).shape == (10,)
    # Dropped in another thread than the one that got it.
    threading.Thread(target=kept.clear).start()


@turn
def a_list_that_changes(ground: Ground, rng: random.Random) -> None:
    """Whoever changes an argument while it is sent gets some state of it, or an error; no crash."""
    inner = [0]
    items: list[Any] = [[i] for i in range(50)]
    stop = threading.Event()

    def change() -> None:
        for i in itertools.count():
            if stop.is_set():
                return
            items[i % 50] = [i]
            inner.append(i)
            if len(inner) > 20:
                del inner[:]

    other = threading.Thread(target=change)
    other.start()
    try:
        pool = pool_of(ground, rng)
        for _ in range(5):
            assert len(pool.map(tasks.identity, items, 10)) == 50
            assert isinstance(pool.apply(tasks.identity, (inner,)), list)
    finally:
        stop.set()
        other.join()


@turn
def a_pool_of_its_own(ground: Ground, rng: random.Random) -> None:
    if rng.random() < 0.9:  # it takes longer than all others
        return
    pool = fastpool.Pool(1)
    results = [pool.apply_async(tasks.square, (i,)) for i in range(20)]
    ending = rng.randrange(3)
    if ending == 0:
        pool.close()
        pool.join()
        assert [result.get(0) for result in results] == [i * i for i in range(20)]
    elif ending == 1:
        pool.terminate()
        for i, result in enumerate(results):
            try:
                assert result.get(0) == i * i
            except fastpool.PoolTerminatedError:
                pass
    else:
        pool._engine.was_ended = True  # dropped on purpose: no warning
        assert [result.get(WAIT) for result in results] == [i * i for i in range(20)]


def ended_meanwhile(pool: Any, end: Callable[[], object], threads: int = 4) -> None:
    """Some threads make calls until the pool ends; each gets its value or is told of the end."""
    stopped = (ValueError, fastpool.PoolTerminatedError)
    faults: list[BaseException] = []

    def call(k: int) -> None:
        try:
            for i in itertools.count():
                x = k * 1000 + i
                assert pool.apply(tasks.square, (x,)) == x * x
                assert pool.apply_async(tasks.square, (x,)).get(WAIT) == x * x
                assert pool.map(tasks.square, range(20)) == [j * j for j in range(20)]
                assert list(pool.imap(tasks.square, range(9))) == [j * j for j in range(9)]
        except stopped:
            pass
        except BaseException as error:
            faults.append(error)

    callers = [threading.Thread(target=call, args=(k,), daemon=True) for k in range(threads)]
    for caller in callers:
        caller.start()
    end()
    for caller in callers:
        caller.join(WAIT)
        assert not caller.is_alive(), "a caller hangs"
    pool.join()
    if faults:
        raise faults[0]
