"""cancel(): queued work never begins, running work is left alone or stopped, and nothing is left."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
import time
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.mishaps import runs
from helpers.pool_memory import settled_bytes
from helpers.procs import wait_until
from helpers.threads import InThread

from tests.failure.test_worker_death import whole

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


def is_cancelled(impl: Any, result: Any) -> None:
    """It says so in every way, at once."""
    assert result.cancelled() is True
    assert result.ready()
    assert result.successful() is False
    with pytest.raises(impl.module.TaskCancelledError, match="was cancelled"):
        result.get(0)


def busy(pool: Any, gate: Any, count: int = 1) -> list[Any]:
    """Have so many workers hold a task."""
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(count)]
    wait_until(lambda: gate.arrivals() == count)
    return held


def idle(pool: Any, size: int, timeout: float = 5) -> None:
    wait_until(
        lambda: [info.state for info in pool.workers()] == ["idle"] * size,
        timeout,
        lambda: pool.workers(),
    )


# --- one call ---------------------------------------------------------------------------------------


def test_a_queued_call_never_begins(impl: Any, pool_factory: Any, gate: Any, traces: Any) -> None:
    pool = pool_factory(1)
    held = busy(pool, gate)
    queued = [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(6)]
    for i in (0, 2, 5):
        assert queued[i].cancel() is True
        is_cancelled(impl, queued[i])
        assert queued[i].cancel() is False, "it has completed"
    gate.open()
    assert held[0].get(10) == 0
    assert [queued[i].get(10) for i in (1, 3, 4)] == [1, 3, 4]
    assert pool.apply(tasks.square, (3,)) == 9
    assert sorted(os.listdir(traces)) == ["1", "3", "4"]
    assert not queued[1].cancelled()


def test_a_call_that_waits_for_room_in_the_queue_never_begins(
    impl: Any, pool_factory: Any, gate: Any, traces: Any
) -> None:
    pool = pool_factory(1)
    busy(pool, gate)
    results = [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(3000)]
    for result in results[1::2]:
        assert result.cancel()
    gate.open()
    assert [result.get(15) for result in results[::2]] == list(range(0, 3000, 2))
    assert sorted(map(int, os.listdir(traces))) == list(range(0, 3000, 2))


def test_a_running_call_is_left_alone(pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    (held,) = busy(pool, gate)
    assert held.cancel() is False
    assert not held.cancelled() and not held.ready()
    gate.open()
    assert held.get(10) == 0


@pytest.mark.parametrize("how", list(mishaps.HANGS))
def test_a_running_call_is_stopped_with_kill(impl: Any, pool_factory: Any, how: str) -> None:
    pool = pool_factory(2)
    result = pool.apply_async(mishaps.hang_named, (how,))
    wait_until(lambda: "busy" in [info.state for info in pool.workers()])
    assert result.cancel(kill=True) is True
    is_cancelled(impl, result)
    idle(pool, 2, 2)
    whole(pool, 2)


def test_under_every_start_method(
    impl: Any, pool_factory: Any, start_method: str, gate: Any
) -> None:
    pool = pool_factory(1)
    (held,) = busy(pool, gate)
    queued = pool.apply_async(tasks.square, (2,))
    assert queued.cancel()
    assert held.cancel(kill=True)
    is_cancelled(impl, held)
    whole(pool, 1)


def test_a_call_that_is_done_can_not_be_cancelled(pool_factory: Any) -> None:
    pool = pool_factory(1)
    done = pool.apply_async(tasks.square, (3,))
    failed = pool.apply_async(tasks.raise_value_error, (3,))
    done.wait(10)
    failed.wait(10)
    for kill in (False, True):
        assert done.cancel(kill) is False and not done.cancelled()
        assert failed.cancel(kill) is False and not failed.cancelled()
    assert done.get(0) == 9
    with pytest.raises(ValueError):
        failed.get(0)


def test_a_call_with_a_timeout_can_be_cancelled(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    result = pool.apply_async(tasks.nap, (60,), timeout=0.5)
    queued = pool.apply_async(tasks.nap, (60,), timeout=0.5)
    wait_until(lambda: "busy" in [info.state for info in pool.workers()])
    assert queued.cancel()
    assert result.cancel(kill=True)
    is_cancelled(impl, result)
    is_cancelled(impl, queued)
    time.sleep(0.7)  # past the limit
    is_cancelled(impl, result)
    whole(pool, 1)


# --- callbacks --------------------------------------------------------------------------------------


def test_a_cancelled_call_calls_its_error_callback_once(
    impl: Any, pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(1)
    good: list[Any] = []
    bad: list[Any] = []
    running = pool.apply_async(
        tasks.pass_gate, (gate.path,), callback=good.append, error_callback=bad.append
    )
    wait_until(lambda: gate.arrivals() == 1)
    queued = pool.apply_async(
        tasks.square, (1,), callback=good.append, error_callback=bad.append
    )
    queued.cancel()
    running.cancel(kill=True)
    queued.wait(5)
    running.wait(5)
    assert [type(error) for error in bad] == [impl.module.TaskCancelledError] * 2
    assert not good


def test_a_callback_may_cancel(impl: Any, pool_factory: Any, traces: Any, gate: Any) -> None:
    """Others, and its own call: that is done."""
    pool = pool_factory(2)
    (held,) = busy(pool, gate)
    answers: list[Any] = []
    victims: list[Any] = []
    done = threading.Event()

    def callback(_value: Any) -> None:
        answers.append(held.cancel(kill=True))
        answers.extend(victim.cancel() for victim in victims)
        answers.append(first.cancel())
        done.set()

    first = pool.apply_async(tasks.nap, (0.2,), callback=callback)
    victims += [pool.apply_async(tasks.mark_and_return, (str(traces), i)) for i in range(5)]
    assert done.wait(5)
    assert answers[0] is True and answers[-1] is False
    for victim, cancelled in zip(victims, answers[1:-1], strict=True):
        if cancelled:
            is_cancelled(impl, victim)
        else:
            victim.get(5)
    whole(pool, 2)


# --- from other threads -----------------------------------------------------------------------------


def test_a_thread_that_waits_is_told(impl: Any, pool_factory: Any, gate: Any) -> None:
    pool = pool_factory(1)
    (held,) = busy(pool, gate)
    queued = pool.map_async(tasks.square, range(10))
    waiting = [InThread(result.get) for result in (held, held, queued)]
    time.sleep(0.05)
    begin = time.monotonic()
    assert queued.cancel()
    assert held.cancel(kill=True)
    for thread in waiting:
        with pytest.raises(impl.module.TaskCancelledError):
            thread.outcome()
    assert time.monotonic() - begin < 0.3


@pytest.mark.parametrize("kill", [False, True])
def test_cancelling_races_with_completion(
    impl: Any, pool_factory: Any, traces: Any, kill: bool
) -> None:
    """True: no result. False: it ran once. Without kill also: True means that it never began."""
    pool = pool_factory(2)
    random.seed(kill)
    count = 150 if kill else 1500
    results: list[Any] = [None] * count
    answers: list[Any] = [[] for _ in range(count)]
    submitted = threading.Semaphore(0)
    order = itertools.count()

    def cancel_some() -> None:
        while True:
            submitted.acquire()
            i = next(order)
            if i >= count:
                return
            for _ in range(random.randrange(40)):
                pass
            answers[i].append(results[i].cancel(kill))

    threads = [threading.Thread(target=cancel_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(count):
        results[i] = pool.apply_async(mishaps.run_once_more, (str(traces), i))
        submitted.release()
        if i % 16 == 0:
            time.sleep(0.0005)
    for _ in threads:
        submitted.release()
    for thread in threads:
        thread.join(10)
    for i, result in enumerate(results):
        (answer,) = answers[i]
        assert result.cancelled() is answer
        if answer:
            is_cancelled(impl, result)
        else:
            assert result.get(10) == 0
    whole(pool, 2)
    ran = runs(traces)
    for i in range(count):
        if not answers[i][0]:
            assert ran.get(i) == 1
        elif kill:
            assert ran.get(i, 0) <= 1
        else:
            assert i not in ran


def test_a_call_that_is_killed_just_as_it_begins_does_not_run_on(
    impl: Any, pool_factory: Any
) -> None:
    """The worker has claimed it, and may not have said so yet."""
    pool = pool_factory(2, blocktime=0.01)
    for i in range(150):
        result = pool.apply_async(tasks.nap, (60,))
        for _ in range(10 * (i % 40)):
            pass
        assert result.cancel(kill=True)
    idle(pool, 2, 3)
    whole(pool, 2)


# --- many items -------------------------------------------------------------------------------------


def test_a_map_that_is_half_done(impl: Any, pool_factory: Any, gate: Any, traces: Any) -> None:
    pool = pool_factory(1)
    work = [(str(traces), i) for i in range(4)]
    result = pool.map_async(_mark_or_wait, [*work, gate.path, *((str(traces), i) for i in range(5, 9))], 2)
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


# --- what is left -----------------------------------------------------------------------------------


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


# --- Ctrl-C -----------------------------------------------------------------------------------------

INTERRUPTED = """
    import os, signal, sys, time
    from fastpool import Pool
    from helpers import mishaps, procs, tasks

    class Alarm(Exception):
        pass

    def alarm(signum, frame):
        raise Alarm

    class Slow:
        def __reduce__(self):
            print("SENDING", flush=True)
            time.sleep(60)
            return int, ()

    if __name__ == "__main__":
        signal.signal(signal.SIGUSR1, alarm)
        with Pool(2) as pool:
            pool.map(tasks.square, range(100))
            print("READY", flush=True)
            try:
                {call}
            except (KeyboardInterrupt, Alarm) as error:
                print(type(error).__name__, flush=True)
            begin = time.monotonic()
            procs.wait_until(lambda: [i.state for i in pool.workers()] == ["idle"] * 2, 10)
            print("idle", time.monotonic() - begin < 1.2)
            print(pool.map(tasks.square, range(4), 1))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize(
    "call",
    [
        "pool.map(tasks.nap, [60] * 8, 2)",
        "pool.starmap(tasks.nap, [(60,)] * 8)",
        "pool.apply(mishaps.catch_everything)",
        "pool.map(mishaps.hang_named, ['C without the GIL'] * 5000, 1)",
    ],
)
def test_an_interrupted_call_stops_what_runs(run_script: Any, call: str, signum: int) -> None:
    script = run_script(INTERRUPTED.format(call=call), stdin=subprocess.DEVNULL)
    script.wait_for("READY")
    time.sleep(0.3)  # it may be anywhere in the call
    os.kill(script.pid, signum)
    name = "KeyboardInterrupt" if signum == signal.SIGINT else "Alarm"
    assert script.finish().splitlines()[-3:] == [name, "idle True", "[0, 1, 4, 9]"]


def test_a_call_that_is_interrupted_while_it_sends_stops_what_runs(run_script: Any) -> None:
    script = run_script(INTERRUPTED.format(call="pool.map(mishaps.nap_or, [60, 60, Slow(), 3], 1)"))
    script.wait_for("SENDING")
    os.kill(script.pid, signal.SIGINT)
    assert script.finish().splitlines()[-3:] == ["KeyboardInterrupt", "idle True", "[0, 1, 4, 9]"]
