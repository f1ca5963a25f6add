"""Tools around pools: tqdm's process_map, joblib's own pool, coverage measured in workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from joblib import Parallel, delayed
from tqdm.contrib.concurrent import process_map

pytestmark = [pytest.mark.fastpool_only]

MEASURED = """\
import multiprocessing
import sys


def work(x):
    y = x + 1
    return y


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        assert type(pool).__module__ == "fastpool.pool"
        pool.map(work, range(3))
        pool.close()
        pool.join()
"""


def test_process_map_runs_on_the_executor(installed: Any) -> None:
    found = process_map(abs, range(-9, 0), max_workers=2, chunksize=2, disable=True)
    assert found == list(range(9, 0, -1))
    assert installed[0].items >= 5


def test_joblibs_pool_of_its_own_stays_that(installed: Any) -> None:
    calls = (delayed(abs)(x) for x in range(-9, 0))
    assert Parallel(n_jobs=2, backend="multiprocessing")(calls) == list(range(9, 0, -1))
    assert installed == []


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=25
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def measured_lines(folder: Path) -> list[int]:
    run(folder, "coverage", "combine", "-q")
    run(folder, "coverage", "json", "-q", "-o", "found.json")
    files: dict[str, Any] = json.loads((folder / "found.json").read_text())["files"]
    return files["measured.py"]["executed_lines"]


@pytest.mark.parametrize(
    "command",
    [
        ("fastpool", "-m", "coverage", "run", "measured.py", "spawn"),
        ("coverage", "run", "-m", "fastpool", "measured.py", "fork"),
    ],
    ids=["coverage inside", "coverage outside"],
)
def test_coverage_measures_workers(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "measured.py").write_text(MEASURED)
    (tmp_path / ".coveragerc").write_text(
        "[run]\nconcurrency = multiprocessing\nparallel = true\ninclude = measured.py\n"
    )
    run(tmp_path, *command)
    assert {6, 7} <= set(measured_lines(tmp_path))
