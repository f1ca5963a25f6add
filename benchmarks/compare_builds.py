"""Two revisions, built side by side in the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Where the worktrees of other revisions are; `make clean` removes it.
PLACE = ROOT / "build" / "compare"


class BuildError(RuntimeError):
    """A revision doesn't exist, or can't be built; the text says why."""


def revision_of(name: str) -> str:
    """Resolve what git knows by a name to the full number of a commit."""
    return _run(["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], ROOT, name)


def describe(revision: str) -> str:
    """The short number and the first line of a commit."""
    return _run(["git", "log", "-1", "--format=%h %s", revision], ROOT, revision)


def is_modified() -> bool:
    """Whether the working tree differs from its commit."""
    return bool(_run(["git", "status", "--porcelain"], ROOT, "the working tree"))


def build_base(revision: str) -> Path:
    """Check a revision out into a worktree of its own, and build it there.

    Parameters
    ----------
    revision : str
        The full number. What was checked out before is only built again as far as needed.

    Returns
    -------
    Path
        What goes onto PYTHONPATH.
    """
    tree = PLACE / revision[:12]
    if not (tree / ".git").exists():
        # Forced, since git may still know of a worktree there that `make clean` has removed.
        _run(["git", "worktree", "add", "--force", "--detach", tree, revision], ROOT, revision)
    return _build(tree)


def build_tree() -> Path:
    """Build the working tree; returns what goes onto PYTHONPATH."""
    return _build(ROOT)


def _build(tree: Path) -> Path:
    """Build in place, with this Python and its compiler, and none of the switches of setup.py."""
    switches = ("FASTPOOL_", "MAKEFLAGS")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(switches)
    }
    _run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], tree, tree.name, environment)
    return tree / "src"


def _run(
    command: list[str | Path], folder: Path, what: str, environment: dict[str, str] | None = None
) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise BuildError(f"{what}: {error}") from error
    if done.returncode != 0:
        raise BuildError(f"{what}: {' '.join(map(str, command))} failed\n{done.stdout}".rstrip())
    return done.stdout.strip()
