"""The measuring itself, tested: a benchmark that measures wrongly is worse than none."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from fastpool.bench import formats, machine, timing, workloads


def test_the_median_and_half_the_distance_of_the_quartiles_are_reported() -> None:
    summary = timing.summarise([5.0, 1.0, 2.0, 3.0, 4.0])
    assert summary.median == 3.0
    assert summary.spread == pytest.approx(1 / 3)
    assert summary.values == (5.0, 1.0, 2.0, 3.0, 4.0)


def test_one_round_has_no_spread() -> None:
    assert timing.summarise([2.0]).spread == 0.0


def test_each_rival_runs_once_in_each_round_and_the_order_changes() -> None:
    calls: list[str] = []

    def rival(name: str) -> Callable[[], float]:
        def run() -> float:
            calls.append(name)
            return float(len(calls))

        return run

    rivals = {name: rival(name) for name in "abc"}
    figures = timing.interleave(rivals, 20, random.Random(1)).figures
    rounds = ["".join(calls[at : at + 3]) for at in range(0, 60, 3)]
    assert {"".join(sorted(order)) for order in rounds} == {"abc"}
    assert len(set(rounds)) > 1
    assert list(figures) == ["a", "b", "c"]
    assert figures["b"] == [float(at + 1) for at, name in enumerate(calls) if name == "b"]


def test_rounds_that_others_disturbed_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    others = iter([0.0, 80.0, 1.0, 30.0, 2.0])
    figures = iter([10.0, 11.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr(timing.Neighbours, "percent", lambda self, seconds: next(others))
    measured = timing.interleave({"a": lambda: next(figures)}, 3, random.Random(1), retries=9)
    assert measured.figures["a"] == [10.0, 12.0, 14.0]
    assert measured.others == pytest.approx(1.0)


def test_the_least_disturbed_rounds_count_when_no_more_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = iter([90.0, 80.0, 70.0])
    figures = iter([10.0, 11.0, 12.0])
    monkeypatch.setattr(timing.Neighbours, "percent", lambda self, seconds: next(others))
    measured = timing.interleave({"a": lambda: next(figures)}, 2, random.Random(1), retries=1)
    assert sorted(measured.figures["a"]) == [11.0, 12.0]


def test_only_the_call_is_timed() -> None:
    now = 0.0

    def pass_time(seconds: float) -> int:
        nonlocal now
        now += seconds
        return 7

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "clock", lambda: now)
        seconds = timing.time_each(lambda: pass_time(2.0), 7, 3, between=lambda: pass_time(50.0))
    assert seconds == 2.0


def test_a_wrong_value_ends_the_measurement() -> None:
    with pytest.raises(timing.WrongValueError, match="got 3, not 4"):
        timing.time_each(lambda: 3, 4, count=5)


def test_samples_end_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(timing, "clock", lambda: float(next(now)))
    assert timing.sample(lambda: 1, 1, count=50, seconds=6.0) == [1.0] * 3


def test_a_call_gets_as_many_items_as_its_time_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def call_of(count: int) -> Callable[[], object]:
        def call() -> None:
            nonlocal now
            now += count * 1e-3

        return call

    monkeypatch.setattr(timing, "clock", lambda: now)
    assert timing.enough(call_of, fewest=4, most=10_000, seconds=0.1) == 64
    assert timing.enough(call_of, fewest=4, most=20, seconds=10.0) == 20


def test_values_of_any_order_are_compared_through_a_view() -> None:
    timing.time_each(lambda: [2, 1], [1, 2], count=1, view=sorted)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ns"),
        (55e-9, "55.0 ns"),
        (999.6e-9, "1.00 us"),
        (12.34e-6, "12.3 us"),
        (180.2e-6, "180 us"),
        (5.0e-3, "5.00 ms"),
        (3.0, "3.00 s"),
    ],
)
def test_durations_have_three_digits_and_a_fitting_unit(seconds: float, text: str) -> None:
    assert formats.format_time(seconds) == text


def test_tables_are_aligned() -> None:
    table = formats.format_table(["row", "time"], [["apply", "1 us"], ["a", "100 us"]])
    assert table.splitlines() == [
        "row      time",
        "-----  ------",
        "apply    1 us",
        "a      100 us",
    ]


def test_own_work_is_not_taken_for_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    second = os.sysconf("SC_CLK_TCK")
    # user nice system idle iowait irq softirq steal: 7 seconds of CPU time pass, and 5 are ours
    stat = iter(
        ["cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 0", f"cpu {4 * second} 0 {3 * second} 9 9 0 0 0 0 0"]
    )
    own = iter([(0.0, 0.0, 0.0, 0.0, 0.0), (2.0, 1.0, 1.0, 1.0, 4.0)])
    monkeypatch.setattr(timing, "read_text", lambda _: next(stat))
    monkeypatch.setattr(os, "times", lambda: next(own))
    assert timing.Neighbours().percent(seconds=4.0) == pytest.approx(50.0)


def test_the_machine_is_described_by_what_can_be_read() -> None:
    facts = machine.describe_machine()
    assert {"CPU", "cores", "kernel", "Python", "date"} <= set(facts)
    assert all(facts.values())


@pytest.mark.parametrize("iterations", [1, 2, 3, 12_345])
def test_the_value_of_work_is_known_without_the_work(iterations: int) -> None:
    assert workloads.burnt(iterations) == workloads.burn(iterations)[0]
