"""The instruction counts that the repository keeps, and what is too far from them.

There is a table for each minor version of Python: from 3.11 to 3.13 alone, the same sources take up
to 45 % more.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

#: The same compiler, Cython and Python give the same count within 0.5 %, and within this on a
#: crowded machine; a C library and a processor of another kind (memcpy has a variant for each) make
#: less.
TOLERANCE = 0.03
#: Another compiler, or another Cython, makes others of the same sources.
LOOSE_TOLERANCE = 0.15


@dataclass(frozen=True)
class Toolchain:
    """What counts depend on, beside the sources.

    Attributes
    ----------
    machine : str
        The instruction set.
    compiler : str
        The first line that it says of its version.
    cython : str
        The version of what writes the C for it.
    python : str
        Implementation, major and minor version.
    """

    machine: str
    compiler: str
    cython: str
    python: str


@dataclass(frozen=True)
class Table:
    """Instructions per item, by path, and what compiled them."""

    toolchain: Toolchain
    paths: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """One path, now and in the table.

    Attributes
    ----------
    path : str
    now, then : float or None
        None: there is no such path.
    tolerance : float
        By what part more is too much.
    """

    path: str
    now: float | None
    then: float | None
    tolerance: float

    @property
    def change(self) -> float | None:
        """By what part there are more now."""
        if self.now is None or not self.then:
            return None
        return self.now / self.then - 1

    @property
    def is_too_much(self) -> bool:
        """Whether it fails the check: a path that is not counted any more does, too."""
        if self.change is None:
            return self.now is None
        return self.change > self.tolerance

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.then is None:
            return "new"
        if self.now is None:
            return "GONE"
        if self.is_too_much:
            return "MORE"
        assert self.change is not None
        return "less" if self.change < -self.tolerance else ""


def this_toolchain() -> Toolchain:
    """Ask the compiler that the extensions are built with, and Python."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    said = subprocess.run([command, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    major, minor, _ = platform.python_version_tuple()
    return Toolchain(
        platform.machine(),
        said.stdout.partition("\n")[0].strip(),
        version("cython"),
        f"{platform.python_implementation()} {major}.{minor}",
    )


def find_table(tables: Iterable[Table], here: Toolchain) -> Table | None:
    """The table of this instruction set and this Python, if there is one."""
    for table in tables:
        if _key(table.toolchain) == _key(here):
            return table
    return None


def _key(toolchain: Toolchain) -> tuple[str, str]:
    return toolchain.machine, toolchain.python


def tolerance_for(table: Toolchain, here: Toolchain) -> float:
    """How far above the table's count a count may be, as a part of it; both of one Python."""
    return TOLERANCE if table == here else LOOSE_TOLERANCE


def compare(table: Table, now: Mapping[str, float], tolerance: float) -> list[Comparison]:
    """Set every path that is in the table, or was counted now, beside the other."""
    paths = [*now, *(path for path in table.paths if path not in now)]
    return [Comparison(path, now.get(path), table.paths.get(path), tolerance) for path in paths]


def read_tables(file: Path) -> list[Table]:
    """Read what `write_table` has written; none if there is no such file."""
    if not file.exists():
        return []
    records = json.loads(file.read_text())
    return [Table(Toolchain(**record["toolchain"]), record["paths"]) for record in records]


def write_table(file: Path, new: Table) -> None:
    """Keep a table, in the place of the one of the same instruction set and Python.

    Counts are rounded as far as they repeat.
    """
    others = [table for table in read_tables(file) if _key(table.toolchain) != _key(new.toolchain)]
    records = [
        {
            "toolchain": asdict(table.toolchain),
            "paths": {path: round(number, 1) for path, number in table.paths.items()},
        }
        for table in sorted([*others, new], key=lambda table: _key(table.toolchain))
    ]
    file.write_text(json.dumps(records, indent=2) + "\n")
