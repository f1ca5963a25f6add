"""docs/coming-from.md: its code runs, and what it calls the same, is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import python_path

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
RUNNER = Path(__file__).parent / "run_page.py"

#: Section -> options; what is compared with is a test requirement, or the standard library's.
SECTIONS = {
    "From multiprocessing": (),
    "From concurrent.futures": ("--compare",),
    "From joblib": ("--compare",),
    "From mpire": (),
    "From Ray's Pool": (),
}


def test_every_section_is_run() -> None:
    headings = [line[3:] for line in PAGE.read_text().splitlines() if line.startswith("## ")]
    assert headings == list(SECTIONS)


@pytest.mark.fastpool_only
@pytest.mark.parametrize("section", SECTIONS)
def test_the_code_of_a_section_runs(section: str) -> None:
    done = subprocess.run(
        [sys.executable, RUNNER, PAGE, section, *SECTIONS[section]],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "row:" in done.stdout
