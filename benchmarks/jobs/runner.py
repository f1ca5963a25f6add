"""Run the variants of a job in rounds, check what they return, and count the CPU time of all."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fastpool.bench import processes, stopping
from fastpool.bench.formats import show_progress
from fastpool.bench.timing import Summary, interleave, summarise
from jobs.catalogue import Job
from jobs.program import cpu_seconds

PR_SET_CHILD_SUBREAPER = 36
LIMIT = 600.0  # seconds for one run of one variant
PATIENCE = 15.0  # seconds for what a variant left running, after its program has ended
STDLIB = "multiprocessing"


class RunFailedError(RuntimeError):
    """A variant raised, hung, or returned something else than the others."""


@dataclass(frozen=True)
class Outcome:
    """What was measured of one variant.

    Attributes
    ----------
    variant : str
        Its name.
    wall, cpu : Summary
        Seconds of every round: of the clock, and of all its processes on all CPUs.
    """

    variant: str
    wall: Summary
    cpu: Summary


def adopt_orphans() -> None:
    """Become the parent of what a program leaves behind, so that its CPU time is counted, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(frozen=True)
class Runner:
    """Runs variants of one job.

    Attributes
    ----------
    name : str
        Of the job.
    job : Job
        Its module.
    processes : int
        Workers of each pool.
    quick : bool
        The small input.
    """

    name: str
    job: Job
    processes: int
    quick: bool

    def run_once(self, variant: str, right: Any = None) -> tuple[float, float, Any]:
        """Run a variant in a program of its own.

        Parameters
        ----------
        variant : str
            Which one.
        right : object, optional
            What it has to return, if known.

        Returns
        -------
        tuple
            Seconds of wall time, of CPU time, and the result.

        Raises
        ------
        RunFailedError
            With what the program wrote to stderr.
        """
        folder = Path(__file__).resolve().parent.parent
        with tempfile.TemporaryDirectory() as place:
            file, words = Path(place, "result"), Path(place, "stderr")
            size = "quick" if self.quick else "full"
            command = [sys.executable, "-m", "jobs.program", self.name, variant]
            with words.open("wb") as stderr:
                try:
                    with stopping.held_back():
                        program = subprocess.Popen(
                            [*command, str(self.processes), size, str(file)],
                            env={**os.environ, "PYTHONPATH": _path_with(folder)},
                            stdout=subprocess.PIPE,
                            stderr=stderr,
                        )
                    line, status, cpu = _wait_for_all(program)
                except BaseException:  # Ctrl-C, most likely
                    with stopping.held_back():
                        _kill_all()
                    raise
            if status or not line:
                text = words.read_text(errors="replace")[-3000:]
                raise RunFailedError(f"{self.name}, {variant}: exit status {status}\n{text}")
            result = pickle.loads(file.read_bytes())
        told = json.loads(line)
        try:
            self.job.check(result)
        except AssertionError as error:
            raise RunFailedError(f"{self.name}, {variant}: no such result: {error}") from error
        if right is not None and not self.job.same(right, result):
            raise RunFailedError(f"{self.name}, {variant}: not the result of the serial variant")
        return told["wall"], cpu - told["not_the_job"], result

    def measure(
        self, variants: Sequence[str], rounds: int, shuffle: random.Random
    ) -> tuple[list[Outcome], float]:
        """Measure variants in interleaved rounds, each result checked against the serial one.

        Parameters
        ----------
        variants : sequence of str
            Their names.
        rounds : int
            How often.
        shuffle : random.Random
            Draws the orders.

        Returns
        -------
        tuple
            The outcomes, and what others took of the CPUs, in percent of one.
        """
        show_progress(f"{self.job.TITLE}: serial, for the right result")
        right = self.run_once("serial")[2]
        cpu: dict[str, list[float]] = {variant: [] for variant in variants}

        def rival(variant: str) -> float:
            show_progress(f"{self.job.TITLE}: {variant}, round {len(cpu[variant]) + 1}/{rounds}")
            wall, used, _ = self.run_once(variant, right)
            cpu[variant].append(used)
            return wall

        calls = {variant: lambda variant=variant: rival(variant) for variant in variants}
        measured = interleave(calls, rounds, shuffle)
        show_progress("")
        outcomes = [
            Outcome(variant, summarise(measured.figures[variant]), summarise(cpu[variant]))
            for variant in variants
        ]
        return outcomes, measured.others


def _path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def _kill_descendants() -> None:
    """All but the resource trackers, which then remove what the others had named, and end."""
    for child in psutil.Process().children(recursive=True):
        if not processes.is_resource_tracker(child.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _kill_all() -> None:
    """Kill all descendants until there are none: one may be starting another just now."""
    while True:
        _kill_descendants()
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _wait_for_all(program: subprocess.Popen[bytes]) -> tuple[bytes, int, float]:
    """The program's output, its exit status, and the CPU time of it and all its descendants.

    Whatever outlives it comes to this process as an orphan. What doesn't end in time is killed,
    and counts nevertheless.
    """
    end, patient, status, cpu, line = time.monotonic() + LIMIT, False, None, 0.0, b""
    while True:
        try:
            pid, code, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:  # nobody is left
            break
        if pid:
            cpu += cpu_seconds(usage)
            if pid == program.pid:
                status = program.returncode = os.waitstatus_to_exitcode(code)
        elif time.monotonic() > end:
            _kill_descendants()
            end = time.monotonic() + PATIENCE
        else:
            time.sleep(0.01)
        if status is not None and not patient:
            patient, end = True, min(end, time.monotonic() + PATIENCE)
    assert program.stdout is not None
    with program.stdout as stream:
        line = stream.read()
    return line.strip(), status if status is not None else -1, cpu
