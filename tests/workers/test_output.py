"""What workers warn of and print, under every start method."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from helpers import log_tasks
from helpers.impls import START_METHODS

from fastpool._runtime.warning_filters import current_filters, set_filters

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


def test_inherited_warning_filters_hold_in_workers(pool_factory: Any, start_method: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "this one", RuntimeWarning, r"helpers\.log_tasks")
        pool = pool_factory(1, warnings="inherit")
    with pytest.raises(RuntimeWarning, match="this one is an error"):
        pool.apply(log_tasks.warn, ("this one is an error",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = pool_factory(1, warnings="inherit")
    assert other.apply(log_tasks.warn, ("not this one",)) == "only warned"


@pytest.mark.start_methods("spawn", "forkserver")
def test_without_it_a_worker_has_the_interpreters_filters(
    pool_factory: Any, start_method: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = pool_factory(1)
    assert pool.apply(log_tasks.warn, ("an error here only",)) == "only warned"


def test_filters_are_kept_as_they_were_and_in_their_order() -> None:
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("default", ImportWarning)
        warnings.filterwarnings("ignore", "a+b", UserWarning, "some_module", 12)
        warnings.filterwarnings("error", category=DeprecationWarning, append=True)
        before = current_filters()
        warnings.simplefilter("ignore")
        set_filters(before)
        assert current_filters() == before


def test_a_filter_that_names_a_module_exactly_still_does() -> None:
    with warnings.catch_warnings():
        set_filters((("default", None, DeprecationWarning, "__main__", 0),))
        (only,) = current_filters()
        assert re.match(only[3], "__main__") and not re.match(only[3], "__main__.other")


def test_another_word_is_refused(pool_factory: Any) -> None:
    with pytest.raises(ValueError, match="warnings must be None or 'inherit', not 'error'"):
        pool_factory(1, warnings="error")


@pytest.mark.parametrize("method", START_METHODS)
def test_what_tasks_print_arrives_whole_without_a_flush(run_script: Any, method: str) -> None:
    script = run_script(
        f"""
        import multiprocessing
        import fastpool
        from helpers import log_tasks

        if __name__ == "__main__":
            print("begin", end=" ")
            with fastpool.Pool(2, context=multiprocessing.get_context({method!r})) as pool:
                pool.map(log_tasks.write, [f"line {{i}}\\n" for i in range(100)], 1)
                pool.close()
                pool.join()
            print("end")
        """,
        environment={"PYTHONUNBUFFERED": ""},  # or each line would be flushed at once
    )
    expected = [f"line {i}\n" for i in range(100)]
    printed = script.finish().removeprefix("begin ").removesuffix("end\n")
    assert sorted(printed.splitlines(True)) == sorted(expected)
    assert sorted(script.stderr.splitlines()) == sorted(f"LINE {i}" for i in range(100))


def test_a_worker_with_an_exit_function_leaves_nothing_to_warn_of(run_script: Any) -> None:
    script = run_script(
        """
        import fastpool
        from helpers.worker_tasks import begin, tasks_done

        if __name__ == "__main__":
            pool = fastpool.Pool(1, worker_init=begin, worker_exit=tasks_done)
            pool.close()
            pool.join()
            print(pool.exit_results())
        """,
        options=["-W", "always::ResourceWarning"],
    )
    assert script.finish() == "[(0, 0)]\n"
    assert script.stderr == ""
