"""Sizes of chunks: pure arithmetic."""

from __future__ import annotations

#: A guided chunk holds so many results at most: large enough that the cost of a task vanishes,
#: small enough that the parent decodes the first ones while the workers compute the rest.
LARGEST_GUIDED = 16384


def guided_chunks(items: int, workers: int) -> tuple[int, int]:
    """Return (c, d): the chunk size that ``multiprocessing.Pool.map`` takes, and a divisor.

    A guided chunk is 1/d of the items that are left. Guided self-scheduling (Polychronopoulos and
    Kuck, 1987) takes d = workers. Twice that bounds what one worker holds at half of an even share,
    so that costs that grow or shrink along the items still end together.
    """
    return -(-items // (4 * workers)), 2 * workers
