"""Functions that workers run on arrays; importable by name under every start method."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers import tasks
from helpers.arrays import EXAMPLES, Holder, Measurement, portrait

# --- looking at an argument -----------------------------------------------------------------------


def portrait_here(*args: Any, **kwargs: Any) -> tuple[Any, int]:
    """What a worker sees of one argument, however it came; and who looked."""
    (value,) = [*args, *kwargs.values()]
    return portrait(value), os.getpid()


def portrait_of_first(value: Any, *_others: Any) -> tuple[Any, int]:
    return portrait(value), os.getpid()


def portrait_of_all(*args: Any, **kwargs: Any) -> Any:
    return portrait((args, kwargs))


class Busy(Holder):
    """Its methods write into its own array."""

    def sees_then_fills(self, index: int) -> tuple[Any, bool]:
        return sees_then_fills(self.value, index)

    def total_after_gate(self, directory: str) -> Any:
        return total_after_gate(directory, self.value)


def example(index: int) -> Any:
    return EXAMPLES[index]


# --- working on an argument -----------------------------------------------------------------------


def fill(target: Any, value: Any) -> None:
    """Write into an array in place."""
    target[...] = value


def fill_by_keyword(value: Any, target: Any) -> None:
    target[...] = value


def fill_in(structure: Any, value: Any) -> None:
    """Write into all arrays of a structure."""
    if isinstance(structure, np.ndarray) and not structure.dtype.hasobject:
        structure[...] = value
        return
    parts: Any = structure
    if isinstance(structure, dict):
        parts = structure.values()
    elif isinstance(structure, Measurement):
        parts = [structure.data]
    elif not isinstance(structure, (list, tuple, np.ndarray)):
        parts = ()
    for part in parts:
        fill_in(part, value)


def fill_and_say_who(target: Any, value: Any) -> int:
    target[...] = value
    return os.getpid()


def fill_then_pass_gate(target: Any, value: Any, directory: str) -> None:
    target[...] = value
    tasks.pass_gate(directory)


def fill_first_and_look_at_second(first: Any, second: Any) -> list[Any]:
    first[...] = 1
    return second.tolist()


def zero_and_return(target: Any) -> Any:
    target.view("V1")[...] = b"\0"
    return target


def increment(target: Any) -> None:
    target += 1


def geometry(value: Any) -> tuple[Any, Any, Any]:
    return value.shape, value.strides, value.sum()


VIEWS_OF_A_TASK: dict[str, Callable[[Any], Any]] = {
    "second half": lambda a: a[len(a) // 2 :],
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1],
    "columns": lambda a: a[..., ::3],
    "flat": lambda a: a.reshape(-1)[5:-5],
    "bytes": lambda a: a.view("u1"),
    "one": lambda a: a[1:2],
}


def apply_view(value: Any, name: str) -> Any:
    return VIEWS_OF_A_TASK[name](value)


def filled(count: int, value: Any) -> Any:
    return np.full(count, value)


def double_in_place(target: Any) -> None:
    target *= 2


def ramp(count: int, first: float) -> Any:
    return np.arange(first, first + count)


def double(value: Any) -> Any:
    return value * 2


def filled_list(count: int, number: int) -> list[Any]:
    return [np.full(count, float(index)) for index in range(number)]


def array_and_lambda(count: int) -> Any:
    return np.zeros(count), lambda: None


def array_and_load_fails(count: int) -> Any:
    return np.zeros(count), tasks.LoadFails()


def fill_and_die(value: Any) -> None:
    value[...] = 9
    tasks.die(signal.SIGKILL)


def double_and_return(target: Any) -> Any:
    target *= 2
    return target


def filled_rows(value: Any) -> Any:
    return np.full((200, 60), float(value))


def look_at_frame(item: Any) -> Any:
    frame, raw = item
    return frame["index"], float(frame["data"].sum()), sum(raw)


def total(value: Any, *_ignored: Any) -> Any:
    return value.sum()


def total_after_gate(directory: str, value: Any) -> Any:
    tasks.pass_gate(directory)
    return value.sum()


def size_of(value: Any) -> int:
    return value.nbytes


def sees_then_fills(value: Any, index: int) -> tuple[Any, bool]:
    """The sum as it came, and whether what is written all over it stays what it is for a while."""
    seen = value.sum()
    value[...] = index
    deadline = time.monotonic() + 0.002
    intact = bool((value == index).all())
    while time.monotonic() < deadline:
        intact = intact and bool((value == index).all())
    return seen, intact


def sees_then_fills_item(item: tuple[Any, int]) -> tuple[Any, bool]:
    return sees_then_fills(*item)


def sees_then_fills_nested(item: dict[str, Any]) -> tuple[Any, bool]:
    return sees_then_fills(*item["in"])


def overwrite_bytes(value: bytearray) -> int:
    """Zero a bytearray of ones; how many there were."""
    count = value.count(1)
    value[:] = bytes(len(value))
    return count


def fill_and_raise(value: Any) -> None:
    value[...] = 9
    raise ValueError("after writing")


def plus(value: Any, more: Any) -> Any:
    return value + more


def fill_and_return(value: Any, filling: Any) -> Any:
    value[...] = filling
    return value


def write_first_and_look_at_second(first: Any, second: Any) -> tuple[bool, Any]:
    """Whether both are one object, and the second's sum after the first was zeroed."""
    first[...] = 0
    return first is second, second.sum()


def portrait_and_mutate(value: Any) -> Any:
    """What it was; then it is something else."""
    seen = portrait(value)
    for part in value if isinstance(value, (list, tuple)) else [value]:
        part[...] = 99
    return seen


def fork_and_overwrite(value: Any) -> tuple[int, Any]:
    """Let a child of the worker overwrite its copy; say how it left, and what we have then."""
    seen = portrait(value)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            right = portrait(value) == seen
            value[...] = 0
            code = 0 if right and not value.any() else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), portrait(value)


# --- functions of blocks --------------------------------------------------------------------------


def shape_of(block: Any) -> tuple[int, ...]:
    return block.shape


def shapes_of(*blocks: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(block.shape for block in blocks)


def block_as_list(block: Any) -> list[Any]:
    return block.tolist()


def copy_into(target: Any, source: Any) -> None:
    target[...] = source


def as_floats_in_rows(block: Any) -> Any:
    return np.stack([block, block], 1).astype("f8")


def only_odd(block: Any) -> Any:
    return block[block % 2 == 1]


def square_of_block(block: Any) -> Any:
    return np.zeros((len(block), len(block)))


def none_if_zero_first(block: Any) -> Any:
    return None if block[0] == 0 else float(block[0])


def array_of_no_dimension(block: Any) -> Any:
    return np.array(block.sum())


def array_if_zero_first(block: Any) -> Any:
    return block if block[0] == 0 else float(block[0])


def first_three_as_row(block: Any) -> Any:
    return block[:3]


def as_text(block: Any) -> Any:
    return block.astype("U4")


def as_words(block: Any) -> Any:
    return np.full(block.shape, "no number")


def one_too_many(block: Any) -> Any:
    return np.zeros(len(block) + 1)


class Unpicklable(np.ndarray):
    """An array that can't leave its process."""

    def __reduce__(self) -> Any:
        raise TypeError("this array stays where it is")


def unpicklable_array(block: Any) -> Any:
    return block.view(Unpicklable)


def two_rows_of(value: Any) -> Any:
    return np.stack([value, value])


def meet_others(directory: str, count: int, block: Any) -> int:
    """Wait until so many tasks run at the same time; say who this one is."""
    return tasks.hold_all((directory, int(block[0]), count))


# --- what a worker keeps --------------------------------------------------------------------------


def kept_portrait(key: str) -> Any:
    return portrait(tasks.state[key])


def keep_array(key: str, value: Any) -> None:
    tasks.state[key] = value


def keep_and_return(key: str, value: Any) -> Any:
    tasks.state[key] = value
    return value


def drop_kept(*keys: str) -> None:
    for key in keys:
        tasks.state.pop(key, None)


def keep_and_say_who(key: str, value: Any) -> int:
    tasks.state[key] = value
    return os.getpid()


def keep_or_drop(directory: str, index: int, what: str, pid: int, value: Any) -> int:
    """Meet two others; then keep a value, or, in one process, drop what it kept: zeros."""
    me = tasks.hold_all((directory, index, 3))
    if what == "keep":
        tasks.state["kept"] = value
        return me
    if me != pid:
        return 0
    kept = tasks.state.pop("kept")
    if kept.any():
        raise AssertionError(f"not zero any more: {kept}")
    return me


def fill_kept(key: str, value: Any) -> None:
    tasks.state[key][...] = value


def has_module(name: str) -> bool:
    import sys

    return sys.modules.get(name) is not None


# --- text -----------------------------------------------------------------------------------------


def is_sound(text: str) -> bool:
    """True if a string is just as if this process had made it: its hash, its size, its kind."""
    import sys

    fresh = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")
    return (
        type(text) is str
        and text == fresh
        and hash(text) == hash(fresh)
        and text.isascii() == fresh.isascii()
        and sys.getsizeof(text) == sys.getsizeof(fresh)
        and text + "x" == fresh + "x"
        and {text: 1}[fresh] == 1
    )
