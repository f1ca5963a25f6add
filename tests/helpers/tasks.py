"""Functions that the tests run in workers; importable by name under every start method."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import multiprocessing.util
import os
import signal
import struct
import sys
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

# --- plain functions ----------------------------------------------------------------------------


def identity(value: Any) -> Any:
    return value


def square(x: Any) -> Any:
    return x * x


def add(a: Any, b: Any = 0) -> Any:
    return a + b


def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def nothing(*_args: Any) -> None:
    return None


def make_bytes(size: int) -> bytes:
    return b"x" * size


def append_and_return(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def is_same(a: Any, b: Any) -> bool:
    return a is b


def nap(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)
    return value


class Multiplier:
    """A callable with state, and methods of every kind."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return self.factor * x

    def times(self, x: Any) -> Any:
        return self.factor * x

    @classmethod
    def build(cls, factor: Any) -> Multiplier:
        return cls(factor)

    @staticmethod
    def double(x: Any) -> Any:
        return 2 * x


# --- who and where ------------------------------------------------------------------------------


def pid(*_args: Any) -> int:
    return os.getpid()


def value_and_pid(value: Any) -> tuple[Any, int]:
    return value, os.getpid()


def who_am_i() -> dict[str, Any]:
    """What `multiprocessing` says about the process that runs this."""
    process = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    return {
        "name": process.name,
        "pid": process.pid,
        "os_pid": os.getpid(),
        "daemon": process.daemon,
        "identity": process._identity,
        "parent_pid": parent.pid if parent else None,
        "parent_name": parent.name if parent else None,
        "parent_alive": parent.is_alive() if parent else None,
        "children": len(multiprocessing.active_children()),
        "stdin": sys.stdin.read() if sys.stdin else None,
        "exitcode": process.exitcode,
    }


def start_a_child() -> int:
    """Start a process from a worker and return its exit code."""
    child = multiprocessing.Process(target=nothing)
    child.start()
    child.join(10)
    return child.exitcode if child.exitcode is not None else -999


def affinity(pid: int = 0) -> frozenset[int]:
    """The CPUs that a process may use: all, where the system can't say and nobody is pinned."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(pid))
    return frozenset(range(os.cpu_count() or 1))


# --- state kept by a worker ---------------------------------------------------------------------

state: dict[str, Any] = {}


def set_state(**values: Any) -> None:
    state.update(values)


def set_state_pair(key: str, value: Any) -> None:
    state[key] = value


def get_state(key: str, *_ignored: Any) -> Any:
    return state.get(key)


def count_starts(directory: str) -> None:
    """An initializer that leaves one file for each time it ran."""
    mark(directory, f"start-{os.getpid()}-{time.monotonic_ns()}")
    state["starts"] = state.get("starts", 0) + 1


def count_up(_item: Any) -> None:
    """Add one to the shared `multiprocessing.Value` that the initializer left as "counter"."""
    counter = state["counter"]
    with counter.get_lock():
        counter.value += 1


def keep(key: str, value: Any) -> None:
    state[key] = value


def kept_sum(key: str) -> Any:
    return state[key].sum()


# --- in the middle of pickling and unpickling -----------------------------------------------------


class WhenPickled:
    """Calls a function of this process while it is being pickled; arrives as the value."""

    def __init__(self, meanwhile: Callable[[], object], value: Any = None) -> None:
        self.meanwhile = meanwhile
        self.value = value

    def __reduce__(self) -> Any:
        self.meanwhile()
        return identity, (self.value,)


class WhenLoaded:
    """Arrives as the value; where it is unpickled, `meanwhile` is called with that before."""

    meanwhile: ClassVar[Callable[[Any], object] | None] = None

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return _load, (self.value,)


def _load(value: Any) -> Any:
    if WhenLoaded.meanwhile is not None:
        WhenLoaded.meanwhile(value)
    return value


def repeat_after_loading(value: Any, count: int) -> list[Any]:
    """[value] * (1 + count), pickled so that the first is made in the middle of unpickling."""
    return [WhenLoaded(value), *[value] * count]


# --- traces on disk, gates ----------------------------------------------------------------------


def mark(directory: str, name: Any) -> None:
    """Leave a trace; made with O_EXCL, so that a second one under that name is an error."""
    os.close(os.open(os.path.join(directory, str(name)), os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def append_line(path: str, line: object) -> None:
    """Add a line to a file that several processes share (one write, so never torn)."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def mark_and_return(directory: str, value: Any) -> Any:
    mark(directory, value)
    return value


def mark_item(item: tuple[str, Any]) -> Any:
    """`mark_and_return` for items of map."""
    return mark_and_return(*item)


def pass_gate(directory: str, value: Any = None) -> Any:
    """Say that we arrived, wait until the test opens the gate, return the value."""
    mark(directory, f"arrived-{os.getpid()}-{value}-{time.monotonic_ns()}")
    gate = os.path.join(directory, "open")
    deadline = time.monotonic() + 30
    while not os.path.exists(gate):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody opened {gate}")
        time.sleep(0.005)
    return value


def pass_gate_if(item: tuple[str | None, Any]) -> Any:
    """`pass_gate` for items of map: (directory or None, value)."""
    directory, value = item
    return value if directory is None else pass_gate(directory, value)


def first_passes(directory: str) -> None:
    """An initializer that only the first worker leaves at once; others wait at the gate."""
    try:
        mark(directory, "first")
    except FileExistsError:
        pass_gate(directory)


def pass_gate_or_raise(item: tuple[str | None, Any]) -> Any:
    """Wait at the gate, or raise at once if the item has none."""
    directory, value = item
    if directory is None:
        raise ValueError(value)
    return pass_gate(directory, value)


def hold_all(item: tuple[str, int, int]) -> int:
    """Wait until `count` tasks run at the same time; return the pid."""
    directory, index, count = item
    mark(directory, f"arrived-{index}")
    deadline = time.monotonic() + 30
    while len(os.listdir(directory)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(os.listdir(directory))} of {count} tasks run at once")
        time.sleep(0.02)
    return os.getpid()


class Gate:
    """The test's end of `pass_gate`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = str(directory)

    def arrivals(self) -> int:
        return sum(name.startswith("arrived-") for name in os.listdir(self.path))

    def arrived_pids(self) -> list[int]:
        names = [name for name in os.listdir(self.path) if name.startswith("arrived-")]
        return [int(name.split("-")[1]) for name in names]

    def open(self) -> None:
        mark(self.path, "open")


# --- failing ------------------------------------------------------------------------------------


class CustomError(Exception):
    """Carries more than its args."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code
        self.extra: dict[str, Any] = {}


class ReducedError(Exception):
    """Its constructor's arguments aren't its args; it says how to rebuild itself."""

    def __init__(self, *, where: str) -> None:
        super().__init__(f"failed at {where}")
        self.where = where

    def __reduce__(self) -> Any:
        return _rebuild_reduced_error, (self.where,)


def _rebuild_reduced_error(where: str) -> ReducedError:
    return ReducedError(where=where)


class UnloadableError(Exception):
    """Can be pickled; loading it fails, as its args don't fit its constructor."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class UnpicklableError(Exception):
    """Can't be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this exception refuses to be pickled")


class WordlessError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Faceless:
    """Has no repr(), and can't be pickled."""

    def __repr__(self) -> str:
        raise ValueError("no face")

    def __reduce__(self) -> Any:
        raise TypeError("it refuses to be pickled")


class CustomBaseError(BaseException):
    """Not an Exception."""


def raise_error(exception: BaseException, *_ignored: Any) -> Any:
    raise exception


def raise_value_error(value: Any) -> Any:
    raise ValueError(value)


def raise_custom(message: str, code: int) -> Any:
    error = CustomError(message, code)
    error.extra["place"] = "worker"
    raise error


def raise_reduced(where: str) -> Any:
    raise ReducedError(where=where)


def raise_unloadable(*_ignored: Any) -> Any:
    raise UnloadableError(1, 2)


def raise_unpicklable(*_ignored: Any) -> Any:
    raise UnpicklableError("original text")


def raise_wordless() -> Any:
    raise WordlessError


def make_faceless() -> Any:
    return Faceless()


def raise_faceless() -> Any:
    raise AttributeError(Faceless())


def raise_chained() -> Any:
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise ValueError("the second") from error


def raise_base(*_ignored: Any) -> Any:
    raise CustomBaseError("base")


def raise_if_negative(x: int) -> int:
    if x < 0:
        raise ValueError(x)
    return x


def raise_on(bad: Any, directory: str | None, value: Any) -> Any:
    """Raise ValueError for one value, otherwise leave a trace and return the value."""
    if value == bad:
        raise ValueError(value)
    if directory is not None:
        mark(directory, value)
    return value


def divide(a: float, b: float) -> float:
    return a / b


class LoadFails:
    """Can be pickled; loading it raises."""

    def __reduce__(self) -> Any:
        return raise_value_error, ("refuses to be loaded",)


class DumpFails:
    """Can't be pickled, for a reason of its own."""

    def __reduce__(self) -> Any:
        raise ValueError("refuses to be pickled")


def make_load_fails(*_ignored: Any) -> LoadFails:
    return LoadFails()


def make_dump_fails(*_ignored: Any) -> DumpFails:
    return DumpFails()


def make_lambda(*_ignored: Any) -> Callable[[], None]:
    return lambda: None


def make_lambda_if_negative(x: int) -> Any:
    return make_lambda() if x < 0 else x


def make_large_with_lambda(size: int) -> Any:
    return [b"x" * size, bytearray(size), lambda: None]


def sys_exit(code: Any = None) -> None:
    sys.exit(code)


# --- dying --------------------------------------------------------------------------------------


def die(how: int | str, *_ignored: Any) -> Any:
    """End this process: by a signal, or with "exit-N" by os._exit(N)."""
    if isinstance(how, str):
        os._exit(int(how.partition("-")[2]))
    if how in (signal.SIGSEGV, signal.SIGABRT):
        import faulthandler
        import resource

        faulthandler.disable()  # the crash is meant: no stack in the log, no core file
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(how, signal.SIG_DFL)
    os.kill(os.getpid(), how)
    time.sleep(30)  # a signal sent to oneself may take a moment to arrive
    raise RuntimeError(f"survived {how}")


def die_or_return(item: tuple[int | str | None, Any]) -> Any:
    """For items of map: (how to die or None, value)."""
    how, value = item
    return value if how is None else die(how)


def die_or_record(item: tuple[int | str | None, str, Any]) -> Any:
    """Leave a line on disk, then die if the item says so."""
    how, path, value = item
    append_line(path, value)
    return value if how is None else die(how)


def die_at_gate(directory: str, how: int | str) -> Any:
    pass_gate(directory)
    return die(how)


class DiesWhenLoaded:
    """Kills the process that unpickles it."""

    def __init__(self, how: int | str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return die, (self.how,)


class DiesWhenPickled:
    """Kills the process that pickles it."""

    def __init__(self, how: int | str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return die(self.how)


class DiesWhenPickledAgain:
    """Kills the process that pickles two of these, or one of these twice; once takes its time."""

    def __reduce__(self) -> Any:
        if hasattr(DiesWhenPickledAgain, "pickled"):
            die(signal.SIGKILL)
        DiesWhenPickledAgain.pickled = True  # type: ignore[attr-defined]
        time.sleep(0.05)
        return str, ("pickled",)


def return_what_is_deadly_in_the_end(_item: Any) -> Any:
    """What a worker keeps, and pickles once while the chunk runs, and again when it is done."""
    return DiesWhenPickledAgain()


def return_something_deadly(how: int | str, size: int) -> Any:
    """A result whose pickling kills the worker after `size` bytes have gone through."""
    return [b"x" * size, bytearray(size), DiesWhenPickled(how), b"x" * size]


def return_something_deadly_of(item: tuple[int | str, int]) -> Any:
    return return_something_deadly(*item)


def return_large_and_die_soon(size: int, delay: float) -> bytes:
    """A large result, and a killer that strikes about when it is being sent."""
    import threading

    def strike() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    payload = b"x" * size
    threading.Thread(target=strike, daemon=True).start()
    return payload


def die_with_a_grandchild_left(path: str) -> Any:
    """Leave a child behind that holds every descriptor of this worker, then die."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    append_line(path, child)
    return die(signal.SIGKILL)


def die_first_time(path: str, how: int | str) -> None:
    """An initializer that kills the first worker that runs it, and no other."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    die(how)


def die_always(directory: str, how: int | str) -> None:
    count_starts(directory)
    die(how)


def fail_initializer(directory: str, exception: BaseException) -> None:
    count_starts(directory)
    raise exception


def fail_initializer_at_gate(directory: str) -> None:
    pass_gate(directory)
    raise ValueError("after the gate")


def busy_in_c() -> Any:
    """Hold the GIL in C for a minute or two."""
    return sum(itertools.repeat(1, 10**10))


def note_signal(signum: int) -> None:
    """An initializer with a signal handler of its own."""
    seen: list[int] = []
    state["signals"] = seen
    signal.signal(signum, lambda number, _frame: seen.append(number))


# --- at the end of a worker ---------------------------------------------------------------------


def finalize_into(path: str) -> None:
    multiprocessing.util.Finalize(
        None, append_line, (path, f"finalize {os.getpid()}"), exitpriority=10
    )


def atexit_into(path: str) -> None:
    import atexit

    atexit.register(append_line, path, f"atexit {os.getpid()}")


# --- types told apart ---------------------------------------------------------------------------


def fingerprint(value: Any) -> Any:
    """A structure of plain values, equal for two values only if nobody could tell them apart.

    Unlike ==, it sees True against 1, 0.0 against -0.0, NaN as equal to itself, subclasses,
    the order of dicts, a bytearray against bytes, and an array's dtype, layout and flags.
    """
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if value is None or value is Ellipsis or value is NotImplemented:
        return name
    if isinstance(value, (bool, type)):
        return name, repr(value)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        return _numpy_fingerprint(name, value)
    if isinstance(value, float):
        return name, struct.pack("<d", value), _attributes(value)
    if isinstance(value, complex):
        return name, struct.pack("<dd", value.real, value.imag), _attributes(value)
    if isinstance(value, int):
        return name, hex(value), _attributes(value)
    if isinstance(value, str):
        return name, value.encode("utf-8", "surrogatepass"), _attributes(value)
    if isinstance(value, (bytes, bytearray)):
        return name, bytes(value), _attributes(value)
    if isinstance(value, dict):
        items = [(fingerprint(k), fingerprint(v)) for k, v in value.items()]
        return name, items, _attributes(value)
    if isinstance(value, (set, frozenset)):
        return name, sorted(map(repr, map(fingerprint, value))), _attributes(value)
    if isinstance(value, (list, tuple)):
        return name, [fingerprint(item) for item in value], _attributes(value)
    if isinstance(value, functools.partial):
        return name, fingerprint(value.func), fingerprint(value.args), fingerprint(value.keywords)
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
        return name, value.__module__, value.__qualname__  # its repr may hold its address
    return name, repr(value), _attributes(value)


def _attributes(value: Any) -> Any:
    attributes = getattr(value, "__dict__", None)
    return {key: fingerprint(item) for key, item in attributes.items()} if attributes else None


def _numpy_fingerprint(name: str, value: Any) -> Any:
    data: Any = value.tobytes() if not value.dtype.hasobject else fingerprint(value.tolist())
    flags = getattr(value, "flags", None)
    layout = (flags.c_contiguous, flags.f_contiguous, flags.writeable) if flags else None
    return name, value.dtype.descr, value.dtype.str, value.shape, data, layout


def fingerprint_here(value: Any) -> Any:
    """The fingerprint as a worker sees the value, and that the worker isn't the parent."""
    return fingerprint(value), os.getpid()


def fingerprint_args(*args: Any, **kwargs: Any) -> Any:
    return fingerprint(args), fingerprint(kwargs)


def overwrite(array: Any) -> Any:
    """Write into an argument in place; return its sum."""
    array[:] = 7
    return array.sum()


# --- iterables ----------------------------------------------------------------------------------


class Counting:
    """An iterator that counts how far it was pulled."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterator = iter(iterable)
        self.pulled = 0

    def __iter__(self) -> Counting:
        return self

    def __next__(self) -> Any:
        value = next(self._iterator)
        self.pulled += 1
        return value


class IterableError(Exception):
    """Raised by the iterables below."""


def failing_iterable(count: int, fail_at: int) -> Iterable[int]:
    """`count` numbers, but at index `fail_at` an IterableError."""
    for i in range(count):
        if i == fail_at:
            raise IterableError(fail_at)
        yield i
    if fail_at >= count:
        raise IterableError(fail_at)
