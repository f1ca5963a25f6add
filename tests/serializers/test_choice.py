"""`Pool(serializer=)`: what it takes, and what an object of the program's has to bring."""

from __future__ import annotations

import importlib.util
import json
import pickle
import sys
from typing import Any

import pytest
from helpers import tasks

import fastpool


class Counting:
    """A serializer of the program's own."""

    def dumps(self, value: Any) -> bytearray:
        return bytearray(b"mine" + pickle.dumps(value))

    def loads(self, data: bytes) -> Any:
        assert type(data) is bytes and data[:4] == b"mine"
        return pickle.loads(data[4:])


class Unable(Counting):
    """Can't write exceptions."""

    def dumps(self, value: Any) -> bytearray:
        if isinstance(getattr(value, "exc", None), Exception):
            raise ValueError("no exceptions, please")
        return super().dumps(value)


class OnlyFunctions(Counting):
    """Can't write anything else."""

    def dumps(self, value: Any) -> bytearray:
        assert callable(value), value
        return super().dumps(value)


class Wordy(Counting):
    """Writes text."""

    def dumps(self, value: Any) -> Any:
        return repr(value)


def divide(a: int, b: int) -> float:
    return a / b


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'pickle', 'cloudpickle', 'dill', 'auto'.*not 'yaml'"):
        fastpool.Pool(1, serializer="yaml")


@pytest.mark.parametrize("name", ["cloudpickle", "dill", "auto"])
def test_a_package_that_is_missing_is_named_with_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "cloudpickle" if name == "auto" else name
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'pip install "fastpool\[{package}\]"') as caught:
        fastpool.Pool(1, serializer=name)
    assert caught.value.name == package


@pytest.mark.parametrize("thing", [7, None, object(), json.JSONEncoder()])
def test_an_object_that_can_not_serialize_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"has no dumps\(\)"):
        fastpool.Pool(1, serializer=thing)


@pytest.mark.fastpool_only
@pytest.mark.start_methods("fork", "spawn")
def test_an_object_of_the_programs_writes_what_is_not_plain(
    pool_factory: Any, start_method: str
) -> None:
    pool = pool_factory(1, serializer=Counting(), initializer=tasks.nothing, initargs=(1,))
    assert pool.apply(tasks.identity, ([1, 2j, "x"],)) == [1, 2j, "x"]
    assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]
    big = [{1, 2}, b"x" * 3_000_000]
    assert pool.map(tasks.identity, [big, big]) == [big, big]
    with pytest.raises(ZeroDivisionError) as caught:
        pool.apply(divide, (1, 0))
    assert "in divide" in str(caught.value.__cause__)


def test_an_error_that_the_object_can_not_write_is_told_all_the_same() -> None:
    with fastpool.Pool(1, serializer=Unable()) as pool:
        with pytest.raises(fastpool.MaybeEncodingError, match="no exceptions, please"):
            pool.apply(divide, (1, 0))
        assert pool.apply(divide, (1, 1)) == 1.0


def test_an_object_that_writes_no_bytes_fails_the_call() -> None:
    refused = pytest.raises(TypeError, match=r"dumps\(\) of the pool's serializer returned str")
    with fastpool.Pool(1, serializer=Wordy()) as pool, refused:
        pool.apply(tasks.identity, ({1},))


def test_plain_values_never_come_to_the_serializer() -> None:
    with fastpool.Pool(1, serializer=OnlyFunctions()) as pool:
        assert pool.apply(tasks.identity, ([1, {"a": (2.5, None)}],)) == [1, {"a": (2.5, None)}]
        assert pool.map(tasks.identity, ["a", 2, b"c"]) == ["a", 2, b"c"]
        with pytest.raises(AssertionError):
            pool.apply(tasks.identity, ({1},))


def test_a_module_of_a_known_name_is_that_serializer() -> None:
    import cloudpickle

    with fastpool.Pool(1, serializer=cloudpickle) as pool:
        assert pool.map(lambda x: x + 1, range(3)) == [1, 2, 3]


def test_the_optional_packages_are_only_imported_for_pools_that_use_them(run_script: Any) -> None:
    assert importlib.util.find_spec("dill") and importlib.util.find_spec("cloudpickle")
    script = run_script(
        """
        import sys
        from fastpool import Pool

        if __name__ == "__main__":
            with Pool(1) as pool:
                print(pool.apply(abs, (-1,)), {"dill", "cloudpickle"} & set(sys.modules))
        """
    )
    assert script.finish() == "1 set()\n"
