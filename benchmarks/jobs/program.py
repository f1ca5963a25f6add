"""One variant of one job, run once in a program of its own: ``python -m jobs.program``.

A fresh program owes nothing to the one before: no workers that joblib kept, no memory that a pool
has warmed. It prints a line of JSON and leaves the pickled result in a file.
"""

from __future__ import annotations

import json
import pickle
import resource
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from jobs.catalogue import load
from jobs.pools import MODULES, rival_of


def cpu_seconds(*usages: resource.struct_rusage) -> float:
    """User and system time of all of them."""
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names: job, variant, workers, "quick" or "full", file."""
    name, variant, processes, size, file = arguments
    job = load(name)
    given, run = job.make_input(size == "quick"), job.VARIANTS[variant]
    import_module(MODULES[rival_of(variant)])
    usage = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    before, start = cpu_seconds(*usage), time.perf_counter()
    result = run(given, int(processes))
    wall, end = time.perf_counter() - start, time.process_time()
    Path(file).write_bytes(pickle.dumps(result))
    not_the_job = before + time.process_time() - end
    print(json.dumps({"wall": wall, "not_the_job": not_the_job}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
