"""A build that can't be says what is missing, and fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
    )


WITHOUT_HEADERS = """
import runpy, sys, sysconfig

paths = sysconfig.get_path
sysconfig.get_path = lambda name, *more: {empty!r} if name == "include" else paths(name, *more)
sys.argv = ["setup.py", *sys.argv[1:]]
runpy.run_path("setup.py", run_name="__main__")
"""


@pytest.fixture
def build(tmp_path: Path) -> list[str | Path]:
    """Arguments of setup.py; this is no build in place."""
    pytest.importorskip("setuptools")
    return ["-q", "build_ext", "-b", tmp_path / "lib", "-t", tmp_path / "temp"]


def test_without_a_compiler_the_build_names_what_to_install(build: list[str | Path]) -> None:
    done = run("setup.py", *build, CC="/nonexistent/cc")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "fastpool: no C compiler found (looked for '/nonexistent/cc'). Install one, e.g. `apt-get"
    )


def test_without_pythons_headers_the_build_names_what_to_install(
    build: list[str | Path], tmp_path: Path
) -> None:
    # The compiler is one that is there, and is not run.
    done = run("-c", WITHOUT_HEADERS.format(empty=str(tmp_path)), *build, CC=sys.executable)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"fastpool: Python.h is not in {tmp_path}. Install Python's headers, "
        "e.g. `apt-get install python3-dev`."
    )


def test_wheels_for_no_python_are_a_failure(tmp_path: Path) -> None:
    told = {
        "executable": "/usr/bin/python3.11",
        "version": [3, 11],
        "release": "3.11.2",
        "is_cpython": True,
        "is_virtual": False,
        "abi": "cpython-311-x86_64-linux-gnu",
        "machine": "x86_64",
        "lacks": ["Python.h", "ensurepip"],
    }
    python = tmp_path / "python3.11"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    python.chmod(0o755)
    done = run("wheels/build.py", PATH=str(tmp_path), PYENV_ROOT=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.endswith(
        "there is no CPython from 3.10 on that something can be built with\n"
        "  /usr/bin/python3.11: it has no Python.h and no ensurepip\n"
    )
