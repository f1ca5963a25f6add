"""What was packed. Usage: check_dist.py FILE...

A wheel has no sources and no tests, one licence, type information, and is small. An sdist has the
files that git tracks, all of them, and what setuptools adds; where this is no checkout, there is
nothing to compare it with.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".c", ".h", ".pyx", ".pxd", ".pxi", ".o", ".cpp"}
LARGEST_WHEEL = 1_000_000  # bytes
PARTS = ("fastpool/py.typed", "fastpool/__init__.py", "fastpool/_core/_segment.pyi")
CORE = "fastpool/_core/_segment.cpython-"  # not in the wheel for Windows
ADDED = {"PKG-INFO", "setup.cfg"}  # to an sdist, and src/fastpool.egg-info/


def check_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]  # no folders
    wrong = [f"source in the wheel: {n}" for n in names if PurePosixPath(n).suffix in SOURCES]
    wrong += [f"not in the wheel: {part}" for part in PARTS if part not in names]
    for name in names:
        top = PurePosixPath(name).parts[0]
        if top != "fastpool" and not top.endswith(".dist-info"):
            wrong.append(f"in the wheel, beside the package: {name}")
    untyped = sorted(
        name
        for name in names
        if PurePosixPath(name).match("fastpool/_core/*.so")
        and not name.startswith("fastpool/_core/_cython.")
        and f"fastpool/_core/{PurePosixPath(name).name.partition('.')[0]}.pyi" not in names
    )
    wrong += [f"without type information: {name}" for name in untyped]
    licences = [name for name in names if ".dist-info/licenses/" in name]
    if len(licences) != 1:
        wrong.append(f"licences, of which there should be one: {licences}")
    if any(n.startswith(CORE) for n in names) == ("-none-" in path.name):
        wrong.append("a native core in a wheel for any Python, or none in another")
    if path.stat().st_size >= LARGEST_WHEEL:
        wrong.append(f"{path.stat().st_size} bytes, more than a wheel should have")
    return wrong


def is_checkout() -> bool:
    """Not by git itself, which would take a checkout around this tree for it."""
    return (ROOT / ".git").exists()


def tracked_files() -> list[str]:
    """What git tracks, in a checkout."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE)
    if listing.returncode:
        sys.exit("git, which has said why, can't tell what it tracks here")
    return [name for name in os.fsdecode(listing.stdout).split("\0") if name]


def check_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        files = [member.name for member in archive if not member.isdir()]
    names = {name.partition("/")[2] for name in files}
    packed = {n for n in names - ADDED if not n.startswith("src/fastpool.egg-info/")}
    tracked = set(tracked_files())
    return [f"not in the sdist: {name}" for name in sorted(tracked - packed)] + [
        f"in the sdist, but not tracked: {name}" for name in sorted(packed - tracked)
    ]


def main(paths: list[str]) -> int:
    wrong = []
    for path in map(Path, paths):
        if path.suffix != ".whl" and not is_checkout():
            print(f"{path.name}: not compared with what git tracks, as this is no checkout")
            continue
        found = check_wheel(path) if path.suffix == ".whl" else check_sdist(path)
        print(f"{path.name}: {'wrong' if found else f'complete, {path.stat().st_size} bytes'}")
        wrong += found
    print("".join(f"  {line}\n" for line in wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
