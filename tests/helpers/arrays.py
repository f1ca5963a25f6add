"""Arrays of every kind that the tests send, and how two of them are told apart."""

from __future__ import annotations

import array
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers import tasks

KIB = 1024
MIB = 1024 * KIB

# --- told apart ---------------------------------------------------------------------------------


def portrait(value: Any) -> Any:
    """Plain values, equal for two structures only if nobody could tell these apart.

    Of an array that is its class, dtype, shape, order, flags and content, NaN payloads included;
    of a structure also which of its parts are one and the same object.
    """
    return _Painter().paint(value)


class _Painter:
    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id is used again

    def paint(self, value: Any) -> Any:
        if _has_identity(value):
            if id(value) in self._seen:
                return "the same as", self._seen[id(value)]
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if value is np.ma.masked:  # there is one, and some of its attributes can't be read
            return name
        if isinstance(value, np.ma.MaskedArray):
            return name, self._array(value.data), self.paint(value.mask), self._masked(value)
        if isinstance(value, np.ndarray):
            attributes = self.paint(vars(value)) if hasattr(value, "__dict__") else None
            return name, self._array(value), attributes
        if isinstance(value, np.generic):
            return name, self._dtype(value.dtype), self._content(np.asarray(value))
        if isinstance(value, (list, tuple)):
            return name, [self.paint(item) for item in value]
        if isinstance(value, dict):
            return name, [(self.paint(key), self.paint(item)) for key, item in value.items()]
        if isinstance(value, (set, frozenset)):
            return name, sorted(repr(_Painter().paint(item)) for item in value)
        if isinstance(value, (bytes, bytearray)):
            return name, len(value), digest(value)
        if isinstance(value, str):
            return name, len(value), digest(value.encode("utf-8", "surrogatepass"))
        if isinstance(value, array.array):
            return name, value.typecode, len(value), digest(value)
        if dataclasses.is_dataclass(value) or isinstance(value, (Holder, Buffer)):
            return name, self.paint(vars(value))
        return tasks.fingerprint(value)

    def _array(self, value: Any) -> Any:
        flags = value.flags
        order = flags.c_contiguous, flags.f_contiguous
        return (
            self._dtype(value.dtype),
            value.shape,
            order,
            flags.writeable,
            flags.aligned,
            self._content(np.asarray(value)),
        )

    def _masked(self, value: Any) -> Any:
        return repr(value.fill_value), value.hardmask

    def _dtype(self, dtype: Any) -> Any:
        fields = dtype.descr if dtype.fields else None
        return repr(dtype), dtype.str, dtype.itemsize, dtype.isalignedstruct, fields

    def _content(self, value: Any) -> Any:
        dtype = value.dtype
        if dtype.names is not None:  # field by field: what lies between them is nobody's
            return [self._content(value[name]) for name in dtype.names]
        if dtype.hasobject or dtype.kind == "T":
            return [self.paint(item) for item in value.ravel().tolist()]
        if dtype.kind in "fc" and dtype.type in (np.longdouble, np.clongdouble):
            part = np.dtype(np.longdouble).itemsize
            if part == 16:  # ten bytes of number, six of nothing
                plain = np.ascontiguousarray(value).astype(dtype.newbyteorder("="))
                return digest(plain.reshape(-1).view("u1").reshape(-1, 16)[:, :10].tobytes())
        return digest(value.tobytes())


def _has_identity(value: Any) -> bool:
    return isinstance(value, (list, dict, set, bytearray, array.array, np.ndarray, Holder, Buffer))


def digest(data: Any) -> Any:
    """The bytes, or, of many, what stands for them."""
    raw = bytes(data)
    return raw if len(raw) <= 64 else hashlib.blake2b(raw, digest_size=16).hexdigest()


class Holder:
    """An object whose state is an array, or anything."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def portrait(self, *_ignored: Any) -> tuple[Any, int]:
        return portrait(self.value), os.getpid()

    __call__ = portrait

    def identity(self, *_ignored: Any) -> Any:
        return self.value

    def total(self, *_ignored: Any) -> Any:
        return self.value.sum()

    def fill(self, value: Any) -> None:
        self.value[...] = value

    def fill_other(self, target: Any) -> None:
        target[...] = self.value


class Buffer:
    """Its pickle depends on the protocol, as that of many classes of other libraries does."""

    def __init__(self, data: Any) -> None:
        self.data = bytearray(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if protocol >= 5:
            import pickle

            return Buffer, (pickle.PickleBuffer(self.data),)
        return Buffer, (bytes(self.data),)


@dataclasses.dataclass
class Measurement:
    name: str
    data: Any
    more: Any = None


class Plain(np.ndarray):
    """A subclass that adds nothing."""


class Tagged(np.ndarray):
    """A subclass whose pickle carries an attribute more."""

    tag: Any = None

    def __array_finalize__(self, other: Any) -> None:
        self.tag = getattr(other, "tag", None)

    def __reduce__(self) -> Any:
        function, arguments, state = super().__reduce__()  # type: ignore[misc]
        return function, arguments, (state, self.tag)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.tag = state[1]


# --- kinds of arrays ----------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: a[::-1] if a.ndim else a,
    "transposed": lambda a: a.T,
    "axes swapped": lambda a: np.swapaxes(a, 0, -1) if a.ndim else a,
    "a part": lambda a: np.concatenate([a, a])[1 : 1 + len(a)] if a.ndim else a,
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape)),
    "read-only": lambda a: read_only(a.copy()),
    "read-only F": lambda a: read_only(a.copy(order="F")),
    "in a buffer": lambda a: unaligned(a),
}
"""Functions that give an array with the same items lying in memory in another way."""


def read_only(value: Any) -> Any:
    value.flags.writeable = False
    return value


def unaligned(value: Any) -> Any:
    """The array at an odd address."""
    if value.dtype.hasobject or value.dtype.kind == "T":
        return value
    room = np.empty(value.nbytes + 1, "u1")
    moved = np.ndarray(value.shape, value.dtype, room.data, 1)
    moved[...] = value
    return moved


RECORD = [("a", "i2"), ("b", "f8"), ("c", "S3"), ("d", "u1", (2,))]
DTYPES: list[Any] = [
    "?",
    *("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"),
    *(np.dtype(kind) for kind in ("longlong", "ulonglong", "intp", "longdouble", "clongdouble")),
    *("f2", "f4", "f8", "c8", "c16"),
    *(">i2", ">u4", ">i8", ">f4", ">f8", ">c16", ">U3", ">M8[s]"),
    *("M8[D]", "M8[ns]", "M8[Y]", "m8[s]", "m8[25us]", "m8"),
    *("S1", "S7", "U1", "U5", "V6"),
    np.dtype(RECORD),
    np.dtype(RECORD, align=True),
    np.dtype([("x", ">i4"), ("y", [("z", "f4"), ("t", "M8[s]")])]),
]


def noise(dtype: Any, shape: tuple[int, ...], seed: int = 0) -> Any:
    """An array of any bits at all: every NaN, -0.0, NaT, lone surrogates."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    source = np.random.default_rng(seed)
    if dtype.names is not None:
        value = np.zeros(count, dtype)
        for index, name in enumerate(dtype.names):
            field = value[name]
            field[...] = noise(field.dtype, field.shape, seed + index)
    elif dtype.kind == "U":
        points = source.integers(1, 0x10FFFF, (count, dtype.itemsize // 4), dtype="u4")
        value = points.astype(points.dtype.newbyteorder(dtype.byteorder)).view(dtype)
    elif dtype.kind == "?" or dtype.kind == "b":
        value = source.integers(0, 2, count).astype(dtype)
    elif dtype.type in (np.longdouble, np.clongdouble):
        value = source.standard_normal(count).astype(dtype)
        value[::3] = -0.0
    else:
        value = np.frombuffer(source.bytes(count * dtype.itemsize), dtype).copy()
    return value.reshape(shape)


# --- examples, by number, for workers that make them themselves -----------------------------------


def _examples() -> Iterator[Any]:
    yield from [np.int64(5), np.int8(-1), np.uint64(2**64 - 1), np.longlong(7), np.intc(3)]
    yield from [np.float64(-0.0), np.float32(0.1), np.float16(1.5), np.longdouble("0.1")]
    yield from [np.complex64(1j), np.complex128(1 - 2j), np.clongdouble(1 + 1j)]
    yield from [np.bool_(True), np.bool_(False), np.str_("ä😀"), np.str_(""), np.bytes_(b"a\0b")]
    yield from [np.datetime64("2026-01-01"), np.datetime64("2026-01-01T00:00:00.5", "ns")]
    yield from [np.datetime64("NaT", "s"), np.timedelta64(5, "s"), np.timedelta64(5, "25us")]
    yield np.void(b"abc")
    yield np.array([(1, 2.0, b"x", (3, 4))], RECORD)[0]
    yield np.frombuffer(b"\x01\0\0\0\0\0\xf0\x7f", "f8")[0]  # a signalling NaN with a payload
    yield np.frombuffer(b"\x39\x05\0\0\0\0\xf8\xff", "f8")[0]
    yield from [True, False, 1, 0, 1.0, 0.0, -0.0, None, "", "a", b"", 2**64, -(2**63), 1j]
    yield from [np.array(5), np.array([]), np.array([1.5]), np.array("text"), (), [], {}]


EXAMPLES = list(_examples())
