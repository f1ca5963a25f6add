"""The report as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastpool.bench.formats import format_number, format_table, format_time
from fastpool.bench.results import PERCENTILES, Row


def write(value: float | None, unit: str) -> str:
    """A figure with its unit; nothing for none."""
    if value is None:
        return "-"
    if unit == "s":
        return format_time(value)
    if unit == "B":
        return f"{format_number(value / 2**20)} MiB"
    return f"{format_number(value)} {unit}".rstrip()


def write_x(value: float, axis: str) -> str:
    """A place on an axis, whose name tells what it is."""
    if "bytes" in axis:
        for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
            if value >= size:
                return f"{value / size:g} {unit}"
        return f"{value:g} B"
    return format_time(value) if "task length" in axis else f"{value:g}"


def head_facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """On what was measured, what, and what could not be: a word and the fact."""
    options = report["options"]
    facts = dict(report["machine"])
    facts["versions"] = ", ".join(f"{pool} {text}" for pool, text in report["versions"].items())
    facts["run"] = (
        f"{options['processes']} workers, start method "
        f"{options['start_method'] or 'as each pool likes it (fork, where Python decides)'}, "
        f"rounds: {options['rounds']}, seed {options['seed']}"
    )
    if options["quick"]:
        facts["run"] += ", quick"
    yield from facts.items()
    for pool, why in report["absent"].items():
        yield "left out", f"{pool}: {why}"
    if report["no_limits"]:
        yield "no C limits", report["no_limits"]


def section_lines(name: str, section: dict[str, Any]) -> Iterator[str]:
    """The tables of one section."""
    yield f"\n{name}: {section['title']}"
    rows = section["rows"]
    if name == "grid":  # its cases are sizes
        rows = [row | {"case": write_x(int(row["case"]), "bytes")} for row in rows]
    if rows:
        table = _distributions if name in ("latency", "death") else _curves
        yield table(rows, section["unit"], section["x"])
    yield from reasons(section)


def reasons(section: dict[str, Any]) -> Iterator[str]:
    """Why pools have no figures, or no more."""
    for why in dict.fromkeys(section["failures"].values()):
        pools = [pool for pool, reason in section["failures"].items() if reason == why]
        yield f"{', '.join(pools)}: {why}"


def limit_lines(report: dict[str, Any]) -> Iterator[str]:
    """What a C program takes here."""
    if report["limits"]:
        yield "\nlimits in C"
        cells = []
        for bound in report["limits"]:
            title = ", ".join(filter(None, (bound["name"], bound["wait"])))
            unit = bound["unit"]
            cells.append([title, write(bound["p50"], unit), write(bound["tail"], unit)])
        yield format_table(["", "p50", "p90 or p10"], cells)


def text(report: dict[str, Any]) -> str:
    """The whole report."""
    lines = [f"{name + ':':13} {fact}" for name, fact in head_facts(report)]
    for name, section in report["sections"].items():
        lines += section_lines(name, section)
    lines += limit_lines(report)
    if report["warnings"]:
        lines += ["", "This machine was too noisy to be sure:"]
        lines += [f"  {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def _distributions(rows: list[Row], unit: str, _: str) -> str:
    """A line for each case and pool, with its percentiles."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    cells = []
    for case in cases:
        for row in (row for row in rows if row["case"] == case):
            figures = [write(row[name], unit) for name in PERCENTILES]
            spread = f"±{100 * row['spread']:.0f}%" if len(row["rounds"]) > 1 else "-"
            cells.append([f"{case}, {row['pool']}", *figures, spread, str(row["count"])])
    return format_table(["", *PERCENTILES, "rounds", "calls"], cells)


def _curves(rows: list[Row], unit: str, axis: str) -> str:
    """A line for each case and place on the axis, a column for each pool."""
    pools = list(dict.fromkeys(row["pool"] for row in rows))
    found = {(row["case"], row["x"], row["pool"]): row for row in rows}
    cells = []
    for case, x in dict.fromkeys((row["case"], row["x"]) for row in rows):
        title = case if x is None else f"{case}, {write_x(x, axis)}"
        figures = [found.get((case, x, pool)) for pool in pools]
        cells.append([title, *("-" if f is None else write(f["median"], unit) for f in figures)])
    return format_table([axis, *pools], cells)
