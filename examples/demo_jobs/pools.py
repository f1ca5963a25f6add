"""What a job is given: a way to open a pool, and a progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


@dataclass(frozen=True)
class Pools:
    """One kind of pool.

    Attributes
    ----------
    name : str
        As the table and the progress bars call it.
    pool_class : type
        ``multiprocessing.pool.Pool`` or a replacement.
    processes : int
        Workers of a pool, unless a job wants another number.
    start_method : str
        As `multiprocessing.get_context` takes it.
    """

    name: str
    pool_class: type[Pool]
    processes: int
    start_method: str

    def open(self, processes: int | None = None) -> Pool:
        """Create a pool.

        Parameters
        ----------
        processes : int, optional
            Another number of workers.

        Returns
        -------
        Pool
            To be left by a ``with`` block.
        """
        context = multiprocessing.get_context(self.start_method)
        return self.pool_class(processes or self.processes, context=context)

    def watch(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Pass items through, with a progress bar if that takes longer than a second.

        Parameters
        ----------
        items : iterable
            What is iterated over.
        total : int
            How many there will be.
        what : str
            What one of them is called.

        Returns
        -------
        iterator
            The same items. Where stderr is no terminal there is no bar.
        """
        bar: Iterator[T] = iter(
            tqdm(items, self.name, total, unit=f" {what}", delay=1, leave=False, disable=None)
        )
        return bar
