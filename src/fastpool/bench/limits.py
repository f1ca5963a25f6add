"""``benchmarks/c/limits.c`` of the repository: how fast the machine could be without Python."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpool.bench import formats

TITLES = {
    "pingpong": "cache line there and back",
    "memcpy": "memcpy to warm shared memory",
    "firsttouch": "memcpy to untouched shared memory",
}


PATIENCE = 30.0  # seconds; and one more for each millisecond, far above what it takes


class LimitsUnavailableError(RuntimeError):
    """There is no C compiler, no make, or the program did not run."""


@dataclass(frozen=True)
class Limit:
    """One line of the C program.

    Attributes
    ----------
    name, wait : str
        What was measured, and how its processes waited; bandwidths have no `wait`.
    unit : str
        ``"s"`` or ``"GiB/s"``.
    p50, tail : float
        The median, and the 90th percentile of times or the 10th of bandwidths.
    """

    name: str
    wait: str
    unit: str
    p50: float
    tail: float

    @property
    def workers(self) -> int:
        """How many processes answered the caller; 0 where there were none."""
        return int(self.name.removeprefix("forkjoin")) if self.name.startswith("forkjoin") else 0

    @property
    def title(self) -> str:
        """What the table calls it."""
        many = "s" if self.workers > 1 else ""
        known = f"fork-join, caller and {self.workers} worker{many}"
        return TITLES.get(self.name, known) + (f", {self.wait}" if self.wait else "")

    def format(self, value: float) -> str:
        """Write one of its figures with its unit."""
        if self.unit == "s":
            return formats.format_time(value)
        return f"{formats.format_number(value)} {self.unit}"


def build(folder: Path) -> Path:
    """Build the C program, if need be.

    Parameters
    ----------
    folder : Path
        Where its Makefile is.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    LimitsUnavailableError
        If it can't be built here; the text says why.
    """
    try:
        # A make that runs this program hands down its flags, which are not meant for this one.
        environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
        subprocess.run(["make", "-s", "-C", str(folder)], check=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LimitsUnavailableError(str(error)) from error
    return folder / "build" / "limits"


def measure(program: Path, milliseconds: int) -> list[Limit]:
    """Run the C program.

    Parameters
    ----------
    program : Path
        As `build` returned it.
    milliseconds : int
        The time given to each of its measurements, of which there are eleven on two CPUs.

    Returns
    -------
    list of Limit

    Raises
    ------
    LimitsUnavailableError
        If it doesn't run here, or is another program; the text says why.
    """
    command = [str(program.resolve()), str(milliseconds)]
    try:
        output = subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE + milliseconds,
        ).stdout
        return [_parse(json.loads(line)) for line in output.splitlines()]
    except (OSError, subprocess.SubprocessError) as error:
        raise LimitsUnavailableError(str(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LimitsUnavailableError(f"{program} is not benchmarks/c/limits") from error


def _parse(record: dict[str, Any]) -> Limit:
    scale, unit = (1e-9, "s") if record["unit"] == "ns" else (1.0, record["unit"])
    return Limit(
        name=record["name"],
        wait=record.get("wait", ""),
        unit=unit,
        p50=record["p50"] * scale,
        tail=record["tail"] * scale,
    )
