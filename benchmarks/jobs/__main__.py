"""Whole jobs on fastpool, on its rivals, and on no pool at all: same results, time compared.

    python benchmarks/jobs [--jobs NAME ...] [--pools NAME ...] [--quick] [--rounds N] [--json FILE]

README.md in the folder above tells the method, and what these figures can't tell.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastpool.bench import stopping
from fastpool.bench.arguments import new_file, positive
from fastpool.bench.machine import describe_machine
from jobs import catalogue, table
from jobs.pools import PACKAGES, installed, rival_of
from jobs.runner import RunFailedError, Runner, adopt_orphans


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="jobs", description=__doc__.splitlines()[0])
    add = parser.add_argument
    names, pools = catalogue.NAMES, list(PACKAGES)
    add("--jobs", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    add("--pools", nargs="+", choices=pools, default=pools, metavar="NAME", help=", ".join(pools))
    add("--quick", action="store_true", help="small inputs: shows that all runs, not how fast")
    add("--rounds", type=positive, help="interleaved rounds (default 5, with --quick 1)")
    add("--seed", type=int, default=1, help="of the order within the rounds")
    cpus = len(os.sched_getaffinity(0))
    add("--processes", type=positive, default=cpus, help="default: one per CPU")
    add("--json", type=new_file, metavar="FILE", help="write every round there, too")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the jobs and print the table.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the command line.

    Returns
    -------
    int
        The exit status: 1 if a variant failed or returned a wrong result; 128 and its number after
        a signal that asks for an end, such as Ctrl-C's.
    """
    options = parse_arguments(arguments)
    try:
        with stopping.stops_at_signals():
            return run(options)
    except stopping.Stopped as stopped:
        print(f"\nstopped by {stopped}", file=sys.stderr)
        return 128 + stopped.number


def run(options: argparse.Namespace) -> int:
    """Run the jobs that were asked for; as `main`."""
    adopt_orphans()
    machine = describe_machine()
    for name, fact in machine.items():
        print(f"{name + ':':10} {fact}")
    print(f"{'run:':10} {options.processes} workers, rounds: {options.rounds}\n", flush=True)
    for pool in options.pools:
        if not installed(PACKAGES[pool]):
            print(f"{pool} is not installed: left out")
    shuffle, rows, report, failed = random.Random(options.seed), [], {}, False
    for name in options.jobs:
        if absent := catalogue.missing(name):
            print(f"{name} needs {', '.join(absent)}: left out")
            continue
        job = catalogue.load(name)
        runner = Runner(name, job, options.processes, options.quick)
        variants = [v for v in catalogue.variants_of(job) if rival_of(v) in options.pools]
        try:
            outcomes, others = runner.measure(variants, options.rounds, shuffle)
        except RunFailedError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            failed = True
            continue
        rows.append(table.rows(job.TITLE, outcomes, others))
        report[name] = table.as_json(job.TITLE, outcomes, others)
    print(table.render(rows))
    if options.json:
        chosen = {**vars(options), "json": str(options.json)}
        document = {"machine": machine, "options": chosen, "jobs": report}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
