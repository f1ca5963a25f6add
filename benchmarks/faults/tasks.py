"""What the workers run. Files in the current directory tell the program what happens there."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

LARGE = 64 * 2**20
PATIENCE = 30.0  # longer than any deadline: whoever waits so long hangs


def square(x: int) -> int:
    return x * x


def arrive(name: str) -> None:
    """Say that this process has come so far: a whole file with its pid, or none."""
    temporary = Path(f".{name}.{os.getpid()}")
    temporary.write_text(str(os.getpid()))
    temporary.rename(name)


def wait_for(name: str, seconds: float = PATIENCE) -> int:
    """Wait until some process has arrived there; its pid."""
    end = time.monotonic() + seconds
    while not os.path.exists(name):
        if time.monotonic() > end:
            raise AssertionError(f"nobody came to {name!r} within {seconds:g} s")
        time.sleep(0.002)
    return int(Path(name).read_text())


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def arrive_and_nap(name: str, seconds: float = PATIENCE) -> str:
    arrive(name)
    return nap(seconds)


def arrive_and_wait(name: str, gate: str) -> str:
    arrive(name)
    wait_for(gate)
    return "passed"


def slow_square(x: int) -> int:
    time.sleep(0.001)
    return x * x


# --- deaths ---------------------------------------------------------------------------------------


def segfault() -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError("read address 0 and lived")


def leave_hard() -> NoReturn:
    os._exit(3)


def leave() -> NoReturn:
    sys.exit("no more")


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed and lived")


def die_and_leave_a_child(name: str) -> NoReturn:
    """The child has copies of all descriptors, as any program that a task starts may have."""
    if os.fork() == 0:
        arrive(name)
        time.sleep(PATIENCE)
        os._exit(0)
    wait_for(name)
    die()


def stop_myself(name: str) -> str:
    arrive(name)
    os.kill(os.getpid(), signal.SIGSTOP)
    return "went on"


def large_result_at(name: str, gate: str) -> bytes:
    arrive(name)
    wait_for(gate)
    return bytes(LARGE)


# --- errors ---------------------------------------------------------------------------------------


class Stubborn(Exception):
    """Can be pickled, but not unpickled: it was not made for one argument."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def raise_stubborn() -> NoReturn:
    raise Stubborn(7, "for no reason")


def return_a_lock() -> Any:
    return threading.Lock()


def accept(_anything: Any) -> str:
    return "accepted"


class InitializerError(Exception):
    pass


def failing_initializer() -> NoReturn:
    raise InitializerError("no database")


def large(i: int) -> bytes:
    return bytes([i]) * (8 * 2**20)


def length(data: bytes) -> int:
    return len(data)
