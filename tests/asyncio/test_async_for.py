"""`async for` over imap and its like: the results of the plain loop, and the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import tasks
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.start_methods("fork")]

IN_ORDER = pytest.mark.parametrize("method", ["imap", "istarmap"])
ALL = pytest.mark.parametrize(
    "method", ["imap", "imap_unordered", "istarmap", "istarmap_unordered"]
)


def stream_of(pool: Any, method: str, items: Any, **options: Any) -> Any:
    """The squares of the items."""
    if "star" in method:
        return getattr(pool, method)(tasks.square, zip(items), **options)
    return getattr(pool, method)(tasks.square, items, **options)


async def all_of(stream: Any) -> list[Any]:
    return [value async for value in stream]


@ALL
@pytest.mark.parametrize("chunksize", [1, 7])
def test_all_results_come(pool: Any, run: Any, method: str, chunksize: int) -> None:
    found = run(all_of(stream_of(pool, method, range(500), chunksize=chunksize)))
    if "unordered" in method:
        found.sort()
    assert found == [i * i for i in range(500)]


@ALL
def test_an_empty_one_ends(pool: Any, run: Any, method: str) -> None:
    assert run(all_of(stream_of(pool, method, iter(())))) == []
    assert run(all_of(stream_of(pool, method, []))) == []


def test_the_items_may_come_from_a_slow_iterable(pool: Any, run: Any, gate: Any) -> None:
    def slow() -> Iterator[int]:
        yield 1
        tasks.pass_gate(gate.path)
        yield 2

    async def read() -> tuple[Any, Any, list[Any]]:
        stream = pool.imap(tasks.square, slow())
        first = await stream.__anext__()
        second = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0.01)
        waits = not second.done()
        gate.open()
        return first, waits, [await second, *[rest async for rest in stream]]

    assert run(read()) == (1, True, [4])


def test_the_iterables_own_exception_comes_last(pool: Any, run: Any) -> None:
    def broken() -> Iterator[int]:
        yield 2
        raise LookupError("no more")

    async def read() -> list[Any]:
        found = []
        with pytest.raises(LookupError, match="no more"):
            async for value in pool.imap(tasks.square, broken()):
                found.append(value)
        return found

    assert run(read()) == [4]


@IN_ORDER
def test_it_goes_on_after_an_exception(pool: Any, run: Any, method: str) -> None:
    async def read() -> list[Any]:
        stream = stream_of(pool, method, [1, "x", 3])
        found: list[Any] = [await stream.__anext__()]
        with pytest.raises(TypeError) as caught:
            await stream.__anext__()
        found.append("in square" in str(caught.value.__cause__))
        return [*found, await stream.__anext__()]

    assert run(read()) == [1, True, 9]


def test_it_can_be_mixed_with_the_plain_loop(pool: Any, run: Any) -> None:
    async def read() -> list[Any]:
        stream = pool.imap(tasks.square, range(4))
        return [next(stream), await stream.__anext__(), next(stream), await stream.__anext__()]

    assert run(read()) == [0, 1, 4, 9]


def test_what_is_there_is_taken_without_a_turn_of_the_loop(pool: Any) -> None:
    stream = pool.imap(tasks.square, [3, 4])
    assert next(stream) == 9
    while not stream._is_ready():
        pass
    with pytest.raises(StopIteration) as stop:
        stream.__anext__().send(None)
    assert stop.value.value == 16


def test_a_stream_that_never_waits_lets_other_tasks_have_their_turn(pool: Any, run: Any) -> None:
    async def endless(stream: Any) -> None:
        async for _ in stream:
            while not stream._is_ready():  # so that it never has to wait
                pass

    async def both() -> Any:
        stream = pool.imap(tasks.nothing, itertools.count())
        task = asyncio.ensure_future(endless(stream))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), stream.cancelled()

    assert run(both()) == (True, True)


def test_several_readers_share_the_results(pool: Any, run: Any) -> None:
    async def share() -> list[Any]:
        stream = pool.imap_unordered(tasks.square, range(300))
        parts = await asyncio.gather(*[all_of(stream) for _ in range(5)])
        return list(itertools.chain.from_iterable(parts))

    assert sorted(run(share())) == [i * i for i in range(300)]


def test_the_loop_runs_other_tasks_meanwhile(pool: Any, run: Any, gate: Any, until: Any) -> None:
    async def both() -> tuple[Any, Any]:
        held = asyncio.ensure_future(all_of(pool.imap(tasks.pass_gate, [gate.path])))
        await until(gate.arrivals)
        other = await all_of(pool.imap(tasks.square, range(5)))
        gate.open()
        return other, await held

    assert run(both()) == ([0, 1, 4, 9, 16], [None])


def test_cancelling_the_task_cancels_what_is_queued(
    pool_factory: Any, impl: Any, run: Any, gate: Any, traces: Any, until: Any
) -> None:
    pool = pool_factory(1)

    async def cancelled() -> Any:
        held = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path, 1)))
        await until(gate.arrivals)
        stream = pool.imap(tasks.mark_item, [(str(traces), i) for i in range(10)])
        task = asyncio.ensure_future(all_of(stream))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        gate.open()
        await held
        with pytest.raises(impl.module.TaskCancelledError):
            await stream.__anext__()
        return task.cancelled(), await pool.apply_async(tasks.square, (2,))

    assert run(cancelled()) == (True, 4)
    assert list(traces.iterdir()) == []


def test_a_loop_that_is_left_early_can_be_closed(pool: Any, run: Any) -> None:
    async def first() -> Any:
        async with contextlib.aclosing(pool.imap(tasks.square, itertools.count(2))) as stream:
            async for value in stream:
                found = value
                break
        return found, stream.cancelled()

    assert run(first()) == (4, True)


def test_a_task_of_its_own_can_wait_longer_than_one_look(
    pool: Any, run: Any, gate: Any, until: Any
) -> None:
    async def peek() -> list[Any]:
        stream = pool.imap(tasks.pass_gate, [gate.path])
        coming = asyncio.ensure_future(stream.__anext__())
        done, _ = await asyncio.wait([coming], timeout=0.02)
        gate.open()
        return [len(done), await coming]

    assert run(peek()) == [0, None]


def test_terminating_the_pool_is_told(pool_factory: Any, impl: Any, run: Any, gate: Any) -> None:
    pool = pool_factory(1)

    async def ended() -> None:
        waiting = asyncio.ensure_future(all_of(pool.imap(tasks.pass_gate, [gate.path] * 3)))
        await asyncio.sleep(0)
        ending = InThread(pool.terminate)
        try:
            await waiting
        finally:
            ending.outcome(10)

    with pytest.raises(impl.module.PoolTerminatedError):
        run(ended())


def test_a_closed_pool_runs_to_its_end(pool_factory: Any, run: Any) -> None:
    pool = pool_factory(2)

    async def closing() -> list[Any]:
        stream = pool.imap(tasks.square, iter(range(3000)))
        pool.close()
        return await all_of(stream)

    assert run(closing()) == [i * i for i in range(3000)]
    pool.join()
