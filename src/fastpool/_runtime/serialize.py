"""The general serializer, and which functions workers may remember."""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

loads: Callable[[Any], Any] = pickle.loads


class _Reducers:
    """Looks a type up where ``ForkingPickler`` does, at the time of the look-up."""

    def __getitem__(self, cls: type) -> Any:
        extra: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        reducer = extra.get(cls)
        if reducer is None:
            reducer = copyreg.dispatch_table[cls]
        return reducer


class _Sink:
    __slots__ = ("write",)
    write: Callable[[bytes], None]


def make_dumps() -> Callable[[object], bytes]:
    """Return a ``dumps`` that pickles as ``multiprocessing`` does, without its cost of set-up.

    ``ForkingPickler.dumps`` makes a pickler and a chained dispatch table for each call, which takes
    longer than the pickling of a small task; this one keeps both.
    """
    # One for each thread, or nesting, that pickles at the same time; pop() and append() are atomic.
    idle: list[tuple[Callable[[object], None], Callable[[], None], list[bytes]]] = []

    def dumps(value: object) -> bytes:
        try:
            kit = idle.pop()
        except IndexError:
            kit = _make_kit()
        dump, forget, pieces = kit
        try:
            dump(value)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            pieces.clear()
            forget()
            idle.append(kit)

    return dumps


def _make_kit() -> tuple[Callable[[object], None], Callable[[], None], list[bytes]]:
    """A pickler's ``dump``, what clears its memo, and the list that it writes to."""
    pieces: list[bytes] = []
    sink = _Sink()
    sink.write = pieces.append
    pickler = pickle.Pickler(sink)
    pickler.dispatch_table = _Reducers()  # type: ignore[assignment]
    return pickler.dump, pickler.clear_memo, pieces


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
