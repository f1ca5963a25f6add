"""Mixed load for an hour: nothing that the pool holds may grow.

    python tests/soak/soak.py --minutes 60 --seed 1234

One pool lives through it all, under calls of all kinds from several threads, deaths, timeouts,
cancellation and resizing; beside it other pools are made and ended, some of which replace their
workers all the time. Every few seconds a line of what this process and its workers hold is added
to soak.csv. At the end a line is fitted through the second half of each column, where it has to be
flat, and soak.png shows them.
"""

from __future__ import annotations

import argparse
import csv
import gc
import itertools
import math
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import helpers
from failure.kill_fuzz import Killer
from helpers import fuzz_tasks, pool_memory, procs
from helpers.fuzz_calls import Caller
from helpers.overdue import Watch

from fastpool import Pool

DEADLINE = 120.0
METHODS = ("fork", "spawn", "forkserver")
WORKERS = 2
CALLERS = 2
RETRIES = 2
MIB = 2**20


class Column(NamedTuple):
    """Something that is sampled, and how much the fitted line may rise in the second half."""

    name: str
    unit: float
    most: float


COLUMNS = (
    Column("parent MiB", MIB, 24.0),
    Column("workers MiB", MIB, 24.0),
    Column("in use MiB", MIB, 16.0),
    Column("warm MiB", MIB, 24.0),
    Column("descriptors", 1, 4.0),
    Column("threads", 1, 3.0),
    Column("children", 1, 4.0),
    Column("maps", 1, 2.0),
)


class Fit(NamedTuple):
    """A straight line through samples, by least squares."""

    start: float
    slope: float
    error: float  # the standard error of the slope

    def at(self, x: float) -> float:
        return self.start + self.slope * x


def fit(xs: list[float], ys: list[float]) -> Fit:
    n = len(xs)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    start = mean_y - slope * mean_x
    rest = sum((y - start - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return Fit(start, slope, math.sqrt(rest / max(1, n - 2) / spread))


class Load:
    """Everything that goes on at the same time, each in a thread of its own."""

    def __init__(self, seed: int, watch: Watch, trace: str, cgroup: str) -> None:
        self._chance = random.Random(seed)
        self._watch = watch
        self._initargs = (trace, cgroup)
        self._numbers = itertools.count()
        self.stop = threading.Event()
        self.faults: list[str] = []
        self.calls = self.pools = 0
        self.pool = self._make_pool("fork", WORKERS, None)

    def _make_pool(self, method: str, workers: int, maxtasks: int | None) -> Any:
        context = multiprocessing.get_context(method)
        return Pool(
            workers,
            fuzz_tasks.begin_trace,
            self._initargs,
            maxtasks,
            context,
            retries=RETRIES,
        )

    def _caller(self, pool: Any, poison: float) -> Caller:
        chance = random.Random(self._chance.random())
        return Caller(pool, chance, RETRIES, self._watch, self._numbers, poison)

    def start(self) -> list[threading.Thread]:
        runs: list[Callable[[], None]] = [self._call for _ in range(CALLERS)]
        runs += [self._kill, self._resize, self._make_and_end]
        threads = [threading.Thread(target=self._guarded, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException:
            self.faults.append(traceback.format_exc())
            self.stop.set()

    def _call(self) -> None:
        caller = self._caller(self.pool, 0.05)
        while not self.stop.is_set():
            caller.once()
            caller.outcomes.clear()
            self.calls += 1

    def _kill(self) -> None:
        killer = Killer(self.pool, "fork", random.Random(self._chance.random()), 0.5)
        killer.run(self.stop)

    def _resize(self) -> None:
        chance = random.Random(self._chance.random())
        while not self.stop.wait(chance.uniform(0, 10)):
            self.pool.resize(chance.randint(1, 2 * WORKERS))
        self.pool.resize(WORKERS)

    def _make_and_end(self) -> None:
        chance = random.Random(self._chance.random())
        while not self.stop.wait(chance.uniform(0, 2)):
            with self._watch.over("a pool that is made and ended"):
                method = chance.choice(METHODS)
                # A call has up to 400 tasks; only forked workers start quickly enough for as many.
                maxtasks = chance.choice([None, 1, 5] if method == "fork" else [None, 50])
                pool = self._make_pool(method, chance.randint(1, 3), maxtasks)
                caller = self._caller(pool, 0.0)
                for _ in range(chance.randrange(6)):
                    caller.once()
                ending = chance.choice(["close", "terminate", "drop"])
                if ending != "drop":
                    getattr(pool, ending)()
                    pool.join()
                del pool, caller
            self.pools += 1


def sample(load: Load) -> list[float]:
    """What this process and the workers hold right now, in the order of COLUMNS."""
    gc.collect()  # an error that a call kept has its frames, and so the pool, until then
    me = os.getpid()
    stats = load.pool.stats()
    workers = [info.pid for info in load.pool.workers()]
    maps = Path("/proc/self/maps").read_text()
    return [
        procs.resident_bytes(me) / MIB,
        sum(map(procs.resident_bytes, workers)) / max(1, len(workers)) / MIB,
        stats.bytes_in_use / MIB,
        stats.bytes_warm / MIB,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        len(procs.descendants(me)),
        maps.count("memfd:fastpool"),
    ]


def faults_of(times: list[float], rows: list[list[float]]) -> tuple[list[str], list[Fit]]:
    """Which columns rise in the second half, and the fitted lines."""
    half = next(k for k, at in enumerate(times) if at >= times[-1] / 2)
    span = times[-1] - times[half]
    faults, fits = [], []
    for k, column in enumerate(COLUMNS):
        line = fit(times[half:], [row[k] for row in rows[half:]])
        fits.append(line)
        # What can't be told from noise is no growth.
        growth = (line.slope - 2 * line.error) * span
        verdict = "GROWS" if growth > column.most else "flat"
        print(
            f"{column.name:>12}: {line.at(times[half]):8.1f} -> {line.at(times[-1]):8.1f}"
            f" +- {2 * line.error * span:.1f}, may rise by {column.most:g}: {verdict}"
        )
        if verdict == "GROWS":
            faults.append(f"{column.name} grows by {line.slope * span:.1f} in {span:.0f} s")
    return faults, fits


def draw(path: Path, times: list[float], rows: list[list[float]], fits: list[Fit]) -> None:
    """A panel for each column, with the line through its second half."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(4, 2, figsize=(11, 11), sharex=True, layout="constrained")
    second = [at for at in times if at >= times[-1] / 2]
    for k, (column, panel) in enumerate(zip(COLUMNS, panels.flat, strict=True)):
        panel.plot([at / 60 for at in times], [row[k] for row in rows], linewidth=0.8)
        panel.plot([at / 60 for at in second], [fits[k].at(at) for at in second], linewidth=2)
        panel.set_ylim(bottom=0)
        panel.set_title(column.name, fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("minutes")
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two samples")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, results in {options.out}", flush=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    with tempfile.TemporaryDirectory(prefix="fastpool-soak-") as name:
        os.environ.setdefault(helpers.STACKS_VARIABLE, f"{name}/stacks")
        helpers.register_stack_dump()
        with fuzz_tasks.small_cgroup() as cgroup:
            watch = Watch(DEADLINE, lambda: fuzz_tasks.remove_cgroup(cgroup))
            return _run(options, watch, cgroup)


def _run(options: Any, watch: Watch, cgroup: str) -> int:
    load = Load(options.seed, watch, os.devnull, cgroup)
    threads = load.start()
    times: list[float] = []
    rows: list[list[float]] = []
    begin = said = time.monotonic()
    with (options.out / "soak.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "calls", "pools", *(column.name for column in COLUMNS)])
        while not load.stop.wait(options.every):
            now = time.monotonic() - begin
            times.append(now)
            rows.append(sample(load))
            line = [round(value, 3) for value in rows[-1]]
            writer.writerow([round(now, 1), load.calls, load.pools, *line])
            file.flush()
            if time.monotonic() - said > 30:
                said = time.monotonic()
                print(f"{now:6.0f} s, {load.calls} calls, {load.pools} pools: {line}", flush=True)
            if now > 60 * options.minutes:
                load.stop.set()
    for thread in threads:
        thread.join()
    faults = load.faults
    if not faults:
        with watch.over("the end"):
            gc.collect()
            pool_memory.settled_bytes(load.pool, 0, 30.0)
            load.pool.close()
            load.pool.join()
    if len(times) >= 10:
        grown, fits = faults_of(times, rows)
        faults += grown
        draw(options.out / "soak.png", times, rows, fits)
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"{load.calls} calls, {load.pools} pools, seed {options.seed}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
