"""How objects are pickled, and which functions workers may remember."""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from fastpool._core._blocks import OWN_BYTES as OWN_BLOCK
from fastpool._core._blocks import View, view_of_array, window_on

if TYPE_CHECKING:
    import numpy

loads: Callable[..., Any] = pickle.loads

#: What ``multiprocessing`` pickles with.
DEFAULT_PROTOCOL = pickle.DEFAULT_PROTOCOL


class _Reducers:
    """Looks a type up where ``ForkingPickler`` does, at the time of the look-up."""

    def __getitem__(self, cls: type) -> Any:
        extra: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        reducer = extra.get(cls)
        if reducer is None:
            reducer = copyreg.dispatch_table.get(cls)
        if reducer is None:
            reducer = self.other(cls)
        return reducer

    def other(self, cls: type) -> Any:
        raise KeyError(cls)


class _ArrayReducers(_Reducers):
    """Has NumPy's arrays leave their bytes out of the pickle."""

    def other(self, cls: type) -> Any:
        if cls.__module__ == "numpy" and cls.__name__ == "ndarray":
            return reduce_array
        raise KeyError(cls)


class ByValueReducers(_ArrayReducers):
    """What a serializer with a table of its own looks types up in.

    Bound methods are that serializer's: the standard library pickles them by the name of the
    function, and one without a name is what such a serializer is there for.
    """

    def __init__(self, own: Mapping[type, Any]) -> None:
        self._own = own

    def __getitem__(self, cls: type) -> Any:
        extra: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        reducer = None if cls is types.MethodType else extra.get(cls)
        if reducer is None:
            reducer = self._own.get(cls)
        if reducer is None:
            reducer = self.other(cls)
        return reducer


class _Basket:
    """What a pickler writes to, and the buffers it leaves out."""

    __slots__ = ("buffers", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.buffers: list[pickle.PickleBuffer] = []

    def write(self, piece: bytes | bytearray) -> None:
        """Take a piece of the pickle; a large bytearray comes as it is, and may still change."""
        self.pieces.append(piece if type(piece) is bytes else bytes(piece))

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Say whether a buffer stays in the pickle; if not, it travels by itself."""
        raw = buffer.raw()
        if raw.nbytes < OWN_BLOCK and not isinstance(raw.obj, View):
            return True
        self.buffers.append(buffer)
        return False


class _Kit:
    """A pickler that is used again, and what is in its basket.

    The pickler knows the basket only: so both go with the pool, and need no garbage collection.
    """

    __slots__ = ("buffers", "dump", "forget", "pieces")

    def __init__(self, reducers: _Reducers, out_of_band: bool) -> None:
        basket = _Basket()
        if out_of_band:
            pickler = pickle.Pickler(basket, 5, buffer_callback=basket.take)
        else:
            pickler = pickle.Pickler(basket)
        pickler.dispatch_table = reducers  # type: ignore[assignment]
        self.pieces, self.buffers = basket.pieces, basket.buffers
        self.dump = pickler.dump
        self.forget = pickler.clear_memo


def make_dumps() -> Callable[[object], bytes]:
    """Return a ``dumps`` that pickles as ``multiprocessing`` does, without its cost of set-up.

    ``ForkingPickler.dumps`` makes a pickler and a chained dispatch table for each call, which takes
    longer than the pickling of a small task; this one keeps both.
    """
    # One for each thread, or nesting, that pickles at the same time; pop() and append() are atomic.
    idle: list[_Kit] = []

    def dumps(value: object) -> bytes:
        try:
            kit = idle.pop()
        except IndexError:
            kit = _Kit(_Reducers(), False)
        pieces = kit.pieces
        try:
            kit.dump(value)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            pieces.clear()
            kit.forget()
            idle.append(kit)

    return dumps


def make_pack() -> Callable[[object], tuple[list[bytes], list[pickle.PickleBuffer]]]:
    """Return a ``pack`` that pickles with large buffers out of band.

    It returns the pieces of the pickle (protocol 5, PEP 574) and the buffers in their order, for
    ``loads(pickle, buffers=...)``.
    """
    idle: list[_Kit] = []

    def pack(value: object) -> tuple[list[bytes], list[pickle.PickleBuffer]]:
        try:
            kit = idle.pop()
        except IndexError:
            kit = _Kit(_ArrayReducers(), True)
        try:
            kit.dump(value)
            return kit.pieces[:], kit.buffers[:]
        finally:
            kit.pieces.clear()
            kit.buffers.clear()
            kit.forget()
            idle.append(kit)

    return pack


#: Makes a pickler from a file and what takes its buffers, or None if they stay in the pickle.
PicklerFactory = Callable[[Any, "Callable[[pickle.PickleBuffer], bool] | None"], Any]


def pack_with(
    make_pickler: PicklerFactory, value: object
) -> tuple[list[bytes], list[pickle.PickleBuffer]]:
    """Pickle with large buffers out of band, by a pickler that is made for this value."""
    kit = _Basket()
    make_pickler(kit, kit.take).dump(value)
    return kit.pieces, kit.buffers


def dumps_with(make_pickler: PicklerFactory, value: object) -> bytes:
    """Pickle into one piece, by a pickler that is made for this value."""
    kit = _Basket()
    make_pickler(kit, None).dump(value)
    return b"".join(kit.pieces)


def reduce_array(array: numpy.ndarray[Any, Any]) -> Any:
    """Pickle an array as ``multiprocessing`` does, with its bytes as a buffer when they are many.

    So a read-only one comes out writable where the standard library pickles with a protocol below 5
    (before Python 3.14). An array in the pool's shared memory is pickled as a reference.
    """
    view = view_of_array(array)
    if view is not None and view.is_shared:
        where = view.offset_of(array.__array_interface__["data"][0])
        place = array.dtype, array.shape, array.strides, where, array.flags.writeable
        return rebuild_view, (pickle.PickleBuffer(view), *place)
    if array.nbytes < OWN_BLOCK or array.dtype.hasobject or not array.dtype.isnative:
        return array.__reduce_ex__(DEFAULT_PROTOCOL)
    if DEFAULT_PROTOCOL >= 5 and not array.flags.writeable:
        return array.__reduce_ex__(5)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = array.copy("C")
    order = "C" if array.flags.c_contiguous else "F"
    buffer = pickle.PickleBuffer(window_on(array))
    return rebuild_array, (buffer, array.dtype, array.shape, order)


def rebuild_array(
    buffer: Any, dtype: numpy.dtype[Any], shape: tuple[int, ...], order: Any
) -> numpy.ndarray[Any, Any]:
    """Make the array that :func:`reduce_array` described."""
    import numpy

    array: numpy.ndarray[Any, Any] = numpy.ndarray(shape, dtype, buffer, 0, None, order)
    return array


def rebuild_view(
    buffer: Any,
    dtype: numpy.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    where: int,
    writeable: bool,
) -> numpy.ndarray[Any, Any]:
    """Make the view of shared memory that :func:`reduce_array` described."""
    import numpy

    array: numpy.ndarray[Any, Any] = numpy.ndarray(shape, dtype, buffer, where, strides)
    if not writeable:
        array.setflags(write=False)
    return array


_BY_REFERENCE = (types.FunctionType, types.BuiltinFunctionType, type)


def pickles_by_reference(func: object) -> bool:
    """Whether a function is pickled as a module's name and its own, and has no state beside.

    Such a function may be remembered by number. All others (bound methods, partials, callable
    objects) are pickled anew for each call, because their state may have changed.
    """
    if type(func) not in _BY_REFERENCE:
        return False
    if type(func) is types.BuiltinFunctionType:
        owner = func.__self__
        return owner is None or isinstance(owner, types.ModuleType)
    module = sys.modules.get(func.__module__)
    return getattr(module, func.__qualname__, None) is func  # type: ignore[attr-defined]
