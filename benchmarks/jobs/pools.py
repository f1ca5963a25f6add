"""One map over many items, in the form that the documentation of each pool teaches.

A pool is made inside and left inside, as a script does that has one such map: both are part of the
job. Nobody gets a chunk size, for few users give one. Each rival is imported where it is used, so
that one that is not installed is missed by its own variants only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

Variant = Callable[[Any, int], Any]
"""Does a whole job: is given the input and the number of workers, returns the result."""

PACKAGES = {
    "serial": None,
    "multiprocessing": None,
    "fastpool": "fastpool",
    "concurrent.futures": None,
    "joblib": "joblib",
    "mpire": "mpire",
}
"""The rivals, in the order of the table, and what has to be installed for each."""


MODULES = {
    "serial": "builtins",
    "multiprocessing": "multiprocessing.pool",
    "fastpool": "fastpool",
    "concurrent.futures": "concurrent.futures.process",
    "joblib": "joblib",
    "mpire": "mpire",
}
"""What a program of that rival imports at its top, where no job's clock is running."""


def rival_of(variant: str) -> str:
    """Whose variant it is: the first word of its name, as in ``"fastpool out="``."""
    return variant.partition(" ")[0]


def installed(package: str | None) -> bool:
    """Whether a package can be imported; None stands for the standard library."""
    return package is None or find_spec(package) is not None


def map_serial(task: Callable[[Any], Any], items: Iterable[Any], processes: int) -> list[Any]:
    """No pool at all."""
    return [task(item) for item in items]


def map_multiprocessing(
    task: Callable[[Any], Any], items: Sequence[Any], processes: int
) -> list[Any]:
    """`multiprocessing.Pool`."""
    from multiprocessing import Pool

    with Pool(processes) as pool:
        return pool.map(task, items)


def map_fastpool(task: Callable[[Any], Any], items: Sequence[Any], processes: int) -> list[Any]:
    """The same but for one import."""
    from fastpool import Pool

    with Pool(processes) as pool:
        return pool.map(task, items)


def map_futures(task: Callable[[Any], Any], items: Sequence[Any], processes: int) -> list[Any]:
    """`concurrent.futures.ProcessPoolExecutor`, which sends the items one by one."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(processes) as executor:
        return list(executor.map(task, items))


def map_joblib(task: Callable[[Any], Any], items: Sequence[Any], processes: int) -> list[Any]:
    """joblib on loky, its default, whose workers outlive the call."""
    from joblib import Parallel, delayed

    results: list[Any] = Parallel(n_jobs=processes)(delayed(task)(item) for item in items)
    return results


def map_mpire(task: Callable[[Any], Any], items: Sequence[Any], processes: int) -> list[Any]:
    """mpire, which hands what can be iterated over as several arguments, and joins arrays.

    A tuple of one, and an argument, keep it from both.
    """
    from mpire import WorkerPool

    with WorkerPool(n_jobs=processes) as pool:
        singles = [(item,) for item in items]
        results: list[Any] = pool.map(task, singles, concatenate_numpy_output=False)
    return results


MAPS: dict[str, Callable[[Callable[[Any], Any], Sequence[Any], int], list[Any]]] = {
    "serial": map_serial,
    "multiprocessing": map_multiprocessing,
    "fastpool": map_fastpool,
    "concurrent.futures": map_futures,
    "joblib": map_joblib,
    "mpire": map_mpire,
}


def variants(job: Callable[[Callable[..., list[Any]], Any, int], Any]) -> dict[str, Variant]:
    """Make a variant for each rival of a job that is one map, and something before and after.

    Parameters
    ----------
    job : callable
        Is given one of `MAPS`, the input and the number of workers; returns the result.

    Returns
    -------
    dict of str to callable
    """

    def bind(mapping: Callable[..., list[Any]]) -> Variant:
        return lambda given, processes: job(mapping, given, processes)

    return {name: bind(mapping) for name, mapping in MAPS.items()}
