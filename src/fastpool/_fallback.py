"""Whether the standard library's pools stand in for fastpool's in this process, and why.

They do where no native core was built, as on Windows, and anywhere with ``FASTPOOL_DISABLE=1``.
Then all that fastpool exports comes from :mod:`fastpool._standard`, or needs no core.
"""

from __future__ import annotations

import os
import warnings

from fastpool.errors import FallbackWarning

#: What a variable says, in any case of letters, to ask for nothing; of a build, too: setup.py.
NO = ("", "0", "no", "false", "off")


def _find_reason() -> str | None:
    if os.environ.get("FASTPOOL_DISABLE", "").strip().lower() not in NO:
        return "FASTPOOL_DISABLE is set"
    try:
        import fastpool._core._segment  # noqa: F401
    except ModuleNotFoundError as error:
        # A core that is there and can't be loaded is an error, and no reason.
        if error.name != "fastpool._core._segment":
            raise
        _refuse_packed_core()
        return "no native core is installed for this Python on this system"
    return None


def _refuse_packed_core() -> None:
    """Raise an ImportError if there is a core for this Python, but in a zip file."""
    import zipimport

    import fastpool._core as package

    if isinstance(package.__loader__, zipimport.zipimporter):
        import importlib.machinery
        import importlib.resources

        folder = importlib.resources.files(package)
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            if folder.joinpath("_segment" + suffix).is_file():
                raise ImportError(
                    f"fastpool can't be imported from the zip file {package.__loader__.archive}: "
                    "Python loads native modules from folders only, so unpack it"
                )


#: Why they do; None: they don't. Child processes come to the same result.
REASON = _find_reason()

_told = False


def tell(stacklevel: int) -> None:
    """Warn who makes the first of them; `stacklevel` as of :func:`warnings.warn`, from the caller.

    Not at the import: every spawned worker imports the program's main module, and that fastpool.
    Nor where the native core is in use: then it is a test that looks at the other pools.
    """
    global _told
    if REASON is not None and not _told:
        warnings.warn(
            f"fastpool: {REASON}; its pools are the standard library's in this process",
            FallbackWarning,
            stacklevel + 1,
        )
        _told = True
