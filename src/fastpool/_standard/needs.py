"""fastpool's own arguments, where the standard library has to do without them.

Those that only change how fast something is, or what is shown meanwhile, are ignored; all others
change results, or promise something that the standard library can't keep: they are refused. What a
pool is given is checked before, so that a program is told here what it would be told where there is
a core; but for functions, seeds and serializers, which are only refused.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from fastpool import _fallback
from fastpool._runtime.checks import (
    check_blocktime,
    check_logging,
    check_memory,
    check_retries,
    check_thread_count,
    check_warnings,
    check_worker_memory,
)
from fastpool._runtime.cpus import plan_affinity


def needs_core(what: str) -> NotImplementedError:
    """Return the error of something that only fastpool's own pool can do."""
    return NotImplementedError(
        f"{what} needs fastpool's native core, and {_fallback.REASON}: "
        "multiprocessing has nothing like it"
    )


def refuse(**given: object) -> None:
    """Refuse the arguments that are not None.

    Raises
    ------
    NotImplementedError
        If there is one.
    """
    for name, value in given.items():
        if value is not None:
            raise needs_core(f"{name}={value!r:.100}")


def check_pool_arguments(
    function: str,
    /,
    *,
    affinity: Any = None,
    blocktime: Any = None,
    memory: Any = None,
    threads_per_worker: Any = None,
    on_worker_death: str = "raise",
    retries: int | None = None,
    serializer: object = "pickle",
    max_memory_per_child: int | None = None,
    worker_init: object = None,
    worker_exit: object = None,
    logging: str | None = None,
    warnings: str | None = None,
    context_vars: object = None,
    seed: object = None,
    **unknown: object,
) -> None:
    """Check what `function` was given beyond what the standard library's pool has.

    Raises
    ------
    NotImplementedError
        If an argument asks for more than what is so in any case.
    TypeError, ValueError
        If there is no such argument, or one is not what it may be for fastpool's own pool.
    """
    for name in unknown:
        raise TypeError(f"{function} got an unexpected keyword argument {name!r}")
    plan_affinity(affinity, 1, _Unpinned())
    if blocktime is not None:
        check_blocktime(blocktime)
    if memory is not None:
        check_memory(memory)
    if threads_per_worker not in (None, "auto"):
        check_thread_count(threads_per_worker)
    if max_memory_per_child is not None:
        check_worker_memory(max_memory_per_child)
    check_logging(logging)
    check_warnings(warnings)
    if check_retries(on_worker_death, retries):
        refuse(retries=retries, on_worker_death=on_worker_death)
    refuse(
        serializer=None if serializer in ("pickle", pickle) else serializer,
        max_memory_per_child=max_memory_per_child,
        worker_init=worker_init,
        worker_exit=worker_exit,
        logging=logging,
        warnings=warnings,
        context_vars=context_vars,
        seed=seed,
    )


class _Unpinned:
    """The CPUs where nobody is pinned to one: :class:`fastpool._runtime.cpus.CpuSystem`."""

    def usable_cpus(self) -> list[int]:
        try:
            return sorted(os.sched_getaffinity(0))
        except (AttributeError, OSError):  # Windows has none, a sandbox may refuse it
            return list(range(os.cpu_count() or 1))

    def cpu_quota(self) -> float | None:
        return None

    def cpu_order(self, kind: int, /) -> list[int]:
        return self.usable_cpus()

    def can_pin(self) -> bool:
        return False
