"""The pictures, each from the report alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from fastpool.bench import ink, tables
from fastpool.bench.results import Row

Report = dict[str, Any]
WIDTH = 7.6  # of a panel, in inches


def distributions(report: Report, name: str) -> Figure | None:
    """The cumulative distributions of a section's cases, over a logarithmic axis of time."""
    rows = _rows(report, name)
    cases = list(dict.fromkeys(row["case"] for row in rows))
    if not cases:
        return None
    figure, panels = _figure(len(cases), 3.3)
    for axes, case in zip(panels, cases, strict=True):
        found = {row["pool"]: row for row in rows if row["case"] == case}
        axes.set(title=case, xscale="log", ylim=(0, 1), ylabel="share of the calls")
        lines = []
        for pool in ink.drawn_order(list(found)):
            samples, look = found[pool]["quantiles"], ink.look_of(pool)
            heights = [(at + 1) / len(samples) for at in range(len(samples))]
            line = look.line() | {"markevery": max(1, len(samples) // 6)}
            axes.step(samples, heights, where="post", **line)
            lines.append((pool, samples, look.color))
        low, high = _extent(value for _, samples, _ in lines for value in samples)
        axes.set_xlim(low / 1.5, high * 1.5)
        _grid(axes)
        _times(axes)
        ink.label_distributions(axes, lines)
    return figure


def _figure(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height * panels), layout="constrained", dpi=100)
    return figure, list(figure.subplots(panels, 1, squeeze=False)[:, 0])


def _rows(report: Report, name: str) -> list[Row]:
    rows: list[Row] = report["sections"].get(name, {}).get("rows", [])
    return rows


def _grid(axes: Axes) -> None:
    axes.grid(True, which="major")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _times(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(seconds: float) -> str:
    """A round time, as a tick."""
    number, unit = tables.write(seconds, "s").split()
    return f"{float(number):g} {unit}"


def _extent(values: Iterator[float]) -> tuple[float, float]:
    found = [value for value in values if value > 0]
    return min(found), max(found)


#: Name, heading and maker of each picture.
FIGURES = (
    (
        "latency",
        "Latency: how long one call takes, there and back",
        lambda report: distributions(report, "latency"),
    ),
)


def figures(report: Report) -> Iterator[tuple[str, str, Figure]]:
    """The pictures for which a report has figures: name, heading, picture."""
    for name, heading, draw in FIGURES:
        figure = draw(report)
        if figure is not None:
            yield name, heading, figure
