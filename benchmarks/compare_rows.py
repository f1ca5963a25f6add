"""One row of `compare.py`, measured once with whatever fastpool this interpreter imports.

    PYTHONPATH=SRC python benchmarks/compare_rows.py ROW SRC

Prints a line of JSON: the nanoseconds per call or item, or what this revision lacks for the row. It
ends with a traceback if a value was wrong, or if the fastpool of another place was imported.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

import own_bench  # noqa: F401  (before those that import fastpool.bench)

import measures  # isort: skip
from measures import Load, Measure, in_warm_pool  # isort: skip
from rivals import load_side  # isort: skip

from fastpool.bench import workloads
from fastpool.bench.timing import time_each

LINES = 20_000
PAIRS = 20_000
NOTHINGS = 100_000

#: What a revision raises that has no such method, argument or module.
LACKING = (AttributeError, ImportError, NotImplementedError, TypeError)


@dataclass(frozen=True)
class Row:
    """What is compared.

    Attributes
    ----------
    title : str
        What the table calls it.
    measure : callable
        No argument -> a `Measure`; so that a row imports what only it needs.
    load : Load
        How much is done in one process, some 0.2 s of it.
    """

    title: str
    measure: Callable[[], Measure]
    load: Load


@in_warm_pool
def map_nothing(pool: Pool, load: Load) -> float:
    """``map`` of a no-op."""
    call = functools.partial(pool.map, workloads.nothing, range(load.items))
    return time_each(call, [None] * load.items, load.calls) / load.items


@in_warm_pool
def map_upper(pool: Pool, load: Load) -> float:
    """``map`` of a built-in method over lines of text."""
    lines = [f"{i}: the quick brown fox jumps over {i % 97} lazy dogs\n" for i in range(load.items)]
    call = functools.partial(pool.map, str.upper, lines)
    return time_each(call, list(map(str.upper, lines)), load.calls) / load.items


@in_warm_pool
def starmap_pairs(pool: Pool, load: Load) -> float:
    """``starmap`` of many pairs."""
    pairs = [(i, 2 * i) for i in range(load.items)]
    call = functools.partial(pool.starmap, workloads.add, pairs)
    return time_each(call, [3 * i for i in range(load.items)], load.calls) / load.items


@in_warm_pool
def echo_bytes(pool: Pool, load: Load) -> float:
    """``apply`` with 64 KB of bytes, which come back."""
    data = bytes(range(256)) * 256
    return time_each(functools.partial(pool.apply, workloads.identity, (data,)), data, load.calls)


def _array_argument() -> Measure:
    import data_measures

    return data_measures.apply_array


def _array_result() -> Measure:
    import data_measures

    return data_measures.apply_for_array


ROWS = {
    "apply": Row("apply", lambda: measures.apply_int, Load(5000)),
    "map-single": Row("map, chunksize 1", lambda: measures.map_single, Load(40, 3000)),
    "imap": Row("imap", lambda: measures.imap_ordered, Load(30, 3000)),
    "async": Row("3000 apply_async, then get", lambda: measures.apply_async_all, Load(20, 3000)),
    "nothing": Row("map of 100 000 no-ops", lambda: map_nothing, Load(20, NOTHINGS)),
    "upper": Row("map str.upper, 20 000 lines", lambda: map_upper, Load(20, LINES)),
    "map2": Row("map of two tasks", lambda: measures.map_two, Load(5000)),
    "starmap": Row("starmap of 20 000 tuples", lambda: starmap_pairs, Load(20, PAIRS)),
    "echo-64kb": Row("apply, 64 KB there and back", lambda: echo_bytes, Load(2000)),
    "arg-8mb": Row("apply, 8 MB array as argument", _array_argument, Load(60)),
    "result-8mb": Row("apply, 8 MB array as result", _array_result, Load(30)),
    "startup": Row("create, map two tasks, leave", lambda: measures.create_map_leave, Load(15)),
}


def check_place(sources: Path) -> None:
    """Raise unless the fastpool that is imported is the one that shall be measured."""
    import fastpool

    found = Path(fastpool.__file__).resolve()
    if sources.resolve() not in found.parents:
        raise ImportError(f"fastpool was imported from {found}, not from {sources}")


def main(name: str, sources: Path) -> None:
    """Measure one row, and print the figure."""
    check_place(sources)
    row = ROWS[name]
    side = load_side("fastpool", processes=2, start_method="fork")
    try:
        seconds = row.measure()(side, row.load)
    except LACKING as error:
        print(json.dumps({"lacks": f"{type(error).__name__}: {error}"}))
    else:
        print(json.dumps({"ns": 1e9 * seconds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
