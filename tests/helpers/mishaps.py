"""Tasks that die, hang, refuse to stop, and leave a trace of each time they ran."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from helpers import tasks

KILL = signal.SIGKILL

# --- results of every form ------------------------------------------------------------------------


@dataclasses.dataclass
class Reading:
    number: int
    values: list[float]


LEDGER: list[int] = []
"""What every item returns that has been told to: one list for all of them."""

TABLE = np.arange(30_000.0)
"""Large, and held by the module: results may be views of it, or the array itself."""

MANY: dict[int, list[bytes]] = {}


def _shared(_index: int) -> list[int]:
    return LEDGER


def _held_and_large(index: int) -> list[bytes]:
    """Held by the module, and in a chunk of them too many bytes to be copied lightly."""
    return MANY.setdefault(index, [bytes([index % 256]) * 1_000_000])


def _mix(index: int) -> Any:
    kinds: list[Callable[[int], Any]] = [int, float, str, lambda i: None, lambda i: [i], _array]
    return kinds[index % len(kinds)](index)


def _array(index: int) -> Any:
    return np.full(20_000, index)


FORMS: dict[str, Callable[[int], Any]] = {
    "ints": int,
    "large ints": lambda i: 2**80 + i,
    "ints that become large": lambda i: i if i < 3 else 2**80 + i,
    "floats": lambda i: i / 4,
    "None": lambda i: None,
    "bools": lambda i: i % 3 == 0,
    "NumPy scalars": lambda i: np.int16(i),
    "NumPy scalars of two types": lambda i: np.float32(i) if i % 2 else np.int64(i),
    "short str": str,
    "long str": lambda i: f"{i} ü" * 2000,
    "bytes": lambda i: bytes([i]) * 500,
    "tuples": lambda i: (i, str(i), (None, i / 2)),
    "lists": lambda i: [i, [i + 1], "x" * i],
    "dicts": lambda i: {"index": i, i: [i]},
    "sets": lambda i: {i, i + 1},
    "dataclasses": lambda i: Reading(i, [i / 2]),
    "small arrays": lambda i: np.full(3, i),
    "large arrays": _array,
    "lists of large arrays": lambda i: [_array(i), str(i)],
    "one object for all": _shared,
    "one large array for all": lambda i: TABLE,
    "views of a large array": lambda i: TABLE[i:],
    "held and large": _held_and_large,
    "a mix": _mix,
}


def result(form: str, index: int) -> Any:
    return FORMS[form](index)


# --- tasks that die, and what they left on disk ---------------------------------------------------


def run_once_more(directory: str, index: int) -> int:
    """Leave a line; how often this item has run before."""
    path = os.path.join(directory, f"item-{index}")
    tasks.append_line(path, os.getpid())
    return len(Path(path).read_text().split()) - 1


def runs(directory: Any) -> dict[int, int]:
    """How often each item ran."""
    return {index: len(pids) for index, pids in pids_of_runs(directory).items()}


def pids_of_runs(directory: Any) -> dict[int, list[int]]:
    """Who ran each item, in this order."""
    found = {}
    for path in Path(directory).glob("item-*"):
        found[int(path.name.partition("-")[2])] = [int(pid) for pid in path.read_text().split()]
    return dict(sorted(found.items()))


def deadly(item: tuple[str, str, int, int]) -> Any:
    """(directory, form, index, deaths): die so often, then return the result of that form."""
    directory, form, index, deaths = item
    if run_once_more(directory, index) < deaths:
        tasks.die(KILL)
    return result(form, index)


def deadly_args(directory: str, form: str, index: int, deaths: int) -> Any:
    return deadly((directory, form, index, deaths))


def deadly_number(directory: str, poison: int, index: int) -> int:
    """Cheap: only the poison leaves a trace, and dies once."""
    if index == poison and run_once_more(directory, index) < 1:
        tasks.die(KILL)
    return index


class DeadlyError(Exception):
    """Kills the process that pickles it."""

    def __reduce__(self) -> Any:
        return tasks.die(KILL)


def raise_deadly(item: tuple[str, int, bool]) -> int:
    directory, index, bad = item
    run_once_more(directory, index)
    if bad:
        raise DeadlyError
    return index


# --- tasks that take too long ---------------------------------------------------------------------


def catch_everything(seconds: float = 60) -> str:
    """Swallow whatever is raised in it, until the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
    return "survived"


def python_loop() -> None:
    while True:
        pass


def hash_long() -> bytes:
    """Minutes in C without the GIL, and without a look at signals."""
    return hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000_000_000)


def sum_long() -> int:
    """Minutes in C with the GIL."""
    return sum(itertools.repeat(1, 10**11))


def match_long() -> Any:
    import re

    return re.match(r"(a+)+$", "a" * 60 + "b")


HANGS: dict[str, Callable[[], Any]] = {
    "time.sleep": lambda: time.sleep(60),
    "a loop in Python": python_loop,
    "a loop that catches everything": catch_everything,
    "C without the GIL": hash_long,
    "C with the GIL": sum_long,
    "a regular expression": match_long,
}


def hang(item: tuple[str, str | None, int]) -> int:
    """(directory, which hang or None, index): leave a trace, then hang or return the index."""
    directory, how, index = item
    run_once_more(directory, index)
    if how is not None:
        HANGS[how]()
    return index


def hang_args(directory: str, how: str | None, index: int) -> int:
    return hang((directory, how, index))


def hang_named(how: str) -> Any:
    return HANGS[how]()


def end_near(item: tuple[float, Any]) -> Any:
    """Spin so long, then return: the time of the end is exact."""
    seconds, value = item
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        pass
    return value


def raise_near(item: tuple[float, int]) -> Any:
    end_near(item)
    raise ValueError(item[1])


def give_in_late(item: tuple[str, int]) -> Any:
    """By its name: "swallow": catch what stops it, and return; "raise", "die"; else return."""
    what, index = item
    if what == "swallow":
        try:
            time.sleep(60)
        except Exception:
            return "swallowed"
    if what == "raise":
        raise ValueError(index)
    if what == "die":
        tasks.die(KILL)
    return index


class SlowToPickle:
    def __reduce__(self) -> Any:
        time.sleep(60)
        return int, ()


def return_slow_to_pickle(_item: Any = None) -> Any:
    return SlowToPickle()


# --- children of tasks ----------------------------------------------------------------------------


def child_crashes_then_die(how: int) -> Any:
    """A forked child of the worker segfaults; then the worker dies of something else."""
    child = os.fork()
    if child == 0:
        segfault()
    os.waitpid(child, 0)
    return tasks.die(how)


def segfault() -> None:
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def a_function_of_the_user(_item: Any = None) -> None:
    segfault()


def take_memory(size: int) -> Any:
    """Touch so many bytes, then die of SIGKILL."""
    data = bytearray(size)
    data[::4096] = b"x" * len(range(0, size, 4096))
    return tasks.die(KILL)


def keep_memory(size: int) -> int:
    """Have so many more bytes of memory from now on; say who."""
    data = bytearray(size)
    data[::4096] = b"x" * len(range(0, size, 4096))
    tasks.state["ballast"] = data
    return os.getpid()


def exit_in(item: Any) -> Any:
    """By its name: "exit": sys.exit; "error": ValueError; else the item."""
    if item == "exit":
        sys.exit(3)
    if item == "error":
        raise ValueError(item)
    return item


def count(values: Any) -> dict[Any, int]:
    return dict(Counter(values))


def nap_or(item: Any) -> Any:
    """Sleep so many seconds, whatever an item that is no number says."""
    if isinstance(item, int):
        time.sleep(item)
    return item


class Killer:
    """Ends the worker that calls it, or its method."""

    def __call__(self) -> Any:
        return tasks.die(KILL)

    def kill(self) -> Any:
        return tasks.die(KILL)


def prefer_me() -> None:
    """An initializer: if memory runs out, this process is the one to go."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def crash_with_threads(count: int) -> None:
    """Crash while so many threads are deep in calls: faulthandler has much to write."""
    import threading

    ready = threading.Barrier(count + 1)
    for _ in range(count):
        threading.Thread(target=deep, args=(100, ready), daemon=True).start()
    ready.wait()
    time.sleep(0.05)
    segfault()


def deep(depth: int, ready: Any) -> None:
    if depth:
        deep(depth - 1, ready)
    else:
        ready.wait()
        time.sleep(60)


# --- how long workers live ------------------------------------------------------------------------


def linger_at_exit(directory: str) -> None:
    """An initializer: this worker does not end before the gate is open."""
    import multiprocessing.util

    multiprocessing.util.Finalize(None, tasks.pass_gate, (directory,), exitpriority=10)


def use_memory(size: int) -> int:
    """Have so much memory and give it back; say who."""
    data = bytearray(size)
    data[::4096] = b"x" * len(range(0, size, 4096))
    return os.getpid()


def pool_in_worker(method: str, count: int) -> list[int]:
    import multiprocessing

    from fastpool import Pool

    with Pool(2, context=multiprocessing.get_context(method)) as pool:
        return pool.map(tasks.square, range(count))


def nested(method: str, directory: str, generations: int) -> None:
    """Have pools below each other; the last generation waits at the gate."""
    import multiprocessing

    from fastpool import Pool

    with Pool(2, context=multiprocessing.get_context(method), daemon=False) as pool:
        if generations > 1:
            pool.starmap(nested, [(method, directory, generations - 1)] * 2, 1)
        else:
            pool.starmap(tasks.pass_gate, [(directory, i) for i in range(2)], 1)


# --- exceptions in the place of results -----------------------------------------------------------


def run_or_raise(item: tuple[str, int, bool]) -> int:
    directory, index, bad = item
    run_once_more(directory, index)
    if bad:
        raise ValueError(index)
    return index


def run_or_raise_this(item: tuple[str, int, BaseException | None]) -> int:
    directory, index, error = item
    run_once_more(directory, index)
    if error is not None:
        raise error
    return index


def raise_named(name: str) -> str:
    if name == "unloadable":
        tasks.raise_unloadable()
    if name == "unpicklable":
        tasks.raise_unpicklable()
    return name


def return_named(item: tuple[str, int]) -> Any:
    name, index = item
    makers = {
        "lambda": tasks.make_lambda,
        "dump": tasks.make_dump_fails,
        "load": tasks.make_load_fails,
    }
    return makers[name]() if name in makers else result(name, index)


def mishap(item: tuple[str, str, int]) -> int:
    """Die, raise, exit, hang, or return the index."""
    directory, what, index = item
    run_once_more(directory, index)
    if what == "die":
        tasks.die(KILL)
    if what == "raise":
        raise ValueError(index)
    if what == "exit":
        sys.exit(index)
    if what == "hang":
        time.sleep(60)
    return index


class LoadsOnce:
    """Arrives as the value the first time; loading it again raises."""

    def __init__(self, path: str, value: Any) -> None:
        self.path = path
        self.value = value

    def __reduce__(self) -> Any:
        return load_once, (self.path, self.value)


def load_once(path: str, value: Any) -> Any:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise ValueError("was loaded before") from None
    return value
