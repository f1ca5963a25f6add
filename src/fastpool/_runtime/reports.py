"""What a pool tells of itself."""

from __future__ import annotations

from typing import NamedTuple


class WorkerInfo(NamedTuple):
    """One worker, as :meth:`Pool.workers` shows it.

    Attributes
    ----------
    pid : int
        Process id.
    name : str
        As in :attr:`multiprocessing.Process.name`, e.g. ``ForkPoolWorker-1``.
    cpus : frozenset of int
        The CPUs it is pinned to; without pinning, those that this process may use.
    state : str
        ``"starting"``, ``"idle"``, ``"busy"`` or ``"leaving"``.
    tasks_done : int
        Calls and chunks it has finished.
    """

    pid: int
    name: str
    cpus: frozenset[int]
    state: str
    tasks_done: int


class PoolStats(NamedTuple):
    """A pool's shared memory, as :meth:`Pool.stats` shows it.

    Attributes
    ----------
    bytes_in_use : int
        In blocks that hold arguments of unfinished calls, shared arrays, results that the program
        holds, and what workers keep of their arguments.
    blocks_in_use : int
        The number of these blocks.
    bytes_warm : int
        In free blocks that are kept for reuse. Workers' part is what each said after its last large
        result.
    bytes_peak : int
        The high-water marks of the parent and of each worker that runs, added up.
    copies_avoided : int
        How often a large buffer travelled as a reference to memory that was there already.
    bytes_not_copied : int
        The size of these buffers, added up.
    """

    bytes_in_use: int
    blocks_in_use: int
    bytes_warm: int
    bytes_peak: int
    copies_avoided: int
    bytes_not_copied: int
