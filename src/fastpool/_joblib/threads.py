"""How many threads BLAS and OpenMP have in workers."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: What a worker has applied last.
_applied = ""


def encode(variables: Mapping[str, str]) -> str:
    """Environment variables as one string, which costs a task hardly anything."""
    return "\n".join(f"{name}={value}" for name, value in variables.items())


def limit(variables: str) -> None:
    """In a worker: heed the limits of the task that comes, unless the last one had the same.

    Libraries that are loaded later read the variables; for those that a fork has brought along,
    threadpoolctl sets what the variables say, if it is installed.
    """
    global _applied
    if variables == _applied:
        return
    wanted = dict(line.split("=", 1) for line in variables.split("\n"))
    os.environ.update(wanted)
    _set_loaded(wanted)
    _applied = variables


def _set_loaded(wanted: Mapping[str, str]) -> None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return
    for library in ThreadpoolController().lib_controllers:
        name = "omp" if library.user_api == "openmp" else library.internal_api
        value = wanted.get(f"{name.upper()}_NUM_THREADS", "")
        if value.isdigit() and int(value) > 0:
            library.set_num_threads(int(value))
