"""Tries out a wheel: the smoke test and Pool's contract tests on the package as it is installed."""

from __future__ import annotations

import re
from pathlib import Path

from steps import Steps

# What a broken build can't pass, in seconds: the calls, their errors, the life of a pool.
BRIEF = (
    "apply",
    "async_results",
    "callbacks",
    "close_join_terminate",
    "exceptions",
    "imap",
    "initializer",
    "map",
    "starmap",
)
# Also where a test hands it to a program.
WITH_MORE = re.compile(r"^ *import (numpy|hypothesis)|^ *from (numpy|hypothesis)", re.MULTILINE)
TOOLS = ("pytest>=8", "pytest-xdist")
MORE_TOOLS = ("hypothesis", "numpy")


def files(source: Path, extent: str) -> list[str]:
    """The tests to run; `usual` are those that need no other package, and `all` are all."""
    folder = source / "tests" / "contract"
    if extent == "brief":
        return [f"tests/contract/test_{name}.py" for name in BRIEF]
    return [
        path.relative_to(source).as_posix()
        for path in sorted(folder.glob("test_*.py"))
        if extent == "all" or not WITH_MORE.search(path.read_text())
    ]


def install(steps: Steps, python: Path, wheel: Path) -> None:
    """Into its environment, in which nothing else is yet."""
    steps.run(python, "-m", "pip", "install", "-q", "--no-deps", wheel)


def smoke(steps: Steps, python: Path, source: Path) -> str:
    steps.run(python, source / "wheels" / "smoke_test.py", cwd=steps.log.parent)
    return "passed"


def contract(steps: Steps, python: Path, source: Path, extent: str) -> str:
    """Run in the unpacked sdist: its tests, but the package that is installed."""
    tools = TOOLS + MORE_TOOLS * (extent == "all")
    steps.run(python, "-m", "pip", "install", "-q", *tools)
    methods = ["-k", "not spawn and not forkserver"] if extent == "brief" else []
    options = ["-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", *methods]
    said = steps.run(python, "-m", "pytest", *options, *files(source, extent), cwd=source)
    counts = re.search(r"\d+ passed.*(?= in )", said)
    return counts[0] if counts else "none"
