"""What can't be pickled is named in the error, with what would help; type and text stay."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import tasks

import fastpool


@pytest.fixture(scope="module")
def plain(_standing_helpers: None) -> Iterator[Any]:
    with fastpool.Pool(1) as pool:
        yield pool


class Holder:
    def __init__(self, callback: Any) -> None:
        self.callback = callback


class Local:
    def __reduce__(self) -> Any:
        raise TypeError("this one says why itself")


def text_of(call: Any, *args: Any, **kwargs: Any) -> str:
    """What a program that shows the error prints."""
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)) as caught:
        call(*args, **kwargs)
    return "".join(traceback.format_exception_only(caught.type, caught.value))


def plain_text(thing: Any) -> str:
    try:
        pickle.dumps(thing)
    except Exception as error:
        return str(error)
    raise AssertionError("can be pickled")


@pytest.mark.parametrize(
    ("args", "kwds", "where"),
    [
        (([1, {"key": lambda: 0}],), {}, "args[0][1]['key']"),
        ((1, Holder([Holder(lambda: 0)])), {}, "args[1].callback[0].callback"),
        ((), {"name": {1: (2, lambda: 0)}}, "kwds['name'][1][1]"),
        ((functools.partial(tasks.add, b=lambda: 0),), {}, "args[0].keywords['b']"),
        ((Holder(lambda: 0).__init__,), {}, "args[0].__self__.callback"),  # type: ignore[misc]
    ],
)
def test_a_lambda_among_the_arguments_is_named_by_its_path(
    plain: Any, args: Any, kwds: Any, where: str
) -> None:
    text = text_of(plain.apply, tasks.arguments, args, kwds)
    assert f"What can't be pickled is {where}: the lambda " in text
    assert 'Pool(serializer="cloudpickle")' in text
    assert text == text_of(plain.apply_async(tasks.arguments, args, kwds).get, 10)


def test_the_function_is_named(plain: Any) -> None:
    def inner(x: Any) -> None:
        pass

    for call in (plain.map, plain.starmap, lambda *a: next(plain.imap(*a))):
        assert "is the function: the function test_the_function_is_named.<locals>.inner" in text_of(
            call, inner, [(1,)]
        )


def test_an_item_is_named_by_its_index(plain: Any) -> None:
    items = [Holder(None) for _ in range(40)] + [Holder(lambda: 0)]
    for call in (plain.map, lambda *a: list(plain.imap(*a))):
        assert "is item 40.callback: the lambda" in text_of(call, tasks.nothing, items, 7)


def test_a_local_class_is_named_through_its_object(plain: Any) -> None:
    thing = type("Inner", (), {})()
    assert "is the class of args[0]: the class Inner" in text_of(
        plain.apply, tasks.nothing, (thing,)
    )


def test_what_no_serializer_sends_is_to_be_made_in_the_worker(plain: Any) -> None:
    text = text_of(plain.apply, tasks.nothing, (Holder(threading.Lock()),))
    assert "args[0].callback: an object of type _thread.lock. It has to be made in the" in text
    assert "cloudpickle" not in text


def test_a_result_is_named(plain: Any) -> None:
    with pytest.raises(fastpool.MaybeEncodingError) as caught:
        plain.apply(tasks.make_lambda_if_negative, (-1,))
    text = "".join(traceback.format_exception_only(caught.type, caught.value))
    assert "be pickled is the result: the lambda" in text  # in Python 3.10 as part of a repr()
    assert "Reason: " in text


def test_an_initializer_that_can_not_be_sent_is_named() -> None:
    context = multiprocessing.get_context("spawn")
    lock = context.Lock()
    text = text_of(fastpool.Pool, 1, lambda _lock: None, (lock,), context=context)
    assert "What can't be pickled is initializer: the lambda" in text
    text = text_of(fastpool.Pool, 1, tasks.nothing, (lock, {"f": lambda: 0}), context=context)
    assert "What can't be pickled is initargs[1]['f']: the lambda" in text
    args = lock, [threading.Lock()]
    text = text_of(
        fastpool.Pool, 1, lambda *_: None, args, context=context, serializer="cloudpickle"
    )
    assert "What can't be pickled is initargs[1][0]: an object of type _thread.lock" in text


def test_type_and_text_are_those_of_pickle(plain: Any) -> None:
    for thing in (lambda: 0, threading.Lock(), (i for i in ()), Local()):
        assert (
            text_of(plain.apply, tasks.nothing, (thing,))
            .splitlines()[0]
            .endswith(plain_text(thing))
        )


def test_an_iterator_of_arguments_is_not_blamed(plain: Any) -> None:
    text = text_of(plain.apply, tasks.nothing, iter([1, lambda: 0]))
    assert "args" not in text


def test_a_large_argument_is_not_searched_for_long(plain: Any) -> None:
    items = [Holder(i) for i in range(30_000)]
    items[-1].callback = lambda: 0
    assert "Can't" in text_of(plain.apply, tasks.nothing, (items,))


def test_an_object_that_holds_itself_ends_the_search(plain: Any) -> None:
    holder = Holder(None)
    holder.callback = [holder, lambda: 0]
    assert "What can't be pickled is args[0].callback" in text_of(
        plain.apply, tasks.nothing, (holder,)
    )


class Interrupted:
    """Can't be pickled, and who looks why is ended by Ctrl-C."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, item: int) -> int:
        return item

    def __reduce__(self) -> Any:
        self.looks += 1
        raise TypeError("no") if self.looks == 1 else KeyboardInterrupt


@pytest.mark.fastpool_only
@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.apply(tasks.identity, (Interrupted(),)),
        lambda pool: pool.apply_async(tasks.identity, (Interrupted(),)),
        lambda pool: pool.map(Interrupted(), [1]),
        lambda pool: pool.map(tasks.identity, [Interrupted()]),
        lambda pool: list(pool.imap(tasks.identity, [Interrupted()])),
    ],
    ids=["apply", "apply_async", "function of map", "item of map", "item of imap"],
)
def test_ctrl_c_while_it_is_looked_for_leaves_no_call_unfinished(
    pool_factory: Any, call: Any
) -> None:
    pool = pool_factory(1)
    with pytest.raises(KeyboardInterrupt):
        call(pool)
    pool.close()
    pool.join()
