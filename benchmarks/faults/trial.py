"""What a scenario does to its pool, each step written down before it is taken.

The file of these lines is all that is left of a program that hangs or is killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from fastpool.bench.contender import Contender, Getter, NotOffered

from . import tasks
from .verdicts import Finding, Verdict

CALL = "call"  # the step whose duration is the answer's


class Trial:
    """One contender in one case.

    Parameters
    ----------
    contender : type
    path : str
        Where the lines go.
    """

    def __init__(self, contender: type[Contender], path: str) -> None:
        self.contender = contender
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, **line: Any) -> None:
        """A line in one system call: whole, or not there."""
        os.write(self._fd, json.dumps({**line, "at": time.monotonic()}).encode() + b"\n")

    def step(self, name: str) -> None:
        self.write(step=name)

    def find(self, verdict: Verdict, detail: str = "") -> None:
        self.write(finding=[verdict.name, detail])

    def find_error(self, verdict: Verdict, error: BaseException) -> None:
        self.find(verdict, type(error).__name__)
        self.write(error=str(error)[:2000])

    # --- steps ---

    def open(self, workers: int = 2, **options: Any) -> Contender:
        """Open a pool and let every worker work."""
        self.step("start")
        pool = self.contender(workers, **options)
        if "initializer" not in options:
            assert pool.map(tasks.square, range(40)) == [i * i for i in range(40)]
        return pool

    def expect_value(self, get: Getter, value: Any) -> None:
        """The call that meets the event, and should not notice."""
        self.step(CALL)
        try:
            found = get()
        except BaseException as error:
            self._let_pass(error)
            self.find_error(Verdict.FAILS, error)
        else:
            if found != value:
                self.find(Verdict.WRONG)
        self.step("after the call")

    def expect_error(
        self, get: Getter, *errors: type[BaseException], or_value: Any = NotImplemented
    ) -> None:
        """The call that meets the event, and should fail: by one of these errors."""
        self.step(CALL)
        try:
            found = get()
        except BaseException as error:
            self._let_pass(error)
            if not isinstance(error, errors):
                self.find_error(Verdict.FAILS, error)
            else:
                self.write(error=f"{type(error).__name__}: {error}"[:2000])
        else:
            if or_value is NotImplemented or found != or_value:
                self.find(Verdict.PASSES)
        self.step("after the call")

    def expect_death(self, get: Getter) -> None:
        """The call that meets the event, and should tell of a dead worker."""
        self.expect_error(get, *self.contender.deaths())

    def others(self, get: Getter, value: Any) -> None:
        """A call that ran beside, and should not notice."""
        self.step("other calls")
        try:
            assert get() == value
        except Exception as error:
            self.find_error(Verdict.OTHERS, error)

    def next_call(self, pool: Contender) -> None:
        self.step("next call")
        try:
            if pool.map(tasks.square, range(40)) != [i * i for i in range(40)]:
                self.find(Verdict.WRONG, "next call")
        except Exception as error:
            self.find_error(Verdict.UNUSABLE, error)

    def leave(self, pool: Contender) -> None:
        self.step("at the end")
        pool.leave()

    def survives(self, pool: Contender) -> None:
        """The pool works, and can be left."""
        self.next_call(pool)
        self.leave(pool)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    @staticmethod
    def _let_pass(error: BaseException) -> None:
        """NotOffered is no error of a call."""
        if isinstance(error, NotOffered):
            raise error


def finding_of(name: str, detail: str) -> Finding:
    """The reverse of `Trial.find`."""
    return Finding(Verdict[name], detail)
