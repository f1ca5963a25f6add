"""joblib.Parallel on fastpool: errors, late tasks, dead workers, Ctrl-C; the next call works."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import TimeoutError
from multiprocessing.pool import RemoteTraceback
from typing import Any

import pytest
from helpers import tasks
from joblib import Parallel, delayed, parallel_config

from fastpool import WorkerDiedError

Fastpool = partial(Parallel, backend="fastpool")


def assert_works(parallel: Callable[..., Any] = Fastpool) -> None:
    assert parallel(2)(delayed(tasks.square)(i) for i in range(10)) == [i * i for i in range(10)]


def test_an_exception_comes_out_with_its_type_and_the_remote_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Fastpool(2)(delayed(tasks.divide)(1, i) for i in range(4))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in divide" in str(caught.value.__cause__)
    assert_works()


def test_an_exception_of_a_local_class_comes_out_as_that() -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("local")

    with pytest.raises(LocalError, match="local"):
        Fastpool(2)([delayed(fail)()] * 2)


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raise_unpicklable() -> None:
    raise Unpicklable("what it says")


def test_an_exception_that_cannot_be_pickled_is_told_of() -> None:
    with pytest.raises(Exception, match="what it says"):
        Fastpool(2)([delayed(raise_unpicklable)()] * 2)
    assert_works()


def test_an_exception_ends_the_other_tasks_of_the_call() -> None:
    calls = [delayed(tasks.divide)(1, 0), *[delayed(tasks.nap)(30)] * 5]
    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        Fastpool(2, batch_size=1)(calls)
    assert_works()
    assert time.monotonic() - begin < 10


def test_another_threads_call_goes_on_when_one_fails() -> None:
    found: list[Any] = []
    naps = [delayed(tasks.nap)(0.05, i) for i in range(10)]
    thread = threading.Thread(target=lambda: found.extend(Fastpool(2)(naps)))
    thread.start()
    while thread.is_alive():
        with pytest.raises(ZeroDivisionError):
            Fastpool(2)([delayed(tasks.divide)(1, 0)] * 2)
    assert found == list(range(10))


def test_what_cannot_be_pickled_is_the_calls_error() -> None:
    with pytest.raises(pickle.PicklingError, match="Could not pickle the task"):
        Fastpool(2)([delayed(tasks.identity)(threading.Lock())] * 2)
    with pytest.raises(pickle.PicklingError):
        Fastpool(2)(delayed(tasks.identity)(threading.Lock() if i > 20 else i) for i in range(40))
    assert_works()


def test_a_result_that_cannot_be_pickled_is_the_calls_error() -> None:
    with pytest.raises(TypeError, match="pickle"):
        Fastpool(2)([delayed(threading.Lock)()] * 2)
    assert_works()


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_what_the_iterator_of_tasks_raises_comes_out(
    return_as: str, error: type[BaseException]
) -> None:
    def calls() -> Any:
        for i in range(50):
            if i == 30:
                raise error("no more")
            yield delayed(tasks.square)(i)

    with pytest.raises(error, match="no more"):
        list(Fastpool(2, return_as=return_as)(calls()))
    assert_works()


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_a_task_over_the_timeout_fails_the_call(return_as: str) -> None:
    with pytest.raises(TimeoutError):
        list(Fastpool(2, timeout=0.1, return_as=return_as)([delayed(tasks.nap)(30)] * 2))
    assert_works()


def test_a_dead_worker_is_the_calls_error() -> None:
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        Fastpool(2)(
            [delayed(tasks.die)(signal.SIGKILL)] + [delayed(tasks.square)(i) for i in range(20)]
        )
    assert_works()


def fail_to_begin() -> None:
    raise LookupError("not today")


def test_an_initializer_that_raises_fails_the_call_and_no_other() -> None:
    with pytest.raises(LookupError, match="not today"):
        Fastpool(2, initializer=fail_to_begin)([delayed(abs)(1)] * 4)
    with pytest.raises(LookupError, match="not today"):
        Fastpool(2, initializer=fail_to_begin)([delayed(abs)(1)] * 4)
    assert_works()


def test_a_generator_that_is_dropped_ends_its_tasks() -> None:
    results = Fastpool(2, return_as="generator", batch_size=1)(
        [delayed(os.getpid)(), *[delayed(tasks.nap)(30)] * 3]
    )
    next(results)
    with pytest.warns(UserWarning, match="cancelled"):
        del results
    begin = time.monotonic()
    assert_works()
    assert time.monotonic() - begin < 10


def test_a_fork_of_the_program_has_a_pool_of_its_own() -> None:
    # No process can go on with another's fork server.
    with parallel_config(backend="fastpool", context="fork"):
        assert_works(Parallel)
        pid = os.fork()
        if pid == 0:
            try:
                assert_works(Parallel)
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert_works(Parallel)


INTERRUPTED = """
    import multiprocessing, time
    import fastpool.joblib_backend
    from joblib import Parallel, delayed

    def nap(seconds):
        print("napping")
        time.sleep(seconds)

    multiprocessing.set_start_method("fork")
    try:
        Parallel(2, backend="fastpool")([delayed(nap)(60)] * 4)
    except KeyboardInterrupt:
        print("interrupted")
    print(Parallel(2, backend="fastpool")(delayed(abs)(-i) for i in range(4)))
"""


def test_ctrl_c_ends_the_call_and_the_next_one_works(run_script: Any) -> None:
    script = run_script(INTERRUPTED)
    script.wait_for("napping")
    script.signal_group(signal.SIGINT)
    assert script.finish().endswith("interrupted\n[0, 1, 2, 3]\n")
    script.wait_gone()


def test_the_package_imports_neither_joblib_nor_the_backend(run_script: Any) -> None:
    script = run_script("""
        import sys
        import fastpool
        loaded = {name for name in sys.modules if "joblib" in name}
        assert loaded <= {"fastpool._joblib", "fastpool._joblib.register"}, loaded
    """)
    script.finish()


def test_without_joblib_both_ways_to_register_say_what_to_install(run_script: Any) -> None:
    script = run_script("""
        import sys
        import fastpool
        sys.modules["joblib"] = None

        def register():
            import fastpool.joblib_backend

        for register in register, fastpool.register_joblib_backend:
            try:
                register()
            except ImportError as error:
                print(error)
    """)
    assert script.finish() == 2 * (
        "the backend for joblib needs joblib: pip install 'fastpool[joblib]'\n"
    )
