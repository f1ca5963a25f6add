"""Kills a process while it moves data: a program of its own, which its parent waits for.

    python killer.py reads|writes NAME PID...

The first of the processes that moves something is killed. What the kernel counts tells: pages of
shared memory that it touched; bytes that it read, or, where it writes, bytes that the parent read
(a write counts only when it has ended). The killer arrives at the file NAME when it looks, prints
the pid of the process that it killed, and nothing if none has moved anything for a while.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

FAR_ENOUGH = 2 * 2**20
SECONDS = 4.0


def moved(reader: str, pid: str) -> int:
    """Bytes so far, by either way; only differences mean something."""
    io = Path(f"/proc/{reader}/io").read_text()
    status = Path(f"/proc/{pid}/status").read_text()
    count = re.search(r"^rchar: (\d+)", io, re.MULTILINE)
    shared = re.search(r"^RssShmem:\s+(\d+) kB", status, re.MULTILINE)
    return int(count[1] if count else 0) + 1024 * int(shared[1] if shared else 0)


def main() -> None:
    direction, name, *pids = sys.argv[1:]
    readers = {pid: pid if direction == "reads" else str(os.getppid()) for pid in pids}
    before = {pid: moved(readers[pid], pid) for pid in pids}
    Path(f".{name}").write_text(str(os.getpid()))
    Path(f".{name}").rename(name)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for pid in pids:
            if moved(readers[pid], pid) - before[pid] > FAR_ENOUGH:
                os.kill(int(pid), signal.SIGKILL)
                print(pid)
                return


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ProcessLookupError):
        pass  # a process went by itself: nobody was killed
