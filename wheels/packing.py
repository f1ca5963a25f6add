"""Packs archives again: they depend on nothing but their contents then. Usage: packing.py WHEEL...

What setuptools and auditwheel pack has the dates, owners and permissions of the files as they lie
on the disk, and so differs from one clone, user and minute to the next. Here members are in order
of their names, without folders, and have one date (SOURCE_DATE_EPOCH, else the one below), one
owner, and of permissions only whether a file may be executed.
"""

from __future__ import annotations

import gzip
import os
import stat
import sys
import tarfile
import time
import zipfile
from pathlib import Path

SOME_DAY = 1577836800  # 2020-01-01
FIRST_DAY = 315532800  # 1980-01-01: zip files know nothing before


def the_date() -> int:
    """Of all files, in seconds; one that is none is refused before anything is built."""
    date = os.environ.get("SOURCE_DATE_EPOCH") or str(SOME_DAY)
    if not date.isdecimal() or int(date) >= 1 << 32:  # which is what archives can express
        sys.exit(
            f"fastpool: SOURCE_DATE_EPOCH has to be seconds since 1970, below 2**32, not {date!r}"
        )
    return int(date)


def the_mode(mode: int) -> int:
    return 0o755 if mode & stat.S_IXUSR else 0o644


def pack_tar(path: Path) -> None:
    """Pack a .tar.gz again; folders are left out, the files' names have them."""
    new = path.with_name(f".{path.name}.new")
    with (
        tarfile.open(path) as old,
        open(new, "wb") as raw,
        gzip.GzipFile("", "wb", mtime=the_date(), fileobj=raw) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in sorted(filter(tarfile.TarInfo.isfile, old), key=lambda each: each.name):
            clean = tarfile.TarInfo(member.name)
            clean.size, clean.mtime, clean.mode = member.size, the_date(), the_mode(member.mode)
            archive.addfile(clean, old.extractfile(member))
    new.replace(path)


def pack_zip(path: Path) -> None:
    """Pack a wheel again; what it says of itself (.dist-info) comes last, as wheels have it."""
    new = path.with_name(f".{path.name}.new")
    date = time.gmtime(max(the_date(), FIRST_DAY))[:6]
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        files = [name for name in old.namelist() if not name.endswith("/")]
        for name in sorted(files, key=lambda each: (".dist-info/" in each, each)):
            clean = zipfile.ZipInfo(name, date)
            mode = old.getinfo(name).external_attr >> 16
            clean.external_attr = (stat.S_IFREG | the_mode(mode)) << 16
            clean.create_system = 3  # the permissions are those of Unix
            archive.writestr(clean, old.read(name), zipfile.ZIP_DEFLATED, 9)
    new.replace(path)


if __name__ == "__main__":
    for wheel in sys.argv[1:]:
        pack_zip(Path(wheel))
