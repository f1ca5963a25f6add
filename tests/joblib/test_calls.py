"""joblib.Parallel on fastpool: calls, their results, and how many workers run them."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import pytest
from helpers import procs, tasks
from helpers.tasks import Gate
from joblib import Parallel, delayed, parallel_backend, parallel_config

import fastpool
from fastpool import joblib_backend

Fastpool = partial(Parallel, backend="fastpool")
CPUS = joblib.cpu_count()


def workers(n_jobs: int, **options: Any) -> set[int]:
    """The pids that many tasks ran in."""
    naps = (delayed(nap_and_tell_pid)(0.002) for _ in range(8 * abs(n_jobs) + 8))
    return set(Fastpool(n_jobs, batch_size=1, **options)(naps))


def nap_and_tell_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert Fastpool(2)(delayed(tasks.square)(i) for i in range(500)) == [i * i for i in range(500)]


def test_the_name_works_wherever_joblib_takes_one() -> None:
    calls = [delayed(os.getpid)()] * 4
    with parallel_config(backend="fastpool", n_jobs=2):
        by_config = set(Parallel()(calls))
    with parallel_backend("fastpool", n_jobs=2):
        by_backend = set(Parallel()(calls))
    by_argument = set(Parallel(2, backend="fastpool")(calls))
    with parallel_config(backend=joblib_backend.FastpoolBackend(), n_jobs=2):
        by_instance = set(Parallel()(calls))
    assert os.getpid() not in by_config | by_backend | by_argument | by_instance


def test_it_can_be_what_a_program_uses_that_names_no_backend() -> None:
    before = joblib.parallel.DEFAULT_BACKEND
    try:
        fastpool.register_joblib_backend(make_default=True)
        assert isinstance(Parallel(2)._backend, joblib_backend.FastpoolBackend)
    finally:
        joblib.parallel.DEFAULT_BACKEND = before


def test_one_job_runs_in_the_caller() -> None:
    assert Fastpool(1)([delayed(os.getpid)()]) == [os.getpid()]


@pytest.mark.parametrize("n_jobs", [-1, -2, 2, CPUS + 2])
def test_as_many_workers_run_as_joblib_means(n_jobs: int) -> None:
    wanted = n_jobs if n_jobs > 0 else max(CPUS + 1 + n_jobs, 1)
    with parallel_config(backend="fastpool"):
        assert joblib.effective_n_jobs(n_jobs) == wanted
    assert len(workers(n_jobs)) <= wanted
    procs.wait_until(lambda: len(workers(n_jobs)) == wanted)


def test_no_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Fastpool(0)([delayed(abs)(1)])


def test_workers_are_used_again_by_the_next_call() -> None:
    first = workers(2) | workers(2)
    assert len(first) == 2
    assert workers(2) <= first


def test_workers_end_when_nobody_has_used_them_for_so_long() -> None:
    pids = workers(2, idle_worker_timeout=0.05)
    procs.wait_until(lambda: not any(procs.is_alive(pid) for pid in pids))
    assert not workers(2) & pids


def test_lambdas_closures_and_local_classes_travel() -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    offset = 3
    found = Fastpool(2)(delayed(lambda x: Local(x.value + offset))(Local(i)) for i in range(4))
    assert [local.value for local in found] == [3, 4, 5, 6]
    assert all(type(local) is Local for local in found)


def test_a_generator_hands_out_results_while_others_still_run(gate: Gate) -> None:
    calls = [delayed(tasks.square)(3), delayed(tasks.pass_gate)(gate.path)]
    results = Fastpool(2, return_as="generator", batch_size=1)(calls)
    assert next(results) == 9
    gate.open()
    assert len(list(results)) == 1


def test_an_unordered_generator_hands_out_what_is_done_first(gate: Gate) -> None:
    calls = [delayed(tasks.pass_gate)(gate.path), delayed(tasks.square)(3)]
    results = Fastpool(2, return_as="generator_unordered", batch_size=1)(calls)
    assert next(results) == 9
    gate.open()
    assert len(list(results)) == 1


def test_two_generators_share_one_backend() -> None:
    with parallel_config(backend="fastpool", n_jobs=2):
        first = Parallel(return_as="generator")(delayed(tasks.square)(i) for i in range(50))
        second = Parallel(return_as="generator")(delayed(tasks.square)(-i) for i in range(50))
        expected = [(i * i, i * i) for i in range(50)]
        assert list(zip(first, second, strict=True)) == expected


def test_tasks_are_read_no_further_ahead_than_pre_dispatch_says(gate: Gate) -> None:
    read: list[int] = []

    def calls() -> Iterator[Any]:
        for i in range(50):
            read.append(i)
            yield delayed(tasks.pass_gate)(gate.path)

    results = Fastpool(2, return_as="generator", pre_dispatch=4, batch_size=1)(calls())
    assert read == [0, 1, 2, 3]
    gate.open()
    assert len(list(results)) == 50


def test_short_tasks_are_sent_in_batches() -> None:
    parallel = Fastpool(2)
    parallel(delayed(tasks.square)(i) for i in range(2000))
    assert parallel.n_dispatched_batches < 400


def test_one_parallel_serves_many_calls_as_a_context_manager() -> None:
    with Fastpool(2) as parallel:
        pids = {pid for _ in range(3) for pid in parallel([delayed(os.getpid)()] * 4)}
        with pytest.raises(ZeroDivisionError):
            parallel(delayed(tasks.divide)(1, 0) for _ in range(4))
        assert parallel(delayed(tasks.square)(i) for i in range(3)) == [0, 1, 4]
    assert os.getpid() not in pids


def test_calls_of_several_threads_share_the_workers() -> None:
    found: dict[int, list[int]] = {}

    def call(i: int) -> None:
        found[i] = Fastpool(2)(delayed(tasks.square)(x) for x in range(i, i + 100))

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [x * x for x in range(i, i + 100)] for i in range(4)}


def outer(i: int) -> tuple[list[int], set[int]]:
    inner = Parallel(n_jobs=2)(delayed(pid_and_square)(i + j) for j in range(3))
    return [value for _, value in inner], {pid for pid, _ in inner} | {os.getpid()}


def pid_and_square(x: int) -> tuple[int, int]:
    return os.getpid(), x * x


def test_a_parallel_in_a_task_runs_in_threads_of_its_worker() -> None:
    found = Fastpool(2)(delayed(outer)(i) for i in range(4))
    assert [values for values, _ in found] == [[(i + j) ** 2 for j in range(3)] for i in range(4)]
    assert all(len(pids) == 1 for _, pids in found)


def inner_on_fastpool(i: int) -> list[int]:
    values: list[int] = Fastpool(2)(delayed(tasks.square)(i + j) for j in range(3))
    return values


def test_a_task_may_use_workers_of_its_own_where_these_are_no_daemons() -> None:
    calls = [delayed(inner_on_fastpool)(i) for i in range(2)]
    assert Fastpool(2, daemon=False)(calls) == [[0, 1, 4], [1, 4, 9]]


@pytest.mark.parametrize("backend", ["fastpool", "loky"])
def test_other_tasks_that_ask_for_workers_run_their_calls_themselves(backend: str) -> None:
    calls = [delayed(pids_of_inner)(backend) for _ in range(2)]
    assert all(pids == {own} for own, pids in Fastpool(2)(calls))


def pids_of_inner(backend: str) -> tuple[int, set[int]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pids = set(Parallel(2, backend=backend)(delayed(os.getpid)() for _ in range(3)))
    assert "setting n_jobs=1" in str(caught[0].message)
    return os.getpid(), pids


IN_LOKY = """
    import fastpool
    from joblib import Parallel, delayed

    def inner(i):
        fastpool.register_joblib_backend()
        return Parallel(2, backend="fastpool")(delayed(abs)(-i - j) for j in range(3))

    print(Parallel(2, backend="loky")(delayed(inner)(i) for i in range(2)))
"""


def test_a_task_of_loky_may_use_it(run_script: Any) -> None:
    assert run_script(IN_LOKY).finish() == "[[0, 1, 2], [1, 2, 3]]\n"


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_an_iterator_of_tasks_may_use_parallel_itself(return_as: str) -> None:
    def calls() -> Iterator[Any]:
        for i in range(20):
            (value,) = Parallel()([delayed(tasks.square)(i)])
            yield delayed(tasks.square)(value)

    with parallel_config(backend="fastpool", n_jobs=2):
        assert list(Parallel(return_as=return_as)(calls())) == [i**4 for i in range(20)]


def test_a_generator_of_results_may_be_what_other_tasks_are_made_of() -> None:
    with parallel_config(backend="fastpool", n_jobs=2):
        first = Parallel(return_as="generator")(delayed(tasks.square)(i) for i in range(50))
        assert Parallel()(delayed(tasks.square)(x) for x in first) == [i**4 for i in range(50)]


def test_progress_is_printed_as_joblib_does(capsys: pytest.CaptureFixture[str]) -> None:
    Fastpool(2, verbose=60)(delayed(abs)(i) for i in range(4))
    printed = capsys.readouterr().out
    assert "Using backend FastpoolBackend with 2 concurrent workers." in printed
    assert "4 out of   4" in printed


def test_what_a_task_caches_is_found_by_the_next_call(tmp_path: Path) -> None:
    memory = joblib.Memory(tmp_path / "cache", verbose=0)
    cached = memory.cache(tasks.square)
    assert Fastpool(2)(delayed(cached)(i) for i in range(4)) == [0, 1, 4, 9]
    assert all(cached.check_call_in_cache(i) for i in range(4))
    assert Fastpool(2)(delayed(cached)(i) for i in range(4)) == [0, 1, 4, 9]


def numbers_of_threads(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def loaded_thread_counts() -> set[int]:
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    return {library["num_threads"] for library in threadpool_info()}


@pytest.mark.parametrize("limit", [None, 1, 3])
def test_numeric_libraries_have_as_many_threads_as_joblib_says(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    wanted = max(CPUS // 2, 1) if limit is None else limit
    with parallel_config(backend="fastpool", n_jobs=2, inner_max_num_threads=limit):
        assert Parallel()([delayed(numbers_of_threads)(names)] * 4) == [[str(wanted)] * 3] * 4
        assert Parallel()([delayed(loaded_thread_counts)()] * 4) == [{wanted}] * 4


def test_a_variable_of_the_program_counts_more_than_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Fastpool(2)([delayed(numbers_of_threads)(["OMP_NUM_THREADS"])]) == [["7"]]


_greeting = "none"


def greet(text: str) -> None:
    global _greeting
    _greeting = text


def greeting() -> str:
    return _greeting


def test_an_initializer_prepares_each_worker() -> None:
    with parallel_config(backend="fastpool", n_jobs=2, initializer=greet, initargs=("hello",)):
        assert Parallel()([delayed(greeting)()] * 4) == ["hello"] * 4
    assert Fastpool(2)([delayed(greeting)()] * 4) == ["none"] * 4


def test_further_arguments_are_those_of_the_pool() -> None:
    with parallel_config(backend="fastpool", n_jobs=2, maxtasksperchild=1):
        assert len(set(Parallel(batch_size=1)([delayed(os.getpid)()] * 6))) == 6
    with pytest.raises(TypeError, match="no_such_argument"):
        Parallel(2, backend="fastpool", no_such_argument=1)([delayed(abs)(1)] * 2)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_start_as_the_context_says(method: str) -> None:
    with parallel_config(backend="fastpool", n_jobs=2, context=method):
        assert Parallel()(delayed(lambda x: x + 1)(i) for i in range(4)) == [1, 2, 3, 4]
        assert Parallel()([delayed(inner_on_fastpool)(1)]) == [[1, 4, 9]]


SCRIPT = """
    import multiprocessing
    import fastpool.joblib_backend
    from joblib import Parallel, delayed

    class Point:
        def __init__(self, x):
            self.x = x

    def double(point):
        return Point(factor * point.x)

    multiprocessing.set_start_method("fork")
    factor = 2
    run = Parallel(2, backend="fastpool")
    print([p.x for p in run(delayed(double)(Point(i)) for i in range(4))])

    factor = 3  # the workers stand, and have the other one

    def triple(point):
        return Point(factor * point.x)

    print([p.x for p in run(delayed(triple)(Point(i)) for i in range(4))])
"""


def test_functions_of_main_travel_as_they_are_and_need_no_guard_under_fork(run_script: Any) -> None:
    script = run_script(SCRIPT)
    assert script.finish() == "[0, 2, 4, 6]\n[0, 3, 6, 9]\n"
    assert script.stderr == ""
    script.wait_gone()


def test_a_list_of_results_is_not_waited_for_in_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    def nap(seconds: float) -> None:
        raise AssertionError(f"joblib looks again in {seconds} s")

    monkeypatch.setattr(joblib.parallel, "time", SimpleNamespace(time=time.time, sleep=nap))
    assert Fastpool(2)(delayed(tasks.square)(i) for i in range(100)) == [i * i for i in range(100)]
