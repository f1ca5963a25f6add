"""fastpool's own arguments, where the standard library's pool stands in: hints and promises."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import fastpool
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
    taken = {each.name: each.default for each in parameters(check_pool_arguments)}
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


def test_an_argument_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        Pool(1, colour="red")
