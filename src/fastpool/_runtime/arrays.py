"""Arrays in a pool's shared memory, and parallel loops over arrays."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Sequence

from fastpool._core._arrays import is_plain_array
from fastpool._core._blocks import OutOfBlocksError, ParentExchange

TYPE_CHECKING = False  # typing itself is not loaded for this
if TYPE_CHECKING:
    from typing import Any

    import numpy
    from numpy.typing import ArrayLike, DTypeLike

    Array = numpy.ndarray[Any, Any]
    #: Calls a function on many tuples of arguments and returns the results; if the flag is set, it
    #: stores each in the first element of its tuple instead.
    BlockRunner = Callable[[Callable[..., Any], list[Any], bool], list[Any]]


def _numpy(what: str = "arrays in shared memory need") -> Any:
    found = sys.modules.get("numpy")
    if found is None:
        try:
            import numpy as found
        except ImportError as error:
            raise ImportError(f"{what} NumPy: pip install numpy", name="numpy") from error
    return found


def new_array(
    exchange: ParentExchange, shape: int | Sequence[int], dtype: DTypeLike, zeroed: bool = False
) -> Array:
    """Make an array in shared memory; if not `zeroed`, its values are whatever was there before."""
    np = _numpy()
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise ValueError(f"shared memory can't hold Python objects, so no dtype {kind}")
    dims = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    size = kind.itemsize
    for dim in dims:
        if operator.index(dim) < 0:
            raise ValueError("negative dimensions are not allowed")
        size *= operator.index(dim)
    if size > MOST_BYTES:
        raise MemoryError(f"no shared memory for an array of {size} bytes")
    try:
        memory = exchange.new_shared(size, zeroed)
    except OutOfBlocksError as error:
        raise MemoryError(str(error)) from None
    array: Array = np.ndarray(dims, kind, memory)
    return array


#: More than any segment has.
MOST_BYTES = 1 << 61


def copy_array(exchange: ParentExchange, array: ArrayLike) -> Array:
    """Copy an array into shared memory."""
    source = _numpy().asarray(array)
    copy = new_array(exchange, source.shape, source.dtype)
    copy[...] = source
    return copy


def can_be_cut(items: object) -> bool:
    """Whether slices of an array can be sent instead of its items.

    Rows of an array that is not in C order would come out in another order than they have.
    """
    if not is_plain_array(items):
        return False
    return items.ndim == 1 or (items.ndim > 1 and items.flags.c_contiguous)


def check_out(out: object, length: int, axis: int = 0) -> None:
    """Refuse what can't take `length` results along an axis."""
    if not isinstance(out, _numpy("out= needs").ndarray):
        raise TypeError(f"out must be a numpy.ndarray, not {type(out).__name__}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if out.ndim <= axis or out.shape[axis] != length:
        raise ValueError(f"out has shape {out.shape}, but there are {length} results")


def apart_from(out: Array, iterable: Any) -> Any:
    """What to read the items from while results are stored in `out`: a copy, if they overlap."""
    if isinstance(iterable, _numpy().ndarray) and _numpy().may_share_memory(iterable, out):
        return iterable.copy()
    return iterable


def overlaps(out: Array, items: Any) -> bool:
    """Whether some item, or part of one, is an array that may share memory with `out`."""
    np = _numpy()
    for item in items if type(items) in (list, tuple) else ():
        for part in item if type(item) in (list, tuple) else (item,):
            if isinstance(part, np.ndarray) and np.may_share_memory(part, out):
                return True
    return False


class Store:
    """Puts results into an array, each as by an assignment of its own.

    Parameters
    ----------
    out : numpy.ndarray
    later : bool
        Only when all are there: items that are still to be sent may lie in the same memory.
    """

    def __init__(self, out: Array, later: bool) -> None:
        self._out = _numpy().empty_like(out, subok=False) if later else out
        self._target = out

    def close(self) -> None:
        """All results have come."""
        if self._out is not self._target:
            self._target[...] = self._out

    def __call__(self, index: int, values: Any) -> None:
        """Store a column, or a list, from an index on."""
        out = self._out
        if not isinstance(values, list):
            if self._holds(values):
                # Results are scalars: each fills its row.
                rows = values.reshape(-1, *(1,) * (out.ndim - 1))
                out[index : index + len(values)] = rows
                return
            values = list(values) if values.dtype.str[1:] not in _BUILTIN else values.tolist()
        for i, value in enumerate(values, index):
            out[i] = value

    def _holds(self, column: Array) -> bool:
        """Whether no value of a column is changed, or refused, by the dtype of the array."""
        np = _numpy()
        kind = self._out.dtype
        if np.can_cast(column.dtype, kind, "safe"):
            return True
        if kind.kind == "f" and column.dtype.kind == "f":
            return True
        if kind.kind in "iu" and column.dtype.kind in "iu":
            limits = np.iinfo(kind)
            return bool(column.min() >= limits.min and column.max() <= limits.max)
        return False


#: The columns that came from Python's own int, float and bool.
_BUILTIN = ("i8", "f8", "b1")


def map_blocks(
    run: BlockRunner,
    exchange: ParentExchange,
    workers: int,
    func: Callable[..., Any],
    arrays: tuple[ArrayLike, ...],
    out: Array | None,
    axis: int,
    blocks: int | None,
) -> Any:
    """Do what :meth:`Pool.map_blocks` says."""
    np = _numpy("map_blocks() needs")
    if not arrays:
        raise TypeError("map_blocks() needs at least one array")
    sources = [a if isinstance(a, np.ndarray) else np.asarray(a) for a in arrays]
    axis = operator.index(axis)
    depth = _depth(np, axis, sources)
    length = sources[0].shape[depth]
    for a in sources:
        if a.shape[depth] != length:
            lengths = ", ".join(str(a.shape[depth]) for a in sources)
            raise ValueError(f"the arrays have different lengths along axis {axis}: {lengths}")
    if out is not None:
        check_out(out, length, depth)
    count = workers if blocks is None else operator.index(blocks)
    if count < 1:
        raise ValueError("blocks must be at least 1")
    count = max(1, min(count, length))
    places: list[Any] = [
        slice(i * length // count, (i + 1) * length // count) for i in range(count)
    ]
    if depth:
        before = (slice(None),) * depth
        places = [(*before, place) for place in places]
    if out is not None and exchange.is_shared(out):
        run(func, [(out[place], *(a[place] for a in sources)) for place in places], True)
        return out
    if len(sources) == 1:  # the commonest, without a generator for each block
        items = [(sources[0][place],) for place in places]
    else:
        items = [tuple([a[place] for a in sources]) for place in places]
    results = run(func, items, False)
    if out is not None:
        for place, result in zip(places, results, strict=True):
            out[place] = result
        return out
    if all(result is None for result in results):
        return None
    if all(isinstance(result, np.ndarray) and result.ndim > depth for result in results):
        if any(isinstance(result, np.ma.MaskedArray) for result in results):
            return np.ma.concatenate(results, depth)
        return np.concatenate(results, depth)
    return results


def _depth(np: Any, axis: int, sources: list[Array]) -> int:
    """The axis counted from the front, which must be the same one of all arrays."""
    ndim = sources[0].ndim
    for a in sources:
        if not -a.ndim <= axis < a.ndim:
            error = getattr(np, "exceptions", np).AxisError
            raise error(axis, a.ndim)
        if axis < 0 and a.ndim != ndim:
            raise ValueError(f"axis {axis} is not the same axis of all arrays")
    return axis + ndim if axis < 0 else axis
