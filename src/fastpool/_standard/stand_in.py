"""``install()`` where there is nothing to install."""

from __future__ import annotations

from fastpool import _fallback


def install(*, executor: bool = False) -> None:
    """Leave the program's pools what they are: the standard library's.

    Parameters
    ----------
    executor : bool
        Whether ``concurrent.futures.ProcessPoolExecutor`` was to be fastpool's too.
    """
    _fallback.tell(stacklevel=2)


def uninstall() -> None:
    """Do nothing, as :func:`install` did."""
