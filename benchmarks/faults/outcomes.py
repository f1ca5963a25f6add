"""From what a program wrote and left to a verdict."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cases import Event
from .trial import CALL, finding_of
from .verdicts import Finding, Outcome, Verdict

BESIDE = (Verdict.NOT_OFFERED, Verdict.NOT_TRIED)
"""After one of these nothing else that was seen counts."""


@dataclass
class Seen:
    """What the referee saw of a program from outside.

    Attributes
    ----------
    event : Event
    acted : float or None
        When the event took place, by the clock that all processes share; None if it did not.
    ended : bool
        Whether the program ended before the deadline. Only then the others are known:
    orphans : bool
        Whether processes of it lived on.
    gone_after : float
        Seconds from the program's end to the end of the last of its processes.
    leaks : list of str
        Entries of /dev/shm.
    """

    event: Event
    acted: float | None
    ended: bool
    orphans: bool = False
    gone_after: float = 0.0
    leaks: list[str] = field(default_factory=list)


def outcome(seen: Seen, report: Path, printed: str) -> Outcome:
    """Put together what the program wrote, what it printed, and what was seen of it."""
    lines = _lines(report)
    protocol = "\n".join([*(json.dumps(line) for line in lines), printed[-4000:]])
    findings, seconds = _findings(lines), _seconds(lines, seen.acted)
    beside = [finding for finding in findings if finding.verdict in BESIDE]
    if beside and seen.ended:
        return Outcome(beside[:1], None, protocol)
    killed = seen.event is Event.KILL
    if not seen.ended:
        findings.append(Finding(Verdict.HANGS, _where(lines)))
    elif not (seen.acted is not None if killed else any("done" in line for line in lines)):
        findings.append(Finding(Verdict.CRASHES, _last_line(printed)))
    if killed and seen.ended and not seen.orphans:
        seconds = seen.gone_after
    if seen.orphans:
        findings.append(Finding(Verdict.ORPHANS))
    if seen.leaks:
        findings.append(Finding(Verdict.LEAKS, seen.leaks[0].rstrip("0123456789")))
    if seen.event is Event.INTERRUPT and "Traceback" in printed:
        findings.append(Finding(Verdict.NOISE))
    if not seen.ended and not _answered(lines):
        seconds = None
    return Outcome(findings or [Finding(Verdict.RIGHT)], seconds, protocol)


def _lines(report: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in report.read_text().splitlines()]
    except FileNotFoundError:
        return []


def _findings(lines: list[dict[str, Any]]) -> list[Finding]:
    found = []
    for line in lines:
        if "finding" in line and (finding := finding_of(*line["finding"])) not in found:
            found.append(finding)
    return found


def _steps(lines: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(line["step"], line["at"]) for line in lines if "step" in line]


def _answered(lines: list[dict[str, Any]]) -> bool:
    steps = _steps(lines)
    return any(name == CALL for name, _ in steps) and steps[-1][0] != CALL


def _seconds(lines: list[dict[str, Any]], acted: float | None) -> float | None:
    """The longest of the answers to the event; a call may have waited for it before."""
    steps = _steps(lines)
    calls = [
        after[1] - max(step[1], acted or 0.0)
        for step, after in itertools.pairwise(steps)
        if step[0] == CALL
    ]
    return max(calls, default=None)


def _where(lines: list[dict[str, Any]]) -> str:
    steps = _steps(lines)
    return "" if not steps or steps[-1][0] == CALL else steps[-1][0]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1].partition(":")[0][:60]
