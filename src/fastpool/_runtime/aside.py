"""What no signal handler may cut in two is run beside the main thread, where handlers run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fastpool._runtime.forks import OwnThread

#: How long the main thread waits at most, in seconds: it may be in a signal handler, and have been
#: interrupted with a lock that the other one needs.
PATIENCE = 10.0


def run_aside(function: Callable[[], None]) -> None:
    """Call `function`, and see that it comes to its end whatever a signal handler raises.

    In the main thread, another one does it meanwhile, if the system grants one; a handler that
    raises ends the wait for it. What takes longer than :data:`PATIENCE` goes on when this has
    returned, and its errors are lost.

    Raises
    ------
    BaseException
        What `function` raised.
    """
    if threading.current_thread() is not threading.main_thread():
        function()
        return
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = OwnThread("aside", run)
    try:
        thread.start()
    except RuntimeError:
        function()
        return
    thread.join(PATIENCE)
    if errors:
        raise errors.pop()
