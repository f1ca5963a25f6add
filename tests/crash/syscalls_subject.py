"""The program whose system calls fail: a pool is made, used and closed.

It waits for SIGUSR1, so that strace can begin; makes the folder `DONE` when the pool is gone, and
waits again, so that strace can end and what follows is undisturbed. Then it prints, in JSON, what
came of each step and what is left.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from typing import Any

from crash_subject import check, holdings

from fastpool import Pool

BYTES = 1_000_000

#: What the first pool loads. A module that can't be read is told of by Python.
LOADED = ("engine", "options", "thread_limits")


def use_a_pool(steps: dict[str, str]) -> None:
    """Make a pool, use it and close it; how far this came is in `steps`."""
    pool: Any = None
    try:
        with Pool(2, context=multiprocessing.get_context("fork")) as pool:
            steps["pool"] = "right"
            for name, call in (("map", in_a_map), ("apply", in_a_call)):
                try:
                    call(pool)
                    steps[name] = "right"
                except AssertionError:
                    raise
                except Exception as error:
                    steps[name] = describe(error)
            pool.close()
            steps["close"] = "right"
            pool.join()
            steps["join"] = "right"
    except Exception as error:
        steps["error"] = describe(error)


def in_a_map(pool: Any) -> None:
    check(pool.map(abs, range(-50, 50)) == [abs(x) for x in range(-50, 50)], "map")


def in_a_call(pool: Any) -> None:
    check(pool.apply(bytes.upper, (b"x" * BYTES,)) == b"X" * BYTES, "apply")


def describe(error: Exception) -> str:
    # `traceback` reads source files: only what is said.
    return f"{type(error).__name__}: {error}"


def wait_for_the_test() -> None:
    signal.sigwait({signal.SIGUSR1})


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    unraisable: list[str] = []
    sys.unraisablehook = lambda args: unraisable.append(repr(args.exc_value))
    steps: dict[str, str] = {}
    for name in LOADED:
        importlib.import_module(f"fastpool._runtime.{name}")
    gc.collect()
    before = holdings()
    os.mkdir("READY")
    wait_for_the_test()
    try:
        use_a_pool(steps)
    finally:
        os.mkdir("DONE")
    wait_for_the_test()
    left: dict[str, list[str]] = {}
    deadline = time.monotonic() + 1
    while True:
        gc.collect()
        after = holdings()
        left = {key: sorted(set(after[key]) - set(before[key])) for key in after}
        if not any(left.values()) or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    print(
        json.dumps(
            {"steps": steps, "left": {k: v for k, v in left.items() if v}, "unraisable": unraisable}
        )
    )


if __name__ == "__main__":
    main()
