"""The table of docs/failure-modes.md: fastpool keeps each promise of it, and the page says what the
script's table of cases says. The referee is tested too: one who can't blame proves nothing."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.build import PORTABLE

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))

from faults import document, referee  # noqa: E402
from faults.cases import CASES, Event  # noqa: E402
from faults.columns import CONTENDERS  # noqa: E402
from faults.verdicts import Finding, Outcome, Verdict  # noqa: E402

from fastpool.bench.contenders import FastPool  # noqa: E402

pytestmark = pytest.mark.timeout_s(25)


@pytest.mark.parametrize("name", CASES)
def test_fastpool_keeps_its_promise(name: str, monkeypatch: Any) -> None:
    if name == "tiny-dev-shm" and PORTABLE:
        pytest.skip("the portable core: memory lies in /dev/shm")
    monkeypatch.setenv("FAULTS_KILL_SECONDS", "2")
    outcome = referee.judge(CASES[name], FastPool)
    if outcome.findings[0].verdict is Verdict.NOT_TRIED:
        pytest.skip(str(outcome))
    assert outcome.is_right, f"{outcome}\n{outcome.protocol}"


# --- the page ---------------------------------------------------------------------------------


def test_each_test_that_the_table_names_exists() -> None:
    missing = []
    for name in CASES:
        path, _, function = CASES[name].test.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        if function not in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}:
            missing.append(CASES[name].test)
    assert missing == []


def test_the_page_says_what_the_cases_say() -> None:
    page = (ROOT / "docs" / "failure-modes.md").read_text()
    _, inner, _ = document.between(page)
    cells = document.parse(inner)
    assert list(cells) == [case.text for case in CASES.values()]
    for case in CASES.values():
        row = cells[case.text]
        assert row["promise of fastpool"] == case.promise
        assert row["test"] == document.test_cell(case)
        assert row["fastpool"].partition(",")[0] == "right"
        assert {row[pool] for pool in CONTENDERS} & {document.UNKNOWN} == set()


def test_a_new_verdict_changes_its_cell_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"head\n\n{document.BEGIN}\n{document.END}\n\nfoot\n")
    once = {("segfault", pool): Outcome([Finding(Verdict.RIGHT)], 0.0503) for pool in CONTENDERS}
    document.renew(page, once, 10)
    wrong = Outcome([Finding(Verdict.FAILS, "KeyError"), Finding(Verdict.ORPHANS)], 2.0)
    document.renew(page, {("segfault", "loky"): wrong}, 10)
    text = page.read_text()
    row = document.parse(document.between(text)[1])[CASES["segfault"].text]
    assert row["loky"] == "**fails the call: KeyError**, 2.0 s; **orphans**"
    assert {row[pool] for pool in CONTENDERS if pool != "loky"} == {"right, 50 ms"}
    assert text.startswith("head\n") and text.endswith("\nfoot\n")


# --- the referee ------------------------------------------------------------------------------

SAY_DONE = "open('.report', 'a').write('{\"done\": true, \"at\": 0}\\n')"
CHILD = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n"


@pytest.mark.parametrize(
    ("source", "event", "verdict"),
    [
        (SAY_DONE, Event.NONE, "right"),
        ("import time; time.sleep(60)", Event.NONE, "hangs"),
        (CHILD + "time.sleep(60)", Event.NONE, "hangs"),
        (CHILD + SAY_DONE, Event.NONE, "orphans"),
        (CHILD + "open('ready', 'w')\ntime.sleep(60)", Event.KILL, "orphans"),
        (f"open('/dev/shm/faults-test-1', 'w'); {SAY_DONE}", Event.NONE, "leaks: faults-test-"),
        ("{}['key']", Event.NONE, "the program dies: KeyError"),
        ("import os; os._exit(0)", Event.NONE, "the program dies: no word"),
        (
            f"open('ready', 'w'); {SAY_DONE}; import time; time.sleep(60)",
            Event.INTERRUPT,
            "workers print",
        ),
    ],
    ids=[
        "nothing",
        "a program that hangs",
        "one with a child that hangs",
        "a child that lives on",
        "a child that outlives a kill",
        "an entry in dev-shm",
        "an error",
        "a silent end",
        "a traceback at ctrl-c",
    ],
)
def test_the_referee_blames_what_is_wrong_and_nothing_else(
    tmp_path: Path, source: str, event: Event, verdict: str
) -> None:
    try:
        outcome = referee.watch(
            ["-c", source], str(tmp_path), tmp_path / ".report", event, deadline=1.0
        )
    finally:
        Path("/dev/shm/faults-test-1").unlink(missing_ok=True)
    assert ", ".join(map(str, outcome.findings)) == verdict, outcome.protocol
