"""Two things at once: calls, ends and deaths that meet in the middle of pickling or unpickling."""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from helpers import procs, tasks
from helpers.procs import wait_until
from helpers.threads import InThread

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(15)]

# Every way of sending a thing; what is sent here gives 2, or 2 between 1 and 3.
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "apply": lambda pool, thing: [pool.apply(tasks.identity, (thing,))],
    "apply_async": lambda pool, thing: [pool.apply_async(tasks.identity, (thing,)).get()],
    "a keyword": lambda pool, thing: [pool.apply(tasks.add, (0,), {"b": thing})],
    "a function": lambda pool, thing: pool.map(functools.partial(tasks.add, thing), [0]),
    "map": lambda pool, thing: pool.map(tasks.identity, [1, thing, 3], 1),
    "map in one chunk": lambda pool, thing: pool.map(tasks.identity, [1, thing, 3], 3),
    "map_async": lambda pool, thing: pool.map_async(tasks.identity, [1, thing, 3], 1).get(),
    "starmap": lambda pool, thing: pool.starmap(tasks.add, [(1,), (thing,), (3,)], 1),
    "imap": lambda pool, thing: list(pool.imap(tasks.identity, [1, thing, 3])),
    "imap_unordered": lambda pool, thing: sorted(
        pool.imap_unordered(tasks.identity, [1, thing, 3])
    ),
    "imap of a generator": lambda pool, thing: list(pool.imap(tasks.identity, iter([1, thing, 3]))),
}
EVERY_CALL = pytest.mark.parametrize("kind", CALLS)


# --- while arguments are pickled -----------------------------------------------------------------


@EVERY_CALL
def test_terminate_while_an_argument_is_pickled_fails_the_call(
    impl: Any, pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(2)
    pickling, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        pickling.set()
        go_on.wait(10)

    call = InThread(CALLS[kind], pool, tasks.WhenPickled(meanwhile, 2))
    assert pickling.wait(5)
    pool.terminate()
    go_on.set()
    with pytest.raises(impl.module.PoolTerminatedError):
        call.outcome()
    pool.join()


@EVERY_CALL
def test_close_while_an_argument_is_pickled_lets_the_call_finish(
    pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(2)
    pickling, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        pickling.set()
        go_on.wait(10)

    call = InThread(CALLS[kind], pool, tasks.WhenPickled(meanwhile, 2))
    assert pickling.wait(5)
    pool.close()
    time.sleep(0.05)  # time for idle workers to leave, if the pool thought that all is done
    go_on.set()
    assert call.outcome() in ([2], [1, 2, 3])
    InThread(pool.join).outcome()


@pytest.mark.parametrize("kind", [kind for kind in CALLS if "generator" not in kind])
def test_ctrl_c_while_an_argument_is_pickled_leaves_a_pool_that_works_and_ends(
    pool_factory: Any, kind: str
) -> None:
    pool = pool_factory(2)
    interrupt = tasks.WhenPickled(lambda: signal.raise_signal(signal.SIGINT), 2)
    with pytest.raises(KeyboardInterrupt):
        CALLS[kind](pool, interrupt)
    assert pool.map(tasks.square, range(20), 1) == [i * i for i in range(20)]
    pool.close()
    InThread(pool.join).outcome()


@EVERY_CALL
def test_pickling_an_argument_may_use_the_pool(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    inner: list[Any] = []

    def meanwhile() -> None:
        inner.append(pool.map(tasks.square, range(20), 1))
        inner.append(list(pool.imap(tasks.square, range(20))))
        inner.append([pool.apply(tasks.square, (i,)) for i in range(20)])

    for _ in range(3):
        inner.clear()
        assert CALLS[kind](pool, tasks.WhenPickled(meanwhile, 2)) in ([2], [1, 2, 3])
        assert inner == [[i * i for i in range(20)]] * 3


def test_pickling_may_nest(pool_factory: Any) -> None:
    """Each argument's pickling sends the next one."""
    pool = pool_factory(2)
    seen: list[Any] = []

    def send(depth: int) -> None:
        if depth < 10:
            further = tasks.WhenPickled(lambda: send(depth + 1), depth)
            seen.append(pool.map(tasks.identity, ["before", further, "after"], 1))

    send(0)
    assert seen == [["before", depth, "after"] for depth in reversed(range(10))]


def test_pickling_may_let_other_threads_fill_the_queue(pool_factory: Any, gate: Any) -> None:
    """What was room for a task when its pickling began is none when it ends."""
    pool = pool_factory(2)
    held = [pool.apply_async(tasks.pass_gate, (gate.path, i)) for i in range(2)]
    wait_until(lambda: gate.arrivals() == 2)
    queued = [pool.apply_async(tasks.square, (i,)) for i in range(1000)]
    pickling, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        pickling.set()
        go_on.wait(10)

    mapped = InThread(pool.map, tasks.identity, [tasks.WhenPickled(meanwhile, i) for i in "ab"], 1)
    assert pickling.wait(5)
    queued += [pool.apply_async(tasks.square, (i,)) for i in range(1000, 3000)]
    go_on.set()
    gate.open()
    assert [result.get(10) for result in held] == [0, 1]
    assert [result.get(10) for result in queued] == [i * i for i in range(3000)]
    assert mapped.outcome() == ["a", "b"]


def test_many_threads_pickle_in_turns(pool_factory: Any) -> None:
    """Every argument's pickling lets another thread go on in the middle of its own."""
    pool = pool_factory(2)

    def work(k: int) -> Any:
        things = [tasks.WhenPickled(lambda: time.sleep(0), (k, i)) for i in range(300)]
        return pool.map(tasks.identity, things, 1 + k % 2)

    calls = [InThread(work, k) for k in range(4)]
    for k, call in enumerate(calls):
        assert call.outcome(10) == [(k, i) for i in range(300)]


# --- while results are unpickled -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["apply_async", "map", "imap"])
def test_a_result_stays_whole_while_it_is_unpickled_though_its_worker_is_replaced(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its successor must not write where the result of the dead one is being read."""
    pool = pool_factory(1)
    (first,) = pool._pool
    later: list[Any] = []

    def meanwhile(value: Any) -> None:
        # The background thread would wait here for a worker that it has to start itself.
        if value == 1 and threading.current_thread() is threading.main_thread():
            first.kill()
            later.extend(pool.apply_async(tasks.repeat_after_loading, (k, 20_000)) for k in (2, 3))
            wait_until(lambda: [i for i in pool.workers() if i.pid != first.pid and i.tasks_done])

    monkeypatch.setattr(tasks.WhenLoaded, "meanwhile", meanwhile)
    while not later:  # until it is this thread that reads the result
        if kind == "apply_async":
            value = pool.apply_async(tasks.repeat_after_loading, (1, 20_000)).get(10)
        elif kind == "map":
            (value,) = pool.starmap(tasks.repeat_after_loading, [(1, 20_000)])
        else:
            (value,) = pool.istarmap(tasks.repeat_after_loading, [(1, 20_000)])
        assert value == [1] * 20_001
    for k, result in zip((2, 3), later, strict=True):
        assert result.get(10) == [k] * 20_001


@pytest.mark.parametrize("kind", ["apply", "apply_async", "map", "imap"])
def test_unpickling_a_result_may_use_the_pool(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pool = pool_factory(2)
    inner: list[Any] = []

    def meanwhile(_value: Any) -> None:
        inner.append(pool.map(tasks.square, range(20), 1))
        inner.append(pool.apply(tasks.square, (5,)))

    monkeypatch.setattr(tasks.WhenLoaded, "meanwhile", meanwhile)
    if kind == "apply":
        value = pool.apply(tasks.repeat_after_loading, (1, 3))
    elif kind == "apply_async":
        value = pool.apply_async(tasks.repeat_after_loading, (1, 3)).get(10)
    else:
        call = pool.starmap if kind == "map" else pool.istarmap
        (value,) = call(tasks.repeat_after_loading, [(1, 3)])
    assert value == [1] * 4
    assert inner == [[i * i for i in range(20)], 25]


def test_terminate_while_a_result_is_unpickled_leaves_it_whole(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_factory(1)
    loading, go_on = threading.Event(), threading.Event()

    def meanwhile(_value: Any) -> None:
        loading.set()
        go_on.wait(10)

    monkeypatch.setattr(tasks.WhenLoaded, "meanwhile", meanwhile)
    call = InThread(pool.apply, tasks.repeat_after_loading, (1, 20_000))
    assert loading.wait(5)
    pool.terminate()
    pool.join()
    go_on.set()
    assert call.outcome() == [1] * 20_001


# --- the last reference ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["apply_async", "map_async"])
def test_a_pool_that_is_dropped_before_its_last_callback_still_calls_it(
    pool_factory: Any, tmp_path: Any, kind: str
) -> None:
    """The result keeps the pool until then; so the pool ends while the result becomes ready."""
    for attempt in range(5):
        gate = tasks.Gate(tmp_path / f"gate-{attempt}")
        seen: list[Any] = []
        pool = pool_factory.implementation.make(1, start_method="fork")
        pids = procs.worker_pids(pool)
        if kind == "apply_async":
            result = pool.apply_async(tasks.pass_gate, (gate.path, 5), callback=seen.append)
        else:
            result = pool.map_async(tasks.pass_gate_if, [(gate.path, 5)], callback=seen.append)
        wait_until(lambda gate=gate: gate.arrivals() == 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the pool was not closed
            del pool
            gate.open()
            deadline = time.monotonic() + 5
            while not result.ready():  # looks often: the moment is short
                assert time.monotonic() < deadline
                time.sleep(0.0001)
            assert result.get(0) == (5 if kind == "apply_async" else [5])
            assert seen == [result.get(0)]
            wait_until(lambda pids=pids: not any(procs.is_alive(pid) for pid in pids))


# --- deaths at random ---------------------------------------------------------------------------


def _mixed_calls(
    impl: Any, pool: Any, chance: random.Random, stop: threading.Event
) -> Counter[str]:
    """Calls of all kinds until told to stop; each result is right or a worker died for it."""
    died = impl.module.WorkerDiedError
    counts: Counter[str] = Counter()

    def expect(get: Callable[[], Any], expected: Any) -> None:
        try:
            value = get()
        except died:
            counts["died"] += 1
        else:
            assert value == expected
            counts["right"] += 1

    while not stop.is_set():
        start = chance.randrange(1000)
        squares = [i * i for i in range(start, start + 40)]
        kind = chance.choice(["apply", "apply_async", "map", "large", "imap", "slow"])
        if kind == "slow":  # so that some kill hits a worker that holds a task, on any machine
            expect(functools.partial(pool.apply, tasks.nap, (0.01, start)), start)
        elif kind == "apply":
            expect(functools.partial(pool.apply, tasks.square, (start,)), start * start)
        elif kind == "apply_async":
            results = [pool.apply_async(tasks.square, (start + i,)) for i in range(40)]
            for result, square in zip(results, squares, strict=True):
                expect(functools.partial(result.get, 10), square)
        elif kind == "map":
            chunksize = chance.choice([None, 1, 7])
            items = range(start, start + 40)
            expect(functools.partial(pool.map, tasks.square, items, chunksize), squares)
        elif kind == "large":
            things = [list(range(start, start + 5000)), {"text": "x" * start}]
            expect(functools.partial(pool.apply, tasks.identity, (things,)), things)
        else:
            results = pool.imap(tasks.square, range(start, start + 40))
            for square in squares:
                expect(functools.partial(results.next, 10), square)
    return counts


def test_workers_that_are_killed_at_random_fail_only_what_they_held(
    impl: Any, pool_factory: Any
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    pool = pool_factory(2)
    stop = threading.Event()
    calls = [
        InThread(_mixed_calls, impl, pool, random.Random(seed + 1 + k), stop) for k in range(3)
    ]
    kills = 0
    until = time.monotonic() + 2.5
    try:
        while time.monotonic() < until and all(call.thread.is_alive() for call in calls):
            time.sleep(chance.uniform(0.0, 0.03))
            # One that has begun to work: workers that never do so fail the pool, as they should.
            victims = [info.pid for info in pool.workers() if info.state != "starting"]
            for worker in list(pool._pool):
                if victims and worker.pid == chance.choice(victims):
                    worker.kill()
                    kills += 1
    finally:
        stop.set()
    total: Counter[str] = sum((call.outcome(10) for call in calls), Counter())
    print(f"{kills} kills, {dict(total)}")
    assert kills > 10
    assert total["right"] > total["died"] > 0
    with contextlib.suppress(impl.module.WorkerDiedError):  # the last kill may hit this call
        pool.apply(tasks.nothing)
    wait_until(lambda: len(pool._pool) == 2 and all(w.is_alive() for w in list(pool._pool)))
    assert pool.map(tasks.square, range(200), 1) == [i * i for i in range(200)]
    pool.close()
    InThread(pool.join).outcome()


@pytest.mark.timeout_s(60)
def test_a_stream_ends_though_garbage_is_collected_amid_its_books(run_script: Any) -> None:
    """Up to CPython 3.11, wherever a tuple is made; what runs then may take the next result."""
    script = run_script(
        """
        import gc, time
        from fastpool import Pool
        from helpers import tasks

        def look(phase, info):
            global inside
            if not inside:
                inside = True
                other.ready()
                tuples.extend((x, x) for x in range(64))
                inside = False

        if __name__ == "__main__":
            for _ in range(60):
                tuples = []  # many: the interpreter must not have old ones at hand
                inside = False
                with Pool(3) as pool:
                    other = pool.apply_async(time.sleep, (60,))
                    gc.callbacks.append(look)
                    gc.set_threshold(1, 10**6, 10**6)
                    stream = pool.imap(tasks.square, iter(range(600)))
                    assert list(stream) == [i * i for i in range(600)]
                    gc.callbacks.clear()
                    gc.set_threshold(700, 10, 10)
            print("done")
        """
    )
    assert script.finish(50) == "done\n"
