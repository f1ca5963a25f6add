"""Whether the standard library's pools stand in for fastpool's in this process, and why.

They do where no native core was built, as on Windows, and anywhere with ``FASTPOOL_DISABLE=1``.
Then all that fastpool exports comes from :mod:`fastpool._standard`, or needs no core.
"""

from __future__ import annotations

import os
import warnings

from fastpool.errors import FallbackWarning


def _find_reason() -> str | None:
    if os.environ.get("FASTPOOL_DISABLE", "") not in ("", "0"):
        return "FASTPOOL_DISABLE is set"
    try:
        import fastpool._core._segment  # noqa: F401
    except ModuleNotFoundError as error:
        # A core that is there and can't be loaded is an error, and no reason.
        if error.name != "fastpool._core._segment":
            raise
        return "no native core is installed for this Python on this system"
    return None


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
