"""One large object in many items, or in many results, costs its memory a few times, not often."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout_s(60)

PROGRAM = """
    import multiprocessing, os
    from itertools import repeat
    from {module} import Pool
    from helpers import procs, tasks

    COUNT = 200
    LIMIT = 150 << 20
    BIG = {big}

    def size_and_index(big, index):
        return len(big), big[:1] == BIG[:1], index

    def constant(_item):
        return BIG

    def peak():
        return procs.peak_bytes(os.getpid())

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")
        with Pool(2) as pool:
            pool.map(tasks.square, range(100))
            before = peak()
            {body}
            growth = peak() - before
            assert growth < LIMIT, f"the peak grew by {{growth >> 20}} MB"
        pool.join()
        print("right")
"""
BODIES = {
    "starmap": """
            results = pool.starmap(size_and_index, zip(repeat(BIG), range(COUNT)))
            assert results == [(len(BIG), True, i) for i in range(COUNT)]""",
    "starmap_async": """
            results = pool.starmap_async(size_and_index, zip(repeat(BIG), range(COUNT))).get(50)
            assert results == [(len(BIG), True, i) for i in range(COUNT)]""",
    "starmap in chunks": """
            results = pool.starmap(size_and_index, zip(repeat(BIG), range(COUNT)), 20)
            assert results == [(len(BIG), True, i) for i in range(COUNT)]""",
    "map": """
            assert pool.map(len, [BIG] * COUNT) == [len(BIG)] * COUNT""",
    "map in lists": """
            assert pool.map(len, [[BIG, BIG, i] for i in range(COUNT)]) == [3] * COUNT""",
    "map of one chunk": """
            assert pool.map(len, [BIG] * COUNT, COUNT) == [len(BIG)] * COUNT""",
    "imap in chunks": """
            assert list(pool.imap(len, [BIG] * COUNT, 20)) == [len(BIG)] * COUNT""",
    "results of map": """
            results = pool.map(constant, range(COUNT))
            assert len(results) == COUNT and all(result == BIG for result in results)""",
    "results of one chunk": """
            results = pool.map(constant, range(COUNT), COUNT)
            assert len(results) == COUNT and all(result == BIG for result in results)""",
    "results of imap in chunks": """
            results = list(pool.imap(constant, range(COUNT), 20))
            assert len(results) == COUNT and all(result == BIG for result in results)""",
}


@pytest.mark.parametrize("big", ['b"x" * 1_000_000', '"x" * 1_000_000'], ids=["bytes", "str"])
@pytest.mark.parametrize("what", BODIES)
def test_a_large_object_is_not_multiplied(impl: Any, run_script: Any, what: str, big: str) -> None:
    source = PROGRAM.format(module=impl.name, big=big, body=BODIES[what].strip())
    assert run_script(source).finish(50) == "right\n"
