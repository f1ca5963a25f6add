"""From samples to a report, to a table, to pictures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastpool.bench import results, runner, tables
from fastpool.bench.contenders import CONTENDERS
from fastpool.bench.sections import SECTIONS
from fastpool.bench.subject import Record

CURVE = {
    "forkjoin": [1.0, 2.0],
    "chunksize": [1.0, 64.0],
    "efficiency": [1e-6, 1e-2],
    "bandwidth": [16.0, 2.0**20],
    "grid": [1e-6, 1e-3],
}


@pytest.fixture
def report() -> dict[str, Any]:
    """Every section with every pool, made up."""
    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        rows = []
        for at, pool in enumerate(CONTENDERS, 1):
            cases = {"grid": ["16", "65536"], "startup": ["fork: leave", "fork: all three"]}
            records = [
                Record(case, [at * 1e-6 * (1 + number / 50) for number in range(300)], x)
                for case in cases.get(name, ["a case", "memcpy"])
                for x in CURVE.get(name, [None])
            ]
            rows += results.rows_of(pool, [records, records])
        sections[name] = {
            "title": section.title,
            "unit": section.unit,
            "x": section.x,
            "others_percent_of_one_cpu": 0.0,
            "rows": rows,
            "failures": {"mpire": "KeyError: 'why'"},
        }
    bound = {"wait": "yield", "unit": "s", "p50": 2e-6, "tail": 3e-6}
    return {
        "schema": results.SCHEMA,
        "machine": {"CPU": "a <good> one"},
        "options": {
            "processes": 2,
            "start_method": None,
            "rounds": 2,
            "seed": 1,
            "quick": True,
        },
        "versions": dict.fromkeys(CONTENDERS, "1.0"),
        "absent": {"pebble": "not installed"},
        "limits": [{"name": "forkjoin1", **bound}, {"name": "forkjoin2", **bound}],
        "no_limits": "",
        "sections": sections,
        "warnings": ["latency: noise"],
    }


def test_percentiles_are_told_only_where_a_sample_lies_above_them() -> None:
    samples = list(range(100))
    assert results.percentile(samples, 0.5) == 50
    assert results.percentile(samples, 0.99) == 99
    assert results.percentile(samples, 0.999) is None
    assert results.percentile([7.0], 0.5) == 7.0
    assert results.percentile([7.0], 0.9) is None


def test_a_distribution_is_kept_in_two_hundred_samples() -> None:
    kept = results.quantiles([float(at) for at in range(10_000)])
    assert len(kept) == results.QUANTILES
    assert (kept[0], kept[-1]) == (0.0, 9999.0)
    assert kept == sorted(kept)
    assert results.quantiles([1.0, 2.0]) == [1.0, 2.0]


def test_a_row_tells_the_median_of_the_rounds_and_the_percentiles_of_all_calls() -> None:
    rounds = [[Record("hot", [1.0, 2.0, 9.0])], [Record("hot", [4.0, 4.0, 4.0])], []]
    [row] = results.rows_of("loky", rounds)
    assert (row["pool"], row["case"], row["x"]) == ("loky", "hot", None)
    assert row["rounds"] == [2.0, 4.0]
    assert row["median"] == 3.0
    assert row["count"] == 6
    assert row["quantiles"] == [1.0, 2.0, 4.0, 4.0, 4.0, 9.0]


def test_rounds_that_differ_and_busy_neighbours_are_warned_of() -> None:
    row = {"case": "hot", "pool": "loky", "spread": 0.01}
    assert runner.spread_warning("latency", [row]) == []
    noisy = row | {"spread": runner.NOISY_SPREAD + 0.1}
    [spread] = runner.spread_warning("latency", [row, noisy])
    assert "1 of 2 cases" in spread and "±35 %" in spread and "loky" in spread
    assert runner.neighbours_warning(("latency",), runner.NOISY_PERCENT) == []
    [others] = runner.neighbours_warning(("latency",), 80.0)
    assert others.startswith("latency: ") and "80 % of a CPU" in others
    [others] = runner.neighbours_warning(("latency", "idle"), 80.0)
    assert others.startswith("all sections: ")


def test_the_text_has_every_section_and_every_reason(report: dict[str, Any]) -> None:
    text = tables.text(report)
    for name, section in SECTIONS.items():
        assert f"\n{name}: {section.title}" in text
    for words in ("a <good> one", "pebble: not installed", "mpire: KeyError: 'why'", "noise"):
        assert words in text
    assert "64 KiB, 1.00 us" in text


def test_the_page_needs_nothing_else(report: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    from fastpool.bench import page

    text = page.html(json.loads(json.dumps(report)))
    assert text.count("<svg") == len(SECTIONS)
    assert "<script" not in text and "<img" not in text and "<link" not in text
    fetched = re.findall(r'(?:src|href)="([^"#][^"]*)"|url\(([^#)][^)]*)\)', text)
    assert fetched == []
    assert "a &lt;good&gt; one" in text
    assert "prefers-color-scheme: dark" in text
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))


def test_each_picture_is_a_file(report: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from fastpool.bench import page

    written = page.write_pngs(report, tmp_path / "new")
    assert {path.stem for path in written} == set(SECTIONS)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_each_dot_stands_where_its_figure_does(report: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    from fastpool.bench import plots

    row = {"case": "PSS of a worker", "x": None, "pool": "loky", "median": 3.0 * 2**20}
    report["sections"]["memory"]["rows"] = [row]
    figure = plots.dots(report, "memory", "MiB")
    assert figure is not None
    [axes] = figure.axes
    assert [line.get_xdata() for line in axes.lines] == [[3.0]]
    assert [(text.get_text(), text.xy[0]) for text in axes.texts] == [("3.00 MiB", 3.0)]


def test_a_section_without_figures_has_no_picture(report: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    from fastpool.bench import plots

    for section in report["sections"].values():
        section["rows"] = []
    assert list(plots.figures(report)) == []


def test_a_report_is_drawn_again_without_measuring(report: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report["sections"] = {"skew": report["sections"]["skew"]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    subprocess.run(
        [sys.executable, "-m", "fastpool", "bench", "--from", "report.json", "--plot", "a.html"],
        cwd=tmp_path,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=20,
    )
    assert "<svg" in (tmp_path / "a.html").read_text()
