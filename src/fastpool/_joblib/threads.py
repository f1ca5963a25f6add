"""How many threads BLAS and OpenMP have in workers; and their threads in a program that forks."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

_PAUSE_HARD = 2  # omp_pause_hard: give the threads up

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


def pause_openmp() -> None:
    """Before a fork: have GNU's OpenMP give up the threads that serve this one.

    It doesn't know of forks: in a child it would wait for these threads, which aren't there, and
    for ever. The next parallel region starts them again.
    """
    for path in _loaded("libgomp"):
        try:
            pause = ctypes.CDLL(path).omp_pause_resource_all
        except (AttributeError, OSError):  # older than OpenMP 5.0, or its file is gone
            continue
        pause(_PAUSE_HARD)


def _loaded(name: str) -> set[str]:
    """The files of the shared libraries of this name that the process has loaded."""
    try:
        with open("/proc/self/maps") as maps:
            found = {line.split(None, 5)[5].rstrip("\n") for line in maps if name in line}
    except OSError:
        return set()
    return {path for path in found if name in os.path.basename(path)}
