"""A pool's life from its making to its end, as one function that programs under test call."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from multiprocessing import forkserver, resource_tracker
from typing import Any

from helpers import procs, tasks

LARGE = 3 << 20


def large(n: int) -> bytes:
    return bytes([n]) * LARGE


def prepare(method: str) -> None:
    """Start what multiprocessing keeps for the whole program; it is nothing that a pool leaves."""
    if method != "fork":
        resource_tracker.ensure_running()
    if method == "forkserver":
        forkserver.ensure_running()


def live(method: str) -> None:
    """Make a pool, use it in each way, kill a worker, end it; everything has to be right."""
    before = _holdings()
    _use_and_end(method)
    procs.wait_until(lambda: not _more(before), 5, lambda: f"nothing is left: {_more(before)}")


def _use_and_end(method: str) -> None:
    from fastpool import Pool, WorkerDiedError

    pool = Pool(2, context=multiprocessing.get_context(method))
    use(pool)
    victims = {worker.pid for worker in pool.workers()}
    try:
        pool.apply(tasks.die, (signal.SIGKILL,))
    except WorkerDiedError:
        pass
    else:
        raise AssertionError("a worker was killed, and the call does not say so")

    def is_whole() -> bool:
        pids = {worker.pid for worker in pool.workers()}
        return len(pids) == 2 and len(pids & victims) == 1

    procs.wait_until(is_whole, 10, "the worker is replaced")
    until_asleep(pool)
    use(pool)
    pool.terminate()
    pool.join()


def until_asleep(pool: Any) -> None:
    """Wait until all workers have nothing to do, and have done waiting for it awake."""
    procs.wait_until(lambda: {w.state for w in pool.workers()} == {"idle"}, 10, "all are idle")
    time.sleep(0.03)  # they spin for 5 ms at most; should they not sleep yet, less is tested


def use(pool: Any) -> None:
    """Calls of each kind, with values that lie in slots, and in blocks of shared memory."""
    numbers = range(200)
    squares = [n * n for n in numbers]
    assert pool.map(tasks.square, numbers) == squares
    assert pool.map(tasks.square, numbers, 1) == squares
    assert pool.apply(tasks.square, (3,)) == 9
    assert pool.apply_async(tasks.square, (4,)).get(10) == 16
    assert list(pool.imap(tasks.square, numbers)) == squares
    assert pool.map(len, [large(1), large(2)]) == [LARGE, LARGE]
    assert pool.map(large, [1, 2]) == [large(1), large(2)]


def _holdings() -> dict[str, int]:
    gc.collect()
    return {
        "descriptors": len(_descriptors()),
        "threads": threading.active_count(),
        "children": len([pid for pid in procs.descendants(os.getpid()) if procs.is_alive(pid)]),
        "files": sum(name.startswith(f"fastpool-{os.getpid()}-") for name in _files()),
    }


def _more(before: dict[str, int]) -> dict[str, int]:
    after = _holdings()
    return {key: after[key] - before[key] for key in after if after[key] > before[key]}


def _descriptors() -> list[int]:
    found = []
    for fd in range(256):  # not by /proc, which may be hidden
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def _files() -> Iterable[str]:
    import tempfile

    for folder in ("/dev/shm", tempfile.gettempdir()):
        if os.path.isdir(folder):
            yield from os.listdir(folder)
