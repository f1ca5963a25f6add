"""A signal handler raises in the middle of a call, wherever that is; then the pool is whole.

    python tests/failure/interrupt_fuzz.py --seconds 600 --seed 1234

So does Ctrl-C, which programs survive: a notebook goes on with its pool. After each turn the next
map is right, and from time to time it is looked that nothing has stayed: memory, processes,
threads, descriptors.

Not all that CPython has is whole after an exception anywhere (a thread, for one, whose start() was
interrupted). So the handler raises in code of fastpool and of the program, and where one waits.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import linecache
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers import procs, tasks
from helpers.scripts import TESTS_DIRECTORY

import fastpool

HANG = 60.0
PLACES = (str(TESTS_DIRECTORY), str(Path(fastpool.__file__).parent))
WAITS = {"join", "_wait_for_tstate_lock"}

#: Whether a signal may come between the taking of a lock and the block that gives it back: a fault
#: of CPython's, its issue gh-148874, mended in 3.15.
LOSES_LOCKS = sys.version_info[:2] == (3, 14)


class Interrupt(BaseException):
    """What the handler raises."""


class Alarm:
    """Raises once, some time after it was set, in the main thread."""

    def __init__(self) -> None:
        self._is_set = False
        self._rings = False
        signal.signal(signal.SIGALRM, self._ring)

    def set(self, seconds: float) -> None:
        self._is_set = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(self) -> None:
        self._is_set = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _ring(self, _number: int, frame: FrameType | None) -> None:
        if not self._is_set or self._rings or frame is None:
            return
        self._rings = True
        try:
            if self._is_good(frame):
                self._is_set = False
                raise Interrupt
            signal.setitimer(signal.ITIMER_REAL, 0.0001)
        finally:
            self._rings = False

    @staticmethod
    def _is_good(frame: FrameType) -> bool:
        code = frame.f_code
        if LOSES_LOCKS:
            line = linecache.getline(code.co_filename, frame.f_lineno or 0)
            if line.lstrip().startswith("with "):
                return False
        return code.co_filename.startswith(PLACES) or code.co_name in WAITS


# ---- turns -------------------------------------------------------------------------------------

Turn = Callable[[Any, random.Random], object]
TURNS: list[Turn] = []


def turn(function: Turn) -> Turn:
    TURNS.append(function)
    return function


@turn
def a_map(pool: Any, rng: random.Random) -> None:
    n = rng.randrange(1, 400)
    chunk = rng.choice((None, 1, 3, 50))
    assert pool.map(tasks.square, range(n), chunk) == [i * i for i in range(n)]
    mixed = [{"i": i, "l": [i, None]} for i in range(n)]
    assert pool.map(tasks.identity, mixed, chunk) == mixed


@turn
def large_values(pool: Any, rng: random.Random) -> None:
    data = bytes([rng.randrange(256)]) * 3_000_000
    assert pool.apply(tasks.identity, (data,)) == data
    assert pool.map(len, [data] * 4, 1) == [len(data)] * 4


@turn
def single_calls(pool: Any, rng: random.Random) -> None:
    for i in range(rng.randrange(1, 200)):
        assert pool.apply(tasks.add, (i,), {"b": 5}) == i + 5
    results = [pool.apply_async(tasks.add, (i, 1)) for i in range(rng.randrange(1, 1500))]
    assert [result.get() for result in results] == [i + 1 for i in range(len(results))]


@turn
def errors(pool: Any, _rng: random.Random) -> None:
    try:
        pool.map(tasks.raise_if_negative, [3, 2, 1, -1, 5], 1)
    except ValueError:
        return
    raise AssertionError("no error")


@turn
def a_stream_that_is_dropped(pool: Any, rng: random.Random) -> None:
    n = rng.randrange(1, 200)
    items = iter(range(n)) if rng.random() < 0.5 else list(range(n))
    stream = pool.imap(tasks.square, items, rng.choice((1, 4)))
    taken = rng.randrange(n + 1)
    assert [next(stream) for _ in range(taken)] == [i * i for i in range(taken)]


@turn
def callbacks(pool: Any, _rng: random.Random) -> None:
    told: list[int] = []
    results = [pool.apply_async(tasks.square, (i,), callback=told.append) for i in range(50)]
    assert [result.get() for result in results] == [i * i for i in range(50)]
    assert sorted(told) == [i * i for i in range(50)]


@turn
def cancelled_calls(pool: Any, rng: random.Random) -> None:
    results = [pool.apply_async(tasks.nap, (0.001, i)) for i in range(30)]
    for result in results[5:]:
        result.cancel(kill=rng.random() < 0.3)
    for i, result in enumerate(results):
        try:
            assert result.get() == i
        except fastpool.TaskCancelledError:
            assert i >= 5


@turn
def a_time_limit(pool: Any, _rng: random.Random) -> None:
    try:
        pool.apply_async(tasks.nap, (5.0,), timeout=0.01).get()
    except fastpool.TaskTimeoutError:
        return
    raise AssertionError("no time limit")


@turn
def other_sizes(pool: Any, rng: random.Random) -> None:
    pool.resize(rng.randrange(1, 4))
    assert len(pool.workers()) >= 1


@turn
def a_pool_that_is_terminated(_pool: Any, _rng: random.Random) -> None:
    with fastpool.Pool(2) as pool:
        assert pool.map(tasks.square, range(30)) == [i * i for i in range(30)]


@turn
def a_pool_that_is_closed(_pool: Any, rng: random.Random) -> None:
    """What was cut off must not be waited for."""
    with fastpool.Pool(2) as pool:
        try:
            results = [pool.apply_async(tasks.add, (i,)) for i in range(rng.randrange(1, 50))]
            stream = pool.imap(tasks.square, iter(range(1000)), 7)
            taken = rng.randrange(1, 40)
            assert [next(stream) for _ in range(taken)] == [i * i for i in range(taken)]
            assert pool.map(tasks.square, range(100)) == [i * i for i in range(100)]
            assert [result.get() for result in results] == list(range(len(results)))
        finally:
            pool.close()
            pool.join()


@turn
def an_executor(_pool: Any, _rng: random.Random) -> None:
    with fastpool.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(tasks.square, i) for i in range(50)]
        assert [future.result() for future in futures] == [i * i for i in range(50)]


# ---- what has to be true -----------------------------------------------------------------------


def check_the_next_map(pool: Any) -> None:
    for _ in range(3):
        try:
            assert pool.map(tasks.square, range(100), 1) == [i * i for i in range(100)]
            return
        except fastpool.WorkerDiedError:  # one that was to be stopped was late, and is killed now
            pass
    raise AssertionError("workers die again and again")


def holdings(pool: Any) -> dict[str, object]:
    """What this process has of the system, and the pool of memory."""
    gc.collect()
    multiprocessing.active_children()  # reaps those whose start was cut off
    stats = pool.stats()
    return {
        "memory": (stats.bytes_in_use, stats.blocks_in_use),
        "workers": len(pool.workers()),
        "processes": len(procs.descendants(os.getpid())),
        "threads": threading.active_count(),
        "descriptors": len(procs.own_descriptors()),
    }


def check_that_nothing_stayed(pool: Any, before: dict[str, object]) -> None:
    pool.resize(2)
    deadline = time.monotonic() + 10.0
    while (now := holdings(pool)) != before:
        if time.monotonic() > deadline:
            raise AssertionError(f"{now}, and it was {before}")
        time.sleep(0.002)


def run_interrupts(seconds: float, seed: int, method: str) -> Counter[str]:
    """Take turns; returns how often each was cut off, raises what was found."""
    rng = random.Random(seed)
    cut_off: Counter[str] = Counter()
    alarm = Alarm()
    sys.unraisablehook = lambda args: None  # also in destructors, where nobody hears of it
    multiprocessing.set_start_method(method, force=True)
    deadline = time.monotonic() + seconds
    with fastpool.Pool(2) as pool:
        for other in TURNS:
            other(pool, rng)  # all that is loaded late
        check_the_next_map(pool)
        pool.resize(2)
        procs.wait_until(lambda: len(pool.workers()) == 2)
        before = holdings(pool)
        for k in range(10**9):
            if time.monotonic() > deadline:
                break
            this = rng.choice(TURNS)
            faulthandler.dump_traceback_later(HANG, exit=True)
            try:
                try:
                    alarm.set(rng.uniform(0.00002, rng.choice((0.0005, 0.003, 0.02))))
                    this(pool, rng)
                    alarm.stop()
                except Interrupt:
                    cut_off[this.__name__] += 1
                alarm.stop()
                check_the_next_map(pool)
                if k % 20 == 0:
                    check_that_nothing_stayed(pool, before)
            except BaseException as error:
                alarm.stop()
                raise AssertionError(f"after {this.__name__}, seed {seed}") from error
    faulthandler.cancel_dump_traceback_later()
    return cut_off


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--start-method", choices=["fork", "spawn"], default="fork")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    try:
        cut_off = run_interrupts(options.seconds, options.seed, options.start_method)
    except AssertionError:
        traceback.print_exc()
        return 1
    print("  ".join(f"{name}: {count}" for name, count in sorted(cut_off.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
