"""return_exceptions=True: all items run; an exception stands in the place of its item."""

from __future__ import annotations

import multiprocessing.pool
import threading
from typing import Any

import numpy as np
import pytest
from helpers import mishaps, tasks
from helpers.arrays import portrait
from helpers.mishaps import runs

pytestmark = [
    pytest.mark.fastpool_only,
    pytest.mark.timeout_s(20),
    pytest.mark.start_methods("fork"),
]

CHUNKSIZES = (1, 3, 10, None)
CHUNKS = pytest.mark.parametrize("chunksize", CHUNKSIZES)
MaybeEncodingError = multiprocessing.pool.MaybeEncodingError


def kinds(found: list[Any]) -> list[Any]:
    """The results, with types in place of exceptions."""
    return [type(v) if isinstance(v, BaseException) else v for v in found]


def expected(bad: dict[int, type], count: int = 10) -> list[Any]:
    return [bad.get(i, i) for i in range(count)]


@pytest.mark.start_methods("fork", "spawn", "forkserver")
def test_all_items_run(pool_factory: Any, start_method: str, traces: Any) -> None:
    pool = pool_factory(2)
    for chunksize in CHUNKSIZES:
        where = traces / str(chunksize)
        where.mkdir()
        work = [(str(where), i, 3 <= i < 5 or i == 9) for i in range(10)]
        found = pool.map(mishaps.run_or_raise, work, chunksize, return_exceptions=True)
        assert kinds(found) == expected(dict.fromkeys((3, 4, 9), ValueError)), chunksize
        assert [found[i].args for i in (3, 4, 9)] == [(3,), (4,), (9,)]
        assert runs(where) == dict.fromkeys(range(10), 1), chunksize


def test_an_exception_brings_its_traceback(pool: Any) -> None:
    found = pool.map(tasks.raise_value_error, range(4), 2, return_exceptions=True)
    for error in found:
        assert isinstance(error.__cause__, multiprocessing.pool.RemoteTraceback)
        assert "in raise_value_error" in str(error.__cause__)


EXCEPTIONS: dict[str, tuple[Any, type]] = {
    "with attributes": (tasks.CustomError("text", 3), tasks.CustomError),
    "that rebuilds itself": (tasks.ReducedError(where="here"), tasks.ReducedError),
    "StopIteration": (StopIteration(3), StopIteration),
    "AssertionError": (AssertionError(), AssertionError),
    "OSError": (FileNotFoundError(2, "no", "file"), FileNotFoundError),
    "MemoryError": (MemoryError("none"), MemoryError),
    "KeyboardInterrupt": (KeyboardInterrupt(), KeyboardInterrupt),
    "SystemExit": (SystemExit(3), SystemExit),
    "GeneratorExit": (GeneratorExit(), GeneratorExit),
    "no Exception": (tasks.CustomBaseError("base"), tasks.CustomBaseError),
    "a very long one": (ValueError("x" * 1_000_000), ValueError),
}


@pytest.mark.parametrize("name", list(EXCEPTIONS))
def test_every_kind_of_exception(pool_factory: Any, traces: Any, name: str) -> None:
    error, kind = EXCEPTIONS[name]
    pool = pool_factory(2)
    for chunksize in CHUNKSIZES:
        where = traces / str(chunksize)
        where.mkdir()
        work = [(str(where), i, error if i in (0, 4, 5) else None) for i in range(10)]
        found = pool.map(mishaps.run_or_raise_this, work, chunksize, return_exceptions=True)
        assert kinds(found) == expected(dict.fromkeys((0, 4, 5), kind)), chunksize
        assert found[4].args == error.args
        assert runs(where) == dict.fromkeys(range(10), 1), chunksize
        assert pool.apply(tasks.square, (3,)) == 9


@CHUNKS
def test_exceptions_that_do_not_travel(impl: Any, pool: Any, chunksize: int | None) -> None:
    work = ["", "unloadable", "unpicklable", "", "unpicklable", "", "", "", "unloadable", ""]
    found = pool.map(mishaps.raise_named, work, chunksize, return_exceptions=True)
    bad = {"unloadable": impl.module.RemoteError, "unpicklable": MaybeEncodingError}
    assert kinds(found) == [bad.get(name, "") for name in work]
    assert "1 and 2" in str(found[1])
    assert "original text" in str(found[2])


@CHUNKS
@pytest.mark.parametrize("others", ["ints", "lists", "one object for all", "large arrays"])
def test_results_that_do_not_travel(pool: Any, others: str, chunksize: int | None) -> None:
    work = [("lambda" if i in (0, 5) else "dump" if i == 6 else others, i) for i in range(10)]
    found = pool.map(mishaps.return_named, work, chunksize, return_exceptions=True)
    for i in (0, 5, 6):
        assert type(found[i]) is MaybeEncodingError
    assert "lambda" in str(found[5])
    assert "refuses to be pickled" in str(found[6])
    for i in (1, 4, 9):
        assert portrait(found[i]) == portrait(mishaps.result(others, i))


@CHUNKS
def test_results_that_can_not_be_loaded(pool: Any, chunksize: int | None) -> None:
    """Those of a chunk may share objects, and be one pickle: then all of them have the error."""
    work = [("load" if i == 14 else "lists", i) for i in range(20)]
    found = pool.map(mishaps.return_named, work, chunksize, return_exceptions=True)
    assert type(found[14]) is ValueError
    assert "refuses to be loaded" in str(found[14])
    for i, value in enumerate(found):
        if not (chunksize != 1 and value is found[14]):
            assert i == 14 or value == mishaps.result("lists", i)
    assert all(type(value) is list for value in found[:10])


@CHUNKS
@pytest.mark.parametrize("kind", ["map", "starmap"])
def test_arguments_that_do_not_travel(pool: Any, kind: str, chunksize: int | None) -> None:
    items: list[Any] = [i if i not in (2, 7) else [i, lambda: None] for i in range(10)]
    items[8] = tasks.DumpFails()
    work = [(item,) for item in items] if kind == "starmap" else items
    found = getattr(pool, kind)(tasks.identity, work, chunksize, return_exceptions=True)
    assert [i for i in range(10) if not isinstance(found[i], Exception)] == [0, 1, 3, 4, 5, 6, 9]
    assert [found[i] for i in (0, 1, 3, 4, 5, 6, 9)] == [0, 1, 3, 4, 5, 6, 9]
    assert "refuses to be pickled" in str(found[8])
    assert found[2] is not found[7]


@CHUNKS
def test_arguments_that_can_not_be_loaded(pool: Any, traces: Any, chunksize: int | None) -> None:
    work = [(str(traces), i, tasks.LoadFails() if i == 4 else None) for i in range(10)]
    found = pool.map(mishaps.run_or_raise_this, work, chunksize, return_exceptions=True)
    assert kinds(found) == expected({4: ValueError})
    assert "refuses to be loaded" in str(found[4])
    assert runs(traces) == {i: 1 for i in range(10) if i != 4}


def test_arguments_that_can_not_be_loaded_in_a_chunk_that_is_sent_once_more(
    impl: Any, pool_factory: Any, traces: Any
) -> None:
    """One item has died by the time that the rest turns out to be unreadable."""
    pool = pool_factory(1)
    work = [(str(traces), "die" if i == 3 else "", i) for i in range(6)]
    work[5] = mishaps.LoadsOnce(str(traces / "loaded"), work[5])  # type: ignore[call-overload]
    found = pool.map(mishaps.mishap, work, 6, return_exceptions=True)
    assert kinds(found[:5]) == [0, 1, 2, impl.module.WorkerDiedError, 4]
    assert type(found[5]) is ValueError
    assert runs(traces) == dict.fromkeys(range(5), 1)


def test_a_function_that_does_not_travel_is_an_error_of_the_call(pool: Any) -> None:
    with pytest.raises(Exception, match=r"lambda|pickle"):
        pool.map(lambda x: x, range(3), return_exceptions=True)


def test_an_iterable_that_raises_is_an_error_of_the_call(pool: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        pool.map(tasks.square, (1 // (2 - i) for i in range(5)), return_exceptions=True)


@CHUNKS
def test_sys_exit_in_one_item(pool_factory: Any, chunksize: int | None) -> None:
    """Its worker leaves; what stands behind it in the chunk runs in another one."""
    pool = pool_factory(2)
    work = [0, "exit", 2, "error", 4, 5, "exit", "exit", 8, 9]
    found = pool.map(mishaps.exit_in, work, chunksize, return_exceptions=True)
    right = expected({1: SystemExit, 3: ValueError, 6: SystemExit, 7: SystemExit})
    assert kinds(found) == right
    assert found[1].code == 3
    assert pool.map(mishaps.exit_in, range(5)) == list(range(5))


@CHUNKS
def test_starmap(pool: Any, chunksize: int | None) -> None:
    work: list[Any] = [(6, 2), (1, 0), (8, 4), (1, 2, 3), 5]
    found = pool.starmap(tasks.divide, work, chunksize, return_exceptions=True)
    assert kinds(found) == [3, ZeroDivisionError, 2, TypeError, TypeError]


@pytest.mark.parametrize("kind", ["map_async", "starmap_async"])
def test_callbacks_get_the_list(pool: Any, kind: str) -> None:
    good: list[Any] = []
    bad: list[Any] = []
    done = threading.Event()
    work: list[Any] = [1, -2, 3] if kind == "map_async" else [(1,), (-2,), (3,)]
    result = getattr(pool, kind)(
        tasks.raise_if_negative,
        work,
        2,
        lambda value: (good.append(value), done.set()),
        bad.append,
        return_exceptions=True,
    )
    assert done.wait(5)
    assert result.get(5) is good[0]
    assert result.successful()
    assert kinds(good[0]) == [1, ValueError, 3]
    assert not bad


def test_every_item_fails(pool: Any) -> None:
    for chunksize in (1, 100, None):
        found = pool.map(tasks.raise_value_error, range(1000), chunksize, return_exceptions=True)
        assert [error.args for error in found] == [(i,) for i in range(1000)]


def test_exceptions_that_tasks_return_are_results(pool: Any) -> None:
    found = pool.map(tasks.identity, [ValueError(1), 2, KeyError(3)], 3, return_exceptions=True)
    assert kinds(found) == [ValueError, 2, KeyError]
    assert found[0].__cause__ is None


def test_nothing_to_do(pool: Any) -> None:
    assert pool.map(tasks.square, [], return_exceptions=True) == []


def test_it_excludes_out(pool: Any) -> None:
    with pytest.raises(ValueError, match="return_exceptions"):
        pool.map(tasks.square, range(3), out=np.zeros(3), return_exceptions=True)
    with pytest.raises(ValueError, match="return_exceptions"):
        pool.starmap_async(tasks.add, [(1,)], out=np.zeros(1), return_exceptions=True)


def test_deaths_timeouts_and_exceptions_side_by_side(
    impl: Any, pool_factory: Any, traces: Any
) -> None:
    pool = pool_factory(2)
    what = ["", "die", "raise", "", "hang", "", "exit", "die", "raise", ""]
    work = [(str(traces), name, i) for i, name in enumerate(what)]
    for chunksize in (10, 1):
        found = pool.map(mishaps.mishap, work, chunksize, timeout=0.3, return_exceptions=True)
        assert kinds(found) == [
            {
                "die": impl.module.WorkerDiedError,
                "hang": impl.module.TaskTimeoutError,
                "raise": ValueError,
                "exit": SystemExit,
            }.get(name, i)
            for i, name in enumerate(what)
        ]
    assert runs(traces) == dict.fromkeys(range(10), 2)
