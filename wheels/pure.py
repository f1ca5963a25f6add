"""The wheel for Windows, of Python alone: built from the sdist in dist/ and tried, on any system.

Writes dist/ and build/pure/ only. Usage: pure.py [OPTION OF PIP...], such as --no-build-isolation
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from steps import Failed, Steps

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
WORK = ROOT / "build" / "pure"


def main(options: list[str]) -> int:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for old in DIST.glob("fastpool-*-none-win*.whl"):
        old.unlink()
    [sdist] = DIST.glob("fastpool-*.tar.gz")
    installed = WORK / "installed"
    steps = Steps(WORK / "log", {"FASTPOOL_PURE": "windows", "PYTHONPATH": str(installed)})
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    steps.run(*pip, "wheel", "-q", "--no-deps", "-w", DIST, *options, sdist)
    [wheel] = DIST.glob("fastpool-*-none-win*.whl")
    print(steps.run(sys.executable, ROOT / "wheels" / "check_dist.py", wheel), end="")
    # Told what to install for, pip looks at the wheel as it does on Windows.
    target = ("--platform", "win_amd64", "--only-binary", ":all:", "--target", installed)
    steps.run(*pip, "install", "-q", "--no-deps", "--no-index", *target, wheel)
    print(steps.run(sys.executable, ROOT / "wheels" / "smoke_test.py", "--pure"), end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
