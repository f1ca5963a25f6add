"""The example of docs/executor.md runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_longest_functions_are_found(run_script: Any) -> None:
    script = run_script((EXAMPLES / "longest_functions.py").read_text())
    lines = script.finish().splitlines()
    assert re.fullmatch(r"\d+ functions in \d+ files; the longest:", lines[0])
    lengths = [int(line.split()[0]) for line in lines[1:]]
    assert len(lengths) == 5
    assert lengths == sorted(lengths, reverse=True)
