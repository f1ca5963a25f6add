"""threads_per_worker: how many threads numeric libraries use in workers."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

import pytest
from helpers import worker_tasks

from fastpool._runtime import thread_limits
from fastpool._runtime.cpus import usable_cpu_count

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


def test_the_libraries_of_a_worker_use_so_many_threads(
    pool_factory: Any, start_method: str
) -> None:
    import numpy  # noqa: F401

    here = dict(os.environ)
    pool = pool_factory(1, threads_per_worker=1)
    found = pool.apply(worker_tasks.threads_in_use)
    assert found and set(found) == {1}
    assert pool.apply(worker_tasks.variable, ("NUMEXPR_NUM_THREADS",)) == "1"
    pickle.loads(pickle.dumps((pool.workers(), [process.name for process in pool._pool])))
    assert dict(os.environ) == here


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_number_is_there_before_the_main_module_is_imported(
    run_script: Any, method: str
) -> None:
    script = run_script(
        f"""
        import multiprocessing, os
        import fastpool

        AT_IMPORT = os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")

        def at_import():
            return AT_IMPORT

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            context.set_forkserver_preload([])
            with fastpool.Pool(1, context=context, threads_per_worker=2) as pool:
                print(pool.apply(at_import), AT_IMPORT)
        """,
        environment={"OPENBLAS_NUM_THREADS": "7"},
    )
    assert script.finish().strip() == "('2', '2') (None, '7')"


def test_without_it_nothing_is_set(pool_factory: Any, start_method: str) -> None:
    pool = pool_factory(1)
    names = thread_limits.VARIABLES
    assert pool.map(worker_tasks.variable, names) == [os.environ.get(name) for name in names]


def test_auto_shares_out_the_cpus(pool_factory: Any) -> None:
    pool = pool_factory(1, threads_per_worker="auto")
    assert pool.apply(worker_tasks.variable, ("OMP_NUM_THREADS",)) == str(usable_cpu_count())
    many = pool_factory(usable_cpu_count() + 1, threads_per_worker="auto")
    assert many.apply(worker_tasks.variable, ("OMP_NUM_THREADS",)) == "1"


def test_a_loaded_library_needs_threadpoolctl(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy  # noqa: F401

    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(ImportError, match=r"openblas.*pip install 'fastpool\[threads\]'"):
        pool_factory(1, threads_per_worker=1)


@pytest.mark.parametrize(
    ("threads", "kind"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("all", TypeError)],
)
def test_nonsense_is_refused(pool_factory: Any, threads: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="threads_per_worker must be"):
        pool_factory(1, threads_per_worker=threads)
