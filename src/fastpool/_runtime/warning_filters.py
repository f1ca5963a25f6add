"""``warnings="inherit"``: the parent's warning filters in workers of every start method."""

from __future__ import annotations

import re
import warnings
from typing import Any, TypeAlias

#: (action, message, category, module, line), as :mod:`warnings` keeps them.
Filters: TypeAlias = tuple[tuple[Any, ...], ...]


def current_filters() -> Filters:
    """The filters that hold here, the one that is tried first in front.

    Since Python 3.14 `catch_warnings` may keep its own for its context, and does so without a GIL;
    these have no public name.
    """
    of_this_context = getattr(warnings, "_get_filters", None)
    return tuple(warnings.filters if of_this_context is None else of_this_context())


def set_filters(filters: Filters) -> None:
    """In a new worker: have these filters and no others."""
    warnings.resetwarnings()
    for action, message, category, module, line in filters:
        warnings.filterwarnings(
            action, _expression(message), category, _expression(module), line, append=True
        )


def _expression(pattern: re.Pattern[str] | str | None) -> str:
    """What ``filterwarnings`` takes; the interpreter's own filters have names instead."""
    if pattern is None:
        return ""
    if isinstance(pattern, str):
        return re.escape(pattern) + r"\Z"
    return pattern.pattern
