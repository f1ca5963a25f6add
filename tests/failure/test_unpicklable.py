"""What can't be pickled: the error belongs to the one call, and nothing else is disturbed."""

from __future__ import annotations

import multiprocessing.pool
import pickle
import threading
from typing import Any

import pytest
from helpers import tasks

pytestmark = pytest.mark.timeout_s(15)

CANNOT_BE_PICKLED = (pickle.PicklingError, AttributeError, TypeError)


def works(pool: Any) -> None:
    assert pool.apply(tasks.square, (3,)) == 9
    assert pool.map(tasks.square, range(10)) == [i * i for i in range(10)]


THINGS: dict[str, Any] = {
    "lambda": lambda: lambda: None,
    "lock": threading.Lock,
    "generator": lambda: (i for i in ()),
    "object of a local class": lambda: type("Local", (), {})(),
    "module": lambda: pickle,
}
EVERY_THING = pytest.mark.parametrize("make", THINGS.values(), ids=list(THINGS))


# --- arguments and functions ------------------------------------------------------------------


@EVERY_THING
def test_an_argument_fails_the_call(pool: Any, make: Any) -> None:
    thing = make()
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.apply(tasks.nothing, (thing,))
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.map(tasks.nothing, [thing])
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.starmap(tasks.nothing, [(thing,)])
    with pytest.raises(CANNOT_BE_PICKLED):
        next(pool.imap(tasks.nothing, [thing]))
    works(pool)


@pytest.mark.parametrize("kind", ["local function", "lambda", "bound to something unpicklable"])
def test_a_function_fails_the_call(pool: Any, kind: str) -> None:
    def local(_x: Any) -> None:
        pass

    function = {
        "local function": local,
        "lambda": lambda _x: None,
        "bound to something unpicklable": tasks.Multiplier(threading.Lock()).times,
    }[kind]
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.apply(function, (1,))
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.map(function, [1])
    with pytest.raises(CANNOT_BE_PICKLED):
        next(pool.imap(function, [1]))
    works(pool)


def test_a_keyword_argument_fails_the_call(pool: Any) -> None:
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.apply(tasks.arguments, (), {"lock": threading.Lock()})
    works(pool)


def test_an_asynchronous_call_fails_in_get_and_not_when_submitted(pool: Any) -> None:
    errors: list[BaseException] = []
    results = [
        pool.apply_async(tasks.nothing, (lambda: None,), error_callback=errors.append),
        pool.apply_async(lambda: None, error_callback=errors.append),
        pool.map_async(tasks.nothing, [lambda: None], error_callback=errors.append),
        pool.map_async(lambda x: None, [1], error_callback=errors.append),
        pool.starmap_async(tasks.nothing, [(lambda: None,)], error_callback=errors.append),
    ]
    for result in results:
        with pytest.raises(CANNOT_BE_PICKLED):
            result.get(10)
        assert result.ready() and not result.successful()
    assert len(errors) == len(results)
    works(pool)


def test_the_error_names_the_type(pool: Any) -> None:
    with pytest.raises(CANNOT_BE_PICKLED, match="lock"):
        pool.apply(tasks.nothing, (threading.Lock(),))


def test_an_error_of_the_objects_own_pickling_arrives_as_it_is(pool: Any) -> None:
    with pytest.raises(ValueError, match="refuses to be pickled"):
        pool.apply(tasks.nothing, (tasks.DumpFails(),))
    with pytest.raises(ValueError, match="refuses to be pickled"):
        pool.map(tasks.nothing, [1, tasks.DumpFails()], 1)
    works(pool)


def test_something_nested_too_deeply_is_a_recursion_error(pool: Any) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        pool.apply(tasks.nothing, (deep,))
    while deep:  # taking it apart by recursion would overflow the C stack
        deep = deep.pop()
    works(pool)


def test_imap_fails_at_the_item_and_goes_on(pool: Any) -> None:
    results = pool.imap(tasks.identity, [1, threading.Lock(), 3])
    assert next(results) == 1
    with pytest.raises(CANNOT_BE_PICKLED):
        next(results)
    assert next(results) == 3
    with pytest.raises(StopIteration):
        next(results)


def test_imap_unordered_fails_once_and_goes_on(pool: Any) -> None:
    results = pool.imap_unordered(tasks.identity, [1, threading.Lock(), 3])
    found, errors = [], 0
    for _ in range(3):
        try:
            found.append(next(results))
        except CANNOT_BE_PICKLED:
            errors += 1
    assert (sorted(found), errors) == ([1, 3], 1)
    with pytest.raises(StopIteration):
        next(results)


def test_other_items_of_a_map_are_done(pool: Any, traces: Any) -> None:
    items: list[Any] = [(str(traces), i) for i in range(10)]
    items[4] = (str(traces), threading.Lock())
    with pytest.raises(CANNOT_BE_PICKLED):
        pool.map(tasks.mark_item, items, 1)
    done = sorted(int(path.name) for path in traces.iterdir())
    assert done == [i for i in range(10) if i != 4]


def test_calls_between_failing_ones_are_not_disturbed(pool: Any) -> None:
    good, bad = [], []
    for i in range(100):
        good.append(pool.apply_async(tasks.square, (i,)))
        bad.append(pool.apply_async(tasks.square, (threading.Lock(),)))
    assert [result.get(10) for result in good] == [i * i for i in range(100)]
    for result in bad:
        with pytest.raises(CANNOT_BE_PICKLED):
            result.get(10)


# --- results ----------------------------------------------------------------------------------


def test_a_large_result_with_something_unpicklable_at_its_end(pool: Any) -> None:
    with pytest.raises(multiprocessing.pool.MaybeEncodingError):
        pool.apply(tasks.make_large_with_lambda, (3_000_000,))
    works(pool)


def test_unpicklable_results_between_good_ones(pool: Any) -> None:
    items = [i if i % 3 else -1 for i in range(60)]
    results = [pool.apply_async(tasks.make_lambda_if_negative, (i,)) for i in items]
    for i, result in zip(items, results, strict=True):
        if i >= 0:
            assert result.get(10) == i
        else:
            with pytest.raises(multiprocessing.pool.MaybeEncodingError):
                result.get(10)


# --- pickled but not to be loaded: only fastpool survives it ------------------------------------


@pytest.mark.fastpool_only
def test_an_argument_that_cannot_be_loaded_fails_the_call(pool: Any) -> None:
    with pytest.raises(ValueError, match="refuses to be loaded"):
        pool.apply(tasks.nothing, (tasks.LoadFails(),))
    with pytest.raises(ValueError, match="refuses to be loaded"):
        pool.map(tasks.nothing, [1, tasks.LoadFails(), 3], 1)
    with pytest.raises(ValueError, match="refuses to be loaded"):
        next(pool.imap(tasks.nothing, [tasks.LoadFails()]))
    works(pool)


@pytest.mark.fastpool_only
def test_a_result_that_cannot_be_loaded_fails_the_call(pool: Any) -> None:
    for call in (
        lambda: pool.apply(tasks.make_load_fails),
        lambda: pool.apply_async(tasks.make_load_fails).get(10),
        lambda: pool.map(tasks.make_load_fails, [1, 2]),
        lambda: pool.map_async(tasks.make_load_fails, [1, 2]).get(10),
        lambda: next(pool.imap(tasks.make_load_fails, [1])),
        lambda: next(pool.imap_unordered(tasks.make_load_fails, [1])),
    ):
        with pytest.raises(Exception, match="refuses to be loaded"):
            call()
    works(pool)


@pytest.mark.fastpool_only
def test_a_function_that_the_workers_do_not_know_fails_the_call(impl: Any, run_script: Any) -> None:
    script = run_script(
        """
        import multiprocessing
        from fastpool import Pool

        if __name__ == "__main__":
            multiprocessing.set_start_method("fork")
            with Pool(2) as pool:
                def late(x):
                    return x
                for call in (lambda: pool.apply(late, (1,)), lambda: pool.map(late, [1, 2])):
                    try:
                        print("value", call())
                    except AttributeError as error:
                        print("AttributeError", "late" in str(error))
                print(pool.map(abs, [-1]))
        """
    )
    assert script.finish() == "AttributeError True\nAttributeError True\n[1]\n"
