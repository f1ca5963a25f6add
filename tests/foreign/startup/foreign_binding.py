"""Put the pool under test where ``multiprocessing`` has its own.

Only factories are replaced (``multiprocessing.Pool``, ``context.Pool``, ``Manager().Pool``), never
the class ``multiprocessing.pool.Pool``. The pool's module is imported at the first call, inside the
factory, as in the standard library.

Read from the environment:

    FASTPOOL_FOREIGN_IMPL    "fastpool" (default) or "multiprocessing", which tests the binding
    FASTPOOL_FOREIGN_METHOD  the start method that is to be this interpreter's default
    FASTPOOL_FOREIGN_TRACE   a file that gets one line for each pool asked for, in any process
"""

import faulthandler
import multiprocessing
import multiprocessing.context
import os
import signal
from typing import Any

IMPL = os.environ.get("FASTPOOL_FOREIGN_IMPL") or "fastpool"
METHOD = os.environ.get("FASTPOOL_FOREIGN_METHOD", "")
TRACE = os.environ.get("FASTPOOL_FOREIGN_TRACE", "")


def make_pool(*args: Any, **kwds: Any) -> Any:
    """The class under test, called like ``multiprocessing.pool.Pool``. Picklable by name."""
    if TRACE:
        with open(TRACE, "a") as trace:
            trace.write(f"{os.getpid()}\n")
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


def install_for_managers() -> None:
    """Bind ``Manager().Pool``: a manager's process gets its registry from the one starting it."""
    import multiprocessing.managers

    managers: Any = multiprocessing.managers
    managers.SyncManager.register("Pool", make_pool, managers.PoolProxy)
