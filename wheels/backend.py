"""The build backend: setuptools', with archives that depend on nothing but their contents.

What setuptools packs, packing.py packs again. `make reproducible` shows that same sources give same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packing import pack_tar, pack_zip, the_date
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

Settings = Mapping[str, Any] | None


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    the_date()
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    pack_tar(Path(sdist_directory, name))
    return name


def build_wheel(
    wheel_directory: str,
    config_settings: Settings = None,
    metadata_directory: str | None = None,
) -> str:
    the_date()
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    pack_zip(Path(wheel_directory, name))
    return name
