"""Any process of a pool is killed at any point: csrc/README.md, "Crash points"."""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.sweep import Sweep, Verdict

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("values", "calls", "limits", "kills", "deaths", "memory", "spawned")
ROLES = ("worker", "zygote", "parent")

#: Of the seconds of a sample.
SHARE = {"worker": 0.4, "zygote": 0.15, "parent": 0.3, "each": 0.15}

#: Where it does not take too long that no worker lives for long.
SHORT = ("values", "limits", "kills", "deaths", "memory")
PASSES = (1, 2, 7)

#: How many items a death may cost: the zygote's is that of all its workers.
LOST = {"worker": 1, "zygote": 4, "parent": 0}

POINT = re.compile(r'\b(?:FP_CP|crash_point)\("([^"]*)"\)')

pytestmark = pytest.mark.timeout_s(1800)


class Case(NamedTuple):
    """A process of a role dies when it passes a point for the k-th time; the first, or `each`."""

    scenario: str
    role: str
    point: str
    k: int
    each: bool = False

    def __str__(self) -> str:
        return f"{self.scenario}/{'each-' * self.each}{self.role}:{self.point}:{self.k}"


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
    mark = sweep.directory / str(case).replace("/", "-")
    environment = {"FASTPOOL_CRASH": f"{case.role}:{case.point}:{case.k}"}
    if case.each:
        environment["DEATHS"] = "-1"
    else:
        environment["DEATHS"] = str(LOST[case.role])
        environment["FASTPOOL_CRASH_ONCE"] = str(mark)
    script = sweep.program(case.scenario, **environment)
    try:
        code = script.wait(10.0)
        met = case.each or mark.exists()
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
def measured() -> list[dict[str, set[tuple[str, str, int]]]]:
    """What each scenario passes, when it is known."""
    return []


def cases_of(
    sweep: Sweep,
    measured: list[dict[str, set[tuple[str, str, int]]]],
    role: str,
    passes: tuple[int, ...],
    scenarios: tuple[str, ...] = SCENARIOS,
    each: bool = False,
) -> list[Case]:
    """Every point that a role passes; in one of the scenarios where it does."""
    if not measured:
        measured.append({scenario: passed(sweep, scenario) for scenario in SCENARIOS})
    reach = measured[0]
    names = points()
    cases = []
    where = random.Random(sweep.seed)
    for point in sorted(names):
        for k in passes:
            there = [s for s in scenarios if (role, point, k) in reach[s]]
            if sweep.only is None:
                there = where.sample(there, min(1, len(there)))
            cases += [Case(scenario, role, point, k, each) for scenario in there]
    here = {case.point for case in cases}
    everywhere = {point for found in reach.values() for _, point, _ in found}
    sweep.say(
        f"{role}: passes {len(here)} of {len(names)} points; "
        f"no role passes {' '.join(sorted(set(names) - everywhere))}"
    )
    return cases


@pytest.mark.parametrize("role", ROLES)
def test_wherever_a_process_dies_only_what_it_ran_is_lost(
    sweep: Sweep, role: str, measured: list[dict[str, set[tuple[str, str, int]]]]
) -> None:
    """A worker's death costs the item that it ran, the zygote's what its workers ran; the parent's
    takes all with it. Whatever is left works on, and nothing is left behind."""
    cases = cases_of(sweep, measured, role, PASSES)
    sweep.run(role, cases, lambda case: die(sweep, case), SHARE[role])


def test_where_each_worker_dies_every_call_ends_and_nothing_is_left(
    sweep: Sweep, measured: list[dict[str, set[tuple[str, str, int]]]]
) -> None:
    cases = cases_of(sweep, measured, "worker", (2,), SHORT, each=True)
    sweep.run("each worker", cases, lambda case: die(sweep, case), SHARE["each"])
