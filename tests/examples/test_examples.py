"""Every example runs to its end, and tells what its page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: The demo takes a while; `make demo` runs it.
ALL = sorted(path for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("libraries/*.py")])
ALL.remove(EXAMPLES / "demo.py")


@pytest.mark.slow
@pytest.mark.timeout_s(100)
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(path: Path) -> None:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr  # where logging goes


def test_each_worker_has_a_database_of_its_own(run_script: Any) -> None:
    script = run_script((EXAMPLES / "worker_state.py").read_text())
    assert script.finish() == "6000 looked up, 2000 of them missing\n"


def test_lines_of_workers_name_the_request(run_script: Any) -> None:
    script = run_script((EXAMPLES / "worker_logs.py").read_text())
    script.finish()
    lines = script.stderr.splitlines()
    assert "MainProcess INFO [order 7] costs 8.75" in lines
    assert sum("PoolWorker" in line and "[order 8]" in line for line in lines) == 2
    assert sum("WARNING [order 8] no price for item -1" in line for line in lines) == 1
