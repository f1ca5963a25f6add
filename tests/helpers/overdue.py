"""Deadlines for what may hang: everybody's stacks are printed, and the program ends."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import helpers
from helpers import procs

#: The exit code of a program in which something hung.
HUNG = 3


class Watch:
    """Looks whether what each thread is doing is overdue, from a thread of its own.

    A call that hangs can't be interrupted from inside, so there is nothing to go on with: the
    stacks of this process and of all its descendants are printed, they are killed, and so is this
    one.
    """

    def __init__(self, seconds: float, clean: Callable[[], object]) -> None:
        self._seconds = seconds
        self._clean = clean  # what the program would do at its end
        #: What all this is part of, in words, for the report.
        self.about = ""
        self._running: dict[int, tuple[float, str]] = {}
        threading.Thread(target=self._look, name="overdue", daemon=True).start()

    @contextlib.contextmanager
    def over(self, what: str) -> Iterator[None]:
        """What runs in this block has so many seconds to end."""
        me = threading.get_ident()
        before = self._running.get(me)
        self._running[me] = (time.monotonic() + self._seconds, what)
        try:
            yield
        finally:
            if before is None:
                del self._running[me]
            else:
                self._running[me] = before

    def _look(self) -> None:
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            late = [what for at, what in list(self._running.values()) if now > at]
            if late:
                self._give_up(late)

    def _give_up(self, late: list[str]) -> None:
        tree = [os.getpid(), *procs.descendants(os.getpid())]
        stacks = procs.stacks(tree, os.environ.get(helpers.STACKS_VARIABLE))
        print(
            f"HANG: over {self._seconds:g} s: {'; '.join(late)}\n{self.about}\n{stacks}", flush=True
        )
        sys.stderr.flush()
        for pid in tree[1:]:
            procs.kill(pid)
        with contextlib.suppress(OSError):
            self._clean()
        os._exit(HUNG)
