"""The sections of the benchmark: what each one tells, and what measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastpool.bench import bandwidth, grid, latency, lifetime, scaling, standing
from fastpool.bench.subject import Record, Subject


@dataclass(frozen=True)
class Section:
    """Some cases that are measured with one pool, or with one after another.

    Attributes
    ----------
    name, title : str
        For ``--only``, and for readers.
    unit : str
        Of the values: ``"s"``, ``"%"``, ``"B"``, or nothing for ratios.
    measure : callable
        Yields a record for each case of one pool.
    x : str
        What the axis is, where cases are curves.
    turn : int
        Where one program measures several: 0 before the others, which would leave something behind
        for it; 2 behind them, because it has pools of its own.
    with_serial : bool
        Whether it has to be measured without a pool, too, whoever takes part.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Subject], Iterator[Record]]
    x: str = ""
    turn: int = 1
    with_serial: bool = False


SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section("latency", "round trip of one call", "s", latency.measure),
        Section(
            "forkjoin",
            "map of one task for each worker",
            "s",
            scaling.forkjoin,
            "workers",
            turn=0,
        ),
        Section(
            "chunksize", "time for each of many no-op tasks", "s", scaling.chunksize, "chunksize"
        ),
        Section(
            "efficiency",
            "CPU time of the tasks / (time * workers)",
            "",
            scaling.efficiency,
            "task length",
        ),
        Section(
            "bandwidth",
            "one call with a payload, or for one",
            "s",
            bandwidth.measure,
            "bytes",
            with_serial=True,
        ),
        Section("startup", "create, first call, leave", "s", lifetime.startup, turn=2),
        Section("death", "from a worker's death to the error", "s", lifetime.death, turn=2),
        Section("skew", "makespan / ideal of uneven tasks", "", standing.uneven),
        Section("idle", "CPU time of an idle pool", "%", standing.idle),
        Section("memory", "memory of a worker after its first task", "B", standing.memory, turn=0),
        Section(
            "grid",
            "time for each of many tasks, by their payload and length",
            "s",
            grid.measure,
            "task length",
        ),
    )
}
