"""GNU's OpenMP keeps threads for whoever used it, and does not know of forks."""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
from pathlib import Path
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


# What a copy from before GCC 9 has of what is asked of it, and a variable that each thread has.
OLD_OPENMP = """
    static __thread int own;
    static int levels = 7;
    void use(void) { own = 1; }
    int omp_get_max_active_levels(void) { return levels; }
    void omp_set_max_active_levels(int most) { levels = most; }
"""


@pytest.fixture
def old_openmp(tmp_path: Path) -> str:
    path = tmp_path / "libgomp-old.so"
    command = ["gcc", "-x", "c", "-shared", "-fPIC", "-o", str(path), "-"]
    subprocess.run(command, input=OLD_OPENMP, text=True, check=True)
    return str(path)


def levels(library: str) -> int:
    """How many levels of parallel regions may have more than one thread."""
    return ctypes.CDLL(library).omp_get_max_active_levels()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no compiler")
@pytest.mark.parametrize("used", [False, True])
def test_where_threads_cannot_be_given_up_a_task_does_not_wait_for_them(
    pool_factory: Any, old_openmp: str, used: bool
) -> None:
    """It works in one thread then; in as many as it likes if the parent has not used them."""
    library = ctypes.CDLL(old_openmp)
    if used:
        library.use()
    pool = pool_factory(1)
    assert pool.apply(levels, (old_openmp,)) == (0 if used else 7)
    assert levels(old_openmp) == 7  # the parent goes on as before
