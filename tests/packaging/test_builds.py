"""A build that can't be says what is missing, and fails; one that can works in any folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
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


def test_an_empty_name_of_a_compiler_is_told_from_none(build: list[str | Path]) -> None:
    done = run("setup.py", *build, CC=" ")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "fastpool: CC is set, but empty: unset it, or name a C compiler, e.g. CC=gcc."
    ]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
@pytest.mark.parametrize(("compiler", "why"), [("false", ""), ("gcc -nostdinc", "stdlib.h")])
def test_a_compiler_that_can_not_compile_is_tried_once(
    build: list[str | Path], compiler: str, why: str
) -> None:
    done = run("setup.py", *build, CC=compiler)
    assert done.returncode == 1
    *reasons, last = done.stderr.splitlines()
    assert last.startswith(f"fastpool: the C compiler ({compiler} ")
    assert "can't compile a program of two lines" in last
    assert why in "".join(reasons)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [("LDFLAGS", "-lnonexistent", "nonexistent"), ("LDSHARED", "/nonexistent/ld", "No such file")],
)
def test_a_linker_that_can_not_link_is_tried_before_anything_is_compiled(
    build: list[str | Path], tmp_path: Path, variable: str, value: str, why: str
) -> None:
    done = run("setup.py", *build, CC="gcc", **{variable: value})
    assert done.returncode == 1
    *reasons, last = done.stderr.splitlines()
    assert last.startswith("fastpool: the linker (")
    assert value in last
    assert why in "".join(reasons)
    assert list(tmp_path.rglob("*.o")) == []


WITH_ANOTHER_TOOL = """
import runpy, sys, setuptools.command.build_ext  # which looks for Cython, too

{change}
sys.argv = ["setup.py", *sys.argv[1:]]
runpy.run_path("setup.py", run_name="__main__")
"""
OLD_SETUPTOOLS = """
setuptools.__version__ = "65.5.0"
sys.modules["setuptools.command.bdist_wheel"] = None
"""
OLD_CYTHON = """
import Cython
Cython.__version__ = "3.0.11"
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (OLD_SETUPTOOLS, "setuptools 77 or newer, and there is 65.5.0"),
        (OLD_CYTHON, "Cython 3.3 or newer, and there is 3.0.11"),
        ("sys.modules['Cython'] = None", "Cython 3.3 or newer, and there is none"),
    ],
)
def test_without_tools_that_are_new_enough_the_build_says_so(
    build: list[str | Path], change: str, told: str
) -> None:
    done = run("-c", WITH_ANOTHER_TOOL.format(change=change), *build)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"fastpool: the build needs {told}. Without --no-build-isolation, pip brings one along."
    ]


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


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("target", ["portable", "crash"])
def test_a_build_in_a_place_of_its_own_is_found_though_its_path_has_spaces(
    tmp_path: Path, target: str
) -> None:
    folder = tmp_path / "a folder's name"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    show = ["make", "--dry-run", target, "MAKE=:", f"PYTHON={sys.executable}"]
    shown = subprocess.run(show, cwd=folder, check=True, capture_output=True, text=True).stdout
    [line] = [line for line in shown.splitlines() if line.startswith("PYTHONPATH=")]
    assert shlex.split(line)[0] == f"PYTHONPATH={folder}/build/package-{target}"


REPAIR = """
import sys
from pathlib import Path

sys.path.insert(0, "wheels")
import build, interpreters, steps

folder = Path(sys.argv[1])
target = interpreters.Target("x86_64", "gnu")
built = folder / "x-1-cp313-cp313-linux_x86_64.whl"
build.repair(steps.Steps(folder / "log"), built, target, folder)
"""


def without_container(folder: Path) -> list[str]:
    return [sys.executable, "-c", REPAIR, str(folder)]


def with_cibuildwheel(folder: Path) -> list[str]:
    config = (ROOT / "wheels" / "cibuildwheel.toml").read_text()
    [commands] = re.findall(r"^repair-wheel-command = \[(.*?)^\]", config, re.MULTILINE | re.DOTALL)
    text = " && ".join(re.findall(r'"(.*)"', commands))
    for name, path in {"dest_dir": folder, "wheel": "built", "project": ROOT}.items():
        text = text.replace(f"{{{name}}}", str(path))
    return ["sh", "-c", text]


@pytest.mark.parametrize("way", [without_container, with_cibuildwheel])
def test_wheels_that_are_repaired_are_the_same_bytes_for_the_same_files(
    tmp_path: Path, way: Callable[[Path], list[str]]
) -> None:
    repaired = []
    for year in (2024, 2025):  # as auditwheel would, in another year and for another user
        folder = tmp_path / str(year)
        folder.mkdir()
        wheel = folder / "x-1-cp313-cp313-manylinux_2_17_x86_64.whl"
        with zipfile.ZipFile(folder / "packed", "w") as archive:
            for name in ("x/", "x/a.py", "x-1.dist-info/", "x-1.dist-info/RECORD"):
                member = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
                member.external_attr = (0o644 if year == 2024 else 0o600) << 16
                archive.writestr(member, name)
        for program, line in {
            "auditwheel": f'mv "{folder}/packed" "{wheel}"',
            "python": f'exec "{sys.executable}" "$@"',
        }.items():
            (folder / program).write_text(f"#!/bin/sh\n{line}\n")
            (folder / program).chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        subprocess.run(way(folder), cwd=ROOT, env=environment, check=True, timeout=20)
        repaired.append(wheel.read_bytes())
    assert repaired[0] == repaired[1]


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
