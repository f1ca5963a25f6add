"""cancel() of maps and iterators; and nothing is left of what was cancelled."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import Any

import pytest
from helpers import tasks
from helpers.endings import busy, is_cancelled
from helpers.pool_health import whole
from helpers.pool_memory import settled_bytes
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


# --- many items -----------------------------------------------------------------------------------


def test_a_map_that_is_half_done(impl: Any, pool_factory: Any, gate: Any, traces: Any) -> None:
    pool = pool_factory(1)
    work = [(str(traces), i) for i in range(4)]
    result = pool.map_async(
        _mark_or_wait, [*work, gate.path, *((str(traces), i) for i in range(5, 9))], 2
    )
    wait_until(lambda: gate.arrivals() == 1)
    assert result.cancel() is True
    is_cancelled(impl, result)
    gate.open()
    assert pool.apply(tasks.square, (2,)) == 4
    # The chunk that ran was left alone; what was behind it never began.
    assert sorted(os.listdir(traces)) == ["0", "1", "2", "3", "5"]


def test_a_map_that_is_half_done_is_stopped_with_kill(
    impl: Any, pool_factory: Any, gate: Any, traces: Any
) -> None:
    pool = pool_factory(2)
    work = [(str(traces), 0), gate.path, (str(traces), 2), (str(traces), 3), gate.path]
    work += [(str(traces), i) for i in range(5, 4000)]
    result = pool.map_async(_mark_or_wait, work, 3)
    wait_until(lambda: gate.arrivals() == 2)
    assert result.cancel(kill=True) is True
    is_cancelled(impl, result)
    whole(pool, 2)
    assert sorted(os.listdir(traces)) == ["0", "3"]


def _mark_or_wait(item: Any) -> Any:
    return tasks.pass_gate(item) if isinstance(item, str) else tasks.mark_item(item)


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
@pytest.mark.parametrize("source", ["list", "generator"])
@pytest.mark.parametrize("kill", [False, True])
def test_an_iterator(
    impl: Any, pool_factory: Any, traces: Any, gate: Any, kind: str, source: str, kill: bool
) -> None:
    pool = pool_factory(1)
    work = [*((str(traces), i) for i in range(3)), gate.path]
    work += [(str(traces), i) for i in range(4, 500)]
    results = getattr(pool, kind)(_mark_or_wait, iter(work) if source == "generator" else work)
    assert next(results) == 0
    wait_until(lambda: gate.arrivals() == 1)
    assert results.cancel(kill) is True
    assert results.cancelled()
    found = []
    with pytest.raises(impl.module.TaskCancelledError):
        while True:
            found.append(results.next(5))
    assert found == [1, 2][: len(found)]
    with pytest.raises(StopIteration):
        next(results)
    assert results.cancel() is False
    if not kill:
        gate.open()
    whole(pool, 1)
    assert sorted(os.listdir(traces)) == ["0", "1", "2"]


def test_an_iterator_that_somebody_waits_for(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    results = pool.imap(tasks.pass_gate, [gate.path] * 5)
    waiting = InThread(next, results)
    wait_until(lambda: gate.arrivals() == 1)
    assert results.cancel(kill=True)
    with pytest.raises(impl.module.TaskCancelledError):
        waiting.outcome()
    whole(pool, 1)


def test_an_endless_iterable_is_not_read_any_more(pool_factory: Any) -> None:
    pool = pool_factory(2)
    read: list[int] = []
    results = pool.imap(tasks.square, (read.append(i) or i for i in itertools.count()))
    assert next(results) == 0
    assert results.cancel(kill=True)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.endswith("-feeder")])
    count = len(read)
    whole(pool, 2)
    assert len(read) == count


# --- what is left ---------------------------------------------------------------------------------


def test_memory_comes_back(pool_factory: Any, gate: Any) -> None:
    import numpy as np

    pool = pool_factory(2)
    large = np.zeros(1_000_000)
    for kill in (False, True):
        gate_of = gate.path if not kill else gate.path + "-2"
        os.makedirs(gate_of, exist_ok=True)
        held = pool.map_async(_wait_with, [(gate_of, large + i) for i in range(2)], 1)
        wait_until(lambda path=gate_of: len(os.listdir(path)) == 2)
        queued = [pool.apply_async(tasks.identity, (large + i,)) for i in range(4)]
        many = pool.map_async(tasks.identity, [large] * 10, 1)
        stream = pool.imap(tasks.identity, [large + i for i in range(3)])
        assert pool.stats().bytes_in_use > 4 * large.nbytes
        for result in [*queued, many, stream, held]:
            assert result.cancel(kill)
        if not kill:
            gate.open()
        del result, queued, many, stream, held
        settled_bytes(pool, 0)


def _wait_with(item: Any) -> Any:
    tasks.pass_gate(item[0])
    return item[1]


def test_close_and_join_with_cancelled_work(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(2)
    (held,) = busy(pool, gate)
    queued = [pool.apply_async(tasks.square, (i,)) for i in range(10)]
    many = pool.map_async(tasks.nap, [60] * 2000, 1)
    stream = pool.imap(tasks.nap, itertools.repeat(60))
    wait_until(lambda: [info.state for info in pool.workers()] == ["busy"] * 2)
    pool.close()
    for result in [*queued, many, stream, held]:
        result.cancel(kill=True)
    begin = time.monotonic()
    pool.join()
    assert time.monotonic() - begin < 2
    is_cancelled(impl, many)
    is_cancelled(impl, held)


@pytest.mark.parametrize("ending", ["close", "terminate"])
def test_cancelling_after_the_end(impl: Any, pool_factory: Any, ending: str) -> None:
    pool = pool_factory(1)
    results = [pool.apply_async(tasks.nap, (0.1,)) for _ in range(3)]
    stream = pool.imap(tasks.square, range(3))
    getattr(pool, ending)()
    pool.join()
    for result in results:
        assert result.cancel(kill=True) is False
        assert not result.cancelled()
    assert stream.cancel() is False
    if ending == "close":
        assert [result.get(0) for result in results] == [None] * 3
        assert list(stream) == [0, 1, 4]
    else:
        with pytest.raises(impl.module.PoolTerminatedError):
            results[-1].get(0)


def test_a_cancelled_call_is_not_tried_again(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1, retries=5)
    (held,) = busy(pool, gate)
    assert held.cancel(kill=True)
    whole(pool, 1)
    assert gate.arrivals() == 1
