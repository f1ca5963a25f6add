"""The last resort of the per-test limit: a process of its own that watches pytest from outside.

conftest.py first raises in the main thread. If that thread sits in C code that never comes back,
holds the GIL for ever, or is stopped, nothing inside the process can help; this one prints every
stack, kills the descendants (which may free the main thread), and at last kills pytest itself.

It reads lines from standard input: "arm <seconds> <label>" and "disarm".
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from helpers import procs


def say(text: str) -> None:
    os.write(2, f"\n{text}\n".encode(errors="replace"))


def give_up(pytest_pid: int, label: str, stacks_path: str) -> list[int]:
    tree = [pytest_pid, *(pid for pid in procs.descendants(pytest_pid) if pid != os.getpid())]
    say(
        f"=== {label}: out of time, and the main thread could not be interrupted ===\n"
        + procs.stacks(tree, stacks_path)
    )
    for pid in tree[1:]:
        procs.kill(pid)
    return tree[1:]


def main(pytest_pid: int, stacks_path: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is pytest's business
    deadline: float | None = None
    label = ""
    killed = False
    buffer = b""
    # A worker that was forked keeps our standard input open, so pytest's end is seen by its number.
    while os.getppid() == pytest_pid:
        left = 1.0 if deadline is None else deadline - time.monotonic()
        ready, _, _ = select.select([0], [], [], min(max(left, 0.0), 1.0))
        if ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                verb, _, rest = line.decode(errors="replace").partition(" ")
                killed = False
                if verb == "arm":
                    seconds, _, label = rest.partition(" ")
                    deadline = time.monotonic() + float(seconds)
                else:
                    deadline = None
        elif deadline is not None and time.monotonic() >= deadline:
            if killed:
                say(f"=== {label}: killing the test run ===")
                procs.kill(pytest_pid)
                return
            give_up(pytest_pid, label, stacks_path)
            killed = True
            deadline = time.monotonic() + 3.0


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
