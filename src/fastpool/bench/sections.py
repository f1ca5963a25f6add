"""The sections of the benchmark: what each one tells, and what measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastpool.bench import latency
from fastpool.bench.subject import Record, Subject


@dataclass(frozen=True)
class Section:
    """Some cases that are measured with one pool, or with one after another.

    Attributes
    ----------
    name, title : str
        For ``--only``, and for readers.
    unit : str
        Of the values: ``"s"``, ``"x"``, ``"%"`` or ``"B"``.
    measure : callable
        Yields a record for each case of one pool.
    x : str
        What the axis is, where cases are curves.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Subject], Iterator[Record]]
    x: str = ""


SECTIONS: dict[str, Section] = {
    section.name: section
    for section in (
        Section("latency", "round trip of one call", "s", latency.measure),
    )
}
