"""Which worker has which id: 0 to n - 1, and a replacement has that of its predecessor."""

from __future__ import annotations

import itertools


class WorkerIds:
    """The ids that are in use, and by the worker of which slot.

    Parameters
    ----------
    exclusive : bool
        Whether a worker has its id until it has ended, because something that two may not have at a
        time belongs to it. Otherwise until it takes no more tasks; its successor may run by then.
    """

    def __init__(self, exclusive: bool) -> None:
        self._exclusive = exclusive
        self._slots: dict[int, int] = {}

    def room(self, wanted: int) -> int:
        """How many workers may begin in a pool of so many."""
        if not self._exclusive:
            return wanted
        return sum(i not in self._slots for i in range(wanted))

    def take(self, slot: int) -> int:
        """An id for a worker that is about to start."""
        worker_id = next(i for i in itertools.count() if i not in self._slots)
        self._slots[worker_id] = slot
        return worker_id

    def retired(self, worker_id: int, slot: int) -> None:
        """This worker takes no more tasks after the one that it runs."""
        if not self._exclusive:
            self.ended(worker_id, slot)

    def ended(self, worker_id: int, slot: int) -> None:
        """This worker has ended; its id may be a successor's already."""
        if self._slots.get(worker_id) == slot:
            del self._slots[worker_id]
