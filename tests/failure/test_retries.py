"""A worker dies: only the item that it ran is lost, or tried again; others don't run twice."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from helpers import mishaps, procs, tasks
from helpers.arrays import portrait
from helpers.mishaps import FORMS, KILL, pids_of_runs, runs

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

COUNT = 14
POISON = 9
#: What may be in others' hands too is sent when its chunk is done, and saved only now and then: a
#: short item of such a form may have to run again with the one that died.
HELD = {
    "large ints",
    "ints that become large",
    "long str",
    "sets",
    "dataclasses",
    "one object for all",
    "one large array for all",
    "views of a large array",
    "held and large",
}
EVERY_FORM = pytest.mark.parametrize("form", list(FORMS))


def items(traces: Any, form: str, deaths: dict[int, int], count: int = COUNT) -> list[Any]:
    return [(str(traces), form, i, deaths.get(i, 0)) for i in range(count)]


def expected(form: str, count: int = COUNT) -> list[Any]:
    return [mishaps.result(form, i) for i in range(count)]


# --- tried again ----------------------------------------------------------------------------------


def test_an_item_is_tried_again_in_another_worker(
    pool_factory: Any, start_method: str, traces: Any
) -> None:
    pool = pool_factory(2, on_worker_death="retry")
    assert pool.map(mishaps.deadly, items(traces, "ints", {3: 1}), 5) == list(range(COUNT))
    pids = pids_of_runs(traces)
    assert len(set(pids[3])) == 2
    assert {i: len(who) for i, who in pids.items()} == {i: 1 + (i == 3) for i in range(COUNT)}


@EVERY_FORM
@pytest.mark.parametrize("chunksize", [5, COUNT])
def test_finished_items_of_a_chunk_are_kept(
    pool_factory: Any, traces: Any, form: str, chunksize: int
) -> None:
    pool = pool_factory(2, retries=1)
    found = pool.map(mishaps.deadly, items(traces, form, {POISON: 1}), chunksize)
    assert list(map(portrait, found)) == list(map(portrait, expected(form)))
    begin = POISON // chunksize * chunksize
    ran = runs(traces)
    assert_ran_once(ran, form, range(begin, POISON))
    assert ran == {i: 1 + (i == POISON) for i in range(COUNT)}


def assert_ran_once(ran: dict[int, int], form: str, before: range) -> None:
    """Take the items that ran before the death out of the account, if they are right."""
    for i in before:
        assert ran[i] == 1 or (form in HELD and ran[i] == 2), (i, ran)
        ran[i] = 1


@EVERY_FORM
def test_without_retries_exactly_that_item_fails(
    impl: Any, pool_factory: Any, traces: Any, form: str
) -> None:
    pool = pool_factory(2)
    found = pool.map(
        mishaps.deadly, items(traces, form, {POISON: 9}), COUNT, return_exceptions=True
    )
    error = found.pop(POISON)
    assert type(error) is impl.module.WorkerDiedError
    assert f"item {POISON} " in error.task
    assert error.deaths == 1
    right = expected(form)
    del right[POISON]
    assert list(map(portrait, found)) == list(map(portrait, right))
    ran = runs(traces)
    assert_ran_once(ran, form, range(POISON))
    assert ran == dict.fromkeys(range(COUNT), 1)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_poison_fails_when_its_retries_are_used_up(
    impl: Any, pool_factory: Any, traces: Any, retries: int
) -> None:
    pool = pool_factory(2, retries=retries)
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        pool.map(mishaps.deadly, items(traces, "ints", {POISON: 99}), 4)
    assert caught.value.deaths == retries + 1
    assert f"item {POISON} of a map of deadly" in caught.value.task
    if retries:
        assert f"{retries + 1} workers have died of it" in str(caught.value)
    assert runs(traces) == {i: 1 + retries * (i == POISON) for i in range(COUNT)}
    assert len(set(pids_of_runs(traces)[POISON])) == retries + 1
    assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]


def test_each_item_has_retries_of_its_own(pool_factory: Any, traces: Any) -> None:
    """Also those of one chunk, and in a chunk that is on its second worker already."""
    pool = pool_factory(2, retries=2)
    deaths = {0: 2, 1: 2, 5: 1, 6: 2, COUNT - 1: 2}
    work = items(traces, "a mix", deaths)
    found = pool.map(mishaps.deadly, work, COUNT)
    assert list(map(portrait, found)) == list(map(portrait, expected("a mix")))
    assert runs(traces) == {i: 1 + deaths.get(i, 0) for i in range(COUNT)}


def test_every_item_of_a_chunk_kills_a_worker(pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(2, retries=1)
    deaths = dict.fromkeys(range(COUNT), 1)
    assert pool.map(mishaps.deadly, items(traces, "floats", deaths), COUNT) == expected("floats")
    assert runs(traces) == dict.fromkeys(range(COUNT), 2)


@pytest.mark.parametrize("kind", ["apply", "starmap", "imap", "imap_unordered", "istarmap"])
def test_every_kind_of_call_tries_again(pool_factory: Any, traces: Any, kind: str) -> None:
    pool = pool_factory(2, on_worker_death="retry")
    work = items(traces, "tuples", {4: 1})
    if kind == "apply":
        results = [pool.apply_async(mishaps.deadly_args, item) for item in work]
        found = [result.get(10) for result in results]
        assert pool.apply(mishaps.deadly_args, (str(traces), "ints", 99, 1)) == 99
        (traces / "item-99").unlink()
    elif "star" in kind:
        found = list(getattr(pool, kind)(mishaps.deadly_args, work, 6))
    else:
        found = list(getattr(pool, kind)(mishaps.deadly, work, 6))
    assert sorted(found) == expected("tuples")
    assert runs(traces) == {i: 1 + (i == 4) for i in range(COUNT)}


def test_an_iterator_fails_at_the_poison_only(impl: Any, pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(2, retries=1)
    results = pool.imap(mishaps.deadly, items(traces, "lists", {5: 9}), COUNT)
    found: list[Any] = []
    for _ in range(COUNT):
        try:
            found.append(next(results))
        except impl.module.WorkerDiedError as error:
            assert error.deaths == 2
            found.append("died")
    assert list(results) == []
    right = expected("lists")
    right[5] = "died"
    assert found == right


@pytest.mark.parametrize("poison", [0, 1, 99_998, 199_999])
def test_a_huge_chunk_loses_nothing(pool_factory: Any, traces: Any, poison: int) -> None:
    pool = pool_factory(2, retries=1)
    count = 200_000
    function = functools.partial(mishaps.deadly_number, str(traces), poison)
    assert pool.map(function, range(count), count) == list(range(count))
    assert runs(traces) == {poison: 2}


def test_the_results_go_into_out(pool_factory: Any, traces: Any) -> None:
    import numpy as np

    pool = pool_factory(2, retries=1)
    out = np.zeros(COUNT)
    pool.map(mishaps.deadly, items(traces, "floats", {POISON: 1}), COUNT, out=out)
    assert out.tolist() == expected("floats")


# --- what is hard about it ------------------------------------------------------------------------


def test_an_exception_that_kills_while_it_is_pickled_costs_its_item_only(
    impl: Any, pool_factory: Any, traces: Any
) -> None:
    """An exception ends its chunk; when it can't be told, items before it were not in vain."""
    pool = pool_factory(1)
    work = [(str(traces), i, i == 3) for i in range(6)]
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        pool.map(mishaps.raise_deadly, work, 6)
    assert "item 3 " in caught.value.task
    assert runs(traces) == dict.fromkeys(range(6), 1)


def test_a_result_that_kills_while_it_is_pickled_costs_its_item_only(
    impl: Any, pool_factory: Any
) -> None:
    pool = pool_factory(1)
    work = [(None, i) for i in range(3)] + [(0, 1000)] + [(None, i) for i in range(4, 6)]
    found = pool.map(_return_deadly_if, work, 6, return_exceptions=True)
    assert type(found[3]) is impl.module.WorkerDiedError
    assert "item 3 " in found[3].task
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5]


def _return_deadly_if(item: tuple[int | None, int]) -> Any:
    how, value = item
    return value if how is None else tasks.return_something_deadly(KILL, value)


def test_a_death_before_the_first_item_is_one_of_the_first_item(
    impl: Any, pool_factory: Any
) -> None:
    """Of what the chunk was sent nothing could be read."""
    pool = pool_factory(1, retries=1)
    work = [1, tasks.DiesWhenLoaded(KILL), 3]
    with pytest.raises(impl.module.WorkerDiedError) as caught:
        pool.map(tasks.identity, work, 3)
    assert caught.value.deaths == 2
    assert pool.map(tasks.identity, [1, 2], 2) == [1, 2]


def test_a_retry_leaves_no_memory_behind(pool_factory: Any, traces: Any) -> None:
    from helpers.pool_memory import settled_bytes

    pool = pool_factory(2, retries=2)
    for form in ("large arrays", "long str", "one large array for all", "a mix"):
        pool.map(mishaps.deadly, items(traces, form, {2: 1, POISON: 2}), COUNT)
        for path in traces.iterdir():
            path.unlink()
    settled_bytes(pool, 0)


def test_close_and_join_wait_for_what_is_tried_again(pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(2, retries=1)
    result = pool.map_async(mishaps.deadly, items(traces, "ints", {1: 1, POISON: 1}), 7)
    pool.close()
    pool.join()
    assert result.get(0) == list(range(COUNT))


def test_retries_go_with_maxtasksperchild(pool_factory: Any, traces: Any) -> None:
    pool = pool_factory(2, retries=1, maxtasksperchild=1)
    deaths = dict.fromkeys(range(0, COUNT, 3), 1)
    assert pool.map(mishaps.deadly, items(traces, "ints", deaths), 3) == list(range(COUNT))
    assert runs(traces) == {i: 1 + deaths.get(i, 0) for i in range(COUNT)}


def test_workers_that_are_killed_at_random_lose_nothing(pool_factory: Any, traces: Any) -> None:
    """Whenever it strikes: each item ends once, and runs at most once for each worker that died."""
    import random

    random.seed(5)
    pool = pool_factory(2, retries=1000)
    results = [
        pool.map_async(mishaps.deadly, items(traces / f"{k}", "a mix", {}, 60), 20)
        for k in range(4)
        if not (traces / f"{k}").mkdir()
    ]
    killed = 0
    while not all(result.ready() for result in results):
        victims = [info.pid for info in pool.workers() if info.state != "starting"]
        if victims:  # or no worker ever starts to work, and the pool fails, as it should
            procs.kill(random.choice(victims))
            killed += 1
        results[0].wait(0.02 + random.random() * 0.02)
    for k, result in enumerate(results):
        found = result.get(10)
        assert list(map(portrait, found)) == list(map(portrait, expected("a mix", 60)))
        assert set(runs(traces / f"{k}")) == set(range(60))
    again = sum(n - 1 for k in range(4) for n in runs(traces / f"{k}").values())
    assert again <= killed


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"on_worker_death": "ignore"}, ValueError),
        ({"on_worker_death": None}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"retries": "2"}, TypeError),
    ],
)
def test_wrong_arguments_are_refused(
    pool_factory: Any, wrong: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"retries|on_worker_death|integer"):
        pool_factory(1, **wrong)
