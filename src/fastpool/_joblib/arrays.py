"""Large arrays on their way to workers: copied once for a call, or named by their file."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

from fastpool._runtime.pickling import reduce_array
from fastpool.pool import Pool

if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]


class Shelf:
    """Copies of large arrays in the memory of a pool, for the tasks of one call.

    An array is known by its identity: joblib reads tasks ahead of those that it sends, so a program
    can't change an array between them in any case. A copy lives as long as something holds it: the
    tasks that are under way with it.

    Parameters
    ----------
    pool : Pool
    beyond : int or None
        Arrays of more bytes are copied once; None: each task has copies of its own.
    mode : str or None
        What tasks may do with them, as `mmap_mode` of joblib says: only read them ("r"), write into
        memory that all see ("r+", "w+"), or have a copy of their own ("c"). None: as `beyond`.
    """

    def __init__(self, pool: Pool, beyond: int | None, mode: str | None) -> None:
        self._pool = pool
        self._beyond = None if mode is None else beyond
        self._mode = mode
        self._known: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}

    def begin(self) -> None:
        """A call begins: arrays may have been changed since the last one."""
        self._known.clear()

    def reduce(self, array: Array, held: list[Any]) -> Any:
        """Pickle an array so that its bytes travel once; `held` takes what must live meanwhile."""
        if self._beyond is None or array.nbytes <= self._beyond or array.dtype.hasobject:
            return NotImplemented
        copy = self._find(array)
        if copy is None:
            copy = self._copy(array)
            key = id(array)
            self._known[key] = (
                weakref.ref(array, lambda _: self._known.pop(key, None)),
                weakref.ref(copy),
            )
        held.append(copy)
        if self._mode == "c":
            return own_copy, reduce_array(copy)
        return reduce_array(copy)

    def _copy(self, array: Array) -> Array:
        """A copy in the order that the array has."""
        copy: Array
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            copy = self._pool.copy_to_shared(array.T).T
        else:
            copy = self._pool.copy_to_shared(array)
        if self._mode == "r":
            copy.flags.writeable = False
        return copy

    def _find(self, array: Array) -> Array | None:
        """The copy made before, if it lives."""
        known = self._known.get(id(array))
        if known is None or known[0]() is not array:
            return None
        copy: Array | None = known[1]()
        return copy


def own_copy(rebuild: Any, args: tuple[Any, ...]) -> Any:
    """Make an array that is nobody else's."""
    return rebuild(*args).copy("K")


# ---- arrays that lie in files ------------------------------------------------------------------


def reduce_mapped(array: Array) -> Any:
    """Pickle an array that lies in a mapped file as that file's name and the place in it.

    NotImplemented if it lies in none, or if what it shows is not what the file has.
    """
    whole = _mapped(array)
    if whole is None or array.size == 0 or array.dtype.hasobject or whole.mode == "c":
        return NotImplemented
    name = whole.filename
    if name is None or not os.path.exists(name):
        return NotImplemented
    low, high = _bounds(array)
    at = whole.offset + low - whole.__array_interface__["data"][0]
    first = array.__array_interface__["data"][0] - low
    mode = "r" if whole.mode == "r" or not array.flags.writeable else "r+"
    return map_array, (
        os.fspath(name),
        mode,
        at,
        high - low,
        first,
        array.dtype,
        array.shape,
        array.strides,
    )


def _mapped(array: Any) -> Any:
    """The ``numpy.memmap`` over a whole file that an array lies in, or None."""
    import numpy

    while isinstance(array, numpy.ndarray):
        if isinstance(array.base, mmap.mmap):
            return array if isinstance(array, numpy.memmap) else None
        array = array.base
    return None


def _bounds(array: Array) -> tuple[int, int]:
    """Where the lowest of an array's bytes lies, and where the highest one ends."""
    low = high = array.__array_interface__["data"][0]
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        low += min(reach, 0)
        high += max(reach, 0)
    return low, high + array.itemsize


def map_array(
    name: str,
    mode: Any,
    at: int,
    size: int,
    first: int,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> Any:
    """Make the array that :func:`reduce_mapped` described."""
    import numpy

    whole = numpy.memmap(name, "u1", mode, at, (size,))
    array: Array = numpy.ndarray(shape, dtype, whole, first, strides)
    return array.view(numpy.memmap)
