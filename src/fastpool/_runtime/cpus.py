"""How many workers, and pinned where: policy over what the core reads from the system."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Protocol, TypeAlias

COMPACT = 0  # enum fp_topo_order
SCATTER = 1

_NAMES = "None, 'auto', 'compact', 'scatter' or a sequence of CPU sets"

CpuSet: TypeAlias = int | Iterable[int]
Affinity: TypeAlias = str | Sequence[CpuSet] | None


class CpuSystem(Protocol):
    """What is asked of the system; the core's ``_system`` module provides it, tests fake it."""

    def usable_cpus(self) -> list[int]:
        """The CPUs in the calling thread's affinity mask, ascending."""
        ...

    def cpu_quota(self) -> float | None:
        """CPU time that the cgroups leave this process, in CPUs; None when there is no limit."""
        ...

    def cpu_order(self, kind: int, /) -> list[int]:
        """The usable CPUs in the order to hand them out: COMPACT or SCATTER."""
        ...

    def can_pin(self) -> bool:
        """Whether threads can be told on which CPUs to run."""
        ...


def usable_cpu_count(system: CpuSystem | None = None) -> int:
    """Return how many CPUs this process may really use.

    The affinity mask or the cgroup quota, rounded up, whichever is less, and never below 1. The
    standard library counts the machine's CPUs, which in a container are mostly someone else's.
    """
    system = system or _native()
    count = len(system.usable_cpus())
    quota = system.cpu_quota()
    if quota is not None:
        count = min(count, math.ceil(quota))
    return max(1, count)


def plan_affinity(
    affinity: Affinity, processes: int, system: CpuSystem | None = None
) -> list[frozenset[int] | None]:
    """Return the CPUs that each of ``processes`` workers is pinned to; None leaves it free.

    - ``None``: no pinning.
    - ``"compact"``: a CPU each, neighbours close together (one node after the other; in it one CPU
      of each core first, then the SMT siblings). For workers that share what they read.
    - ``"scatter"``: a CPU each, neighbours far apart (packages in turn, then nodes, caches, cores;
      siblings last). For workers that each want memory bandwidth and cache.
    - ``"auto"``: like compact where a CPU each is a promise the system can keep, that is with no
      more workers than usable CPUs and no cgroup quota; otherwise no pinning. A quota is time, not
      CPUs: its scheduler must be free to move workers, and so must one that has to share CPUs.
    - A sequence of CPU sets, one for each worker; an integer is a set of one. Of more sets than
      workers, the first are used.

    With fewer CPUs or sets than workers, they are handed out again from the start. Where the system
    can't pin, what was asked for is checked, and nobody is pinned.

    Raises
    ------
    ValueError
        An unknown name, an empty set, a CPU that this process may not use.
    TypeError
        Neither a name nor a sequence of integers or iterables of integers.
    """
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if affinity is None:
        return [None] * processes
    system = system or _native()
    if isinstance(affinity, str):
        sets = _named(affinity, processes, system)
        if sets is None:
            return [None] * processes
    else:
        sets = _explicit(affinity, system)
    if not system.can_pin():
        return [None] * processes
    return list(islice(cycle(sets), processes))


def _named(name: str, processes: int, system: CpuSystem) -> list[frozenset[int]] | None:
    """One set for each CPU in the order that ``name`` stands for; None: better not to pin."""
    if name not in ("auto", "compact", "scatter"):
        raise ValueError(f"unknown affinity {name!r}: use {_NAMES}")
    if name == "auto" and (system.cpu_quota() is not None or processes > len(system.usable_cpus())):
        return None
    return [frozenset([cpu]) for cpu in system.cpu_order(SCATTER if name == "scatter" else COMPACT)]


def _explicit(affinity: Sequence[CpuSet], system: CpuSystem) -> list[frozenset[int]]:
    """The caller's own sets, checked."""
    if not isinstance(affinity, Sequence) or isinstance(affinity, bytes | bytearray):
        raise TypeError(f"affinity must be {_NAMES}, not {type(affinity).__name__}")
    if not affinity:
        raise ValueError("affinity needs at least one CPU set")
    usable = system.usable_cpus()
    return [_cpu_set(item, f"affinity[{i}]", usable) for i, item in enumerate(affinity)]


def _cpu_set(item: CpuSet, where: str, usable: list[int]) -> frozenset[int]:
    if isinstance(item, Iterable) and not isinstance(item, str | bytes | bytearray):
        cpus = frozenset(_cpu(cpu, where) for cpu in item)
    else:
        cpus = frozenset([_cpu(item, where)])
    if not cpus:
        raise ValueError(f"{where} is an empty CPU set")
    for cpu in sorted(cpus):
        if cpu < 0:
            raise ValueError(f"{where}: CPU {cpu} is negative")
        if cpu not in usable:
            raise ValueError(f"{where}: this process may not use CPU {cpu}, only {_ranges(usable)}")
    return cpus


def _cpu(value: object, where: str) -> int:
    """An integer of any kind, but not a truth value: [True, False] is surely a mask."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{where}: a CPU is an integer, not {type(value).__name__}")


def _ranges(cpus: list[int]) -> str:
    """Write ascending numbers as the kernel does: 0-3,6."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def _native() -> CpuSystem:
    from fastpool._core import _system

    return _system
