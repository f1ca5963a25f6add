"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def positive(text: str) -> int:
    """A number of at least one, for ``type=``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def is_writable(path: Path, is_folder: bool = False) -> bool:
    """Whether a file, or a folder with files, may be made or replaced; nothing is made yet."""
    if path.exists():
        return path.is_dir() is is_folder and os.access(path, os.W_OK)
    above = next(folder for folder in path.absolute().parents if folder.exists() or not is_folder)
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def new_file(text: str) -> Path:
    """The path of a file that may be written, for ``type=``."""
    path = Path(text)
    if not is_writable(path):
        raise argparse.ArgumentTypeError(f"{text} can't be written")
    return path
