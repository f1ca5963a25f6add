"""The words that a fault case may end in, and no others."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Verdict(enum.Enum):
    """What came out, as the table says it; the comment tells when it is said."""

    RIGHT = "right"  # what fastpool promises for this event
    FAILS = "fails the call"  # an error where a value, or another error, was promised
    PASSES = "no error"  # a value where an error was promised
    WRONG = "wrong value"
    OTHERS = "other calls fail"  # calls that had nothing to do with the fault
    UNUSABLE = "unusable after"  # the next call on the same pool fails
    HANGS = "hangs"  # the deadline passed; the detail says where
    UNBOUNDED = "reads without end"  # an iterable is read on though nobody takes results
    NOISE = "workers print"  # tracebacks of workers on the terminal
    WORKERS = "keeps its workers"  # a dropped pool whose workers live on
    ORPHANS = "orphans"  # processes that outlive the program by two seconds
    LEAKS = "leaks"  # entries in /dev/shm that outlive the program
    CRASHES = "the program dies"  # an error that no caller could have caught
    NOT_OFFERED = "not offered"  # the pool has no such thing
    NOT_TRIED = "not tried"  # this machine can't stage the event, or the pool is not installed


@dataclass(frozen=True)
class Finding:
    """One word of the verdict on one pool, with what makes it precise.

    Attributes
    ----------
    verdict : Verdict
    detail : str
        The type of an exception, or where it hangs; may be empty.
    """

    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        return self.verdict.value + (f": {self.detail}" if self.detail else "")


@dataclass
class Outcome:
    """What the referee says about one case on one pool.

    Attributes
    ----------
    findings : list of Finding
        Just ``RIGHT``, or all that is not.
    seconds : float or None
        From the event to the answer of the call that met it; None where no answer came.
    protocol : str
        The steps, and the end of what the program printed, to understand a verdict.
    """

    findings: list[Finding]
    seconds: float | None = None
    protocol: str = field(default="", repr=False)

    @property
    def is_right(self) -> bool:
        return [finding.verdict for finding in self.findings] == [Verdict.RIGHT]

    def __str__(self) -> str:
        words = [str(finding) for finding in self.findings]
        if self.seconds is not None:
            words[0] += f", {short_seconds(self.seconds)}"
        return "; ".join(words)

    def as_json(self) -> Mapping[str, Any]:
        return {
            "findings": [[f.verdict.name, f.detail] for f in self.findings],
            "seconds": self.seconds,
        }


def short_seconds(seconds: float) -> str:
    """As much as one run can tell."""
    if seconds < 0.01:
        return "< 10 ms"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s"
