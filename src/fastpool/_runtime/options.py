"""The constructor's arguments, checked once, then frozen."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from fastpool._core._system import memory_total
from fastpool._runtime.checks import (
    check_blocktime,
    check_logging,
    check_memory,
    check_retries,
    check_warnings,
    check_worker_memory,
)
from fastpool._runtime.context_vars import CarriedVars
from fastpool._runtime.cpus import Affinity, plan_affinity, usable_cpu_count
from fastpool._runtime.lifecycle import Setup, check_hook
from fastpool._runtime.seeds import Seed, check_seed
from fastpool._runtime.serializers import PLAIN, Serializer, Shipped, choose_serializer
from fastpool._runtime.thread_limits import Threads, check_threads
from fastpool._runtime.warning_filters import Filters, current_filters
from fastpool._runtime.worker_context import Hook

if TYPE_CHECKING:
    from fastpool._runtime.log_forwarding import LogLevels

#: Bounds of the adaptive block time, in seconds: how long a waiting process spins (and lets others
#: run meanwhile) before it sleeps. Waking a sleeper costs some 30 us each way.
MIN_BLOCKTIME = 100e-6
MAX_BLOCKTIME = 5e-3

#: The longest block time of a thread of the parent when the workers need every CPU: it must leave
#: its CPU to one of them soon, since the kernel moves no worker to a CPU on which somebody spins.
CROWDED_BLOCKTIME = 100e-6

#: The core counts worker slots in 16 bits, and dead workers have some too.
MOST_PROCESSES = 30_000

#: The part of the memory (the machine's, or what a cgroup allows) of which free blocks are kept
#: warm for reuse, by all processes of a pool together.
WARM_PART = 1 / 16


class WorkerPlan(NamedTuple):
    """What every worker of a pool is told; pickled under spawn and forkserver."""

    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    maxtasks: int
    max_memory: int  # bytes by which a worker may have grown after a task; 0: any number
    keep_bytes: int  # of free blocks, for each process
    min_block_ns: int
    max_block_ns: int
    setup: Setup
    serializer: Serializer
    seed: Seed | None
    clocked: bool = False  # take the time of tasks and calls: somebody will ask

    def packed_by(self, serializer: Serializer) -> WorkerPlan:
        """Return the plan on its way to a worker through the pickling of process objects.

        That is pickle's; the program's functions in the plan travel by the pool's serializer.
        """
        if serializer is PLAIN:
            return self
        plan = self
        if plan.initializer is not None:
            shipped = Shipped(serializer, plan.initializer, plan.initargs)
            plan = plan._replace(initializer=shipped, initargs=())
        if plan.setup.init is not None:
            hook = Shipped(serializer, plan.setup.init)
            plan = plan._replace(setup=plan.setup._replace(init=hook))
        if plan.setup.exit is not None:
            hook = Shipped(serializer, plan.setup.exit)
            plan = plan._replace(setup=plan.setup._replace(exit=hook))
        return plan


class Options(NamedTuple):
    """A pool's checked arguments."""

    processes: int
    plan: WorkerPlan
    retries: int
    daemon: bool
    max_block_ns: int  # of the parent's own threads
    keep_bytes: int  # of free blocks, for the parent
    cpus: tuple[frozenset[int] | None, ...]


def check_options(
    processes: int | None,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    maxtasksperchild: int | None,
    affinity: Affinity,
    blocktime: float | None,
    memory: int | None,
    on_worker_death: str,
    retries: int | None,
    max_memory_per_child: int | None,
    daemon: bool,
    *,
    worker_init: Hook | None = None,
    worker_exit: Hook | None = None,
    threads_per_worker: Threads = None,
    logging: str | None = None,
    warnings: str | None = None,
    context_vars: Iterable[ContextVar[Any]] | None = None,
    serializer: object = "pickle",
    seed: object = None,
) -> Options:
    """Check what ``Pool()`` was given; the messages are the standard library's where it has one."""
    usable = usable_cpu_count()
    processes = check_processes(usable if processes is None else processes)
    if maxtasksperchild is not None and (
        not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
    ):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    retries = check_retries(on_worker_death, retries)
    if max_memory_per_child is not None:
        max_memory_per_child = check_worker_memory(max_memory_per_child)
    shortest, longest = _block_bounds(blocktime, min(1.0, usable / processes))
    warm = _warm_bytes(memory)
    crowded = blocktime is None and processes >= usable
    return Options(
        processes=processes,
        plan=WorkerPlan(
            initializer=initializer,
            initargs=tuple(initargs),
            maxtasks=maxtasksperchild or 0,
            max_memory=min(max_memory_per_child or 0, 1 << 62),
            # Half of all for the workers; of that, half for what comes back while one is idle.
            keep_bytes=warm // (4 * processes),
            min_block_ns=shortest,
            max_block_ns=longest,
            setup=Setup(
                init=check_hook("worker_init", worker_init),
                exit=check_hook("worker_exit", worker_exit),
                threads=check_threads(threads_per_worker, processes),
                logs=_log_levels(logging),
                warnings=_warning_filters(warnings),
                context_vars=None if context_vars is None else CarriedVars(context_vars),
            ),
            serializer=choose_serializer(serializer),
            seed=check_seed(seed),
        ),
        retries=retries,
        daemon=bool(daemon),
        max_block_ns=min(longest, int(CROWDED_BLOCKTIME * 1e9)) if crowded else longest,
        keep_bytes=warm // 2,
        cpus=tuple(plan_affinity(affinity, processes)),
    )


def _log_levels(logging: str | None) -> LogLevels | None:
    check_logging(logging)
    if logging is None:
        return None
    from fastpool._runtime.log_forwarding import LogLevels

    return LogLevels.of_this_process()


def _warning_filters(warnings: str | None) -> Filters | None:
    check_warnings(warnings)
    return None if warnings is None else current_filters()


def check_context(name: str, context: Any) -> None:
    """Check what decides how workers start."""
    if not hasattr(context, "get_start_method"):
        raise TypeError(
            f"{name} must be a multiprocessing context, such as "
            f"multiprocessing.get_context('spawn'), not {context!r}"
        )


def check_processes(processes: int) -> int:
    """Check a number of workers."""
    processes = operator.index(processes)
    if processes > MOST_PROCESSES:
        raise ValueError(f"Number of processes must be at most {MOST_PROCESSES}")
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    return processes


def _warm_bytes(memory: int | None) -> int:
    if memory is None:
        return int(memory_total() * WARM_PART)
    return min(check_memory(memory), 1 << 62)


def _block_bounds(blocktime: float | None, share: float) -> tuple[int, int]:
    """Shortest and longest block time in ns; equal when the user fixed it.

    `share` is how much of a CPU each worker has: with more workers than CPUs, those that spin are
    in the way of those that work.
    """
    if blocktime is not None:
        fixed = int(check_blocktime(blocktime) * 1e9)
        return fixed, fixed
    return int(MIN_BLOCKTIME * share * 1e9), int(MAX_BLOCKTIME * share * 1e9)
