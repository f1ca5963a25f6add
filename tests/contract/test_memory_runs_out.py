"""Memory that is scarce: calls wait for room, or say that there is none; the pool stays usable."""

from __future__ import annotations

import subprocess
import textwrap
from typing import Any

import pytest
from helpers.build import NO_NAMES, PROC

# macOS, which has no /proc to tell how large an address space is, does not limit it either.
pytestmark = [PROC, pytest.mark.fastpool_only, pytest.mark.timeout_s(60)]

# A limit on the address space of all its processes, of so many bytes more than there are already
# before the pool is made, leaves a small segment.
SMALL = """
    import multiprocessing, os, resource, sys, threading
    import numpy as np
    from fastpool import Pool
    from helpers import array_tasks, procs, tasks

    MIB = 1 << 20

    # A file that is mapped: as large an array as one likes, and none of it in memory.
    if not os.path.exists("large"):
        with open("large", "wb") as file:
            file.truncate({large} * MIB)
    LARGE = np.memmap("large", mode="r")

    def large_if(wanted):
        return LARGE if wanted else None

    def address_space():
        return int(procs.status_field(os.getpid(), "VmSize").split()[0]) << 10

    def limit_address_space(more):
        limit = address_space() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def outcome(call):
        try:
            return call()
        except MemoryError:
            return "MemoryError"

    def works(pool):
        assert pool.map(tasks.square, range(200), 1) == [i * i for i in range(200)]
        assert pool.apply(array_tasks.total, (np.ones(100_000),)) == 100_000
        assert (pool.apply(array_tasks.filled, (200_000, 3.0)) == 3).all()
        return True

    if __name__ == "__main__":
        multiprocessing.set_start_method("{method}")
        limit_address_space({more} * MIB)
        with Pool(2) as pool:
            assert works(pool)
"""
LITTLE = 1024 + 64
"""MiB: a segment of half of the first, if what the first pool loads fits into the second."""

METHODS = pytest.mark.parametrize("method", ["fork", "spawn"])
FORK_OR_SLOW = pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)]
)


def run(run_script: Any, body: str, method: str = "fork", more: int = LITTLE) -> str:
    script = run_script(
        SMALL.format(method=method, more=more, large=LITTLE // 2) + body,
        environment={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    return script.finish(50)


@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("fork", 2),
        ("fork", 40),
        ("spawn", 16),
        pytest.param("fork", 16, marks=pytest.mark.slow),
        pytest.param("spawn", 2, marks=pytest.mark.slow),
        pytest.param("spawn", 40, marks=pytest.mark.slow),
    ],
)
def test_many_large_calls_wait_for_room(run_script: Any, method: str, size: int) -> None:
    """All of them together are much more than there is; each by itself fits."""
    output = run(
        run_script,
        f"""
            number = 3000 // {size}
            results = []
            for index in range(number):
                array = np.full({size} * MIB // 8, float(index))
                results.append(pool.apply_async(array_tasks.total, (array,)))
                del array
            sums = [result.get(40) for result in results]
            assert sums == [float(i) * ({size} * MIB // 8) for i in range(number)]
            print("all", works(pool))
        """,
        method,
    )
    assert output == "all True\n"


@FORK_OR_SLOW
@pytest.mark.parametrize("call", ["map", "imap"])
def test_maps_over_more_than_there_is_room_for_come_through(
    run_script: Any, method: str, call: str
) -> None:
    output = run(
        run_script,
        f"""
            one = np.ones(16 * MIB // 8)
            items = [one] * 160
            found = list(pool.{call}(array_tasks.total, items, 1))
            assert found == [one.size] * 160
            sums = 0
            for result in pool.imap(tasks.identity, (one for _ in range(80))):
                sums += result.sum()
                del result
            assert sums == 80 * one.size
            print("all", works(pool))
        """,
        method,
    )
    assert output == "all True\n"


def test_threads_that_wait_for_room_are_all_served(run_script: Any) -> None:
    output = run(
        run_script,
        """
            done = []

            def call(number):
                for index in range(40):
                    array = np.full(16 * MIB // 8, float(number))
                    total = pool.apply(array_tasks.total, (array,))
                    assert total == number * 16 * MIB // 8
                done.append(number)

            threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(40)
            print(sorted(done), works(pool))
        """,
        more=LITTLE + 512,
    )
    assert output == "[0, 1, 2, 3] True\n"


@METHODS
def test_a_call_that_can_never_fit_is_a_memory_error(run_script: Any, method: str) -> None:
    """Not one of some later moment, and not a wait for ever."""
    output = run(
        run_script,
        f"""
            for call in (
                lambda: pool.apply(array_tasks.size_of, (LARGE,)),
                lambda: pool.apply(array_tasks.size_of, (), {{"value": LARGE}}),
                lambda: pool.apply_async(array_tasks.size_of, (LARGE,)).get(20),
                lambda: pool.map(array_tasks.size_of, [LARGE]),
                lambda: pool.map(array_tasks.size_of, [LARGE, LARGE, LARGE], 1),
                lambda: next(pool.imap(array_tasks.size_of, [LARGE])),
                lambda: pool.empty({LITTLE} * MIB, "u1"),
            ):
                print(outcome(call), works(pool))
        """,
        method,
    )
    assert output == "MemoryError True\n" * 7


@FORK_OR_SLOW
def test_a_result_that_cannot_fit_is_the_error_of_its_call(run_script: Any, method: str) -> None:
    output = run(
        run_script,
        """
            def failed(call):
                try:
                    call()
                except Exception as error:
                    return "MemoryError" in type(error).__name__ + str(error)

            result = pool.apply_async(large_if, (True,))
            print(failed(lambda: result.get(20)), result.successful(), works(pool))
            print(failed(lambda: pool.map(large_if, [True] * 2, 1)), works(pool))
            iterator = pool.imap(large_if, [True, False])
            print(failed(lambda: next(iterator)), next(iterator), works(pool))
        """,
        method,
    )
    assert output == "True False True\nTrue True\nTrue None True\n"


@FORK_OR_SLOW
def test_the_parent_may_hold_results_until_there_is_no_room_and_then_drop_them(
    run_script: Any, method: str
) -> None:
    """What doesn't fit fails; what is held stays whole. As long as the parent itself has room, a
    result comes through, as it does in multiprocessing."""
    output = run(
        run_script,
        """
            held = []
            for index in range(400):
                value = outcome(lambda: pool.apply(array_tasks.filled, (16 * MIB // 8, index)))
                if isinstance(value, str):
                    break
                held.append(value)
                del value
            assert len(held) >= 10  # a sixth of what is free
            assert all((array == index).all() for index, array in enumerate(held))
            held.clear()
            print(works(pool))
            held += [pool.apply(array_tasks.filled, (16 * MIB // 8, i)) for i in range(5)]
            print(all((array == index).all() for index, array in enumerate(held)))
        """,
        method,
    )
    assert output == "True\nTrue\n"


# --- a small /dev/shm -----------------------------------------------------------------------------

SMOKE = """
    import os
    import numpy as np
    from multiprocessing import get_context
    from fastpool import Pool
    from helpers import array_tasks, tasks

    if __name__ == "__main__":
        status = os.statvfs("/dev/shm")
        assert status.f_blocks * status.f_frsize == 65536, "the small one is mounted"
        with Pool(2, context=get_context("{method}")) as pool:
            value = np.arange(1_000_000.0)
            assert (pool.apply(tasks.identity, (value,)) == value).all()
            results = pool.map(tasks.identity, [value + i for i in range(12)], 1)
            assert all((result == value + i).all() for i, result in enumerate(results))
            assert len(pool.apply(tasks.make_bytes, (20_000_000,))) == 20_000_000
            shared = pool.zeros((8, 100_000))
            pool.map(array_tasks.increment, shared, 1)
            assert (shared == 1).all()
            doubled = pool.map_blocks(np.negative, shared, out=shared)
            assert (shared == -1).all()
            sums = list(pool.imap(array_tasks.total, (value for _ in range(30))))
            assert sums == [value.sum()] * 30
        pool.join()
        assert os.listdir("/dev/shm") == []
        print("everything works")
"""


def may_unshare() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/dev/shm"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except FileNotFoundError:
        return False


@NO_NAMES
@pytest.mark.skipif(not may_unshare(), reason="a mount namespace isn't permitted")
@METHODS
def test_dev_shm_is_not_needed(run_script: Any, tmp_path: Any, method: str) -> None:
    inner = tmp_path / "program.py"
    inner.write_text(textwrap.dedent(SMOKE.format(method=method)).lstrip())
    script = run_script(
        f"""
        import os, sys
        mount = "mount -t tmpfs -o size=64k none /dev/shm && exec "
        command = mount + sys.executable + " {inner}"
        os.execvp("unshare", ["unshare", "-m", "sh", "-c", command])
        """
    )
    assert script.finish(40) == "everything works\n"
