"""The pictures, each from the report alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from fastpool.bench import ink, tables
from fastpool.bench.limits import Limit
from fastpool.bench.results import Row

Report = dict[str, Any]
Worth = Callable[[Row], float]
WIDTH = 7.6  # of a panel, in inches
TIME_A_CALL, TIME_A_TASK = "time for a call", "time for a task"


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
            heights = [at / len(samples) for at in range(len(samples) + 1)]
            line = look.line() | {"markevery": max(1, len(samples) // 6)}
            axes.step([samples[0], *samples], heights, where="post", **line)
            lines.append((pool, samples))
        low, high = _extent(value for _, samples in lines for value in samples)
        axes.set_xlim(low / 1.5, high * 1.5)
        _grid(axes)
        _times(axes)
        ink.label_distributions(axes, lines)
    return figure


def curves(
    report: Report,
    name: str,
    ylabel: str,
    worth: Worth = lambda row: float(row["median"]),
    bounds: Callable[[Report], list[tuple[float, float]]] = lambda _: [],
    linear: bool = False,
    references: Sequence[str] = (),
) -> Figure | None:
    """A section's medians over a logarithmic axis, a panel for each case.

    Parameters
    ----------
    report : dict
        As ``--json`` writes it.
    name : str
        The section.
    ylabel : str
        What is shown.
    worth : callable, optional
        Makes it of a row.
    bounds : callable, optional
        The points of the C bound, if there is one.
    linear : bool, optional
        Whether the y axis begins at zero; it is logarithmic otherwise.
    references : sequence of str, optional
        Cases that have no panel: they are drawn into each as a bound.

    Returns
    -------
    Figure, optional
        None where nothing was measured.
    """
    rows = _rows(report, name)
    cases = [case for case in dict.fromkeys(row["case"] for row in rows) if case not in references]
    if not cases:
        return None
    axis = report["sections"][name]["x"]
    figure, panels = _figure(len(cases), 3.3)
    for axes, case in zip(panels, cases, strict=True):
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["case"] == case:
                lines.setdefault(row["pool"], []).append((row["x"], worth(row)))
        if bounds(report):
            lines["C"] = bounds(report)
        for other in references:
            lines[other] = [(row["x"], worth(row)) for row in rows if row["case"] == other]
        axes.set(title=case, xscale="log", xlabel=axis, ylabel=ylabel)
        axes.set_yscale("linear" if linear else "log")
        places = sorted({x for points in lines.values() for x, _ in points})
        ends = []
        for line in ink.drawn_order([line for line, points in lines.items() if points]):
            xs, ys = zip(*sorted(lines[line]), strict=True)
            axes.plot(xs, ys, **ink.look_of(line).line())
            ends.append((line, xs[-1], ys[-1]))
        if linear:
            axes.set_ylim(0, 1.02)
        elif ylabel in (TIME_A_CALL, TIME_A_TASK):
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        _grid(axes)
        shown = _far_apart(places)
        axes.set_xticks(places, [_place(x, axis) if x in shown else "" for x in places])
        axes.set_xticks([], minor=True)
        if len(places) > 1:
            axes.set_xlim(places[0] / 1.15, places[-1] * 1.03)
        ink.label_ends(axes, ends)
    return figure


def dots(report: Report, name: str, xlabel: str) -> Figure | None:
    """A section's medians of cases without an axis: a line of dots for each case."""
    rows = _rows(report, name)
    if name == "startup":
        rows = [row for row in rows if row["case"].endswith("all three")]
    lines = list(dict.fromkeys((row["case"], row["pool"]) for row in rows))
    if not lines:
        return None
    unit = report["sections"][name]["unit"]
    scale = 2**20 if unit == "B" else 1
    figure, [axes] = _figure(1, 0.8 + 0.27 * len(lines))
    single = len({case for case, _ in lines}) == 1
    for at, (case, pool) in enumerate(lines):
        row = next(row for row in rows if (row["case"], row["pool"]) == (case, pool))
        look = ink.look_of(pool)
        place = (row["median"] / scale, at)
        size = 9 if pool == "fastpool" else 6
        axes.plot(*place, look.marker, color=look.color, markersize=size)
        axes.annotate(
            tables.write(row["median"], unit),
            place,
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    names = [pool if single else f"{pool}, {case.partition(':')[0]}" for case, pool in lines]
    axes.set_yticks(range(len(lines)), names)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set(xlabel=xlabel, title=lines[0][0] if single else "")
    if unit == "s":
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(low / 1.2, high * 1.6)
        _times(axes)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.1 * axes.get_xlim()[1])
    axes.grid(True, axis="x")
    return figure


def heat(report: Report) -> Figure | None:
    """The best pool for each length of task and payload, and how far the second is behind."""
    rows = _rows(report, "grid")
    if not rows:
        return None
    lengths = sorted({row["x"] for row in rows})
    payloads = sorted({int(row["case"]) for row in rows})
    cells: dict[tuple[float, int], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["x"], int(row["case"])), []).append(row)
    figure, [axes] = _figure(1, 1.2 + 0.75 * len(payloads))
    for (length, payload), found in cells.items():
        best, *others = sorted(found, key=lambda row: row["median"])
        ratio = others[0]["median"] / best["median"] if others else 1.0
        x, y = lengths.index(length), payloads.index(payload)
        strength = min(0.6, 0.12 + 0.24 * math.log10(max(1.0, ratio)))
        color = ink.look_of(best["pool"]).color
        axes.add_patch(
            Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=color, alpha=strength, lw=0)
        )
        axes.text(
            x, y + 0.14, best["pool"].replace(".", ".\n", 1), ha="center", va="center", fontsize=9
        )
        beside = f"{ratio:.3g}x\n{others[0]['pool']}" if others else ""
        axes.text(x, y - 0.24, beside, ha="center", va="center", fontsize=8)
    axes.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(-0.5, len(payloads) - 0.5))
    axes.set_xticks(range(len(lengths)), [_short(length) for length in lengths])
    axes.set_yticks(range(len(payloads)), [_place(payload, "bytes") for payload in payloads])
    axes.set(xlabel="CPU time of a task", ylabel="payload of a task")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _figure(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height * panels), dpi=100)
    figure.set_layout_engine("constrained", h_pad=0.1)  # keeps titles off the ticks above
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


def _place(x: float, axis: str) -> str:
    """A place on an axis, as a tick."""
    return _short(x) if axis == "task length" else tables.write_x(x, axis)


def _far_apart(places: Sequence[float]) -> list[float]:
    """Those places on a logarithmic axis whose ticks leave room for one another, with the last."""
    kept = list(places[-1:])
    for place in reversed(places[:-1]):
        if math.log(kept[-1] / place) >= 0.1 * math.log(places[-1] / places[0]):
            kept.append(place)
    return kept


def _rate(row: Row) -> float:
    return float(row["x"] / row["median"] / 2**30)


def _fork_join_bounds(report: Report) -> list[tuple[float, float]]:
    """The fastest way of waiting for each number of workers."""
    best: dict[int, float] = {}
    for record in report["limits"]:
        limit = Limit(**record)
        if 0 < limit.workers <= report["options"]["processes"]:
            best[limit.workers] = min(limit.p50, best.get(limit.workers, limit.p50))
    return sorted((float(workers), p50) for workers, p50 in best.items())


def _chunk_bounds(report: Report) -> list[tuple[float, float]]:
    """The exchange alone, shared by the tasks of as many chunks as there are workers."""
    bounds = _fork_join_bounds(report)[-1:]
    sizes = sorted({row["x"] for row in _rows(report, "chunksize")})
    return [(size, p50 / (workers * size)) for workers, p50 in bounds for size in sizes]


def _efficiency_bounds(report: Report) -> list[tuple[float, float]]:
    """One exchange for each task that a worker runs."""
    bounds = _fork_join_bounds(report)[-1:]
    lengths = sorted({row["x"] for row in _rows(report, "efficiency")})
    return [(length, length / (length + p50)) for _, p50 in bounds for length in lengths]


#: Name, heading and maker of each picture.
FIGURES: tuple[tuple[str, str, Callable[[Report], Figure | None]], ...] = (
    (
        "latency",
        "Latency: how long one call takes, there and back",
        lambda report: distributions(report, "latency"),
    ),
    (
        "forkjoin",
        "Fork-join: one task for each worker, and the limit of a C program",
        lambda report: curves(report, "forkjoin", TIME_A_CALL, bounds=_fork_join_bounds),
    ),
    (
        "chunksize",
        "Throughput: tasks that do nothing, in chunks; C: the exchange of a chunk alone",
        lambda report: curves(report, "chunksize", TIME_A_TASK, bounds=_chunk_bounds),
    ),
    (
        "efficiency",
        "Efficiency: how much of the workers' CPUs the tasks get; C: an exchange for each task",
        lambda report: curves(
            report,
            "efficiency",
            "CPU time / (time * workers)",
            bounds=_efficiency_bounds,
            linear=True,
        ),
    ),
    (
        "bandwidth",
        "Bandwidth: one call with a payload, or for one",
        lambda report: curves(report, "bandwidth", "GiB/s", worth=_rate, references=["memcpy"]),
    ),
    (
        "grid",
        "Which pool for which tasks: the fastest, and how much longer the second takes",
        heat,
    ),
    (
        "startup",
        "Starting: create, first call, leave",
        lambda report: dots(report, "startup", "time"),
    ),
    (
        "death",
        "Death: from SIGKILL of a worker to the error at the caller",
        lambda report: distributions(report, "death"),
    ),
    ("skew", "Uneven tasks", lambda report: dots(report, "skew", "makespan / ideal")),
    ("idle", "Idleness", lambda report: dots(report, "idle", "percent of one CPU")),
    ("memory", "Memory", lambda report: dots(report, "memory", "MiB for each worker")),
)


def figures(report: Report) -> Iterator[tuple[str, str, Figure]]:
    """The pictures for which a report has figures: name, heading, picture."""
    for name, heading, draw in FIGURES:
        figure = draw(report)
        if figure is not None:
            yield name, heading, figure
