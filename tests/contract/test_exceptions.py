"""What a task raises is raised in the parent: the type, the data, and the worker's traceback."""

from __future__ import annotations

import multiprocessing.pool
import sys
import traceback
from typing import Any

import pytest
from helpers import tasks
from helpers.procs import wait_until

SUBMISSIONS: dict[str, Any] = {
    "apply": lambda pool, f, x: pool.apply(f, (x,)),
    "apply_async": lambda pool, f, x: pool.apply_async(f, (x,)).get(10),
    "map": lambda pool, f, x: pool.map(f, [x]),
    "map_async": lambda pool, f, x: pool.map_async(f, [x]).get(10),
    "starmap": lambda pool, f, x: pool.starmap(f, [(x,)]),
    "imap": lambda pool, f, x: next(pool.imap(f, [x])),
    "imap in chunks": lambda pool, f, x: next(iter(pool.imap(f, [x], 2))),
    "imap_unordered": lambda pool, f, x: next(pool.imap_unordered(f, [x])),
}
EVERY_SUBMISSION = pytest.mark.parametrize("kind", SUBMISSIONS)


@EVERY_SUBMISSION
def test_the_exception_arrives_with_the_traceback_of_the_worker(pool: Any, kind: str) -> None:
    with pytest.raises(ValueError) as caught:
        SUBMISSIONS[kind](pool, tasks.raise_value_error, "text")
    error = caught.value
    assert type(error) is ValueError
    assert error.args == ("text",)
    assert isinstance(error.__cause__, multiprocessing.pool.RemoteTraceback)
    text = str(error.__cause__)
    assert text.strip().startswith('"""\nTraceback (most recent call last):')
    assert text.strip().endswith('ValueError: text\n"""')
    assert "in raise_value_error" in text
    assert "tasks.py" in text


@pytest.mark.parametrize(
    "exception",
    [
        Exception(),
        KeyError("key"),
        ValueError(1, "two", [3]),
        OSError(2, "No such file", "name"),
        FileNotFoundError(2, "No such file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration("value"),
        StopAsyncIteration(),
        AssertionError(),
        MemoryError("much"),
        RecursionError("deep"),
        TimeoutError("slow"),
        ZeroDivisionError("zero"),
        ImportError("no module", name="thing"),
        multiprocessing.TimeoutError("theirs"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_builtin_exceptions_arrive_as_they_are(pool: Any, exception: BaseException) -> None:
    with pytest.raises(type(exception)) as caught:
        pool.apply(tasks.raise_error, (exception,))
    assert type(caught.value) is type(exception)
    assert caught.value.args == exception.args
    assert str(caught.value) == str(exception)


def test_attributes_of_an_exception_arrive(pool: Any) -> None:
    with pytest.raises(tasks.CustomError) as caught:
        pool.apply(tasks.raise_custom, ("message", 42))
    assert caught.value.args == ("message", 42)
    assert caught.value.code == 42
    assert caught.value.extra == {"place": "worker"}


def test_an_exception_may_say_how_it_is_rebuilt(pool: Any) -> None:
    with pytest.raises(tasks.ReducedError, match="failed at the door") as caught:
        pool.apply(tasks.raise_reduced, ("the door",))
    assert caught.value.where == "the door"


def test_the_workers_chain_of_causes_is_in_the_text(pool: Any) -> None:
    with pytest.raises(ValueError, match="the second") as caught:
        pool.apply(tasks.raise_chained)
    text = str(caught.value.__cause__)
    assert "KeyError: 'the first'" in text
    assert "direct cause" in text
    assert text.index("the first") < text.index("the second")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
def test_notes_and_groups_arrive(pool: Any) -> None:
    group = ExceptionGroup("several", [ValueError(1), KeyError("k")])  # noqa: F821
    group.add_note("a note")
    with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
        pool.apply(tasks.raise_error, (group,))
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
    assert caught.value.__notes__ == ["a note"]


def test_the_tracebacks_of_parent_and_worker_are_printed_together(pool: Any) -> None:
    try:
        pool.apply(tasks.raise_value_error, ("printed",))
    except ValueError as error:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "in raise_value_error" in text
    assert '"""' in text
    assert "The above exception was the direct cause" in text
    assert "test_exceptions.py" in text


def test_an_exception_that_is_returned_is_a_value(pool: Any) -> None:
    value = pool.apply(tasks.identity, (ValueError("value"),))
    assert type(value) is ValueError
    assert value.args == ("value",)
    assert value.__cause__ is None


def test_an_exception_class_that_is_returned_is_a_value(pool: Any) -> None:
    assert pool.map(tasks.identity, [ValueError, KeyError]) == [ValueError, KeyError]


def test_the_pool_goes_on_after_many_errors(pool: Any) -> None:
    results = [pool.apply_async(tasks.raise_value_error, (i,)) for i in range(300)]
    for i, result in enumerate(results):
        with pytest.raises(ValueError) as caught:
            result.get(10)
        assert caught.value.args == (i,)
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]


def test_a_large_exception_arrives(pool: Any) -> None:
    with pytest.raises(ValueError) as caught:
        pool.apply(tasks.raise_value_error, (b"x" * 3_000_000,))
    assert caught.value.args == (b"x" * 3_000_000,)


def test_a_call_with_wrong_arguments_is_a_type_error(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.apply(tasks.square, (1, 2, 3))
    with pytest.raises(TypeError):
        pool.apply(tasks.square, (), {"unknown": 1})


@EVERY_SUBMISSION
def test_something_that_cannot_be_called_is_a_type_error(pool: Any, kind: str) -> None:
    with pytest.raises(TypeError):
        SUBMISSIONS[kind](pool, 5, 1)


# --- results that cannot be pickled -------------------------------------------------------------


@EVERY_SUBMISSION
def test_a_result_that_cannot_be_pickled_is_an_encoding_error(pool: Any, kind: str) -> None:
    with pytest.raises(multiprocessing.pool.MaybeEncodingError) as caught:
        SUBMISSIONS[kind](pool, tasks.make_lambda, 1)
    error = caught.value
    assert "make_lambda.<locals>.<lambda>" in error.value
    assert "local object" in error.exc
    assert str(error).startswith("Error sending result: '")
    assert "Reason: '" in str(error)
    assert pool.apply(tasks.square, (2,)) == 4


def test_a_result_that_refuses_to_be_pickled_is_an_encoding_error(pool: Any) -> None:
    with pytest.raises(multiprocessing.pool.MaybeEncodingError) as caught:
        pool.apply(tasks.make_dump_fails)
    assert "refuses to be pickled" in caught.value.exc
    assert "DumpFails" in caught.value.value


def test_an_unpicklable_result_among_others_spoils_only_its_chunk(pool: Any) -> None:
    results = pool.imap(tasks.make_lambda_if_negative, [1, -1, 2])
    assert next(results) == 1
    with pytest.raises(multiprocessing.pool.MaybeEncodingError):
        next(results)
    assert next(results) == 2


def test_an_exception_that_cannot_be_pickled_is_reported_all_the_same(impl: Any, pool: Any) -> None:
    if impl.is_fastpool:
        expected: Any = (multiprocessing.pool.MaybeEncodingError, impl.module.RemoteError)
    else:
        expected = multiprocessing.pool.MaybeEncodingError
    with pytest.raises(expected) as caught:
        pool.apply(tasks.raise_unpicklable)
    text = f"{caught.value} {caught.value.__cause__}"
    assert "refuses to be pickled" in text or "original text" in text
    assert pool.apply(tasks.square, (2,)) == 4


def test_an_exception_whose_text_raises_arrives(pool: Any) -> None:
    with pytest.raises(tasks.WordlessError):
        pool.apply(tasks.raise_wordless)


# --- what only fastpool promises ----------------------------------------------------------------


@pytest.mark.fastpool_only
@pytest.mark.parametrize("task", [tasks.make_faceless, tasks.raise_faceless])
def test_what_cannot_be_pickled_nor_shown_is_an_encoding_error(pool: Any, task: Any) -> None:
    with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="whose repr\\(\\) raised"):
        pool.apply(task)


@pytest.mark.fastpool_only
@EVERY_SUBMISSION
def test_an_exception_that_cannot_be_loaded_has_a_stand_in(impl: Any, pool: Any, kind: str) -> None:
    with pytest.raises(impl.module.RemoteError) as caught:
        SUBMISSIONS[kind](pool, tasks.raise_unloadable, 1)
    error = caught.value
    assert error.type_name.rpartition(".")[2] == "UnloadableError"
    assert error.message == "1 and 2"
    assert "in raise_unloadable" in error.traceback
    assert "UnloadableError" in str(error)
    assert pool.apply(tasks.square, (2,)) == 4


@pytest.mark.fastpool_only
@EVERY_SUBMISSION
def test_sys_exit_in_a_task_reaches_the_caller(pool_factory: Any, kind: str) -> None:
    pool = pool_factory(2)
    with pytest.raises(SystemExit) as caught:
        SUBMISSIONS[kind](pool, tasks.sys_exit, 3)
    assert caught.value.code == 3
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]
    wait_until(
        lambda: len(pool._pool) == 2 and all(worker.is_alive() for worker in list(pool._pool))
    )


@pytest.mark.fastpool_only
def test_sys_exit_in_one_task_disturbs_no_other(pool_factory: Any) -> None:
    pool = pool_factory(2)
    results = [pool.apply_async(tasks.square, (i,)) for i in range(50)]
    leaving = [pool.apply_async(tasks.sys_exit, (i,)) for i in range(5)]
    results += [pool.apply_async(tasks.square, (i,)) for i in range(50)]
    assert [result.get(10) for result in results] == [i * i for i in range(50)] * 2
    for code, result in enumerate(leaving):
        with pytest.raises(SystemExit) as caught:
            result.get(10)
        assert caught.value.code == code


@pytest.mark.fastpool_only
@pytest.mark.parametrize(
    "exception",
    [tasks.CustomBaseError("base"), GeneratorExit("gen"), KeyboardInterrupt("task")],
    ids=lambda e: type(e).__name__,
)
def test_any_base_exception_reaches_the_caller(pool_factory: Any, exception: BaseException) -> None:
    pool = pool_factory(2)
    with pytest.raises(type(exception)) as caught:
        pool.apply(tasks.raise_error, (exception,))
    assert caught.value.args == exception.args
    errors: list[Any] = []
    result = pool.apply_async(tasks.raise_error, (exception,), error_callback=errors.append)
    wait_until(result.ready)
    assert [type(error) for error in errors] == [type(exception)]
    assert pool.apply(tasks.square, (2,)) == 4


# --- no frames, no function ---------------------------------------------------------------------


@EVERY_SUBMISSION
@pytest.mark.parametrize(
    ("func", "argument", "kind_of_error"),
    [
        (int, "x", ValueError),
        (len, 1, TypeError),
        (chr, -1, ValueError),
        (open, "", FileNotFoundError),
    ],
    ids=["int", "len", "chr", "open"],
)
def test_the_traceback_of_a_builtin_has_its_header_too(
    pool: Any, kind: str, func: Any, argument: Any, kind_of_error: type[Exception]
) -> None:
    with pytest.raises(kind_of_error) as caught:
        SUBMISSIONS[kind](pool, func, argument)
    cause = caught.value.__cause__
    assert isinstance(cause, multiprocessing.pool.RemoteTraceback)
    text = str(cause).strip()
    assert text.startswith('"""\nTraceback (most recent call last):\n')
    assert text.endswith(f'{kind_of_error.__name__}: {caught.value}\n"""')


CALLS_OF_ANYTHING: dict[str, Any] = {
    **SUBMISSIONS,
    "map of many": lambda pool, f, x: pool.map(f, [x] * 100),
    "starmap of many": lambda pool, f, x: pool.starmap(f, [(x,)] * 100, 7),
    "starmap_async": lambda pool, f, x: pool.starmap_async(f, [(x,)]).get(10),
    "imap of an iterator": lambda pool, f, x: next(pool.imap(f, iter([x]))),
    "imap_unordered in chunks": lambda pool, f, x: next(iter(pool.imap_unordered(f, [x, x], 2))),
}


@pytest.mark.parametrize("kind", CALLS_OF_ANYTHING)
@pytest.mark.parametrize(
    "func", [None, 3, 2.5, "text", b"", (abs,), [], {}, Ellipsis], ids=lambda func: repr(func)
)
def test_what_is_no_function_fails_where_it_is_called(pool: Any, kind: str, func: Any) -> None:
    try:
        func(1)
    except TypeError as error:
        expected = str(error)
    with pytest.raises(TypeError) as caught:
        CALLS_OF_ANYTHING[kind](pool, func, 1)
    assert str(caught.value) == expected
    assert isinstance(caught.value.__cause__, multiprocessing.pool.RemoteTraceback)
    text = str(caught.value.__cause__).strip()
    assert text.startswith('"""\nTraceback (most recent call last):\n')
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]


@pytest.mark.parametrize("func", [None, 3])
def test_what_is_no_function_is_not_called_for_nothing(pool: Any, func: Any) -> None:
    """With no item there is no call, and so no error."""
    assert pool.map(func, []) == []
    assert pool.starmap(func, []) == []
    assert pool.map_async(func, ()).get(10) == []
    assert list(pool.imap(func, [])) == []
    assert list(pool.imap_unordered(func, iter([]), 3)) == []


@pytest.mark.parametrize("func", [None, 3])
def test_what_is_no_function_fails_in_the_callback(pool: Any, func: Any) -> None:
    errors: list[BaseException] = []
    results = [
        pool.apply_async(func, error_callback=errors.append),
        pool.map_async(func, [1, 2], error_callback=errors.append),
        pool.starmap_async(func, [(1,), (2,)], error_callback=errors.append),
    ]
    for result in results:
        result.wait(10)
    wait_until(lambda: len(errors) == 3)
    assert {type(error) for error in errors} == {TypeError}
    assert not any(result.successful() for result in results)
