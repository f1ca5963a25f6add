"""Put the pool under test where ``multiprocessing`` has its own, or the executor under test where
``concurrent.futures`` has it.

Only factories are replaced (``multiprocessing.Pool``, ``context.Pool``, ``Manager().Pool``), never
the class ``multiprocessing.pool.Pool``. The pool's module is imported at the first call, inside the
factory, as in the standard library.

Read from the environment:

    FASTPOOL_FOREIGN_IMPL    "fastpool" (default) or "multiprocessing", which tests the binding
    FASTPOOL_FOREIGN_SUBJECT "pool" (default) or "executor": whose tests are run
    FASTPOOL_FOREIGN_METHOD  the start method that is to be this interpreter's default
    FASTPOOL_FOREIGN_TRACE   a file that gets one line for each pool or executor, in any process
"""

import faulthandler
import multiprocessing
import multiprocessing.context
import os
import signal
from typing import Any

IMPL = os.environ.get("FASTPOOL_FOREIGN_IMPL") or "fastpool"
SUBJECT = os.environ.get("FASTPOOL_FOREIGN_SUBJECT") or "pool"
METHOD = os.environ.get("FASTPOOL_FOREIGN_METHOD", "")
TRACE = os.environ.get("FASTPOOL_FOREIGN_TRACE", "")


def _note() -> None:
    if TRACE:
        with open(TRACE, "a") as trace:
            trace.write(f"{os.getpid()}\n")


def make_pool(*args: Any, **kwds: Any) -> Any:
    """The class under test, called like ``multiprocessing.pool.Pool``. Picklable by name."""
    _note()
    if IMPL == "multiprocessing":
        import multiprocessing.pool

        # The class itself, also while a test has this function in its place.
        return multiprocessing.pool.ThreadPool.__mro__[1](*args, **kwds)
    import fastpool

    return fastpool.Pool(*args, **kwds)


def _context_pool(
    self: multiprocessing.context.BaseContext,
    processes: Any = None,
    initializer: Any = None,
    initargs: Any = (),
    maxtasksperchild: Any = None,
) -> Any:
    """``BaseContext.Pool``, which is also ``multiprocessing.Pool``."""
    context = self.get_context()
    return make_pool(processes, initializer, initargs, maxtasksperchild, context=context)


def install() -> None:
    """Bind the factories of this process. Imports nothing of the pool's."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2)  # a run that is late dumps the stacks of all processes
    contexts: Any = multiprocessing.context
    default = contexts._default_context
    if METHOD:
        default._default_context = default.get_context(METHOD)
    contexts.BaseContext.Pool = _context_pool
    multiprocessing.Pool = default.Pool

    if SUBJECT == "executor":
        _install_executor()


def _install_executor() -> None:
    """Bind the class: tests look at its name, and ask whether it is the one in its place."""
    import concurrent.futures

    futures: Any = concurrent.futures
    base: Any = futures.ProcessPoolExecutor
    if IMPL != "multiprocessing":
        import fastpool

        base = fastpool.ProcessPoolExecutor

    class ProcessPoolExecutor(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwds: Any) -> None:
            _note()
            super().__init__(*args, **kwds)

    futures.ProcessPoolExecutor = ProcessPoolExecutor


def install_for_managers() -> None:
    """Bind ``Manager().Pool``: a manager's process gets its registry from the one starting it."""
    import multiprocessing.managers

    managers: Any = multiprocessing.managers
    managers.SyncManager.register("Pool", make_pool, managers.PoolProxy)
