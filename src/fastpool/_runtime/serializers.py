"""Which serializer a pool uses: what it can send, and what workers may remember of it."""

from __future__ import annotations

import functools
import importlib.util
import pickle
import types
from collections import ChainMap
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, cast

from fastpool._runtime.context_vars import reduce_variable
from fastpool._runtime.mains import MainAtFork, MainInFile, found_in_main
from fastpool._runtime.pickling import (
    ByValueReducers,
    dumps_with,
    loads,
    make_dumps,
    make_pack,
    pack_with,
    pickles_by_reference,
)

NAMES = ("pickle", "cloudpickle", "dill", "auto")


class OwnSerializer(Protocol):
    """What an object of the program's has to have; a module may have it, too."""

    def dumps(self, value: Any, /) -> bytes | bytearray | memoryview:
        """Write any object, functions and exceptions among them."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """Read what ``dumps`` has written."""
        ...


#: (pieces of the pickle, buffers that travel beside it)
Packed = tuple[list[bytes], list[pickle.PickleBuffer]]


class Serializer:
    """Pickles as ``multiprocessing`` does; the base of the others.

    What the codec writes by itself (plain values and arrays) never comes here.
    """

    #: What ``Pool(serializer=)`` was given.
    spec: object = "pickle"

    #: Inverse of the packs and dumps; called with ``buffers=`` where a pack had some.
    loads: Callable[..., Any] = staticmethod(loads)

    #: Whether functions and classes travel by value where no name leads to them.
    by_value = False

    def in_parent(self, method: str) -> Serializer:
        """The same for the parent of workers that this start method starts."""
        return self

    def make_pack(self) -> Callable[[object], Packed]:
        """Return what pickles with large buffers out of band."""
        return make_pack()

    def make_dumps(self) -> Callable[[object], bytes]:
        """Return what pickles into one piece, without buffers."""
        return make_dumps()

    def make_plain_dumps(self) -> Callable[[object], bytes]:
        """Return what pickles an error of the pool's own; :attr:`loads` reads it, too."""
        return make_dumps()

    def is_remembered(self, func: object) -> bool:
        """Whether workers may keep a function by number: no call brings another state of it."""
        return pickles_by_reference(func)

    def __reduce__(self) -> tuple[Any, ...]:
        spec = self.spec
        if isinstance(spec, types.ModuleType):
            return _choose_module, (spec.__name__,)
        return choose_serializer, (spec,)


class ByValueSerializer(Serializer):
    """A package whose class of picklers sends functions and classes by value."""

    by_value = True
    _kind: Any  # the class; called like pickle.Pickler

    def _pickler(self, file: Any, take: Any) -> Any:
        return self._kind(file, 5, buffer_callback=take)

    def make_pack(self) -> Callable[[object], Packed]:
        return functools.partial(pack_with, self._pickler)

    def make_dumps(self) -> Callable[[object], bytes]:
        return functools.partial(dumps_with, self._pickler)


class CloudSerializer(ByValueSerializer):
    """cloudpickle: functions and classes of ``__main__``, and those without a name, go by value."""

    spec = "cloudpickle"

    def __init__(self) -> None:
        self._kind = _cloud_pickler()

    def is_remembered(self, func: object) -> bool:
        import cloudpickle

        if not pickles_by_reference(func) or _module_of(func) == "__main__":
            return False
        name = _module_of(func) or ""
        while name:
            if name in cloudpickle.list_registry_pickle_by_value():
                return False
            name = name.rpartition(".")[0]
        return True


class AutoSerializer(CloudSerializer):
    """Plain pickle first, cloudpickle where that fails or names what the other side can't find.

    Parameters
    ----------
    finds : callable
        Whether the other side finds a function or class of ``__main__`` by its name.
    """

    spec = "auto"

    def __init__(self, finds: Callable[[object], bool] | None = None) -> None:
        self._is_parent = finds is not None
        # What a worker has by name, the parent has too.
        self._finds = finds or (lambda thing: found_in_main(thing) is thing)
        self._kind = _cloud_pickler(self._finds)

    def in_parent(self, method: str) -> Serializer:
        return AutoSerializer(MainAtFork() if method == "fork" else MainInFile())

    def make_pack(self) -> Callable[[object], Packed]:
        plain, by_value = make_pack(), super().make_pack()
        if not self._is_parent:

            def pack_result(value: object) -> Packed:
                try:
                    return plain(value)
                except Exception:
                    return by_value(value)

            return pack_result

        def pack(value: object) -> Packed:
            try:
                packed = plain(value)
            except Exception:
                return by_value(value)
            # Whatever is pickled by a name in it has the name of the module in the pickle.
            for piece in packed[0]:
                if b"__main__" in piece:
                    return by_value(value)
            return packed

        return pack

    def make_dumps(self) -> Callable[[object], bytes]:
        plain, by_value = make_dumps(), super().make_dumps()

        def dumps(value: object) -> bytes:
            try:
                data = plain(value)
            except Exception:
                return by_value(value)
            return by_value(value) if self._is_parent and b"__main__" in data else data

        return dumps

    def is_remembered(self, func: object) -> bool:
        if not pickles_by_reference(func):
            return False
        return _module_of(func) != "__main__" or self._finds(func)


class DillSerializer(ByValueSerializer):
    """dill, as the program has set it (``dill.settings``)."""

    spec = "dill"

    def __init__(self) -> None:
        import dill

        self.loads = dill.loads
        reducers = ByValueReducers({ContextVar: reduce_variable})

        class Pickler(dill.Pickler):  # type: ignore[misc]
            """Asks the program's own reducers first, as ``multiprocessing`` does."""

            def reducer_override(self, thing: object) -> Any:
                try:
                    reducer = reducers[type(thing)]
                except KeyError:
                    return NotImplemented
                return reducer(thing)

        self._kind = Pickler

    def is_remembered(self, func: object) -> bool:
        return pickles_by_reference(func) and _module_of(func) != "__main__"


class ObjectSerializer(Serializer):
    """An object of the program's, with ``dumps`` and ``loads``.

    A byte before what it wrote tells that from the pool's own errors.
    """

    by_value = True

    def __init__(self, own: OwnSerializer) -> None:
        self.spec = self._own = own
        self.loads = self._load

    def _dump(self, value: object) -> bytes:
        data = self._own.dumps(value)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(
                f"dumps() of the pool's serializer returned {type(data).__name__}, not bytes"
            )
        return data if type(data) is bytes else bytes(data)

    def _load(self, data: Any, buffers: object = None) -> Any:
        if data[0] == _PLAIN[0]:
            return loads(data[1:])
        return self._own.loads(bytes(data[1:]))

    def make_pack(self) -> Callable[[object], Packed]:
        return lambda value: ([_OWN, self._dump(value)], [])

    def make_dumps(self) -> Callable[[object], bytes]:
        return lambda value: _OWN + self._dump(value)

    def make_plain_dumps(self) -> Callable[[object], bytes]:
        dumps = make_dumps()
        return lambda value: _PLAIN + dumps(value)

    def is_remembered(self, func: object) -> bool:
        return pickles_by_reference(func) and _module_of(func) != "__main__"


_PLAIN, _OWN = b"\0", b"\1"


def choose_serializer(spec: object) -> Serializer:
    """Return the serializer of a name, or over an object.

    Raises
    ------
    ValueError
        If there is no serializer of that name.
    TypeError
        If an object has no ``dumps`` and ``loads``.
    ImportError
        If the package of a name is not installed.
    """
    if isinstance(spec, types.ModuleType) and spec.__name__ in NAMES:
        spec = spec.__name__
    if isinstance(spec, str):
        if spec not in NAMES:
            names = ", ".join(map(repr, NAMES))
            raise ValueError(f"serializer must be one of {names}, or an object, not {spec!r}")
        if spec == "pickle":
            return PLAIN
        try:
            return _KINDS[spec]()
        except ImportError as error:
            package = "cloudpickle" if spec == "auto" else spec
            if importlib.util.find_spec(package) is not None:
                raise  # it is there, and broken
            raise ImportError(
                f'serializer="{spec}" needs {package}: pip install "fastpool[{package}]"',
                name=package,
            ) from error
    for name in ("dumps", "loads"):
        if not callable(getattr(spec, name, None)):
            raise TypeError(
                "serializer must be a name or an object with dumps() and loads(); "
                f"{spec!r} has no {name}()"
            )
    return ObjectSerializer(cast(OwnSerializer, spec))


PLAIN = Serializer()

_KINDS: dict[str, Callable[[], Serializer]] = {
    "cloudpickle": CloudSerializer,
    "dill": DillSerializer,
    "auto": AutoSerializer,
}


def _choose_module(name: str) -> Serializer:
    return choose_serializer(importlib.import_module(name))


class Shipped:
    """A function with its first arguments, which travels by the pool's serializer."""

    def __init__(
        self, serializer: Serializer, func: Callable[..., object], args: tuple[Any, ...] = ()
    ) -> None:
        self._serializer = serializer
        self.func = func
        self.args = args

    def __call__(self, *more: Any) -> object:
        return self.func(*self.args, *more)

    def __reduce__(self) -> tuple[Any, ...]:
        # Now, while the process is started: locks and queues pickle at no other time.
        data = self._serializer.make_dumps()((self.func, self.args))
        return functools.partial, (_call_packed, self._serializer, data)


def _call_packed(serializer: Serializer, data: bytes, *more: Any) -> object:
    """In a worker: what can't be loaded is an error of the call, and not of the process's start."""
    func, args = serializer.loads(data)
    return func(*args, *more)


def _module_of(func: object) -> str | None:
    return getattr(func, "__module__", None)


def _cloud_pickler(finds: Callable[[object], bool] | None = None) -> Any:
    """cloudpickle's pickler, with the program's own reducers, and arrays out of band.

    `finds`: which functions and classes of ``__main__`` go by name all the same.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table = ByValueReducers(
            ChainMap({ContextVar: reduce_variable}, cloudpickle.Pickler.dispatch_table)
        )

        if finds is not None:

            def reducer_override(self, thing: Any) -> Any:
                if (
                    isinstance(thing, types.FunctionType | type)
                    and thing.__module__ == "__main__"
                    and finds(thing)
                ):
                    return NotImplemented
                return super().reducer_override(thing)

    return Pickler
