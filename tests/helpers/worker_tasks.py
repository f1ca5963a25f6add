"""Hooks and tasks that look at the worker that they run in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fastpool
from fastpool import WorkerContext, current_worker
from helpers.tasks import pass_gate


def note_initializer() -> None:
    current_worker().state.order = ["initializer"]


def begin(worker: WorkerContext) -> None:
    order = getattr(worker.state, "order", [])
    worker.state.order = [*order, "worker_init"]
    worker.state.tasks = 0


def fail_to_begin(worker: WorkerContext) -> None:
    raise LookupError(f"no database for worker {worker.id}")


def order_of_start() -> list[str]:
    return current_worker().state.order


def count_task(_item: object = None) -> int:
    """Count the worker's tasks; returns the worker's id."""
    worker = current_worker()
    worker.state.tasks = getattr(worker.state, "tasks", 0) + 1
    return worker.id


def meet(folder: str, parties: int) -> tuple[int, int]:
    """Wait until so many workers are in here; returns (id, pid)."""
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < parties:
        time.sleep(0.001)
    return current_worker().id, os.getpid()


def tasks_done(worker: WorkerContext) -> tuple[int, int]:
    return worker.id, worker.state.tasks


def leave_slowly(worker: WorkerContext) -> int:
    pass_gate(worker.state.gate, None)
    return worker.id


def know_gate(path: str) -> None:
    current_worker().state.gate = path


def survive_sigterm(path: str) -> None:
    know_gate(path)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def fail_to_end(worker: WorkerContext) -> int:
    if worker.id == 1:
        raise LookupError("nothing to close")
    return worker.id


def return_a_lock(_worker: WorkerContext) -> Any:
    return threading.Lock()


def return_a_megabyte(worker: WorkerContext) -> bytes:
    return bytes([worker.id]) * 2**20


def leave_a_trace(worker: WorkerContext) -> None:
    Path(worker.state.gate, f"exit-{worker.id}").touch()


def call_sys_exit() -> None:
    sys.exit(3)


def is_a_worker() -> bool:
    try:
        current_worker()
    except RuntimeError:
        return False
    return True


def is_a_child_of_a_task_a_worker() -> bool:
    """Whether a process that a task forks still looks like the worker."""
    pid = os.fork()
    if pid == 0:
        os._exit(int(is_a_worker()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def ids_of_an_inner_pool() -> list[int]:
    with fastpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
        return [pool.apply(count_task), current_worker().id]


# --- threads ------------------------------------------------------------------------------------


def threads_in_use() -> list[int]:
    """The number of threads of each numeric library that is loaded here."""
    import numpy  # noqa: F401
    import threadpoolctl

    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]


def variable(name: str) -> str | None:
    return os.environ.get(name)
