"""What setup.py says in more places than one: the files of a system, its switches, its tools."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import types
from pathlib import Path

import pytest

from fastpool import _fallback

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup() -> types.ModuleType:
    pytest.importorskip("setuptools")
    spec = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(
    ("system", "files", "portable"),
    [
        ("linux", "$(SYSTEM) park_$(PARK)", "0"),
        ("portable", "$(SYSTEM) park_$(PARK)", "1"),
        ("darwin", "$(patsubst $(CSRC)/os/%.c,%,$(filter $(CSRC)/os/%,$(DARWIN)))", "0"),
    ],
)
def test_the_tests_in_c_are_made_of_what_the_extensions_are_made_of(
    setup: types.ModuleType, system: str, files: str, portable: str
) -> None:
    show = ["--eval", f"show: ; @echo {files}", "show", f"FP_PORTABLE={portable}"]
    command = ["make", "--no-print-directory", "-C", str(ROOT / "tests" / "c"), *show]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert sorted(shown.split()) == sorted(setup.SYSTEMS[system])


def test_every_file_of_the_system_floor_belongs_to_some_system(setup: types.ModuleType) -> None:
    files = {path.stem for path in (ROOT / "csrc" / "os").glob("*.c")}
    assert files == {name for names in setup.SYSTEMS.values() for name in names}


@pytest.mark.parametrize(
    ("value", "meaning"),
    [(" ", ""), ("0", ""), ("No", ""), ("OFF", ""), ("1", "1"), ("yes", "yes")],
)
def test_a_switch_that_says_no_is_as_good_as_none(
    setup: types.ModuleType, monkeypatch: pytest.MonkeyPatch, value: str, meaning: str
) -> None:
    monkeypatch.setenv("FASTPOOL_PURE", value)
    assert setup.switch("FASTPOOL_PURE", "1") == meaning


def test_the_ways_to_say_no_are_the_same_for_a_build_and_at_run_time(
    setup: types.ModuleType,
) -> None:
    assert setup.NO == _fallback.NO


def test_the_tools_of_a_build_are_those_that_pip_installs(setup: types.ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    [required] = re.findall(r"^requires = \[(.*)\]", text, re.MULTILINE)
    assert re.findall(r'"(.*?)"', required) == [
        f"{name.lower()}>={version}" for name, version in setup.TOOLS.items()
    ]
