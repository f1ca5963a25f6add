"""The examples of docs/workers.md run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


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
