"""Large arrays on their way to workers: copied once for a call, or named by their file."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

from fastpool._core._blocks import view_of_array
from fastpool._runtime.serialize import reduce_array
from fastpool.pool import Pool

if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]

#: Arrays up to so many bytes are compared as a whole before their copy is used again; of larger
#: ones, which would keep the sender busy, a sample.
COMPARED_WHOLE = 1 << 26

#: So many bytes are compared at a time: they stay in the cache.
STRETCH = 1 << 20

#: Of a larger array, so many places are compared, of so many bytes each.
SAMPLES, SAMPLE = 1024, 4096


class Shelf:
    """Copies of large arrays in the memory of a pool, for the tasks of one call.

    A copy lives as long as something holds it: the tasks that are under way with it.

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

    def reduce(self, array: Array, held: list[Any]) -> Any:
        """Pickle an array so that its bytes travel once; `held` takes what must live meanwhile."""
        if self._beyond is None or array.nbytes <= self._beyond or array.dtype.hasobject:
            return NotImplemented
        bits = _bits(array)
        if bits is None or view_of_array(array) is not None:
            return NotImplemented
        copy = self._find(array, bits)
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

    def _find(self, array: Array, bits: Array) -> Array | None:
        """The copy made before, unless the array was changed since then."""
        known = self._known.get(id(array))
        if known is None or known[0]() is not array:
            return None
        copy: Array | None = known[1]()
        if copy is None or copy.shape != array.shape or copy.dtype != array.dtype:
            return None
        # Where tasks may write, a difference says nothing.
        if self._mode == "r" and not _same(bits, _bits(copy)):
            return None
        return copy


def own_copy(rebuild: Any, args: tuple[Any, ...]) -> Any:
    """Make an array that is nobody else's."""
    return rebuild(*args).copy("K")


def _bits(array: Array) -> Array | None:
    """The array as unsigned numbers, so that a NaN equals itself; None if they can't be seen so."""
    if array.ndim == 0:
        return None
    bits: Array | None = None
    if array.itemsize in (1, 2, 4, 8):
        bits = array.view(f"u{array.itemsize}")
    elif array.flags.c_contiguous:
        bits = array.reshape(-1).view("u1")
    elif array.flags.f_contiguous:
        bits = array.T.reshape(-1).view("u1")
    return bits


def _same(one: Array, other: Array | None) -> bool:
    """Whether two arrays of numbers are equal; of very large ones, whether a sample is."""
    if other is None or one.shape != other.shape:
        return False
    if one.flags.f_contiguous and not one.flags.c_contiguous:
        one, other = one.T, other.T
    if one.flags.c_contiguous and other.flags.c_contiguous:
        one, other = one.reshape(-1), other.reshape(-1)
    rows = len(one)
    row = max(1, one.nbytes // rows)
    if one.nbytes <= COMPARED_WHOLE:
        length = step = max(1, STRETCH // row)
    else:
        length = max(1, SAMPLE // row)
        step = max(length, rows // SAMPLES)
    # From the end, so that the last rows are always among them.
    for end in range(rows, 0, -step):
        begin = max(0, end - length)
        if not bool((one[begin:end] == other[begin:end]).all()):
            return False
    return True


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
