"""The private attributes of ``multiprocessing.Pool`` that programs touch, over our engine.

They are not an interface of fastpool; they are here so that changing one import breaks nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

TYPE_CHECKING = False  # typing itself is not loaded for this
if TYPE_CHECKING:
    from typing import Any

    from fastpool._runtime.engine import Engine

    #: (job, index, func, args, kwds): how the standard library's pool writes a task down.
    TaskTuple = tuple[int, int, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
    Submit = Callable[..., Any]


class JobCache(dict[int, "Any"]):
    """``Pool._cache``: true, and as long as there are unfinished calls.

    Holds only jobs that others registered (``multiprocessing.pool.IMapIterator(pool)`` does);
    the pool's own are counted, not listed.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    def __len__(self) -> int:
        return self._engine.dispatcher.poll_jobs() + super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0


class TaskQueue:
    """``Pool._taskqueue``: how much waits, and a way in for tasks in the standard library's form.

    Parameters
    ----------
    engine : Engine
    submit : callable
        ``Pool.apply_async`` without its check that the pool is running.
    cache : JobCache
    """

    def __init__(self, engine: Engine, submit: Submit, cache: JobCache) -> None:
        self._engine = engine
        self._submit = submit
        self._cache = cache

    def qsize(self) -> int:
        """Tasks that no worker has taken yet."""
        self._engine.dispatcher.poll_jobs()
        return self._engine.dispatcher.queue_length()

    def empty(self) -> bool:
        """Whether every task has been taken."""
        return self.qsize() == 0

    def put(self, work: tuple[Iterable[TaskTuple], Callable[[int], object] | None] | None) -> None:
        """Run tasks whose results go to ``_cache[job]._set(index, (success, value))``.

        So the well-known recipe for ``istarmap`` works on this pool as it is written.
        """
        if work is None:
            return
        tasks, set_length = work
        held: list[Callable[[], object]] = [
            self._engine.dispatcher.let_go
        ]  # called by whoever takes it out
        args = (iter(tasks), set_length, held)
        thread = threading.Thread(target=self._feed, args=args, name="fastpool-feeder", daemon=True)
        try:
            self._engine.dispatcher.hold()
            thread.start()
        except BaseException:
            self._let_go(held)
            raise

    @staticmethod
    def _let_go(held: list[Callable[[], object]]) -> None:
        try:
            let_go = held.pop()
        except IndexError:
            return
        let_go()

    def _feed(
        self,
        tasks: Iterator[TaskTuple],
        set_length: Callable[[int], object] | None,
        held: list[Callable[[], object]],
    ) -> None:
        index = -1
        try:
            for job, index, func, args, kwds in tasks:
                done, failed = self._setter(job, index, True), self._setter(job, index, False)
                self._submit(func, args, kwds, done, failed)
            if set_length is not None:
                set_length(index + 1)
        finally:
            self._let_go(held)

    def _setter(self, job: int, index: int, success: bool) -> Callable[[Any], None]:
        def set_result(value: Any) -> None:
            waiting = self._cache.get(job)
            if waiting is not None:
                waiting._set(index, (success, value))

        return set_result


class HandlerThread:
    """Stands for ``_worker_handler``, ``_task_handler`` and ``_result_handler``.

    fastpool has one background thread for all three; setting ``_state`` here sets the pool's.
    """

    daemon = True

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    @property
    def _state(self) -> str:
        return self._engine.state

    @_state.setter
    def _state(self, state: str) -> None:
        self._engine.set_state(state)

    def is_alive(self) -> bool:
        """Whether the background thread runs."""
        return self._engine.is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the background thread."""
        self._engine.join(timeout)
