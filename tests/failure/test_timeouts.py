"""timeout=: an item that takes too long is stopped; nothing else is disturbed."""

from __future__ import annotations

import threading
import time
from multiprocessing.pool import RemoteTraceback
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.endings import hangs, outcomes
from helpers.mishaps import runs
from helpers.pool_health import whole
from helpers.procs import wait_until

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

SHORT = 0.2


# --- every way to submit --------------------------------------------------------------------------


def test_a_call_that_takes_too_long_is_stopped(
    impl: Any, pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(2)
    whole(pool, 2)
    before = procs.worker_pids(pool)
    begin = time.monotonic()
    result = pool.apply_async(tasks.nap, (60,), timeout=SHORT)
    with pytest.raises(impl.module.TaskTimeoutError) as caught:
        result.get(10)
    assert SHORT <= time.monotonic() - begin < SHORT + 0.45
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.timeout == SHORT
    assert error.task == "a call of nap"
    assert "a call of nap ran longer than its timeout of 0.2 s" in str(error)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "time.sleep(seconds)" in str(error.__cause__)
    wait_until(lambda: len(set(before) & set(procs.worker_pids(pool))) == 1, 5, "it is replaced")
    whole(pool, 2)


@pytest.mark.parametrize("kind", ["map", "starmap", "map_async", "starmap_async"])
@pytest.mark.parametrize("chunksize", [1, 3, 6])
def test_only_that_item_of_a_map_fails(
    impl: Any, pool_factory: Any, traces: Any, kind: str, chunksize: int
) -> None:
    pool = pool_factory(2)
    function = mishaps.hang_args if "star" in kind else mishaps.hang
    work = hangs(traces, {1: "time.sleep", 4: "time.sleep"})
    found = getattr(pool, kind)(function, work, chunksize, timeout=SHORT, return_exceptions=True)
    if "async" in kind:
        found = found.get(10)
    assert [type(value) for value in found] == [
        impl.module.TaskTimeoutError if i in (1, 4) else int for i in range(6)
    ]
    assert f"item 4 of a map of {function.__name__}" in found[4].task
    assert runs(traces) == dict.fromkeys(range(6), 1)
    whole(pool, 2)


@pytest.mark.parametrize("kind", ["imap", "imap_unordered", "istarmap", "istarmap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 6])
def test_only_that_item_of_an_iterator_fails(
    impl: Any, pool_factory: Any, traces: Any, kind: str, chunksize: int
) -> None:
    pool = pool_factory(2)
    function = mishaps.hang_args if "star" in kind else mishaps.hang
    work = hangs(traces, {0: "time.sleep", 5: "time.sleep"})
    found = outcomes(getattr(pool, kind)(function, iter(work), chunksize, timeout=SHORT))
    late = impl.module.TaskTimeoutError
    if "unordered" in kind:
        assert sorted(map(str, found)) == sorted(map(str, [1, 2, 3, 4, late, late]))
    else:
        assert found == [late, 1, 2, 3, 4, late]
    assert runs(traces) == dict.fromkeys(range(6), 1)


def test_a_map_raises_it_when_all_other_items_are_done(
    impl: Any, pool_factory: Any, traces: Any
) -> None:
    pool = pool_factory(2)
    with pytest.raises(impl.module.TaskTimeoutError) as caught:
        pool.map(mishaps.hang, hangs(traces, {2: "time.sleep"}), 3, timeout=SHORT)
    assert "item 2 of a map of hang" in caught.value.task
    assert runs(traces) == dict.fromkeys(range(6), 1)


# --- what can't be stopped gently -----------------------------------------------------------------


@pytest.mark.parametrize("how", list(mishaps.HANGS))
def test_whatever_it_does_it_is_stopped(
    impl: Any, pool_factory: Any, traces: Any, how: str
) -> None:
    """In a single call, and in a chunk whose other items are neither lost nor run twice."""
    pool = pool_factory(2)
    begin = time.monotonic()
    single = pool.apply_async(mishaps.hang_named, (how,), timeout=SHORT)
    found = pool.map(
        mishaps.hang, hangs(traces, {2: how}), 6, timeout=SHORT, return_exceptions=True
    )
    with pytest.raises(impl.module.TaskTimeoutError):
        single.get(10)
    assert time.monotonic() - begin < 3
    assert type(found.pop(2)) is impl.module.TaskTimeoutError
    assert found == [0, 1, 3, 4, 5]
    assert runs(traces) == dict.fromkeys(range(6), 1)
    whole(pool, 2)


def test_a_result_that_takes_too_long_to_be_pickled_is_late_too(
    impl: Any, pool_factory: Any
) -> None:
    """Of a single item; those of a chunk are pickled together."""
    pool = pool_factory(2)
    with pytest.raises(impl.module.TaskTimeoutError):
        pool.apply_async(mishaps.return_slow_to_pickle, timeout=SHORT).get(10)
    found = pool.map(
        mishaps.return_slow_to_pickle, range(3), 1, timeout=SHORT, return_exceptions=True
    )
    assert {type(value) for value in found} == {impl.module.TaskTimeoutError}
    whole(pool, 2)


def test_all_workers_at_once(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(3)
    for _ in range(2):
        found = pool.map(tasks.nap, [60] * 6, 1, timeout=0.1, return_exceptions=True)
        assert {type(error) for error in found} == {impl.module.TaskTimeoutError}
    whole(pool, 3)


# --- whose fault it is ----------------------------------------------------------------------------


def test_the_time_in_the_queue_does_not_count(pool_factory: Any) -> None:
    pool = pool_factory(1)
    held = pool.apply_async(tasks.nap, (0.5,))
    results = [pool.apply_async(tasks.square, (i,), timeout=SHORT) for i in range(10)]
    many = pool.map_async(tasks.nap, [0.05] * 8, 8, timeout=SHORT)
    assert [result.get(10) for result in results] == [i * i for i in range(10)]
    assert many.get(10) == [None] * 8
    assert held.get(10) is None


def test_a_death_within_the_time_is_a_death(impl: Any, pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(1)
    work = [("", 0), ("die", 1), ("", 2)]
    found = pool.map(mishaps.give_in_late, work, 3, timeout=5, return_exceptions=True)
    assert [type(value) for value in found] == [int, impl.module.WorkerDiedError, int]


@pytest.mark.parametrize("next_one", ["raise", "die"])
def test_an_item_that_swallows_it_does_not_make_the_next_one_late(
    impl: Any, pool_factory: Any, next_one: str
) -> None:
    pool = pool_factory(1)
    work = [("", 0), ("swallow", 1), (next_one, 2), ("", 3)]
    found = pool.map(mishaps.give_in_late, work, 4, timeout=SHORT, return_exceptions=True)
    assert found[0] == 0
    assert found[1] == "swallowed" or type(found[1]) is impl.module.TaskTimeoutError
    assert type(found[2]) is (impl.module.WorkerDiedError if next_one == "die" else ValueError), (
        found[2]
    )
    assert found[3] == 3
    whole(pool, 1)


def test_each_item_has_the_whole_time(pool_factory: Any) -> None:
    pool = pool_factory(1)
    assert pool.map(tasks.nap, [0.15] * 6, 6, timeout=0.4) == [None] * 6


def test_calls_with_and_without_a_timeout_go_side_by_side(
    impl: Any, pool_factory: Any, gate: Any
) -> None:
    pool = pool_factory(3)
    patient = pool.apply_async(tasks.pass_gate, (gate.path, "patient"))
    slow = pool.apply_async(tasks.nap, (60,), timeout=0.6)
    quick = pool.apply_async(tasks.nap, (60,), timeout=0.1)
    begin = time.monotonic()
    with pytest.raises(impl.module.TaskTimeoutError):
        quick.get(10)
    assert time.monotonic() - begin < 0.55
    with pytest.raises(impl.module.TaskTimeoutError):
        slow.get(10)
    assert not patient.ready()
    gate.open()
    assert patient.get(10) == "patient"


def test_error_callbacks_get_it(impl: Any, pool_factory: Any) -> None:
    pool = pool_factory(1)
    found: list[Any] = []
    told = threading.Event()
    pool.apply_async(
        tasks.nap,
        (60,),
        error_callback=lambda error: (found.append(error), told.set()),
        timeout=SHORT,
    )
    assert told.wait(5)
    assert type(found[0]) is impl.module.TaskTimeoutError


def test_a_timeout_is_not_tried_again(impl: Any, pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(1, retries=3)
    for how in ("time.sleep", "C without the GIL"):
        with pytest.raises(impl.module.TaskTimeoutError):
            pool.apply_async(mishaps.hang, ((str(traces), how, len(how)),), timeout=SHORT).get(10)
    assert set(runs(traces).values()) == {1}
