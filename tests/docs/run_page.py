"""Runs the Python code of a page: its blocks, and what stands in the last column of its tables.

    python tests/docs/run_page.py PAGE SECTION [--compare]

With --compare, where both cells of a row begin with a call, both have the same value.
"""

from __future__ import annotations

import ast
import multiprocessing
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (.*) \| (.*) \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def sections(text: str) -> dict[str, str]:
    """Heading -> what is below it; the beginning is called ''."""
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def blocks(text: str) -> Iterator[str]:
    for found in FENCE.finditer(text):
        yield found[1]


def rows(text: str) -> Iterator[tuple[str, str]]:
    """The code that each cell of a table's rows begins with; '' where it begins with a word."""
    for found in ROW.finditer(text):
        left, right = (CODE.match(cell) for cell in found.groups())
        if right is not None:
            yield left[1] if left else "", right[1]


def run_code(code: str, names: dict[str, Any]) -> Any:
    """Run it; the value of an expression. A pool that it makes is ended, and no value."""
    try:
        ast.parse(code, mode="eval")
    except SyntaxError:
        exec(code, names)
        return None
    value = eval(code, names)
    if isinstance(value, multiprocessing.pool.Pool):
        value.terminate()
        return None
    return value


def main(page: str, section: str, compared: bool) -> None:
    parts = sections(Path(page).read_text())
    names = vars(sys.modules["__main__"])
    for part in ("", section):
        for block in blocks(parts[part]):
            exec(block, names)
    for left, right in rows(parts[section]):
        print("row:", right, flush=True)
        value = run_code(right, names)
        if compared and left.endswith(")"):
            expected = run_code(left, names)
            assert value == expected, f"{left} is {expected}, not {value}"


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main(*sys.argv[1:3], compared="--compare" in sys.argv)
