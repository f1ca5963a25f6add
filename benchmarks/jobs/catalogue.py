"""All jobs by name, each a module of this form."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from jobs.pools import PACKAGES, Variant, installed, rival_of

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "montecarlo": ("numpy",),
    "life": ("numpy",),
    "photos": ("numpy", "skimage"),
    "tokens": (),
    "grid": ("numpy", "sklearn"),
    "groups": ("numpy", "pandas"),
    "bootstrap": ("numpy", "sklearn"),
}
"""By job; here, because a module without its packages can't be imported and asked."""

NAMES = tuple(REQUIREMENTS)


class Job(Protocol):
    """What a module has to offer.

    Attributes
    ----------
    TITLE : str
        As the table shows it.
    VARIANTS : mapping of str to callable
        The job in the form of each rival; the first word of a name is the rival's.
    """

    TITLE: str
    VARIANTS: Mapping[str, Variant]

    def make_input(self, quick: bool) -> Any:
        """Make, or read, what the job works on; always the same. Not timed."""

    def check(self, result: Any) -> None:
        """Raise `AssertionError` unless a result is what the job is about."""

    def same(self, one: Any, other: Any) -> bool:
        """Whether two variants agree."""


def missing(name: str) -> list[str]:
    """What isn't installed of the packages that a job can't do without."""
    return [package for package in REQUIREMENTS[name] if find_spec(package) is None]


def load(name: str) -> Job:
    """Import a job.

    Raises
    ------
    ImportError
        If `missing` names anything.
    """
    return cast(Job, import_module(f"jobs.{name}"))


def variants_of(job: Job) -> list[str]:
    """The variants of a job whose rival is installed, rival by rival in the order of the table."""
    rivals = list(PACKAGES)
    names = [name for name in job.VARIANTS if installed(PACKAGES[rival_of(name)])]
    return sorted(names, key=lambda name: rivals.index(rival_of(name)))
