"""``python -m fastpool --report``: what each pool of a program has done."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from helpers import tasks
from helpers.scripts import Script

from fastpool._runtime import accounts

pytestmark = [pytest.mark.fastpool_only]

PROGRAM = """
    import multiprocessing, sys, time

    def hold(seconds):
        time.sleep(seconds)
        return seconds

    if __name__ == "__main__":
        for _ in range(2):
            with multiprocessing.Pool(2) as pool:
                pool.map(hold, [0.05] * 4, 2)
        pool = multiprocessing.get_context("spawn").Pool(1)
        pool.apply(hold, (0.02,))
        print("done")
        if sys.argv[1:]:
            sys.exit("failed")
"""


def run(run_script: Any, *arguments: str, code: int = 0) -> Script:
    script = run_script(PROGRAM, options=["-m", "fastpool", "--report"], arguments=arguments)
    assert script.finish(code=code) == "done\n"
    return script


def test_the_report_tells_what_each_pool_has_done(run_script: Any) -> None:
    report = run(run_script).stderr
    assert report.startswith("fastpool: 3 pools\n")
    first, second = report.split("\n\n")[1:]
    assert re.match(r"/.*/program\.py:9  2 pools with 2 workers \(\w+\) for ", first)
    assert "  8 items in 4 tasks\n" in first
    slept = re.search(r"in functions +(\d+) ms +\d+% of the workers' time", first)
    assert slept and 400 <= int(slept[1]) < 600
    assert re.search(r"arguments and results .* an item\n", first)
    assert re.search(r"waiting for tasks +[\d.]+ [mµ]?s", first)
    assert re.match(r"/.*/program\.py:11  1 worker \(spawn\) for .*\n  1 item in 1 task\n", second)


def test_the_report_comes_also_when_the_program_fails(run_script: Any) -> None:
    assert run(run_script, "fail", code=1).stderr.startswith("failed\nfastpool: 3 pools\n")


def test_without_a_report_no_worker_looks_at_the_clock(pool_factory: Any) -> None:
    pool = pool_factory(1)
    pool.map(tasks.square, range(100))
    assert pool._engine.segment.work_report(0) == (0, 0, 0, 0)


def test_with_a_report_errors_show_the_same_frames(
    pool_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_accounts", [])
    traces = []
    for call in (tasks.raise_value_error, functools.partial(tasks.raise_value_error)):
        with pytest.raises(ValueError) as caught:
            pool_factory(1).apply(call, (1,))
        traces.append(str(caught.value.__cause__))
    assert all(".pyx" not in trace for trace in traces)
