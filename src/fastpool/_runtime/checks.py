"""What a pool's arguments may be: checked alike where there is a core and where there is none."""

from __future__ import annotations

import operator

#: What the core counts with.
MOST_RETRIES = 2**31


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


def check_retries(on_worker_death: str, retries: int | None) -> int:
    """Check how often a task is tried again whose worker has died."""
    if on_worker_death not in ("raise", "retry"):
        raise ValueError(f"on_worker_death must be 'raise' or 'retry', not {on_worker_death!r}")
    if retries is None:
        return 1 if on_worker_death == "retry" else 0
    retries = check_integer("retries", retries, "None or a number of tries")
    if retries < 0:
        raise ValueError(f"retries must not be negative, as {retries} is")
    return min(retries, MOST_RETRIES)


def check_worker_memory(limit: int) -> int:
    """Check by how many bytes a worker may have grown."""
    limit = check_integer("max_memory_per_child", limit, "None or a number of bytes")
    if limit <= 0:
        raise ValueError(f"max_memory_per_child must be positive, not {limit}")
    return limit


def check_logging(logging: str | None) -> None:
    """Check what becomes of workers' log records."""
    if logging not in (None, "forward"):
        raise ValueError(f"logging must be None or 'forward', not {logging!r}")


def check_warnings(warnings: str | None) -> None:
    """Check which warnings workers show."""
    if warnings not in (None, "inherit"):
        raise ValueError(f"warnings must be None or 'inherit', not {warnings!r}")
