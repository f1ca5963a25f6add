"""The Pythons that are claimed, built for and tested are the same ones."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLAIMED = re.findall(
    r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()
)


def test_each_claimed_python_has_wheels_and_no_other() -> None:
    config = (ROOT / "wheels" / "cibuildwheel.toml").read_text()
    [identifiers] = re.findall(r"build = \[(.*)\]", config)
    built = re.findall(r'"cp3(\d+)-\*"', identifiers)
    assert [f"3.{minor}" for minor in built] == CLAIMED


def test_each_claimed_python_is_tested_on_each_push() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    [matrix] = re.findall(r"python: \[(.*)\]", workflow)
    assert re.findall(r'"(.*?)"', matrix) == CLAIMED
