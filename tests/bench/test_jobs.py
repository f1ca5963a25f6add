"""The jobs of benchmarks/jobs: fastpool gives what no pool at all gives, and time is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

from jobs import catalogue, table  # noqa: E402
from jobs.pools import rival_of  # noqa: E402
from jobs.runner import Outcome  # noqa: E402

from fastpool.bench import processes  # noqa: E402
from fastpool.bench.timing import summarise  # noqa: E402

TWO = 2


@pytest.fixture(params=catalogue.NAMES)
def job(request: pytest.FixtureRequest) -> Iterator[catalogue.Job]:
    for package in catalogue.REQUIREMENTS[request.param]:
        pytest.importorskip(package)
    job: Any = catalogue.load(request.param)
    if request.param == "photos" and not job.find_photos():
        pytest.skip("the installed scikit-image has no photographs")
    yield job


@pytest.mark.timeout_s(60)
def test_every_variant_on_fastpool_gives_the_result_of_the_serial_one(job: catalogue.Job) -> None:
    given = job.make_input(quick=True)
    right = job.VARIANTS["serial"](given, TWO)
    job.check(right)
    variants = [name for name in catalogue.variants_of(job) if rival_of(name) == "fastpool"]
    assert "fastpool" in variants
    for name in variants:
        assert job.same(right, job.VARIANTS[name](given, TWO)), name


def test_every_job_has_a_variant_for_each_rival(job: catalogue.Job) -> None:
    from jobs.pools import PACKAGES

    assert {rival_of(name) for name in job.VARIANTS} == set(PACKAGES)


def test_speed_and_cpu_time_are_ratios_to_multiprocessing() -> None:
    outcomes = [
        Outcome("multiprocessing", summarise([2.0]), summarise([4.0])),
        Outcome("fastpool", summarise([1.0]), summarise([3.0])),
    ]
    _, theirs, ours = table.rows("job", outcomes, others=0.0)
    assert (theirs[2], theirs[4]) == ("1.00x", "1.00x")
    assert (ours[2], ours[4]) == ("2.00x", "0.75x")


@pytest.mark.timeout_s(60)
def test_the_command_runs_a_job_in_programs_of_its_own_and_prints_the_table() -> None:
    command = [sys.executable, str(BENCHMARKS / "jobs"), "--quick", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--jobs", "life", "--pools", "serial", "multiprocessing", "fastpool"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert "Life, step by step" in done.stdout
    assert "1.00x" in done.stdout and "fastpool map_blocks" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "/no/such/folder/a.json"], "/no/such/folder/a.json can't be written"),
        (["--rounds", "0"], "'0' is no positive whole number"),
        (["--processes", "-1"], "'-1' is no positive whole number"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    arguments: list[str], words: str
) -> None:
    command = [sys.executable, str(BENCHMARKS / "jobs"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (2, "") and words in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_leaves_no_program_and_no_file(
    number: signal.Signals, tmp_path: Path
) -> None:
    run = subprocess.Popen(
        [sys.executable, str(BENCHMARKS / "jobs"), "--jobs", "montecarlo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    deadline = time.monotonic() + 20
    while len(family := processes.family(run.pid)) < 2:  # it, and the program of a run
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    _, said = run.communicate(timeout=20)
    assert run.returncode == 128 + number
    assert said.strip() == f"stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}"
    assert not any(Path(f"/proc/{pid}").exists() for pid in family)
    assert list(tmp_path.iterdir()) == []
