"""The program that is killed: it uses pools in every way, and checks what comes of it.

    python crash_subject.py SCENARIO     (with FASTPOOL_CRASH in the environment)

It ends with status 0 if every result was right, or was the error of a worker's death; if there were
no more of these than deaths (`DEATHS`: how many items these may cost; -1: all); if the next map
worked; and if the parent holds nothing when its pools are closed.
"""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastpool import Pool, TaskCancelledError, TaskTimeoutError, WorkerDiedError

#: How often each item of `counted` has run, in all processes.
runs = mmap.mmap(-1, 4096)

# ---- tasks -------------------------------------------------------------------------------------


def square(x: int) -> int:
    return x * x


def counted(x: int) -> int:
    runs[x] += 1
    return x + 1


def half(x: int) -> float:
    return x / 2


def nothing(_x: int) -> None:
    return None


def is_odd(x: int) -> bool:
    return x % 2 == 1


def text(x: int) -> str:
    return "x" * (x * x)


def mixed(x: int) -> Any:
    """Ints, then what no column of ints takes: it is turned into values in the middle."""
    return x if x % 12 < 4 else (x, str(x), [x, None])


def scalar(x: int) -> Any:
    import numpy

    return numpy.float32(x)


class Kept:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


held: list[Kept] = []


def keeps(x: int) -> Kept:
    """A result that this process holds on to: it is sent when the chunk is done."""
    held.append(Kept(x))
    return held[-1]


def keeps_later(x: int) -> Any:
    """The first results of a chunk are plain."""
    return x if x % 12 < 5 else keeps(x)


def keeps_much(x: int) -> list[Any]:
    """Saved on the way, in a block that has to grow."""
    held.append(Kept(x))
    time.sleep(0.002)
    return [held[-1], "y" * 200]


def fails_at_odd(x: int) -> int:
    if x % 2:
        raise LookupError(x)
    return x


def unpicklable_at_three(x: int) -> Any:
    return threading.Lock() if x == 3 else keeps(x)


def array_with_a_lock(x: int) -> Any:
    import numpy

    return numpy.full(20_000, x), threading.Lock()


def dies_at_three(x: int) -> Any:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def keeps_and_dies_at_three(x: int) -> Any:
    return keeps(dies_at_three(x))


def array(x: int) -> Any:
    import numpy

    return numpy.full(20_000, x)


def total(values: Any) -> int:
    return int(values.sum())


kept_argument: list[Any] = []


def keeps_argument(values: Any) -> int:
    kept_argument[:] = [values]
    return int(values[0])


def add(a: int, b: int = 0) -> int:
    return a + b


def echo(value: Any) -> Any:
    return value


def sleeps_at_three(x: int) -> int:
    if x == 3:
        time.sleep(20)
    return x


def sleeps_long(at: int) -> None:
    runs[at] = 1
    time.sleep(20)


def refuses_to_stop(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(seconds)
        except BaseException:
            pass


def begin(value: int) -> None:
    os.environ["BEGUN"] = str(value)


def cannot_begin() -> None:
    raise ZeroDivisionError("the initializer")


# ---- what is expected --------------------------------------------------------------------------

lost = 0  # items that a death has cost


def check(condition: bool, what: object) -> None:
    if not condition:
        raise AssertionError(what)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b) and a.args == b.args
    if type(a).__module__ == "numpy" and hasattr(a, "shape") and a.shape:
        return bool((a == b).all())
    return type(a) is type(b) and bool(a == b)


def count_lost(error: WorkerDiedError) -> None:
    global lost
    lost += 1
    check(error.pid > 0 and error.exitcode == -9, repr(error))


def expect(got: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    """Each value, or the error of a death in its place."""
    check(len(got) == len(wanted), f"{what}: {len(got)} results")
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if isinstance(a, WorkerDiedError):
            count_lost(a)
        else:
            check(same(a, b), f"{what}: item {i} is {a!r}, not {b!r}")


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises."""
    try:
        return call()
    except Exception as error:
        return error


def one(call: Callable[[], Any], wanted: Any, what: str) -> None:
    expect([outcome(call)], [wanted], what)


def all_of(pool: Any, function: Callable[[int], Any], n: int, chunk: int) -> None:
    """A map whose errors come in their places."""
    wanted = [outcome(lambda i=i: function(i)) for i in range(n)]
    got = pool.map(function, range(n), chunk, return_exceptions=True)
    expect(got, wanted, function.__name__)


def next_map(pool: Any) -> None:
    """After all that: the pool works, but for a death that comes only now."""
    all_of(pool, square, 30, 3)
    check(
        pool.map(square, range(100), return_exceptions=True)[-1] is not None, "the map after that"
    )


# ---- scenarios ---------------------------------------------------------------------------------


def values() -> None:
    """Chunks of every kind of result."""
    with Pool(2) as pool:
        got = pool.map(counted, range(60), 12, return_exceptions=True)
        expect(got, range(1, 61), "counted")
        for i in range(60):
            check(runs[i] <= 1, f"item {i}, which had finished or failed, ran {runs[i]} times")
        for function in (half, nothing, is_odd, text, mixed, keeps, keeps_later, fails_at_odd):
            all_of(pool, function, 24, 12)
        for function in (scalar, array):
            all_of(pool, function, 16, 8)
        all_of(pool, keeps_much, 24, 12)
        got = pool.map(unpicklable_at_three, range(8), 4, return_exceptions=True)
        kind = type(got[3]).__name__
        check(kind in ("MaybeEncodingError", "WorkerDiedError"), f"item 3: {got[3]!r}")
        expect(got[:3] + got[4:], [Kept(i) for i in range(8) if i != 3], "unpicklable_at_three")
        if isinstance(got[3], WorkerDiedError):
            count_lost(got[3])
        error = outcome(lambda: pool.map(fails_at_odd, range(10), 5))
        one(lambda: _raise(error), LookupError(1), "map with an error")
        next_map(pool)
        pool.close()
        pool.join()


def _raise(error: Exception) -> None:
    # Whichever of its items was the first: they run side by side.
    if isinstance(error, LookupError) and error.args[0] % 2:
        raise LookupError(1)
    raise error


def calls() -> None:
    """Single calls, streams, more calls than the rings hold, large data both ways."""
    import numpy

    with Pool(2, begin, (7,)) as pool:
        one(lambda: pool.apply(add, (1,), {"b": 2}), 3, "apply")
        one(lambda: pool.apply(os.getenv, ("BEGUN",)), "7", "apply after the initializer")
        one(lambda: pool.apply(Kept(3).__eq__, (Kept(3),)), True, "apply of a method")
        done: list[Any] = []
        result = pool.apply_async(square, (5,), {}, done.append, done.append)
        one(result.get, 25, "apply_async")
        check(len(done) == 1, f"callbacks: {done!r}")
        one(lambda: pool.apply(fails_at_odd, (1,)), LookupError(1), "apply with an error")
        results = [pool.apply_async(add, (i,)) for i in range(1300)]
        time.sleep(0.01)
        expect([outcome(r.get) for r in results], range(1300), "more calls than the rings hold")
        stream = pool.imap(square, iter(range(40)), 4)
        expect([outcome(lambda: next(stream)) for _ in range(40)], squares(40), "imap")
        one(lambda: next(stream), StopIteration(), "the end of imap")
        stream = pool.imap_unordered(square, range(40), 4)
        got = [outcome(lambda: next(stream)) for _ in range(40)]
        found = [x for x in got if not isinstance(x, WorkerDiedError)]
        expect([x for x in got if isinstance(x, WorkerDiedError)], [0] * (40 - len(found)), "lost")
        check(set(found) <= set(squares(40)) and len(set(found)) == len(found), "imap_unordered")
        large = numpy.arange(200_000)
        one(lambda: pool.apply(total, (large,)), int(large.sum()), "1.6 MB to a worker")
        arrays = [large[:100_000], large[100_000:]] * 2
        expect(pool.map(total, arrays, 2, return_exceptions=True), [total(a) for a in arrays], "MB")
        one(lambda: pool.apply(echo, (large,)), large, "1.6 MB there and back")
        back = outcome(lambda: pool.apply(echo, (b"x" * 300_000,)))
        one(lambda: back if isinstance(back, bytes) else _raise(back), b"x" * 300_000, "bytes")
        for i in range(4):
            one(lambda i=i: pool.apply(keeps_argument, (large[i:],)), i, "an argument that is kept")
        shared = pool.empty(100_000, dtype=int)
        shared[:] = 1
        one(lambda: pool.apply(total, (shared,)), 100_000, "a shared array")
        again = outcome(lambda: pool.apply(echo, (large,)))
        if not isinstance(again, WorkerDiedError):
            one(lambda: pool.apply(total, (again,)), int(large.sum()), "a result as an argument")
        else:
            count_lost(again)
        next_map(pool)
        pool.close()
        pool.join()


def squares(n: int) -> list[int]:
    return [i * i for i in range(n)]


def limits() -> None:
    """Time limits, cancelled calls, workers with limits, retries, an initializer that raises."""
    with Pool(2, maxtasksperchild=4) as pool:
        late = outcome(lambda: pool.apply_async(time.sleep, (20,), timeout=0.03).get())
        expect_one_of(late, TaskTimeoutError)
        got = pool.map(sleeps_at_three, range(6), 6, timeout=0.05, return_exceptions=True)
        expect_one_of(got[3], TaskTimeoutError)
        expect(got[:3] + got[4:], [0, 1, 2, 4, 5], "map with a time limit")
        running = [pool.apply_async(sleeps_long, (200 + i,)) for i in range(2)]
        while not all(runs[200 + i] or result.ready() for i, result in enumerate(running)):
            time.sleep(0.001)
        waiting = [pool.apply_async(square, (i,)) for i in range(6)]
        for i, result in enumerate(waiting[3:], 3):
            if result.cancel():
                expect_one_of(outcome(result.get), TaskCancelledError)
            else:  # the death of a worker has ended the call before it
                one(result.get, i * i, "a call that ran before it was cancelled")
                check(any(r.ready() for r in running), "a call ran beside two that hold both")
        for result in running:
            # A death may have come first.
            result.cancel(kill=True)
            expect_one_of(outcome(result.get), TaskCancelledError)
        expect([outcome(r.get) for r in waiting[:3]], squares(3), "calls behind cancelled ones")
        stream = pool.imap(time.sleep, [20] * 4)
        stream.cancel(kill=True)
        expect_one_of(outcome(lambda: next(stream)), TaskCancelledError)
        next_map(pool)
        pool.close()
        pool.join()
    with Pool(2, on_worker_death="retry", retries=3) as pool:
        before = lost
        check(pool.map(counted, range(100, 140), 10) == list(range(101, 141)), "retried")
        check(pool.map(keeps, range(24), 12) == [Kept(i) for i in range(24)], "retried")
        check(pool.map(array, range(4), 2)[3][0] == 3, "retried")
        check(pool.apply(add, (1, 2)) == 3 and lost == before, "retried")
        more = sum(runs[i] - 1 for i in range(100, 140))
        check(more <= DEATHS, f"{more} items ran again")
        pool.apply_async(time.sleep, (20,))  # terminate() ends it
    broken = Pool(1, cannot_begin)
    with broken:
        one(lambda: broken.map(square, range(3)), ZeroDivisionError("the initializer"), "broken")


def kills() -> None:
    """A task that doesn't stop when it is asked to is killed."""
    with Pool(2) as pool:
        result = pool.apply_async(refuses_to_stop, (20,), timeout=0.02)
        others = [pool.apply_async(square, (i,)) for i in range(20)]
        expect_one_of(outcome(result.get), TaskTimeoutError)
        expect([outcome(r.get) for r in others], squares(20), "calls beside it")
        next_map(pool)
        pool.close()
        pool.join()


def spawned() -> None:
    """Workers that are started afresh."""
    with Pool(2, begin, (7,), context=multiprocessing.get_context("spawn")) as pool:
        all_of(pool, square, 40, 4)
        all_of(pool, keeps, 24, 12)
        one(lambda: pool.apply(os.getenv, ("BEGUN",)), "7", "apply after the initializer")
        next_map(pool)
        pool.close()
        pool.join()


def deaths() -> None:
    """Workers and the zygote die of something else, too; pinned workers, now more, now fewer."""
    with Pool(2, affinity="compact") as pool:
        for function in (dies_at_three, keeps_and_dies_at_three):
            got = pool.map(function, range(12), 6, return_exceptions=True)
            wanted = [i if function is dies_at_three else Kept(i) for i in range(12)]
            check(isinstance(got[3], WorkerDiedError), f"item 3: {got[3]!r}")
            expect(got[:3] + got[4:], wanted[:3] + wanted[4:], function.__name__)
        zygote = outcome(lambda: pool.apply(os.getppid))
        if isinstance(zygote, WorkerDiedError):
            count_lost(zygote)
        else:
            try:
                os.kill(zygote, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the one that died before
        expect_but_for_two(pool.map(square, range(40), 10, return_exceptions=True), squares(40))
        pool.resize(1)
        pool.resize(3)
        next_map(pool)
        pool.close()
        pool.join()
    with Pool(2, on_worker_death="retry", retries=1) as pool:
        got = pool.map(keeps_and_dies_at_three, range(12), 6, return_exceptions=True)
        check(isinstance(got[3], WorkerDiedError), f"item 3: {got[3]!r}")
        wanted = [Kept(i) for i in range(12)]
        check(got[:3] + got[4:] == wanted[:3] + wanted[4:], "retried")


def expect_but_for_two(got: Sequence[Any], wanted: Sequence[Any]) -> None:
    """After the zygote's death: what its two workers had begun is lost."""
    left = 2
    for a, b in zip(got, wanted, strict=True):
        if left and isinstance(a, WorkerDiedError):
            left -= 1
        else:
            expect([a], [b], "after the zygote's death")


def memory() -> None:
    """Blocks come and go, and the program forks while it holds some."""
    import numpy

    with Pool(2, memory=1 << 20) as pool:
        results = []
        for size in (10_000, 60_000, 20_000, 300_000, 9_000, 40_000):
            data = numpy.arange(size)
            results += pool.map(echo, [data] * 4, 1, return_exceptions=True)
            expect(results[-4:], [data] * 4, f"{size} numbers")
        errors = pool.map(array_with_a_lock, range(2), 1, return_exceptions=True)
        for error in errors:
            if isinstance(error, WorkerDiedError):
                count_lost(error)
            else:
                check(type(error).__name__ == "MaybeEncodingError", repr(error))
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        del results[4:]
        results += pool.map(echo, [data] * 4, 1, return_exceptions=True)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        results.clear()
        waiting = pool.map_async(square, range(1000), 10)
        if waiting.cancel():  # or a death took so long that all was done
            one(waiting.get, TaskCancelledError("the call of square was cancelled"), "cancelled")
        for i in range(6):
            data = numpy.full(50_000, i)
            one(lambda data=data: pool.apply(echo, (data,)), data, "after the forks")
        next_map(pool)
        pool.close()
        pool.join()


def expect_one_of(got: Any, kind: type[Exception]) -> None:
    if isinstance(got, WorkerDiedError):
        count_lost(got)
    else:
        check(isinstance(got, kind), f"{got!r} is no {kind.__name__}")


# ---- what may be left --------------------------------------------------------------------------


def holdings() -> dict[str, list[str]]:
    """What this process holds of the system."""
    descriptors = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # that of the listing
        if "/libffi.so" not in target:  # ctypes has it open for good, once a program uses it
            descriptors.append(f"{fd} -> {target}")
    children = ""
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                children += file.read()
        except OSError:
            pass  # it has just ended
    with open("/proc/self/maps") as file:
        maps = [line for line in file if "memfd" in line]
    return {
        "descriptors": descriptors,
        "threads": [thread.name for thread in threading.enumerate()],
        "children": children.split(),
        "segments": maps,
    }


SCENARIOS = {f.__name__: f for f in (values, calls, limits, kills, deaths, memory, spawned)}
DEATHS = int(os.environ.get("DEATHS", "0"))

#: No worker lives long: any error will do, but it has to come, and nothing may be left.
EVERYBODY = DEATHS < 0


def main() -> None:
    scenario = SCENARIOS[sys.argv[1]]
    multiprocessing.set_start_method("fork")
    if scenario is spawned:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    before = holdings()
    try:
        scenario()
    except Exception:
        if not EVERYBODY:
            raise
    held.clear()
    check(EVERYBODY or lost <= DEATHS, f"{lost} items are lost by {DEATHS} deaths")
    after = holdings()
    deadline = time.monotonic() + 1
    while any(set(after[key]) - set(before[key]) for key in after):
        check(time.monotonic() < deadline, f"left: {after}, before: {before}")
        gc.collect()  # exceptions keep frames, and these the pool
        after = holdings()
        time.sleep(0.01)
    print("lost", lost)


if __name__ == "__main__":
    main()
