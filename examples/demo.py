"""Four jobs, each on multiprocessing.Pool and on fastpool.Pool: same results, less time.

    python examples/demo.py [FOLDER]

FOLDER holds photographs (jpg, png); without it the demo takes those that scikit-image brings
along. The exit status is 1 if any result differs.
"""

from __future__ import annotations

import argparse
import multiprocessing.pool
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from demo_jobs.heat import HeatJob
from demo_jobs.photos import PhotosJob, find_photos
from demo_jobs.pools import Pools
from demo_jobs.squares import SquaresJob
from demo_jobs.volume import VolumeJob

import fastpool

LINE = "{:14} {:42} {:>16} {:>10} {:>8}"


class Job(Protocol):
    """What the demo wants to know of a job."""

    title: str
    work: str
    repeats: int

    def run(self, pools: Pools) -> Any:
        """Do all the work on a pool, from opening to leaving it."""

    def same(self, one: Any, other: Any) -> bool:
        """Compare the results of two runs."""


def compare(job: Job, stdlib: Pools, ours: Pools) -> bool:
    """Run a job on both pools and print a line about it.

    Parameters
    ----------
    job : Job
        What to run.
    stdlib, ours : Pools
        On what.

    Returns
    -------
    bool
        Whether the results are the same.
    """
    seconds: dict[str, list[float]] = {stdlib.name: [], ours.name: []}
    same = True
    for _ in range(job.repeats):
        results = []
        for pools in (stdlib, ours):
            start = time.perf_counter()
            results.append(job.run(pools))
            seconds[pools.name].append(time.perf_counter() - start)
        same = same and job.same(*results)
    theirs, our = map(statistics.median, seconds.values())
    work = job.work + (f" (median of {job.repeats})" if job.repeats > 1 else "")
    cells = [job.title, work, show_time(theirs), show_time(our), f"{theirs / our:.2f}x"]
    print(LINE.format(*cells) + ("" if same else "  DIFFERENT"), flush=True)
    return same


def show_time(seconds: float) -> str:
    """Write a duration."""
    return f"{seconds:.2f} s" if seconds >= 0.9995 else f"{1000 * seconds:.1f} ms"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="photographs; default: scikit-image's")
    add("--processes", type=int, default=len(os.sched_getaffinity(0)), help="default: one per CPU")
    add("--start-method", default="fork", choices=["fork", "spawn", "forkserver"])
    add("--steps", type=int, default=3000, help="of the simulation (default 3000)")
    options = parser.parse_args(arguments)
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    int
        The exit status.
    """
    options = parse_arguments(arguments)
    photos = find_photos(options.folder)
    if not photos:
        place = options.folder or "the installed packages (pip install scikit-image brings some)"
        print(f"no jpg or png in {place}", file=sys.stderr)
        return 2
    stdlib, ours = (
        Pools(name, pool_class, options.processes, options.start_method)
        for name, pool_class in (
            ("multiprocessing", multiprocessing.pool.Pool),
            ("fastpool", fastpool.Pool),
        )
    )
    print(
        f"fastpool {fastpool.__version__} against multiprocessing: {options.processes} workers, "
        f"{options.start_method}, Python {platform.python_version()}\n"
    )
    print(LINE.format("job", "work", stdlib.name, ours.name, "ratio"), flush=True)
    jobs: list[Job] = [
        PhotosJob(photos),
        HeatJob(options.steps, max(2, options.processes)),
        VolumeJob(),
        SquaresJob(),
    ]
    same = [compare(job, stdlib, ours) for job in jobs]
    print("\nall results are the same" if all(same) else "\nRESULTS DIFFER")
    return 0 if all(same) else 1


if __name__ == "__main__":
    raise SystemExit(main())
