"""Eight threads at once do all kinds of things to two pools and an executor; each value is checked.

    python tests/failure/thread_fuzz.py --seconds 600 --seed 1234

What it is for is a free-threaded build of Python, where no GIL orders them; it runs on any. Nothing
is killed here: that is what kill_fuzz.py does.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import random
import sys
import threading
import time
import traceback
from collections import Counter, deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.thread_calls import TURNS, Ground, ended_meanwhile

import fastpool

THREADS = 8
HANG = 120.0


def run_threads(seconds: float, seed: int, threads: int = THREADS) -> Counter[str]:
    """Let them run; returns how often each turn was taken, raises what one of them found."""
    turns: Counter[str] = Counter()
    faults: list[BaseException] = []
    deadline = time.monotonic() + seconds
    with fastpool.Pool(2) as one, fastpool.Pool(2) as two:
        executor = fastpool.ProcessPoolExecutor(2)
        ground = Ground((one, two), executor, deque())

        def run(k: int) -> None:
            rng = random.Random(f"{seed} {k}")
            try:
                while time.monotonic() < deadline and not faults:
                    turn = rng.choice(TURNS)
                    turn(ground, rng)
                    turns[turn.__name__] += 1
            except BaseException as error:
                faults.append(error)

        runners = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(threads)]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join(max(0.0, deadline - time.monotonic()) + HANG)
            if runner.is_alive():
                faulthandler.dump_traceback()
                raise AssertionError("a thread hangs")
        executor.shutdown()
        if faults:
            raise faults[0]
    return turns


def run_ends(rng: random.Random) -> None:
    """A pool ends in the middle of calls of several threads."""
    pool = fastpool.Pool(2)
    pause = rng.random() / 20

    def end() -> None:
        time.sleep(pause)
        (pool.close if rng.random() < 0.5 else pool.terminate)()

    ended_meanwhile(pool, end)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"], default="fork")
    options = parser.parse_args()
    multiprocessing.set_start_method(options.start_method)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, the GIL is {'on' if gil else 'off'}")
    print(f"seed {options.seed}", flush=True)
    deadline = time.monotonic() + options.seconds
    total: Counter[str] = Counter()
    rng = random.Random(options.seed)
    try:
        for k in range(10**9):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            total += run_threads(min(left, 20.0), options.seed + k)
            for _ in range(5):
                run_ends(rng)
                total["ends"] += 1
            print(f"{total.total()} turns", flush=True)
    except BaseException:
        traceback.print_exc()
        print(f"a fault; again: --seed {options.seed}")
        return 1
    print("  ".join(f"{name}: {count}" for name, count in sorted(total.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
