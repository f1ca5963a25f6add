"""`await` of a result: its value or its exception, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.start_methods("fork")]


async def value_of(awaitable: Any) -> Any:
    return await awaitable


# --- values and exceptions ------------------------------------------------------------------------


def test_a_single_call_gives_its_value(pool: Any, run: Any) -> None:
    assert run(value_of(pool.apply_async(tasks.square, (3,)))) == 9


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_map_gives_its_list(pool: Any, run: Any, count: int) -> None:
    squares = [i * i for i in range(count)]
    assert run(value_of(pool.map_async(tasks.square, range(count)))) == squares
    pairs = [(i, i) for i in range(count)]
    assert run(value_of(pool.starmap_async(tasks.add, pairs))) == [2 * i for i in range(count)]


def test_a_map_that_the_queue_has_no_room_for_is_sent_to_its_end(pool: Any, run: Any) -> None:
    result = pool.map_async(tasks.square, range(5000), chunksize=1)
    assert run(value_of(result)) == [i * i for i in range(5000)]


def test_an_exception_brings_the_workers_traceback(pool: Any, run: Any) -> None:
    with pytest.raises(ValueError, match="no good") as caught:
        run(value_of(pool.apply_async(tasks.raise_value_error, ("no good",))))
    assert "in raise_value_error" in str(caught.value.__cause__)


def test_what_cannot_be_pickled_is_raised_where_it_is_awaited(pool: Any, run: Any) -> None:
    result = pool.apply_async(tasks.identity, (threading.Lock(),))
    with pytest.raises(TypeError, match="pickle"):
        run(value_of(result))


def test_a_finished_result_is_there_at_once(pool: Any) -> None:
    result = pool.apply_async(tasks.square, (4,))
    result.wait(10)
    with pytest.raises(StopIteration) as stop:
        value_of(result).send(None)  # without a loop, since there is nothing to wait for
    assert stop.value.value == 16


def test_a_result_can_be_awaited_again(pool: Any, run: Any) -> None:
    async def twice() -> Any:
        result = pool.apply_async(tasks.square, (5,))
        return await result, await result, result.get(0)

    assert run(twice()) == (25, 25, 25)


def test_the_death_of_a_worker_is_told(
    pool_factory: Any, impl: Any, run: Any, gate: Any, until: Any
) -> None:
    pool = pool_factory(1)

    async def killed() -> None:
        waiting = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path,)))
        await until(gate.arrivals)
        pool._pool[0].kill()
        await waiting

    with pytest.raises(impl.module.WorkerDiedError, match="SIGKILL"):
        run(killed())


# --- the loop meanwhile ---------------------------------------------------------------------------


def test_the_loop_runs_other_tasks_meanwhile(pool: Any, run: Any, gate: Any, until: Any) -> None:
    async def both() -> tuple[Any, Any]:
        held = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path, 7)))
        await until(gate.arrivals)
        other = await pool.apply_async(tasks.square, (6,))
        gate.open()
        return await held, other

    assert run(both()) == (7, 36)


def test_no_call_takes_a_thread_of_its_own(pool: Any, run: Any, gate: Any, until: Any) -> None:
    async def many() -> tuple[int, list[Any]]:
        calls = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(50)]
        before = threading.active_count()
        waiting = asyncio.gather(*calls)
        await until(gate.arrivals)
        more = threading.active_count() - before
        gate.open()
        return more, await waiting

    assert run(many()) == (0, list(range(50)))


def test_many_can_await_one_result(pool: Any, run: Any, gate: Any, until: Any) -> None:
    async def crowd() -> list[Any]:
        result = pool.apply_async(tasks.pass_gate, (gate.path, "it"))
        waiting = [asyncio.ensure_future(value_of(result)) for _ in range(20)]
        await until(gate.arrivals)
        gate.open()
        return await asyncio.gather(*waiting)

    assert run(crowd()) == ["it"] * 20


def test_two_loops_can_await_one_result(pool: Any, run: Any, gate: Any) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path, "it"))
    waiting: list[Any] = []

    async def value() -> Any:
        task = asyncio.ensure_future(value_of(result))
        await asyncio.sleep(0)
        waiting.append(task)
        return await task

    loops = [InThread(run, value()) for _ in range(2)]
    wait_until(lambda: gate.arrivals() and len(waiting) == 2)
    gate.open()
    assert [loop.outcome(10) for loop in loops] == ["it", "it"]


def test_a_thread_can_wait_for_what_a_loop_awaits(pool: Any, run: Any, gate: Any) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path, "it"))
    loop, thread = InThread(run, value_of(result)), InThread(result.get, 10)
    wait_until(gate.arrivals)
    gate.open()
    assert (loop.outcome(10), thread.outcome(10)) == ("it", "it")


def test_a_loop_that_was_closed_disturbs_nobody(pool: Any, gate: Any, traces: Any) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path, "it"))
    loop = asyncio.new_event_loop()
    task = loop.create_task(value_of(result))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    gate.open()
    assert result.get(10) == "it"
    assert pool.apply(tasks.square, (2,)) == 4


def test_a_loop_of_another_make_will_do(pool: Any) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def both() -> tuple[Any, list[Any]]:
        one = await asyncio.wait_for(pool.apply_async(tasks.nap, (0.02, 1)), 10)
        return one, [i async for i in pool.imap(tasks.nap, [0.02, 0.01])]

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(both()) == (1, [None, None])
    finally:
        loop.close()


def test_callbacks_are_called_before(pool: Any, run: Any, gate: Any, until: Any) -> None:
    seen: list[Any] = []

    async def awaited() -> Any:
        call = pool.apply_async(tasks.pass_gate, (gate.path, 3), callback=seen.append)
        waiting = asyncio.ensure_future(call)
        await until(gate.arrivals)
        gate.open()
        return await waiting, list(seen)

    assert run(awaited()) == (3, [3])


def test_a_callback_for_another_outcome_does_not_keep_the_news_back(pool: Any, run: Any) -> None:
    seen: list[Any] = []
    result = pool.apply_async(tasks.nap, (0.02, 3), error_callback=seen.append)
    assert run(value_of(result)) == 3
    assert seen == []


@pytest.mark.usefixtures("pool")
def test_importing_fastpool_does_not_import_asyncio(run_script: Callable[..., Any]) -> None:
    script = run_script("import sys, fastpool; print('asyncio' in sys.modules)")
    assert script.finish(20).strip() == "False"


# --- cancelling and time limits -------------------------------------------------------------------


def test_cancelling_the_task_cancels_what_is_queued(
    pool_factory: Any, run: Any, gate: Any, traces: Any, until: Any
) -> None:
    pool = pool_factory(1)

    async def cancelled() -> Any:
        held = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path, 1)))
        await until(gate.arrivals)
        queued = pool.apply_async(tasks.mark_and_return, (str(traces), "ran"))
        task = asyncio.ensure_future(queued)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        return queued.cancelled(), await held, await pool.apply_async(tasks.square, (2,))

    assert run(cancelled()) == (True, 1, 4)
    assert list(traces.iterdir()) == []


def test_a_single_call_that_runs_is_left_to_its_end(
    pool: Any, run: Any, gate: Any, until: Any
) -> None:
    async def left() -> Any:
        result = pool.apply_async(tasks.pass_gate, (gate.path, 5))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(result, 0.05)
        await until(gate.arrivals)
        gate.open()
        return result.cancelled(), await result

    assert run(left()) == (False, 5)


def test_time_that_is_over_cancels_the_rest_of_a_map(
    pool_factory: Any, impl: Any, run: Any, gate: Any, traces: Any, until: Any
) -> None:
    pool = pool_factory(1)

    async def late() -> Any:
        held = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path,)))
        await until(gate.arrivals)
        result = pool.map_async(tasks.mark_item, [(str(traces), i) for i in range(5)], 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(result, 0.05)
        gate.open()
        await held
        with pytest.raises(impl.module.TaskCancelledError):
            await result
        return await pool.apply_async(tasks.square, (2,))

    assert run(late()) == 4
    assert list(traces.iterdir()) == []


def test_as_long_as_somebody_awaits_it_a_call_is_not_cancelled(
    pool_factory: Any, run: Any, gate: Any, until: Any
) -> None:
    pool = pool_factory(1)

    async def one_leaves() -> Any:
        held = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path, 1)))
        await until(gate.arrivals)
        queued = pool.apply_async(tasks.square, (3,))
        stays, leaves = (asyncio.ensure_future(value_of(queued)) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.wait([leaves])
        gate.open()
        await held
        return leaves.cancelled(), await stays

    assert run(one_leaves()) == (True, 9)


def test_a_shield_keeps_a_call_from_being_cancelled(
    pool_factory: Any, run: Any, gate: Any, until: Any
) -> None:
    pool = pool_factory(1)

    async def shielded() -> Any:
        held = asyncio.ensure_future(pool.apply_async(tasks.pass_gate, (gate.path, 1)))
        await until(gate.arrivals)
        queued = pool.apply_async(tasks.square, (3,))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(queued), 0.05)
        gate.open()
        await held
        return await queued

    assert run(shielded()) == 9


def test_terminating_the_pool_is_told(pool_factory: Any, impl: Any, run: Any, gate: Any) -> None:
    pool = pool_factory(2)

    async def ended() -> list[Any]:
        calls = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(4)]
        calls.append(pool.map_async(tasks.pass_gate, [gate.path] * 4))
        waiting = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        ending = InThread(pool.terminate)
        errors = await waiting
        ending.outcome(10)
        return errors

    assert {type(error) for error in run(ended())} == {impl.module.PoolTerminatedError}


def test_a_closed_pool_still_gives_what_was_asked_for(pool_factory: Any, run: Any) -> None:
    pool = pool_factory(2)

    async def closing() -> Any:
        result = pool.apply_async(tasks.nap, (0.05, 8))
        pool.close()
        return await result

    assert run(closing()) == 8
    pool.join()


def test_a_forked_child_is_told_that_the_pool_is_not_its_own(
    pool: Any, run: Any, gate: Any
) -> None:
    result = pool.apply_async(tasks.pass_gate, (gate.path,))
    child = os.fork()
    if child == 0:
        try:
            run(value_of(result))
        except RuntimeError as error:
            os._exit(0 if "another process" in str(error) else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.open()
    assert result.get(10) is None
