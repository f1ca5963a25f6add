"""Runs the commands that a wheel is made and tried with."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


class Failed(Exception):
    """A command went wrong; what it printed is shown already."""


@dataclass
class Steps:
    """Commands with their output in one file, which is shown only where one of them fails."""

    log: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Returns what the command prints.

        Raises
        ------
        Failed
            It ended with another status than 0.
        """
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **self.environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        line = " ".join(map(str, command))
        with self.log.open("a") as log:
            print(f"$ {line}\n{done.stdout}", file=log)
        if done.returncode != 0:
            print(*done.stdout.splitlines()[-40:], sep="\n", flush=True)
            raise Failed(f"status {done.returncode} from {line[:200]}, see {self.log}")
        return done.stdout
