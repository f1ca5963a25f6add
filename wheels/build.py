"""Wheels for every CPython of this machine, built and tried out without a container.

zig's compiler brings the stubs of old C libraries to link against, so that what is built on a new
system runs on an old one; auditwheel has the last word on that. Each wheel is built from the sdist,
put into a clean environment, and has to pass the smoke test and the contract tests there.

Writes dist/ and build/wheels/ only. Usage: build.py [--tests brief|usual|all] [PYTHON...]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tarfile
import time
from pathlib import Path

import interpreters
import trial
from interpreters import Interpreter, Target
from packing import pack_zip
from steps import Failed, Steps

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
WORK = ROOT / "build" / "wheels"
COLUMNS = ("CPython", "wheel", "bytes", "newest symbol", "smoke test", "contract tests", "seconds")


def make_sdist() -> Path:
    """The sdist in dist/; what it was made into is unpacked in the folder that is returned."""
    steps = Steps(WORK / "sdist.log")
    made = WORK / "sdist"
    shutil.rmtree(made, ignore_errors=True)
    steps.run(sys.executable, "-m", "build", "-nq", "--sdist", "--outdir", made, ROOT)
    [packed] = made.glob("*.tar.gz")
    steps.run(sys.executable, ROOT / "wheels" / "check_dist.py", packed)
    with tarfile.open(packed) as archive:
        archive.extractall(made)
    DIST.mkdir(exist_ok=True)
    shutil.copy(packed, DIST)
    return made / packed.name.removesuffix(".tar.gz")


def compiler(target: Target) -> dict[str, str]:
    """The environment in which setuptools compiles and links for that system."""
    import ziglang  # type: ignore[import-untyped]

    zig = Path(ziglang.__file__).with_name("zig")
    # Debian keeps a part of Python's headers beside those of its own C library: these come last.
    cc = shlex.join([str(zig), "cc", "-target", target.triple, "-idirafter", "/usr/include"])
    cache = str(WORK / "zig")
    return {
        "CC": cc,
        "LDSHARED": f"{cc} -shared",
        "ZIG_GLOBAL_CACHE_DIR": cache,
        "ZIG_LOCAL_CACHE_DIR": cache,
    }


def newest_symbol(steps: Steps, wheel: Path, target: Target) -> str:
    """The newest version of the C library that the wheel asks for, as auditwheel sees it.

    Raises
    ------
    Failed
        The wheel isn't what its name says.
    """
    shown = steps.run("auditwheel", "show", "--json", wheel)
    report = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    if report["overall_tag"] != target.platform:
        raise Failed(f"{wheel.name} is in truth {report['overall_tag']}")
    versions = [name for library in report["versioned_symbols"].values() for name in library]
    numbers = [name.split("_")[1].split(".") for name in versions]
    return ".".join(max(numbers, key=lambda number: list(map(int, number)), default=["none"]))


def name_musl(steps: Steps, built: Path, target: Target) -> None:
    """Name the C library as Alpine does: zig's stub of it is plainly libc.so."""
    folder = built.parent / "unpacked"
    steps.run("wheel", "unpack", "-d", folder, built)
    [unpacked] = folder.iterdir()
    name = f"libc.musl-{target.machine}.so.1"
    extensions = sorted(unpacked.rglob("*.so"))
    steps.run("patchelf", "--replace-needed", "libc.so", name, *extensions)
    steps.run("wheel", "pack", "-d", built.parent, unpacked)


def repair(steps: Steps, built: Path, target: Target, folder: Path) -> Path:
    """Give it the tag of the systems that it runs on, and the date that all archives have."""
    # Where glibc is, auditwheel takes no other name for musl.
    platform = "auto" if target.libc == "musl" else target.platform
    steps.run("auditwheel", "repair", "--plat", platform, "-w", folder, built)
    [wheel] = folder.glob(f"{'-'.join(built.name.split('-')[:4])}-*{target.platform}.whl")
    pack_zip(wheel)
    return wheel


def make_wheel(steps: Steps, python: Path, source: Path, target: Target) -> Path:
    """From the unpacked sdist into dist/."""
    raw = steps.log.parent / "raw"
    steps.run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", raw, source)
    [built] = raw.glob("*.whl")
    if target.libc == "musl":
        name_musl(steps, built, target)
    wheel = repair(steps, built, target, DIST)
    steps.run(sys.executable, ROOT / "wheels" / "check_dist.py", wheel)
    return wheel


def missing(interpreter: Interpreter) -> str:
    return f"it has no {' and no '.join(interpreter.lacks)}"


def row(interpreter: Interpreter, source: Path, extent: str) -> tuple[str, ...]:
    """Build and try one wheel; a line of the table."""
    began = time.monotonic()
    if interpreter.lacks:
        return (interpreter.release, f"skipped: {missing(interpreter)}")
    folder = WORK / interpreter.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps = Steps(folder / "log", {**compiler(interpreter.target), "PYTHONDONTWRITEBYTECODE": "1"})
    steps.run(interpreter.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    wheel = make_wheel(steps, python, source, interpreter.target)
    trial.install(steps, python, wheel)
    return (
        interpreter.release,
        wheel.name,
        str(wheel.stat().st_size),
        newest_symbol(steps, wheel, interpreter.target),
        trial.smoke(steps, python, source),
        trial.contract(steps, python, source, extent),
        f"{time.monotonic() - began:.0f}",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Wheels for every CPython of this machine.")
    parser.add_argument("--tests", choices=("brief", "usual", "all"), default="usual")
    parser.add_argument("pythons", nargs="*", help="instead of those on the path and of pyenv")
    options = parser.parse_args()
    wanted = []
    for python in options.pythons:
        interpreter = interpreters.ask(shutil.which(python) or python)
        if interpreter is None or interpreter.lacks:
            parser.error(f"{python} is no CPython from 3.10 on that something can be built with")
        wanted.append(interpreter)
    wanted = wanted or interpreters.found()
    if all(interpreter.lacks for interpreter in wanted):
        seen = "".join(f"\n  {each.executable}: {missing(each)}" for each in wanted)
        parser.error(f"there is no CPython from 3.10 on that something can be built with{seen}")

    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    WORK.mkdir(parents=True, exist_ok=True)
    source = make_sdist()
    failures = 0
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for interpreter in wanted:
        try:
            cells = row(interpreter, source, options.tests)
        except Failed as failed:
            failures += 1
            cells = (interpreter.release, f"FAILED: {failed}")
        cells += ("",) * (len(COLUMNS) - len(cells))
        print(f"| {' | '.join(cells)} |", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
