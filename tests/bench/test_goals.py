"""The verdicts of the goal tables, benchmarks/bench_dispatch.py and bench_data.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastpool.bench import timing
from fastpool.bench.contenders import Billiard

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "benchmarks") not in sys.path:
    sys.path.append(str(ROOT / "benchmarks"))

import data_stream  # noqa: E402
import goals  # noqa: E402
from measures import Load  # noqa: E402
from rows import REFERENCE, STDLIB, SUBJECT, Kind, Outcome, Row  # noqa: E402


def outcome(row: Row, **figures: list[float]) -> Outcome:
    return Outcome(row, {name: timing.summarise(values) for name, values in figures.items()}, 0.0)


def row(goals: tuple[float, float], kind: Kind, **more: bool) -> Row:
    return Row(
        "name",
        "title",
        lambda side, load: 0.0,
        loads=(Load(1), Load(1)),
        goals=goals,
        kind=kind,
        reference=lambda side: 0.0,
        within_reference=more.get("within_reference", False),
    )


def test_a_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    measured = {STDLIB: [10.0, 40.0, 90.0], SUBJECT: [1.0, 2.0, 30.0], REFERENCE: [2.0, 8.0, 10.0]}
    assert outcome(row((5, 9), Kind.SPEEDUP), **measured).ratio == 10.0
    assert outcome(row((5, 9), Kind.PART), **measured).ratio == 0.5
    assert outcome(row((5, 9), Kind.ITSELF), **measured).ratio == 2.0


@pytest.mark.parametrize(("reference", "verdict"), [(3.0, "aim"), (1.0, "ok")])
def test_a_row_may_aim_at_its_reference_too(reference: float, verdict: str) -> None:
    wanted = row((15, 15), Kind.SPEEDUP, within_reference=True)
    measured = {STDLIB: [40.0], SUBJECT: [2.0], REFERENCE: [reference]}
    assert outcome(wanted, **measured).verdict == verdict


def test_what_multiprocessing_cannot_do_is_measured_without_it() -> None:
    wanted = row((1.1, 1.1), Kind.PART)
    assert outcome(wanted, **{SUBJECT: [22.0], REFERENCE: [21.0]}).verdict == "aim"
    assert outcome(wanted, **{SUBJECT: [42.0], REFERENCE: [21.0]}).verdict == "MISS"


def test_the_peak_of_a_stream_includes_what_was_freed_again() -> None:
    before = data_stream.look(items=1)
    block = b"x" * (before.peak + 2**24)
    del block
    after = data_stream.look(items=2)
    assert after.items == 2
    assert after.peak > before.peak + 2**23
    assert after.peak >= after.shared


def test_quick_tables_make_fewer_rounds_unless_told_how_many() -> None:
    parser = goals.make_parser("text", [row((1, 1), Kind.PART)], "quick")
    rounds = [
        goals.parse(parser, arguments)[0].rounds
        for arguments in ([], ["--quick"], ["--quick", "--rounds", "9"])
    ]
    assert rounds == [7, 3, 9]


def test_a_subject_that_is_not_installed_ends_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Billiard, "version", lambda: None)
    with pytest.raises(SystemExit) as ended:
        goals.parse(goals.make_parser("text", [], "quick"), ["--subject", "billiard"])
    assert ended.value.code == 2
    assert "billiard is not installed" in capsys.readouterr().err
