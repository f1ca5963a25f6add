"""``threads_per_worker=``: how many threads the numeric libraries of a worker use.

These libraries read their number from the environment when they are loaded, and never again. A
worker of ``spawn`` or ``forkserver`` gets the variables before it imports the program's main
module. In a forked worker libraries are loaded already; threadpoolctl knows how to tell them.
"""

from __future__ import annotations

import importlib
import importlib.util
import operator
import os
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from fastpool._core._system import loaded_libraries
from fastpool._runtime.checks import check_thread_count
from fastpool._runtime.cpus import usable_cpu_count

Threads: TypeAlias = int | Literal["auto"] | None

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

#: The file names of loaded libraries that have threads of their own.
_THREADED = re.compile(
    r"[^/\s]*(?:openblas|mkl_rt|libgomp|libiomp|libomp|libblis|flexiblas)[^/\s]*$"
)


def check_threads(threads: Threads, processes: int) -> int | None:
    """Check what ``Pool()`` was given; ``"auto"`` shares out the CPUs."""
    if threads is None:
        return None
    if threads == "auto":
        return max(1, usable_cpu_count() // processes)
    return check_thread_count(threads)


def check_controller() -> bool:
    """Whether libraries are loaded that have to be told, by threadpoolctl.

    Raises
    ------
    ImportError
        If there are some, and threadpoolctl is not installed.
    """
    loaded = _loaded_libraries()
    if loaded and importlib.util.find_spec("threadpoolctl") is None:
        raise ImportError(
            f"threads_per_worker= needs threadpoolctl here, because {', '.join(loaded)} "
            "is loaded already: pip install 'fastpool[threads]', or start workers by spawn"
        )
    return bool(loaded)


def limit_threads(threads: int) -> None:
    """In a new worker: tell what is loaded, and what will be."""
    os.environ.update(_variables(threads))
    if check_controller():
        import threadpoolctl  # not in the parent: it changes the environment

        threadpoolctl.threadpool_limits(threads)


def _loaded_libraries() -> list[str]:
    found = (_THREADED.search(path) for path in loaded_libraries())
    return sorted({match.group() for match in found if match})


def _variables(threads: int) -> dict[str, str]:
    return dict.fromkeys(VARIABLES, str(threads))


class EarlyName(str):
    """A name of a process that sets environment variables where it is unpickled.

    What a process of ``spawn`` or ``forkserver`` reads first is its name; then it imports the
    program's main module, and with that, perhaps, NumPy. The variables can't come with the
    process's own environment: that would be the parent's, changed for a moment under the eyes of
    its other threads. The pickle names the standard library only: where fastpool can be found, the
    process does not know yet.
    """

    _threads: int

    def __new__(cls, name: str, threads: int) -> EarlyName:
        self = super().__new__(cls, name)
        self._threads = threads
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        environment = _Call(getattr, _Call(importlib.import_module, "os"), "environ")
        update = _Call(operator.methodcaller("update", _variables(self._threads)), environment)
        return operator.itemgetter(0), ([str(self), update],)


class _Call:
    """Unpickles as what a function returns there."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call
