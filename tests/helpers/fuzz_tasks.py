"""What the workers of a kill fuzz run: every item's value is known, and every run leaves a trace.

An item is one int that says all: which call of the round it belongs to, its place there, and how it
behaves. So it travels as a plain number, and its value can be computed again by whoever checks it.

A trace is a file of lines, each written at once: `b ITEM PID` when an item begins, `e ITEM PID`
when it has its value, `left PID` when a worker leaves in order. A worker of which there is no such
line, and which is not there any more, has died.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any, NamedTuple

from helpers.tasks import die

try:
    import numpy
except ImportError:  # the pool works without, and so does its fuzz
    numpy = None  # type: ignore[assignment]

NORMAL, LINGERS, RAISES, SLEEPS = 0, 1, 2, 3
#: Items that end their worker each time they run.
KILLED, CRASHES, EXITS, EATS = 4, 5, 6, 7
POISON = (KILLED, CRASHES, EXITS, EATS)

#: Of large values: more often small ones, and 8 MB one time in 32.
SIZES = (0, 1, 100, 5000, 65_535, 65_536, 70_000, 100_000) * 3 + (1 << 20,) * 7 + (8 << 20,)


class ExpectedError(Exception):
    """What an item raises that shall raise; its only argument is the item."""


def item_of(call: int, index: int, behaviour: int = NORMAL) -> int:
    return call << 32 | behaviour << 24 | index


def behaviour_of(item: int) -> int:
    return item >> 24 & 0xFF


def size_of(item: int) -> int:
    """How many bytes an item's value has, where that may be a large one."""
    return SIZES[(item * 2_654_435_761 >> 16) % len(SIZES)]


# --- in the worker --------------------------------------------------------------------------------

_trace_fd = -1
_cgroup = ""
_held: list[Any] = []


def begin_trace(path: str, cgroup: str) -> None:
    """The initializer of a worker."""
    global _trace_fd, _cgroup
    _trace_fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _cgroup = cgroup
    util.Finalize(None, _tell, (f"left {os.getpid()}",), exitpriority=10)


def _tell(line: str) -> None:
    os.write(_trace_fd, f"{line}\n".encode())


def _behave(item: int) -> None:
    behaviour = behaviour_of(item)
    if behaviour == LINGERS:
        time.sleep((item & 7) * 0.001)
    elif behaviour == RAISES:
        raise ExpectedError(item)
    elif behaviour == SLEEPS:
        time.sleep(60)
    elif behaviour == KILLED:
        die(signal.SIGKILL)
    elif behaviour == CRASHES:
        die(signal.SIGSEGV)
    elif behaviour == EXITS:
        die("exit-3")
    elif behaviour == EATS:
        _eat()


def _eat() -> None:
    """Take more memory than the group allows: the out-of-memory killer ends this process."""
    if _cgroup:
        Path(_cgroup, "cgroup.procs").write_text(str(os.getpid()))
        block = bytearray(64 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1
    die(signal.SIGKILL)  # there is no such group: what its killer would do


def _run(item: int, make: Callable[[int], Any]) -> Any:
    _tell(f"b {item} {os.getpid()}")
    _behave(item)
    value = make(item)
    _tell(f"e {item} {os.getpid()}")
    return value


def number(item: int) -> Any:
    return _run(item, number_of)


def real(item: int) -> Any:
    return _run(item, real_of)


def nothing(item: int) -> Any:
    return _run(item, nothing_of)


def flag(item: int) -> Any:
    return _run(item, flag_of)


def scalar(item: int) -> Any:
    return _run(item, scalar_of)


def mixture(item: int) -> Any:
    return _run(item, mixture_of)


def text(item: int) -> Any:
    return _run(item, text_of)


def large(item: int) -> Any:
    return _run(item, large_of)


def held(item: int) -> Any:
    """A value that the worker keeps, too: it is sent at the end of the chunk, as it is then."""
    _held[:] = [_run(item, mixture_of)]
    return _held[0]


def echo(pair: tuple[int, Any]) -> Any:
    """Send the argument back, if it is what it should be; arrays are changed in place before."""
    item, value = pair

    def change(item: int) -> Any:
        if not same(value, payload_of(item)):
            raise AssertionError(f"item {item} came with another argument")
        if numpy is not None and isinstance(value, numpy.ndarray):
            value[...] += 1
        return value

    return _run(item, change)


# --- values ---------------------------------------------------------------------------------------


def number_of(item: int) -> int:
    return item * 3 + 1


def real_of(item: int) -> float:
    return item / 3


def nothing_of(_item: int) -> None:
    return None


def flag_of(item: int) -> bool:
    return item % 3 == 0


def scalar_of(item: int) -> Any:
    return numpy.int32(item & 0x7FFF_FFFF)


def text_of(item: int) -> str:
    return f"{item} " * (1 + item % 17)


def mixture_of(item: int) -> Any:
    kinds = (number_of, real_of, nothing_of, flag_of, text_of)
    if item % 6 < len(kinds):
        return kinds[item % 6](item)
    return {"item": item, "list": [item] * (item % 50), "set": {item}}


def large_of(item: int) -> Any:
    size = size_of(item)
    if numpy is None or item % 3 == 0:
        return (b"%16d" % item * (size // 16 + 1))[:size]
    return numpy.arange(item % 1000, item % 1000 + size // 8, dtype=numpy.int64)


def payload_of(item: int) -> Any:
    """The argument of `echo`."""
    return large_of(item + 1)


def echo_of(item: int) -> Any:
    value = payload_of(item)
    return value if isinstance(value, bytes) else value + 1


#: Each function, and what its value should be.
FUNCTIONS: dict[Callable[[Any], Any], Callable[[int], Any]] = {
    number: number_of,
    real: real_of,
    nothing: nothing_of,
    flag: flag_of,
    mixture: mixture_of,
    text: text_of,
    large: large_of,
    held: mixture_of,
    echo: echo_of,
}
if numpy is not None:
    FUNCTIONS[scalar] = scalar_of


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same type."""
    if type(a) is not type(b):
        return False
    if numpy is not None and isinstance(a, numpy.ndarray):
        return a.dtype == b.dtype and bool(numpy.array_equal(a, b))
    return bool(a == b)


# --- reading a trace ------------------------------------------------------------------------------


class Run(NamedTuple):
    """One run of an item: by whom, and whether it came to its end."""

    pid: int
    ended: bool


class Trace:
    """What the workers of a round did, in the order in which they did it."""

    def __init__(self, path: Path) -> None:
        self.runs: dict[int, list[Run]] = defaultdict(list)
        self.left: set[int] = set()
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            kind, *numbers = line.split()
            if kind == "left":
                self.left.add(int(numbers[0]))
                continue
            item, pid = map(int, numbers)
            runs = self.runs[item]
            if kind == "b":
                runs.append(Run(pid, False))
            else:
                at = max(k for k, run in enumerate(runs) if run.pid == pid)
                runs[at] = Run(pid, True)


# --- a group with little memory -------------------------------------------------------------------


@contextlib.contextmanager
def small_cgroup() -> Any:
    """A memory cgroup of 32 MiB below our own, as a path; empty where none can be made."""
    path = ""
    with contextlib.suppress(OSError, StopIteration):
        path = _make_cgroup(32 << 20)
    try:
        yield path
    finally:
        remove_cgroup(path)


def _make_cgroup(limit: int) -> str:
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    v1 = [where for _, controllers, where in groups if "memory" in controllers.split(",")]
    if v1:
        parent, limit_file = Path("/sys/fs/cgroup/memory" + v1[0]), "memory.limit_in_bytes"
    else:
        where = next(where for number, _, where in groups if number == "0")
        parent, limit_file = Path("/sys/fs/cgroup" + where), "memory.max"
    path = parent / f"fastpool-fuzz-{os.getpid()}"
    path.mkdir()
    try:
        (path / limit_file).write_text(str(limit))
    except OSError:
        path.rmdir()
        raise
    return str(path)


def remove_cgroup(path: str) -> None:
    if not path:
        return
    deadline = time.monotonic() + 5
    while True:  # a process that was killed may not be gone yet
        try:
            os.rmdir(path)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
