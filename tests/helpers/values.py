"""Types whose values the tests send; a module of their own, quick to import for a worker."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple


class Int(int):
    pass


class Float(float):
    pass


class Str(str):
    pass


class Bytes(bytes):
    pass


class List(list):  # type: ignore[type-arg]
    pass


class Tuple(tuple):  # type: ignore[type-arg]
    pass


class Dict(dict):  # type: ignore[type-arg]
    pass


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Record:
    name: str
    values: list[int]
