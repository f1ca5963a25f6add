"""What programs in the wild build from the pool's private parts."""

from __future__ import annotations

import multiprocessing.pool
from typing import Any


def istarmap_recipe(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Any:
    """As found in many programs: starmap that gives an iterator."""
    self._check_running()
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
    task_batches = multiprocessing.pool.Pool._get_tasks(func, iterable, chunksize)
    result = multiprocessing.pool.IMapIterator(self)
    self._taskqueue.put(
        (
            self._guarded_task_generation(
                result._job, multiprocessing.pool.starmapstar, task_batches
            ),
            result._set_length,
        )
    )
    return (item for chunk in result for item in chunk)
