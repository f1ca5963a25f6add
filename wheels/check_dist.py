"""What was packed. Usage: check_dist.py FILE...

Everything is compared with this tree. A wheel has the package's Python files and type information
as they are here, an extension for each .pyx where it is native, one licence, what wheels say of
themselves, nothing else, and is small. An sdist has the files that git tracks, as they are here,
and what setuptools adds; where this is no checkout, there is nothing to compare it with.
"""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST_WHEEL = 1_000_000  # bytes
SHARED = "fastpool/_core/_cython"  # an extension that all others use, and nobody imports
OF_ITSELF = ("METADATA", "RECORD", "WHEEL", "top_level.txt")  # what a wheel says
ADDED = {"PKG-INFO", "setup.cfg"}  # to an sdist, and src/fastpool.egg-info/


def check_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    version, _, abi, _ = path.stem.split("-", 1)[1].rsplit("-", 3)
    about = f"fastpool-{version}.dist-info"
    files = {name.removeprefix("src/"): ROOT / name for name in source_files()}
    expected = {name: file for name, file in files.items() if is_packed(name)}
    expected[f"{about}/licenses/LICENSE"] = ROOT / "LICENSE"
    written = {f"{about}/{name}" for name in OF_ITSELF}
    wrong = compared(found, expected, written)
    modules = [] if abi == "none" else native_modules(files)
    wrong += [
        f"without type information: {module}"
        for module in modules
        if f"{module}.pyi" not in found and module != SHARED
    ]
    extra = set(found) - set(expected) - written
    for module in modules:
        fitting = re.compile(rf"{module}\.cpython-{abi.removeprefix('cp')}-[\w-]+\.so")
        built = {name for name in extra if fitting.fullmatch(name)}
        if len(built) != 1:
            wrong.append(f"of {module}, {len(built)} extensions for {abi}")
        extra -= built
    wrong += [f"in the wheel, without being of it: {name}" for name in sorted(extra)]
    if f"\nVersion: {version}\n".encode() not in found.get(f"{about}/METADATA", b""):
        wrong.append(f"a name with the version {version}, which the metadata don't have")
    if path.stat().st_size >= LARGEST_WHEEL:
        wrong.append(f"{path.stat().st_size} bytes, more than a wheel should have")
    return wrong


def is_packed(name: str) -> bool:
    """Whether a file of the source tree, below src/, is one of the wheel's."""
    return name.startswith("fastpool/") and name.endswith((".py", ".pyi", "/py.typed"))


def native_modules(files: dict[str, Path]) -> list[str]:
    """Each .pyx makes one, and there is one that these share."""
    ours = [name.removesuffix(".pyx") for name in files if name.endswith(".pyx")]
    return [*sorted(ours), SHARED]


def compared(found: dict[str, bytes], expected: dict[str, Path], written: set[str]) -> list[str]:
    """What is missing, and what differs from its file here."""
    missing = sorted((set(expected) | written) - set(found))
    return [f"missing: {name}" for name in missing] + [
        f"not as it is here: {name}"
        for name, file in sorted(expected.items())
        if name in found and (not file.exists() or found[name] != file.read_bytes())
    ]


def is_checkout() -> bool:
    """Not by git itself, which would take a checkout around this tree for it."""
    return (ROOT / ".git").exists()


def tracked_files() -> list[str]:
    """What git tracks, in a checkout."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE)
    if listing.returncode:
        sys.exit("git, which has said why, can't tell what it tracks here")
    return [name for name in os.fsdecode(listing.stdout).split("\0") if name]


def source_files() -> list[str]:
    """The files of the package: in a checkout those that are tracked, else all."""
    if is_checkout():
        return [name for name in tracked_files() if name.startswith("src/")]
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file())
    return [path.relative_to(ROOT).as_posix() for path in files]


def check_sdist(path: Path) -> list[str]:
    top = path.name.removesuffix(".tar.gz") + "/"
    found, elsewhere = {}, []
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isdir():
                continue
            file = archive.extractfile(member) if member.isfile() else None
            if file is None or not member.name.startswith(top):
                elsewhere.append(f"not a file below {top}: {member.name}")
            else:
                found[member.name.removeprefix(top)] = file.read()
    tracked = {name: ROOT / name for name in tracked_files()}
    more = {name for name in set(found) - ADDED if not name.startswith("src/fastpool.egg-info/")}
    return [
        *elsewhere,
        *compared(found, tracked, set()),
        *(f"in the sdist, but not tracked: {name}" for name in sorted(more - set(tracked))),
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
