"""Tasks that log, warn and print."""

from __future__ import annotations

import contextvars
import logging
import os
import sys
import threading
import time
import warnings
from typing import Any

from helpers import tasks

NAME = "helpers.log_tasks.subject"

request: contextvars.ContextVar[Any] = contextvars.ContextVar("request")
user: contextvars.ContextVar[Any] = contextvars.ContextVar("user", default="nobody")


def log(level: int, text: str, *args: Any) -> None:
    logging.getLogger(NAME).log(level, text, *args)


def log_an_error(value: int) -> None:
    try:
        value // 0
    except ZeroDivisionError:
        logging.getLogger(NAME).exception(
            "%d by %s", value, object, extra={"lock": threading.Lock(), "pair": (1, 2)}
        )


def log_all(item: tuple[str, int, int]) -> None:
    """Log so many numbered records, every 100th a large one."""
    name, count, size = item
    for i in range(count):
        logging.getLogger(NAME).warning(
            "%s", "x" * (size if i % 100 == 0 else 10), extra={"series": name, "number": i}
        )


def log_and_die(how: Any) -> None:
    log_all(("last", 20, 10))
    tasks.die(how)


def log_for_ever() -> None:
    while True:
        log(logging.WARNING, "again")


def log_in_a_child_that_stays(directory: str) -> int:
    """Leave a child behind that logs when the gate opens, and says that it came to its end."""
    child = os.fork()
    if child == 0:
        tasks.pass_gate(directory)
        log_all(("orphan", 1000, 10))
        tasks.mark(directory, "logged")
        os._exit(0)
    return child


def handlers() -> list[str]:
    return [type(handler).__name__ for handler in logging.getLogger().handlers]


def warn(text: str) -> str:
    warnings.warn(text, RuntimeWarning, stacklevel=1)
    return "only warned"


def both_variables(_item: object = None) -> tuple[Any, Any]:
    return request.get("unset"), user.get()


def both_and(*args: Any, **kwds: Any) -> tuple[Any, ...]:
    return (*both_variables(), args, kwds)


def leave_a_value(value: Any) -> None:
    user.set(value)


def slow(_item: object) -> None:
    time.sleep(60)


def write(text: str) -> int:
    """Print, and leave the rest to the end of the process."""
    sys.stdout.write(text)
    sys.stderr.write(text.upper())
    return os.getpid()
