"""Many programs, each hit in another way, some at a time."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.scripts import TESTS_DIRECTORY, Script, python_path

HERE = TESTS_DIRECTORY / "crash"
AT_A_TIME = 2

SOURCE = """
    import helpers  # which has SIGUSR2 show the stacks
    from {module} import main

    if __name__ == "__main__":
        main()
"""


class Verdict(NamedTuple):
    """How a case went: what was wrong, or None; and whether it met what it was made for."""

    wrong: str | None
    met: bool


class Sweep:
    """Runs cases, some at a time; says at the end which went wrong."""

    def __init__(self, directory: Path, config: pytest.Config, say: Callable[[str], None]) -> None:
        self.directory = directory
        self.say = say
        self.seconds: float | None = config.getoption("--sample")
        self.only: str | None = config.getoption("--case")
        seed: int | None = config.getoption("--seed")
        self.seed = random.SystemRandom().randrange(10**6) if seed is None else seed
        self._count = 0

    def program(self, *arguments: str, module: str = "crash_subject", **environment: str) -> Script:
        """Start the program that is to be hit."""
        self._count += 1
        return Script(
            self.directory / str(self._count),
            SOURCE.format(module=module),
            arguments=arguments,
            environment={"PYTHONPATH": f"{python_path()}{os.pathsep}{HERE}", **environment},
        )

    def forget(self, script: Script) -> None:
        """End what is left of a program, and its files."""
        script.close()
        shutil.rmtree(script.stdout_path.parent)

    def run(
        self,
        what: str,
        cases: Sequence[Any],
        run_one: Callable[[Any], Verdict],
        share: float = 1.0,
    ) -> None:
        """Run all cases, or as many as there is time for; fail if one went wrong.

        `share`: of the seconds of a sample.
        """
        cases = list(cases)
        random.Random(self.seed).shuffle(cases)
        if self.only is not None:
            cases = [case for case in cases if str(case) == self.only]
        deadline = None if self.seconds is None else time.monotonic() + share * self.seconds

        def run_in_time(case: Any) -> tuple[Any, Verdict] | None:
            if deadline is not None and time.monotonic() > deadline:
                return None
            return case, run_one(case)

        with ThreadPoolExecutor(AT_A_TIME) as threads:
            done = [entry for entry in threads.map(run_in_time, cases) if entry is not None]
        missed = [str(case) for case, verdict in done if not verdict.met]
        wrong = [f"=== {case}\n{v.wrong}" for case, v in done if v.wrong is not None]
        self.say(
            f"{what}: {len(done)} of {len(cases)} cases, seed {self.seed}; "
            f"{len(missed)} did not come about, {len(wrong)} went wrong"
        )
        if missed:
            self.say("  did not come about: " + " ".join(sorted(missed)))
        assert not wrong, f"{len(wrong)} cases, seed {self.seed}:\n" + "\n".join(wrong)
