"""The verdicts of `make bench-compare`: when a revision is called faster, slower, or the same."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.build import beyond_posix

pytest.importorskip("numpy")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.append(str(BENCHMARKS))

import compare  # noqa: E402
import compare_rows  # noqa: E402
from compare_builds import BuildError, revision_of  # noqa: E402
from compare_verdict import Ratio, Verdict, ratio_of_medians  # noqa: E402
from measures import Load, Measure  # noqa: E402


def rounds(median: float, spread: float, count: int = 15, seed: int = 1) -> list[float]:
    draw = random.Random(seed)
    return [median * draw.uniform(1 - spread, 1 + spread) for _ in range(count)]


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (1.06, 1.30, Verdict.SLOWER),
        (0.70, 0.94, Verdict.FASTER),
        (0.97, 1.03, Verdict.SAME),
        (0.90, 1.10, Verdict.UNKNOWN),
        (1.04, 1.30, Verdict.UNKNOWN),  # it may be within the margin
        (0.94, 1.01, Verdict.UNKNOWN),  # faster, or the same
    ],
)
def test_the_whole_interval_has_to_lie_beyond_the_margin_or_within_it(
    lower: float, upper: float, verdict: Verdict
) -> None:
    assert Ratio((lower + upper) / 2, lower, upper).verdict is verdict


def test_twenty_percent_more_are_found_in_five_percent_of_noise() -> None:
    ratio = ratio_of_medians(rounds(100, 0.05, seed=1), rounds(120, 0.05, seed=2))
    assert ratio.verdict is Verdict.SLOWER
    assert ratio.lower <= ratio.middle <= ratio.upper


def test_the_same_program_twice_is_the_same() -> None:
    ratio = ratio_of_medians(rounds(100, 0.02, seed=1), rounds(100, 0.02, seed=2))
    assert ratio.verdict is Verdict.SAME


def test_nothing_is_told_of_noise_larger_than_the_difference() -> None:
    ratio = ratio_of_medians(rounds(100, 0.6, seed=1), rounds(107, 0.6, seed=2))
    assert ratio.verdict is Verdict.UNKNOWN


def test_a_slow_stretch_that_both_sides_met_makes_no_difference() -> None:
    base = [100.0] * 8 + [300.0] * 7
    assert ratio_of_medians(base, base).verdict is Verdict.SAME


def test_nothing_is_told_of_a_few_rounds() -> None:
    assert ratio_of_medians([100.0] * 4, [200.0] * 4).verdict is Verdict.UNKNOWN


def test_the_same_figures_have_the_same_interval() -> None:
    base, tree = rounds(100, 0.3, seed=1), rounds(110, 0.3, seed=2)
    assert ratio_of_medians(base, tree) == ratio_of_medians(base, tree)


def test_a_row_that_the_base_lacks_is_not_there_and_fails_no_check() -> None:
    row = compare.Measured("apply", lacks={compare.BASE: "AttributeError"})
    assert row.verdict is Verdict.NEW
    assert not row.verdict.is_bad
    assert "not there" in compare.table_row(row)


def test_a_row_that_only_the_base_has_fails_a_check() -> None:
    row = compare.Measured("apply", lacks={compare.TREE: "AttributeError"})
    assert row.verdict is Verdict.LOST
    assert row.verdict.is_bad


def test_both_sides_run_once_in_each_round_and_rows_without_a_verdict_get_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = random.Random(1)
    runs: list[tuple[str, str]] = []

    def run_once(name: str, sources: Path) -> dict[str, float | str]:
        runs.append((name, sources.name))
        if name == "imap" and sources.name == "base":
            return {"lacks": "AttributeError: no imap"}
        return {"ns": 100.0 if name == "apply" else noise.uniform(10, 200)}

    monkeypatch.setattr(compare, "run_once", run_once)
    options = compare.parse_arguments(["HEAD", "--rounds", "6", "--more", "3"])
    places = {side: Path("/nowhere") / side for side in compare.SIDES}
    rows = compare.measure_all(["apply", "map2", "imap"], places, options)
    assert [row.verdict for row in rows] == [Verdict.SAME, Verdict.UNKNOWN, Verdict.NEW]
    assert {side: runs.count(("apply", side)) for side in compare.SIDES} == {"base": 6, "tree": 6}
    assert {side: runs.count(("map2", side)) for side in compare.SIDES} == {"base": 9, "tree": 9}
    assert runs.count(("imap", "tree")) <= 1
    compare.print_report(rows)


def test_a_base_that_fails_is_a_base_without_that_row_and_a_tree_that_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = compare.BASE

    def run_once(name: str, sources: Path) -> dict[str, float | str]:
        if sources.name == failing:
            raise compare.RunError("apply: failed\nWrongValueError: got 3, not 4")
        return {"ns": 100.0}

    monkeypatch.setattr(compare, "run_once", run_once)
    options = compare.parse_arguments(["HEAD"])
    places = {side: Path("/nowhere") / side for side in compare.SIDES}
    [row] = compare.measure_all(["apply"], places, options)
    assert row.verdict is Verdict.NEW
    assert row.lacks == {compare.BASE: "WrongValueError: got 3, not 4"}
    failing = compare.TREE
    with pytest.raises(compare.RunError):
        compare.measure_all(["apply"], places, options)


def test_one_process_measures_one_row_of_the_revision_it_was_given() -> None:
    sources = BENCHMARKS.parent / "src"
    assert float(compare.run_once("map2", sources)["ns"]) > 0


def test_a_fastpool_of_another_place_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(compare.RunError, match=r"not from .*elsewhere"):
        compare.run_once("map2", tmp_path / "elsewhere")


@beyond_posix("it is not what is compared")
def test_what_a_revision_lacks_is_told_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking() -> Measure:
        raise AttributeError("no such method")

    row = compare_rows.Row("title", lacking, Load(1))
    monkeypatch.setitem(compare_rows.ROWS, "apply", row)
    compare_rows.main("apply", BENCHMARKS.parent / "src")
    assert json.loads(capsys.readouterr().out) == {"lacks": "AttributeError: no such method"}


def test_a_revision_that_does_not_exist_is_named() -> None:
    inside = ["git", "rev-parse", "--is-inside-work-tree"]
    try:
        subprocess.run(inside, cwd=BENCHMARKS, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository")
    with pytest.raises(BuildError, match="no-such-revision"):
        revision_of("no-such-revision")
