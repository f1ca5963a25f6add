"""Batches on their way to workers, and what becomes of them on the way back.

All of it is pickled by cloudpickle, as joblib's own process pools do: functions and classes of
``__main__``, lambdas and closures travel by value. Large buffers stay out of the pickles, so they
travel through the pool's shared memory.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import sys
import types
from collections.abc import Callable
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from typing import Any

from fastpool._core._blocks import view_of_array
from fastpool._joblib import threads
from fastpool._joblib.arrays import Shelf, reduce_mapped
from fastpool._runtime.pickling import pack_with
from fastpool.errors import TaskCancelledError, TaskTimeoutError

#: Pickles an array in a way of its own, or returns NotImplemented.
ArrayReducer = Callable[[Any], Any]

#: What makes the backend known to joblib; it imports this module.
BACKEND = "fastpool.joblib_backend"

_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})


class Parcel:
    """An object, pickled; it comes out as the object itself."""

    __slots__ = ("_buffers", "_data", "held")

    def __init__(self, value: object, reduce_array: ArrayReducer, held: list[Any]) -> None:
        #: What must live as long as the parcel is under way.
        self.held = held
        make_pickler = functools.partial(_pickler_class(), reduce_array)
        pieces, self._buffers = pack_with(make_pickler, value)
        self._data = b"".join(pieces)

    def __reduce__(self) -> Any:
        return unpack, (self._data, self._buffers)


def unpack(data: bytes, buffers: list[Any]) -> Any:
    """Make the object that is in a parcel."""
    return pickle.loads(data, buffers=buffers)


def pack_batch(batch: Callable[[], Any], shelf: Shelf) -> Parcel:
    """Pickle a batch for a worker.

    Raises
    ------
    pickle.PicklingError
        If something in it can't be pickled; the reason is its cause.
    """
    held: list[Any] = []

    def reduce(array: Any) -> Any:
        found = reduce_mapped(array)
        return shelf.reduce(array, held) if found is NotImplemented else found

    try:
        return Parcel(batch, reduce, held)
    except Exception as error:
        raise pickle.PicklingError(
            f"Could not pickle the task to send it to the workers: {error}"
        ) from error


@functools.cache
def _pickler_class() -> Callable[..., Any]:
    """Cloudpickle's pickler, the one that joblib uses, with a way for arrays."""
    try:
        from joblib.externals import cloudpickle  # where functions are registered for loky
    except ImportError:
        import cloudpickle
    numpy: Any = sys.modules.get("numpy")
    arrays = () if numpy is None else (numpy.ndarray, numpy.memmap)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, reduce_array: ArrayReducer, file: Any, take: Any) -> None:
            # Looked into for each object: a dict is five times faster than the chain it is made of.
            self.dispatch_table = dict(cloudpickle.Pickler.dispatch_table)
            super().__init__(file, 5, take)
            self._reduce_array = reduce_array

        def reducer_override(self, value: Any) -> Any:
            kind = type(value)
            if kind in arrays:
                return self._reduce_array(value)
            # Cloudpickle has its own way here for functions and classes only.
            if kind is types.FunctionType or issubclass(kind, type):
                return super().reducer_override(value)
            return NotImplemented

    return Pickler


# ---- in a worker -------------------------------------------------------------------------------


class Raised:
    """An exception that a batch raised, with its traceback as its cause."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def run_batch(batch: Callable[[], list[Any]], variables: str) -> Any:
    """Run a batch within its limits on threads; returns its results, or `Raised`."""
    threads.limit(variables)
    if BACKEND not in sys.modules:  # under spawn: tasks may name the backend, too
        importlib.import_module(BACKEND)
    try:
        results = batch()
    except (TaskTimeoutError, TaskCancelledError):  # the pool stops this task
        raise
    except Exception as error:
        return _pack_error(error)
    if all(type(result) in _PLAIN for result in results):
        return results
    return Parcel(results, _reduce_result, [])


def _reduce_result(array: Any) -> Any:
    """What a task returns is the caller's own, also if it is an argument, which others see."""
    if view_of_array(array) is not None:
        return array.copy("K").__reduce_ex__(5)
    return reduce_mapped(array)


def _pack_error(error: Exception) -> Parcel:
    """Pickle an exception; raises it if that can't be done, for the pool to tell as it can."""
    trace = error.__traceback__
    try:
        parcel = Parcel(Raised(ExceptionWithTraceback(error, trace)), _reduce_result, [])
        if isinstance(unpack(parcel._data, parcel._buffers).error, BaseException):
            return parcel
    except Exception:
        pass
    raise error.with_traceback(trace)
