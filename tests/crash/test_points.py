"""Any process of a pool is killed at any point: csrc/README.md, "Crash points"."""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.sweep import Sweep, Verdict

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("values", "calls", "limits", "kills", "spawned")
ROLES = ("worker", "zygote", "parent")
PASSES = (1, 2, 7)

#: How many items a death may cost: the zygote's is that of all its workers.
LOST = {"worker": 1, "zygote": 4, "parent": 0}

POINT = re.compile(r'\b(?:FP_CP|crash_point)\("([^"]*)"\)')

pytestmark = pytest.mark.timeout_s(1800)


class Case(NamedTuple):
    """A process of a role dies when it passes a point for the k-th time."""

    scenario: str
    role: str
    point: str
    k: int

    def __str__(self) -> str:
        return f"{self.scenario}/{self.role}:{self.point}:{self.k}"


def points() -> list[str]:
    """The names of all points in the sources."""
    names = []
    for folder, suffixes in (("csrc", (".c", ".h")), ("src", (".pyx", ".pxd", ".py"))):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and path.name != "crash.py":
                names += POINT.findall(path.read_text())
    return names


def passed(sweep: Sweep, scenario: str) -> set[tuple[str, str, int]]:
    """What the processes of a scenario pass that nobody disturbs: (role, point, k)."""
    log = sweep.directory / f"{scenario}.log"
    script = sweep.program(scenario, FASTPOOL_CRASH_LOG=str(log))
    script.finish()
    sweep.forget(script)
    assert log.exists(), "this build has no crash points: make crash"
    found = set()
    for line in log.read_text().splitlines():
        role, point, k = line.split(":")
        found.add((role, point, int(k)))
    return found


def die(sweep: Sweep, case: Case) -> Verdict:
    """Run the program with this death, and look what came of it."""
    mark = sweep.directory / f"{case.scenario}-{case.role}-{case.point}-{case.k}"
    script = sweep.program(
        case.scenario,
        FASTPOOL_CRASH=f"{case.role}:{case.point}:{case.k}",
        FASTPOOL_CRASH_ONCE=str(mark),
        DEATHS=str(LOST[case.role]),
    )
    try:
        code = script.wait(10.0)
        met = mark.exists()
        wanted = -signal.SIGKILL if case.role == "parent" and met else 0
        assert code == wanted, f"exit code {code}, not {wanted}\n{script.report()}"
        script.wait_gone(2.0)
        return Verdict(None, met)
    except AssertionError as error:
        return Verdict(str(error), True)
    finally:
        sweep.forget(script)


def test_each_point_has_a_name_of_its_own() -> None:
    names = points()
    assert len(names) > 300
    assert [name for name, n in Counter(names).items() if n > 1] == []
    assert [name for name in names if not re.fullmatch(r"[a-z_]+\.[a-z_]+", name)] == []


def test_no_point_is_in_a_build_that_has_none() -> None:
    """Where there is one: the developer's own."""
    for path in sorted((ROOT / "src").rglob("*.so")):
        if b"FASTPOOL_CRASH" in path.read_bytes():
            pytest.skip("the build in place has crash points")
        for name in points():
            assert name.encode() + b"\0" not in path.read_bytes(), f"{name} is in {path.name}"


@pytest.fixture(scope="module")
def reach() -> dict[str, set[tuple[str, str, int]]]:
    """What each scenario passes; measured once."""
    return {}


@pytest.mark.parametrize("role", ROLES)
def test_wherever_a_process_dies_only_what_it_ran_is_lost(
    sweep: Sweep, role: str, reach: dict[str, set[tuple[str, str, int]]]
) -> None:
    """The worker's death costs the item that it ran, the zygote's what its workers ran; the parent's
    takes all with it. Whatever is left works on, and nothing is left behind."""
    if not reach:
        for scenario in SCENARIOS:
            reach[scenario] = passed(sweep, scenario)
    known = set(points())
    cases = []
    where = random.Random(sweep.seed)
    for point in sorted(known):
        for k in PASSES:
            found = [s for s in SCENARIOS if (role, point, k) in reach[s]]
            if sweep.only is not None:
                cases += [Case(scenario, role, point, k) for scenario in found]
            elif found:
                cases.append(Case(where.choice(found), role, point, k))
    here = {case.point for case in cases}
    sweep.say(f"{role}: passes {len(here)} of {len(known)} points")
    if role == ROLES[-1]:
        everywhere: set[Any] = {point for found in reach.values() for _, point, _ in found}
        sweep.say("  passed by nobody: " + " ".join(sorted(known - everywhere)))
    sweep.run(role, cases, lambda case: die(sweep, case))
