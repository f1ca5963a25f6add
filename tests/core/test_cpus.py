"""How many workers and pinned where, on made-up machines."""

from __future__ import annotations

from typing import Any

import pytest

from fastpool._runtime.cpus import COMPACT, SCATTER, plan_affinity, usable_cpu_count


class Machine:
    """CPUs 0-3, 6 and 7, in a different order for each kind."""

    def __init__(self, cpus: list[int] | None = None, quota: float | None = None) -> None:
        self.cpus = [0, 1, 2, 3, 6, 7] if cpus is None else cpus
        self.quota = quota

    def usable_cpus(self) -> list[int]:
        return self.cpus

    def cpu_quota(self) -> float | None:
        return self.quota

    def cpu_order(self, kind: int, /) -> list[int]:
        return {COMPACT: self.cpus, SCATTER: self.cpus[::-1]}[kind]

    def can_pin(self) -> bool:
        return True


class Unpinned(Machine):
    """The same, of a system that leaves it to itself where threads run."""

    def can_pin(self) -> bool:
        return False


def sets(*cpus: int) -> list[frozenset[int] | None]:
    return [frozenset([cpu]) for cpu in cpus]


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [(None, 6), (0.05, 1), (1.0, 1), (1.01, 2), (2.5, 3), (6.0, 6), (64.0, 6)],
)
def test_the_count_is_the_mask_or_the_quota_rounded_up(quota: float | None, wanted: int) -> None:
    assert usable_cpu_count(Machine(quota=quota)) == wanted


def test_the_count_is_never_below_one() -> None:
    assert usable_cpu_count(Machine(cpus=[])) == 1


def test_none_pins_nobody_and_asks_nothing_of_the_system() -> None:
    assert plan_affinity(None, 3) == [None, None, None]


def test_compact_and_scatter_hand_out_one_cpu_each() -> None:
    assert plan_affinity("compact", 3, Machine()) == sets(0, 1, 2)
    assert plan_affinity("scatter", 3, Machine()) == sets(7, 6, 3)


def test_where_nobody_can_be_pinned_affinity_is_checked_and_has_no_effect() -> None:
    assert plan_affinity("compact", 3, Unpinned()) == [None, None, None]
    assert plan_affinity([{0, 1}], 2, Unpinned()) == [None, None]
    with pytest.raises(ValueError, match="may not use CPU 5"):
        plan_affinity([5], 1, Unpinned())


@pytest.mark.parametrize("quota", [None, 1.5])
def test_more_workers_than_cpus_start_again(quota: float | None) -> None:
    machine = Machine(cpus=[4, 5], quota=quota)
    assert plan_affinity("compact", 5, machine) == sets(4, 5, 4, 5, 4)


def test_auto_pins_while_there_is_a_cpu_for_each() -> None:
    assert plan_affinity("auto", 6, Machine()) == sets(0, 1, 2, 3, 6, 7)
    assert plan_affinity("auto", 7, Machine()) == [None] * 7


def test_auto_leaves_workers_under_a_quota_free() -> None:
    assert plan_affinity("auto", 2, Machine(quota=4.0)) == [None, None]


def test_sets_may_be_numbers_or_iterables_of_them() -> None:
    assert plan_affinity([0, {1, 2}, range(3, 4), (6, 6)], 4, Machine()) == [
        frozenset([0]),
        frozenset([1, 2]),
        frozenset([3]),
        frozenset([6]),
    ]
    assert plan_affinity(range(3), 3, Machine()) == sets(0, 1, 2)


def test_numpy_integers_are_integers() -> None:
    numpy = pytest.importorskip("numpy")
    assert plan_affinity([numpy.int64(1), numpy.arange(2)], 2, Machine()) == [
        frozenset([1]),
        frozenset([0, 1]),
    ]


def test_sets_cycle_and_extra_ones_are_left() -> None:
    assert plan_affinity([0, 1], 5, Machine()) == sets(0, 1, 0, 1, 0)
    assert plan_affinity([0, 1, 2], 2, Machine()) == sets(0, 1)


@pytest.mark.parametrize(
    ("affinity", "message"),
    [
        ("close", "unknown affinity 'close': use None, 'auto', 'compact', 'scatter' or"),
        ("", "unknown affinity ''"),
        ([], "at least one CPU set"),
        ([0, []], r"affinity\[1\] is an empty CPU set"),
        ([-1], r"affinity\[0\]: CPU -1 is negative"),
        ([0, (1, 5)], r"affinity\[1\]: this process may not use CPU 5, only 0-3,6-7"),
    ],
)
def test_bad_values_are_told_by_place(affinity: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_affinity(affinity, 2, Machine())


@pytest.mark.parametrize(
    ("affinity", "message"),
    [
        (3, "affinity must be None, 'auto', .* not int"),
        ({0, 1}, "not set"),
        ({0: 1}, "not dict"),
        (b"\x00", "not bytes"),
        ([0, "1"], r"affinity\[1\]: a CPU is an integer, not str"),
        ([1.0], r"affinity\[0\]: a CPU is an integer, not float"),
        ([True], "not bool"),
        ([[None]], "not NoneType"),
    ],
)
def test_bad_types_are_told_by_place(affinity: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plan_affinity(affinity, 2, Machine())


@pytest.mark.parametrize("affinity", [None, "auto", [0]])
def test_there_is_no_plan_for_no_workers(affinity: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan_affinity(affinity, 0, Machine())


def test_this_machine_can_be_planned_for() -> None:
    system = pytest.importorskip("fastpool._core._system")
    count = usable_cpu_count()
    assert 1 <= count <= len(system.usable_cpus())
    pinned = system.usable_cpus() if system.can_pin() else []
    for kind in ("compact", "scatter"):
        plan = plan_affinity(kind, len(system.usable_cpus()))
        assert sorted(cpu for cpus in plan if cpus for cpu in cpus) == pinned
