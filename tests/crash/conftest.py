"""These tests take minutes, and need a build with crash points or strace: only run by name.

make crash                            every point (ARGS='--sample 15' for some seconds of it)
make syscalls                         every system call, the same arguments
--sample SECONDS                      only what is done by then, in an order that the seed gives
--seed N                              that seed
--case SCENARIO/ROLE:POINT:K          only this death, or CALL:ERROR:K, this failing call
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import procs
from helpers.sweep import HERE, Sweep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=float, default=None, help="seconds of tests/crash to run")
    parser.addoption("--seed", type=int, default=None, help="which sample")
    parser.addoption("--case", default=None, help="the only case of tests/crash to run")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    paths = [Path(str(arg).partition("::")[0]) for arg in config.invocation_params.args]
    return None if any(path.resolve().is_relative_to(HERE) for path in paths) else True


@pytest.fixture
def sweep(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[Sweep]:
    """Runs many programs, and looks at the end whether one has left a name in /dev/shm."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    before = procs.names_of_memory()
    yield Sweep(tmp_path, request.config, say)
    procs.wait_until(
        lambda: not procs.names_since(before),
        2.0,
        lambda: f"nothing is left in /dev/shm: {procs.names_since(before)}",
    )
