"""What can be learned of a worker that has died."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from typing import NamedTuple

from fastpool._core._system import create_file, memory_kills, reopen_file

#: The file has a part for each slot's worker, apart by more than faulthandler writes for a hundred
#: threads, its most. Before them is one for all who have no position of their own in it, and write
#: behind each other. It is sparse.
STRIDE = 64 << 20

#: The longest text that is shown.
LONGEST = 64 << 10


class Findings(NamedTuple):
    """How a worker ended."""

    pid: int
    exitcode: int | None
    peak_memory: int | None
    out_of_memory: bool
    stack: str | None


class Postmortem:
    """Examines the dead of one pool.

    A worker that crashes writes its stacks into a nameless file, at a place of its own: see
    :func:`record_crashes`. What the parent had set up with :mod:`faulthandler` no longer holds in
    workers; the stacks come with the error instead.
    """

    def __init__(self) -> None:
        self._file = create_file()
        self._read_so_far = 0  # of the common part
        self._kills = memory_kills()

    @property
    def fd(self) -> int:
        """What workers write to; -1 after the end."""
        return self._file.fd

    def examine(
        self, slot: int, pid: int, exitcode: int | None, peak_memory: int | None
    ) -> Findings:
        """Collect what is known of the worker that was in this slot."""
        stack = self._read(slot) if exitcode is None or exitcode < 0 else None
        out_of_memory = self._was_out_of_memory() and exitcode == -signal.SIGKILL
        return Findings(pid, exitcode, peak_memory, out_of_memory, stack)

    def _read(self, slot: int) -> str | None:
        if self.fd < 0:
            return None
        own = (1 + slot) * STRIDE
        data = self._read_from(own)
        if data:
            os.pwrite(self.fd, bytes(len(data)), own)  # for the next worker in this slot
        else:
            data = self._read_from(self._read_so_far)
            self._read_so_far += len(data)
        return _shortened(data.decode(errors="replace")) if data else None

    def _read_from(self, start: int) -> bytes:
        data, piece = b"", b"x"
        while piece and piece[-1]:
            piece = os.pread(self.fd, LONGEST, start + len(data))
            data += piece.rstrip(b"\0")
        return data

    def _was_out_of_memory(self) -> bool:
        """Whether memory ran out since the last death, or since the pool was made."""
        before, self._kills = self._kills, memory_kills()
        return before is not None and self._kills is not None and self._kills > before

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _shortened(text: str) -> str:
    """Of a long text the thread that crashed, which comes last, and of the others what fits."""
    if len(text) <= LONGEST:
        return text
    head, _, rest = text.partition("\n\n")
    threads = sorted(rest.split("\n\n"), key=lambda part: not part.startswith("Current thread"))
    return "\n\n".join([head, *threads])[:LONGEST]


def record_crashes(fd: int, slot: int) -> None:
    """In a worker: have a crash leave the stacks of all threads behind."""
    try:
        with contextlib.suppress(OSError):
            # Opened anew: a descriptor that was inherited has one position for all. Where there is
            # no way to that, stacks of workers that crash at one instant are mixed.
            fd = reopen_file(fd)
            os.lseek(fd, (1 + slot) * STRIDE, os.SEEK_SET)
        faulthandler.enable(fd, all_threads=True)
        # A crash of a process that a task forks is not this worker's.
        os.register_at_fork(after_in_child=faulthandler.disable)
    except (OSError, ValueError, RuntimeError):
        pass  # then a crash is told without a stack
