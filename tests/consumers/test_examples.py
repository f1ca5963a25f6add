"""The examples with libraries run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "libraries").glob("*.py"))


@pytest.mark.slow
@pytest.mark.timeout_s(100)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(path: Path) -> None:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")
    assert " s" in done.stdout.splitlines()[-1]
