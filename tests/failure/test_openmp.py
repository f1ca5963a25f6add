"""GNU's OpenMP keeps threads for whoever used it, and does not know of forks."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import pytest

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]

LIBRARY = ctypes.util.find_library("gomp")


def work_in_parallel(threads: int) -> int:
    """Run a parallel region in so many threads, as compiled code does; how many there were."""
    seen = ctypes.c_int(0)
    gomp = ctypes.CDLL(LIBRARY)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def count(_: object) -> None:
        seen.value += 1  # under the GIL

    gomp.GOMP_parallel(count, None, threads, 0)
    return seen.value


@pytest.mark.skipif(LIBRARY is None, reason="libgomp is not installed")
def test_a_task_may_use_it_after_the_parent_has(pool_factory: Any) -> None:
    assert work_in_parallel(2) == 2
    pool = pool_factory(1)
    assert pool.apply_async(work_in_parallel, (2,)).get(10) == 2
    assert work_in_parallel(2) == 2
    assert ctypes.CDLL(LIBRARY).omp_pause_resource_all(1) == 0  # or its thread would be left here
