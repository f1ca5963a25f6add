"""What was packed: a wheel has no sources, an sdist all. Usage: check_dist.py FILE..."""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".c", ".h", ".pyx", ".pxd", ".pxi", ".o"}
PACKED = ("src/fastpool", "csrc", "tests", "wheels")  # whole, but for what was built or cached
BUILT = {".so", ".o", ".pyc", ".pyo"}
SKIPPED = {"__pycache__", "build", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
LARGEST_WHEEL = 1_000_000  # bytes
PARTS = ("fastpool/py.typed", "fastpool/__init__.py", "fastpool/_core/_segment.pyi")
CORE = "fastpool/_core/_segment.cpython-"  # not in the wheel for Windows


def check_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    wrong = [f"source in the wheel: {n}" for n in names if PurePosixPath(n).suffix in SOURCES]
    wrong += [f"not in the wheel: {part}" for part in PARTS if part not in names]
    if any(n.startswith(CORE) for n in names) == ("-none-" in path.name):
        wrong.append("a native core in a wheel for any Python, or none in another")
    if path.stat().st_size >= LARGEST_WHEEL:
        wrong.append(f"{path.stat().st_size} bytes, more than a wheel should have")
    return wrong


def check_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wrong = []
    for folder in PACKED:
        for file in sorted((ROOT / folder).rglob("*")):
            name = file.relative_to(ROOT)
            if not file.is_file() or file.suffix in BUILT or SKIPPED & set(name.parts):
                continue
            if name.as_posix() not in names:
                wrong.append(f"not in the sdist: {name}")
    return wrong


def main(paths: list[str]) -> int:
    wrong = []
    for path in map(Path, paths):
        found = check_wheel(path) if path.suffix == ".whl" else check_sdist(path)
        print(f"{path.name}: {'wrong' if found else 'complete'}")
        wrong += found
    print("".join(f"  {line}\n" for line in wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
