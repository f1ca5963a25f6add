"""The build backend: setuptools', with archives that depend on nothing but their contents.

What setuptools packs has the dates, owners and permissions of the files as they lie on the disk,
and so differs from one clone to the next. Here the archives are packed again: members in order of
their names, one date for all (SOURCE_DATE_EPOCH, else the one below), one owner, and of permissions
only whether a file may be executed. `make reproducible` shows that same sources give same bytes.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta

# What is not packed here is setuptools' own.
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

SOME_DAY = 1577836800  # 2020-01-01, which zip files can express: they know nothing before 1980

Settings = Mapping[str, Any] | None


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    pack_tar(Path(sdist_directory, name))
    return name


def build_wheel(
    wheel_directory: str,
    config_settings: Settings = None,
    metadata_directory: str | None = None,
) -> str:
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    pack_zip(Path(wheel_directory, name))
    return name


def the_date() -> int:
    return int(os.environ.get("SOURCE_DATE_EPOCH", SOME_DAY))


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
    date = time.gmtime(the_date())[:6]
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name in sorted(old.namelist(), key=lambda each: (".dist-info/" in each, each)):
            clean = zipfile.ZipInfo(name, date)
            mode = old.getinfo(name).external_attr >> 16
            clean.external_attr = (stat.S_IFREG | the_mode(mode)) << 16
            clean.create_system = 3  # the permissions are those of Unix
            archive.writestr(clean, old.read(name), zipfile.ZIP_DEFLATED, 9)
    new.replace(path)
