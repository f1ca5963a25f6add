"""fastpool's own arguments, where the standard library's pool stands in: hints and promises."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import sys
from typing import Any

import pytest

import fastpool
from fastpool._standard.executor import ProcessPoolExecutor
from fastpool._standard.needs import check_pool_arguments
from fastpool._standard.pool import Pool

METHODS = sorted(
    name
    for name, value in vars(fastpool.Pool).items()
    if not name.startswith("_") and callable(value)
)
MISSING = {
    "copy_to_shared",
    "empty",
    "exit_results",
    "map_blocks",
    "resize",
    "stats",
    "workers",
    "zeros",
}


def parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in MISSING])
def test_each_method_takes_what_the_native_one_takes(name: str) -> None:
    theirs, ours = parameters(getattr(Pool, name)), parameters(getattr(fastpool.Pool, name))
    assert [(each.name, each.kind) for each in theirs] == [(each.name, each.kind) for each in ours]


def test_the_constructor_takes_what_the_native_one_takes() -> None:
    native = [each for each in parameters(fastpool.Pool) if each.kind is each.KEYWORD_ONLY]
    checked = parameters(check_pool_arguments)
    taken = {each.name: each.default for each in checked if each.kind is each.KEYWORD_ONLY}
    assert taken | {"daemon": True} == {each.name: each.default for each in native}


@pytest.mark.parametrize("name", sorted(MISSING))
def test_a_method_without_a_counterpart_says_so(name: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"Pool\.{name}\(\) needs"):
        getattr(Pool.__new__(Pool), name)(1)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("on_worker_death", "retry"),
        ("retries", 1),
        ("max_memory_per_child", 1 << 30),
        ("daemon", False),
        ("worker_init", print),
        ("worker_exit", print),
        ("logging", "forward"),
        ("warnings", "inherit"),
        ("context_vars", []),
        ("serializer", "cloudpickle"),
        ("seed", 0),
        ("seed", False),
    ],
)
def test_a_pool_refuses_what_it_could_not_keep(argument: str, value: Any) -> None:
    with pytest.raises(NotImplementedError, match=f"^{argument}="):
        Pool(1, **{argument: value})


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("apply_async", {"timeout": 1}),
        ("map", {"timeout": 1}),
        ("map", {"out": []}),
        ("map", {"return_exceptions": True}),
        ("map_async", {"timeout": 1}),
        ("starmap", {"return_exceptions": True}),
        ("starmap_async", {"out": []}),
        ("imap", {"timeout": 1}),
        ("imap", {"buffersize": 1}),
        ("imap_unordered", {"buffersize": 1}),
        ("istarmap", {"timeout": 1}),
        ("istarmap_unordered", {"buffersize": 1}),
    ],
)
def test_a_call_refuses_what_it_could_not_keep(method: str, own: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=f"^{min(own)}="):
        getattr(Pool.__new__(Pool), method)(abs, [], **own)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("affinity", "bogus"),
        ("affinity", 1),
        ("affinity", [[]]),
        ("affinity", [1 << 20]),
        ("blocktime", -1),
        ("blocktime", "long"),
        ("memory", "bogus"),
        ("memory", True),
        ("memory", -1),
        ("threads_per_worker", "bogus"),
        ("threads_per_worker", 1.5),
        ("threads_per_worker", 0),
        ("retries", -1),
        ("retries", True),
        ("on_worker_death", "bogus"),
        ("logging", "bogus"),
        ("warnings", "bogus"),
        ("max_memory_per_child", 0),
        ("max_memory_per_child", "much"),
        ("colour", "red"),
    ],
)
def test_what_is_wrong_in_any_case_gives_the_native_pools_error(argument: str, value: Any) -> None:
    errors = []
    for pool in (fastpool.Pool, Pool):
        with pytest.raises((TypeError, ValueError)) as caught:
            pool(1, **{argument: value})
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "hints",
    [
        {"affinity": [0, [0]], "blocktime": 3600, "memory": 0, "threads_per_worker": 1},
        {"affinity": "scatter", "blocktime": 0.5, "memory": 1 << 70, "threads_per_worker": "auto"},
    ],
)
def test_hints_may_be_what_they_may_be_for_the_native_pool(
    hints: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    check_pool_arguments("Pool.__init__()", **hints)


# --- the executor ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(fastpool.ProcessPoolExecutor).items()
        if not name.startswith("_") and callable(value)
    ],
)
def test_each_method_of_an_executor_takes_what_the_native_one_takes(name: str) -> None:
    native = parameters(getattr(fastpool.ProcessPoolExecutor, name))
    ours = parameters(getattr(ProcessPoolExecutor, name))
    assert [(each.name, each.kind) for each in ours] == [(each.name, each.kind) for each in native]


@pytest.mark.parametrize("name", ["terminate_workers", "kill_workers"])
def test_an_executor_stops_its_workers_where_the_standard_librarys_can(name: str) -> None:
    with ProcessPoolExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        if sys.version_info >= (3, 14):
            getattr(executor, name)()
            return
        with pytest.raises(NotImplementedError, match=rf"^ProcessPoolExecutor\.{name}\(\) needs"):
            getattr(executor, name)()


def test_an_executor_keeps_its_buffer_small_where_the_standard_librarys_can() -> None:
    with ProcessPoolExecutor(1) as executor:
        assert list(executor.map(abs, [-1], chunksize=1, buffersize=None)) == [1]
        if sys.version_info >= (3, 14):
            assert list(executor.map(abs, [-1, 2], buffersize=1)) == [1, 2]
            return
        with pytest.raises(NotImplementedError, match=r"^buffersize=1 needs"):
            executor.map(abs, [-1], buffersize=1)


def test_an_executor_limits_tasks_where_the_standard_librarys_can() -> None:
    context = multiprocessing.get_context("spawn")
    if sys.version_info < (3, 11):
        with pytest.raises(NotImplementedError, match=r"^max_tasks_per_child=2 needs"):
            ProcessPoolExecutor(1, context, max_tasks_per_child=2)
        return
    with ProcessPoolExecutor(1, context, max_tasks_per_child=2) as executor:
        assert executor.submit(abs, -1).result() == 1


def test_an_executor_has_no_exit_results() -> None:
    with (
        ProcessPoolExecutor(1) as executor,
        pytest.raises(NotImplementedError, match=r"^ProcessPoolExecutor\.exit_results\(\) needs"),
    ):
        executor.exit_results()


def test_an_executor_that_is_given_what_nobody_knows_names_itself() -> None:
    with pytest.raises(TypeError, match=r"^ProcessPoolExecutor\.__init__\(\) got an unexpected"):
        ProcessPoolExecutor(1, colour="red")
