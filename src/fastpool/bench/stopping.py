"""Signals that ask for an end become an exception, so that all that was started is ended, too."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_held = 0  # how many blocks of `held_back` there are around
_waiting: list[int] = []  # the signal that came meanwhile


class Stopped(BaseException):
    """A signal asked for an end; its text says which."""

    def __init__(self, number: int) -> None:
        self.number = number
        name = signal.Signals(number).name
        super().__init__("Ctrl-C" if number == signal.SIGINT else name)


@contextlib.contextmanager
def stops_at_signals() -> Iterator[None]:
    """Raise `Stopped` inside of the block when a signal asks for an end.

    The trials run in sessions of their own, so no signal of the terminal reaches them. A second
    signal is not heeded: it would interrupt those who are ending them. What the program was told
    to ignore (``nohup``) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        if not _held:
            raise Stopped(number)
        _waiting.append(number)

    heeded = {each: old for each in SIGNALS if (old := signal.getsignal(each)) != signal.SIG_IGN}
    for each in heeded:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, old in heeded.items():
            signal.signal(each, old)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let such a signal wait for the end of the block: what is started in it can be ended then.

    Not by blocking the signal, as programs that are started would inherit that.
    """
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if not _held and _waiting:
            raise Stopped(_waiting.pop())
