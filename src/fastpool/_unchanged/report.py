"""What ``python -m fastpool --report`` says at the end: whether the pools were worth it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from multiprocessing import util

from fastpool._runtime import accounts
from fastpool._runtime.accounts import Account

#: After the finalizers of all pools, which end them: lower runs later.
_LAST = -1000


def report_at_exit() -> None:
    """Print a report on every pool that is made from now on, when this process ends.

    It goes to standard error, also when the program fails; not when a signal or ``os._exit()`` ends
    it. A child that multiprocessing starts reports nothing.
    """
    util.Finalize(None, _print, args=(accounts.keep(),), exitpriority=_LAST)


def _print(pools: Sequence[Account]) -> None:
    if sys.stderr is not None:
        sys.stderr.write(describe(pools))
        sys.stderr.flush()


def describe(pools: Sequence[Account]) -> str:
    """The report, as text; pools that the same line made are added up."""
    kinds: dict[tuple[str, str, int], Account] = {}
    for pool in pools:
        kind = kinds.setdefault((pool.place, pool.method, pool.processes), pool)
        if kind is not pool:
            kind.merge(pool)
    lines = [f"fastpool: {_count(len(pools), 'pool')}"]
    for kind in kinds.values():
        lines += ["", *_describe(kind)]
    return "\n".join(lines) + "\n"


def _describe(pool: Account) -> list[str]:
    many = "" if pool.pools == 1 else f"{_count(pool.pools, 'pool')} with "
    around = pool.task_seconds - pool.call_seconds
    waiting = max(0.0, pool.worker_seconds - pool.task_seconds)
    each = f", {_seconds(around / pool.items)} an item" if pool.items else ""
    return [
        f"{pool.place}  {many}{_count(pool.processes, 'worker')} ({pool.method}) "
        f"for {_seconds(pool.seconds)}",
        f"  {_count(pool.items, 'item')} in {_count(pool.tasks, 'task')}",
        _line("in functions", pool.call_seconds, pool),
        _line("arguments and results", around, pool) + each,
        _line("waiting for tasks", waiting, pool),
    ]


def _line(name: str, seconds: float, pool: Account) -> str:
    share = seconds / pool.worker_seconds if pool.worker_seconds else 0.0
    return f"  {name:<22}{_seconds(seconds):>9}{share:>6.0%} of the workers' time"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
