"""The counting of instructions: what is read from callgrind, and what is too far from the table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.append(str(BENCHMARKS))

import callgrind  # noqa: E402
import instructions  # noqa: E402
from callgrind import CallgrindUnavailableError, per_item, read_parts  # noqa: E402
from instruction_table import (  # noqa: E402
    LOOSE_TOLERANCE,
    TOLERANCE,
    Table,
    Toolchain,
    compare,
    find_table,
    read_tables,
    tolerance_for,
    write_table,
)

GCC = Toolchain("x86_64", "gcc 12.2.0", "3.1", "CPython 3.11")


def part(trigger: str, totals: int) -> str:
    return f"""
part: 1

desc: I1 cache:
desc: Timerange: Basic block 0 - 2865
desc: Trigger: {trigger}

events: Ir
summary: {totals}

fn=(14) main
+3 7
totals: {totals}
"""


def parts(*each: tuple[str, int]) -> dict[str, dict[int, int]]:
    text = "".join(part(f"Client Request: {name}", totals) for name, totals in each)
    end = part("Program termination", 4711)
    return read_parts(("# callgrind format\nversion: 1\n" + text + end).splitlines(keepends=True))


def test_the_parts_that_marks_have_written_are_read() -> None:
    assert parts(("ring push:256", 17), ("ring push:512", 33)) == {"ring push": {256: 17, 512: 33}}


def test_the_name_of_a_path_may_have_colons_and_commas() -> None:
    assert parts(("map: ints, encode:10", 17)) == {"map: ints, encode": {10: 17}}


def test_the_least_of_some_counts_is_taken() -> None:
    assert parts(("apply:1", 120), ("apply:1", 100), ("apply:1", 101)) == {"apply": {1: 100}}


def test_a_run_before_counting_was_started_does_not_count() -> None:
    assert parts(("apply:1", 0), ("apply:1", 100)) == {"apply": {1: 100}}


def test_what_comes_once_is_not_counted_per_item() -> None:
    assert per_item({"get": {100: 1000 + 100 * 7, 200: 1000 + 200 * 7}}) == {"get": 7.0}


def test_a_path_that_was_counted_for_one_number_of_items_only_is_an_error() -> None:
    with pytest.raises(ValueError, match="'get' was counted for"):
        per_item({"get": {100: 1000}})


def test_the_same_toolchain_is_held_to_three_percent_and_another_one_to_fifteen() -> None:
    assert tolerance_for(GCC, GCC) == TOLERANCE
    for compiler, cython in (("gcc 13.1.0", "3.1"), ("gcc 12.2.0", "3.2")):
        other = Toolchain("x86_64", compiler, cython, "CPython 3.11")
        assert tolerance_for(GCC, other) == LOOSE_TOLERANCE


def test_only_a_table_of_the_same_python_and_kind_of_machine_is_compared() -> None:
    table = Table(GCC, {})
    assert find_table([table], Toolchain("x86_64", "gcc 13.1.0", "3.1", "CPython 3.11")) is table
    assert find_table([table], Toolchain("x86_64", "gcc 12.2.0", "3.1", "CPython 3.12")) is None
    assert find_table([table], Toolchain("aarch64", "gcc 12.2.0", "3.1", "CPython 3.11")) is None


@pytest.mark.parametrize(
    ("now", "then", "verdict", "too_much"),
    [
        (102.9, 100.0, "", False),
        (103.1, 100.0, "MORE", True),
        (97.1, 100.0, "", False),
        (90.0, 100.0, "less", False),
        (90.0, None, "new", False),
        (None, 100.0, "GONE", True),
    ],
)
def test_more_than_is_tolerated_fails_and_so_does_a_path_that_is_gone(
    now: float | None, then: float | None, verdict: str, too_much: bool
) -> None:
    counted = {} if now is None else {"get": now}
    kept = {} if then is None else {"get": then}
    [comparison] = compare(Table(GCC, kept), counted, TOLERANCE)
    assert comparison.verdict == verdict
    assert comparison.is_too_much is too_much


def test_a_table_takes_the_place_of_the_one_of_the_same_python(tmp_path: Path) -> None:
    old = Table(GCC, {"get": 1300.0})
    other = Table(Toolchain("x86_64", "gcc 12.2.0", "3.1", "CPython 3.13"), {"get": 1400.0})
    new = Table(
        Toolchain("x86_64", "gcc 13.1.0", "3.1", "CPython 3.11"), {"get": 1261.9, "pop": 37.0}
    )
    for table in (old, other, new):
        write_table(tmp_path / "table.json", table)
    assert read_tables(tmp_path / "table.json") == [new, other]


@pytest.mark.parametrize(("count", "status"), [(101.0, 0), (200.0, 1)])
def test_a_check_fails_by_its_status_and_says_which_path(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    count: float,
    status: int,
) -> None:
    write_table(tmp_path / "table.json", Table(GCC, {"get": 100.0}))
    monkeypatch.setattr(instructions, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(instructions, "this_toolchain", lambda: GCC)
    monkeypatch.setattr(instructions, "count_all", lambda: {"get": count})
    assert instructions.main(["--check"]) == status
    assert ("too many instructions: get" in capsys.readouterr().out) == bool(status)
    assert instructions.main([]) == 0


def test_writing_renews_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(instructions, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(instructions, "this_toolchain", lambda: GCC)
    monkeypatch.setattr(instructions, "count_all", lambda: {"get": 7.0})
    assert instructions.main(["--write"]) == 0
    assert read_tables(tmp_path / "table.json") == [Table(GCC, {"get": 7.0})]


def test_without_a_table_of_this_python_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(instructions, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(instructions, "this_toolchain", lambda: GCC)
    monkeypatch.setattr(instructions, "count_all", lambda: {"get": 7.0})
    assert instructions.main(["--check"]) == 0
    assert "nothing is judged" in capsys.readouterr().out


def test_a_machine_without_valgrind_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CallgrindUnavailableError, match="there is no valgrind"):
        callgrind.count(["true"], "")


def test_the_kept_tables_can_be_read() -> None:
    tables = read_tables(instructions.TABLE)
    assert tables
    assert all(number > 0 for table in tables for number in table.paths.values())
