"""Which hints a pool takes: checked alike where there is a core and where there is none."""

from __future__ import annotations

import operator


def check_integer(name: str, value: int, kinds: str) -> int:
    """An integer, also one of NumPy's, but no bool; `kinds` is what the argument may be."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {kinds}, not {value!r}")
    return operator.index(value)


def check_memory(memory: int) -> int:
    """Check a number of bytes."""
    memory = check_integer("memory", memory, "None or a number of bytes")
    if memory < 0:
        raise ValueError(f"memory must not be negative, as {memory} is")
    return memory


def check_blocktime(blocktime: float) -> float:
    """Check a number of seconds."""
    if not isinstance(blocktime, int | float) or not 0 <= blocktime <= 3600:
        raise ValueError(
            f"blocktime must be None or a number of seconds from 0 to 3600, not {blocktime!r}"
        )
    return blocktime


def check_thread_count(threads: int) -> int:
    """Check a number of threads of each worker."""
    kinds = "None, 'auto' or a number of threads"
    threads = check_integer("threads_per_worker", threads, kinds)
    if threads < 1:
        raise ValueError(f"threads_per_worker must be at least 1, not {threads}")
    return threads
