"""Which CPythons this machine has, and what a wheel for each of them is linked against."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OLDEST = (3, 10)
GLIBC = "2.17"  # the oldest that wheels are still asked for: manylinux2014
MUSL = "1.2"

PROBE = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "executable": sys.executable,
    "version": sys.version_info[:2],
    "release": sys.version.split()[0],
    "is_cpython": sys.implementation.name == "cpython",
    "is_virtual": sys.prefix != sys.base_prefix,
    "abi": sysconfig.get_config_var("SOABI"),
    "machine": sysconfig.get_platform().rpartition("-")[2],
    "lacks": [
        what for what, is_there in {
            "Python.h": os.path.exists(sysconfig.get_path("include") + "/Python.h"),
            "ensurepip": importlib.util.find_spec("ensurepip"),
        }.items() if not is_there
    ],
}))
"""


@dataclass(frozen=True)
class Target:
    """The system that a wheel is for."""

    machine: str
    libc: str  # gnu or musl

    @property
    def triple(self) -> str:
        """As zig names it; the version is that of the C library to link against."""
        version = "" if self.libc == "musl" else f".{GLIBC}"
        return f"{self.machine}-linux-{self.libc}{version}"

    @property
    def platform(self) -> str:
        """As pip names it."""
        name, version = ("musllinux", MUSL) if self.libc == "musl" else ("manylinux", GLIBC)
        return f"{name}_{version.replace('.', '_')}_{self.machine}"


@dataclass(frozen=True)
class Interpreter:
    executable: str
    release: str
    abi: str
    target: Target
    lacks: tuple[str, ...]
    """What of it is missing, so that nothing can be built with it."""

    @property
    def name(self) -> str:
        """Short and unique among those that can have different wheels: 313-musl, 313t-gnu."""
        return f"{self.abi.split('-')[1]}-{self.target.libc}"


def ask(executable: str | Path) -> Interpreter | None:
    """What this program is, if it is a CPython that fastpool is for."""
    try:
        answer = subprocess.run(
            [executable, "-I", "-c", PROBE], capture_output=True, timeout=60, check=True
        )
        told = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None  # a shim of a version that isn't there, for example
    if not told["is_cpython"] or told["is_virtual"] or tuple(told["version"]) < OLDEST:
        return None
    libc = "musl" if told["abi"].endswith("musl") else "gnu"
    return Interpreter(
        told["executable"],
        told["release"],
        told["abi"],
        Target(told["machine"], libc),
        tuple(told["lacks"]),
    )


def candidates() -> Iterable[Path]:
    """Programs that may be a CPython: those on the path, then pyenv's."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += sorted(pyenv.glob("versions/*/bin"))
    for folder in folders:
        yield from sorted(folder.glob("python3.[1-9][0-9]"))
        yield from sorted(folder.glob("python3.[1-9][0-9]t"))


def found() -> list[Interpreter]:
    """One for each kind of wheel, oldest Python first; rather one that lacks nothing."""
    kinds: dict[str, Interpreter] = {}
    for path in candidates():
        interpreter = ask(path)
        if interpreter is None:
            continue
        before = kinds.get(interpreter.name)
        if before is None or (before.lacks and not interpreter.lacks):
            kinds[interpreter.name] = interpreter
    return [kinds[name] for name in sorted(kinds)]
