"""Real text into words: the sources of the standard library, a file a task.

The files are of very different sizes, a task takes from microseconds to tens of milliseconds, and
a count of words comes back: many small objects.
"""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.pools import variants

TITLE = "tokenising"
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|\d+|[^\w\s]")


def make_input(quick: bool) -> list[str]:
    """The paths of the sources, without what is installed beside them."""
    library = Path(sysconfig.get_path("stdlib"))
    if quick:
        return sorted(map(str, library.glob("*.py")))[:60]
    return sorted(str(path) for path in library.rglob("*.py") if "site-packages" not in path.parts)


def count_words(path: str) -> Counter[str]:
    """How often each word occurs in a file; runs in a worker."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return Counter(match.lower() for match in WORD.findall(text))


def run(mapping: Callable[..., list[Counter[str]]], paths: list[str], processes: int) -> Any:
    """The counts of all files, added up in the parent."""
    total: Counter[str] = Counter()
    for counts in mapping(count_words, paths, processes):
        total.update(counts)
    return total


def run_fastpool_stream(paths: list[str], processes: int) -> Any:
    """Adding up while others are still counted; the order doesn't matter to a sum."""
    from fastpool import Pool

    total: Counter[str] = Counter()
    with Pool(processes) as pool:
        for counts in pool.imap_unordered(count_words, paths):
            total.update(counts)
    return total


def check(result: Any) -> None:
    """Every source imports something."""
    assert result["import"] > 50, result["import"]
    assert result["self"] > result["yield"] > 0


def same(one: Any, other: Any) -> bool:
    """Exactly."""
    return bool(one == other)


VARIANTS = {**variants(run), "fastpool imap_unordered": run_fastpool_stream}
