"""Build sdist and wheel twice, as two strangers would: are they the same bytes?

    python wheels/reproducible.py OUTDIR

Each stranger has the tracked files in a folder of their own, with other dates, permissions and
umask, another language, time zone and seed of hashes, and builds the wheel from the sdist. OUTDIR
gets what the first has built. This needs `build`, and what `pyproject.toml` requires for one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from check_dist import is_checkout, tracked_files

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stranger:
    folder: str
    umask: int
    date: int  # of all files
    environment: dict[str, str]

    def copy(self, work: Path) -> Path:
        """Copy the tracked files; the folder of this stranger's own."""
        home = work / self.folder
        for name in tracked_files():
            copy = home / "sources" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy)
            executable = os.access(ROOT / name, os.X_OK)
            copy.chmod((0o777 if executable else 0o666) & ~self.umask)
            os.utime(copy, (self.date, self.date))
        return home

    def build(self, home: Path) -> Path:
        """Build what was copied; the folder of what was built."""
        dist = home / "dist"
        inherited = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
        built = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, home / "sources"],
            cwd=home,
            env={**inherited, **self.environment, "HOME": str(home)},
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if built.returncode:
            sys.exit(f"{built.stdout}\nthe build failed: see above")
        return dist


STRANGERS = (
    Stranger(
        folder="one",
        umask=0o022,
        date=1_600_000_000,
        environment={"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
    ),
    Stranger(
        folder="the other, whose folders have longer names",
        umask=0o077,
        date=1_700_000_000,
        environment={"LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "2"},
    ),
)


def members(path: Path) -> dict[str, str]:
    """The digest of each file in an archive."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: hashlib.sha256(wheel.read(name)).hexdigest() for name in wheel.namelist()}
    with tarfile.open(path) as sdist:
        return {
            file.name: hashlib.sha256(content.read()).hexdigest()
            for file in sdist
            if (content := sdist.extractfile(file))
        }


def differences(one: Path, other: Path) -> list[str]:
    """In what two archives differ; nothing, if they are the same bytes."""
    if one.read_bytes() == other.read_bytes():
        return []
    first, second = members(one), members(other)
    named = sorted(name for name in first.keys() | second if first.get(name) != second.get(name))
    return named or ["the members are the same: how they were packed is not"]


def main(target: Path) -> int:
    if not is_checkout():
        sys.exit("this needs a checkout: what git tracks is what the strangers have")
    with tempfile.TemporaryDirectory(prefix="fastpool-twice-") as work:
        homes = [stranger.copy(Path(work)) for stranger in STRANGERS]
        one, other = (who.build(home) for who, home in zip(STRANGERS, homes, strict=True))
        names = sorted(path.name for path in one.iterdir())
        if names != sorted(path.name for path in other.iterdir()):
            sys.exit(f"one built {names}, the other {sorted(p.name for p in other.iterdir())}")
        different = 0
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            found = differences(one / name, other / name)
            different += bool(found)
            print(f"{name}: {'not the same bytes' if found else 'the same bytes, built twice'}")
            print("".join(f"  {line}\n" for line in found), end="")
            shutil.copyfile(one / name, target / name)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
