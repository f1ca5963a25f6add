"""Ctrl-C, or an exception of a signal handler, in a call that waits: what runs is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.fastpool_only, pytest.mark.timeout_s(20)]


# --- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
    import os, signal, sys, time
    from fastpool import Pool
    from helpers import mishaps, procs, tasks

    class Alarm(Exception):
        pass

    def alarm(signum, frame):
        raise Alarm

    class Slow:
        def __reduce__(self):
            print("SENDING", flush=True)
            time.sleep(60)
            return int, ()

    if __name__ == "__main__":
        signal.signal(signal.SIGUSR1, alarm)
        with Pool(2) as pool:
            pool.map(tasks.square, range(100))
            print("READY", flush=True)
            try:
                {call}
            except (KeyboardInterrupt, Alarm) as error:
                print(type(error).__name__, flush=True)
            begin = time.monotonic()
            procs.wait_until(lambda: [i.state for i in pool.workers()] == ["idle"] * 2, 10)
            print("idle", time.monotonic() - begin < 1.2)
            print(pool.map(tasks.square, range(4), 1))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize(
    "call",
    [
        "pool.map(tasks.nap, [60] * 8, 2)",
        "pool.starmap(tasks.nap, [(60,)] * 8)",
        "pool.apply(mishaps.catch_everything)",
        "pool.map(mishaps.hang_named, ['C without the GIL'] * 5000, 1)",
    ],
)
def test_an_interrupted_call_stops_what_runs(run_script: Any, call: str, signum: int) -> None:
    script = run_script(INTERRUPTED.format(call=call), stdin=subprocess.DEVNULL)
    script.wait_for("READY")
    time.sleep(0.3)  # it may be anywhere in the call
    os.kill(script.pid, signum)
    name = "KeyboardInterrupt" if signum == signal.SIGINT else "Alarm"
    assert script.finish().splitlines()[-3:] == [name, "idle True", "[0, 1, 4, 9]"]


def test_a_call_that_is_interrupted_while_it_sends_stops_what_runs(run_script: Any) -> None:
    script = run_script(INTERRUPTED.format(call="pool.map(mishaps.nap_or, [60, 60, Slow(), 3], 1)"))
    script.wait_for("SENDING")
    os.kill(script.pid, signal.SIGINT)
    assert script.finish().splitlines()[-3:] == ["KeyboardInterrupt", "idle True", "[0, 1, 4, 9]"]
