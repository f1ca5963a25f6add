"""What workers tell the parent beside results: what their exit functions returned, log records.

One pair of ends for all workers of a pool. Messages are whole, so a worker that is killed leaves
none half sent, and those of one worker keep their order. One that is too large to be sent lies in a
nameless file, whose descriptor comes instead. There is a mailbox, and the thread
that reads it, only when some argument of the pool needs it.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Mapping

from fastpool._core._system import (
    Descriptor,
    await_room,
    create_file,
    message_pair,
    receive_message,
    send_message,
)
from fastpool._runtime.crash import crash_point
from fastpool._runtime.forks import OwnThread

#: Kinds of messages.
EXIT_RESULT, EXIT_ERROR, LOG_RECORD, LOG_LOST = range(4)

#: Takes a message: (worker id, content).
Receiver = Callable[[int, bytes], None]

#: The largest content that a message has in itself; some of them fit between the ends.
LARGEST = 16 << 10

#: How long a worker waits for room when the parent reads nothing, in seconds.
SEND_PATIENCE = 10.0

_HEAD = struct.Struct("=BI")


class Mailbox:
    """The parent's side.

    Parameters
    ----------
    receivers : mapping
        From the kind of a message to what takes it, in a thread of the mailbox. What they raise
        goes to :func:`threading.excepthook`.
    """

    def __init__(self, receivers: Mapping[int, Receiver]) -> None:
        self._receivers = receivers
        self._ours, self._theirs = message_pair()
        try:  # the one is readable when all has come
            self._over, self._finished = message_pair()
        except BaseException:  # who keeps the error keeps this object, too
            self._ours.close()
            self._theirs.close()
            raise
        self._thread: threading.Thread | None = None
        self._received = 0

    @property
    def fd(self) -> int:
        """What workers write to."""
        return self._theirs.fd

    def start(self) -> None:
        """Begin to read: after the first workers have been forked, not beside a thread of ours."""
        self._thread = OwnThread("mailbox", self._run)
        try:
            self._thread.start()
        except RuntimeError:  # the system grants no thread
            self._thread = None
            raise

    def finish(self, patience: float) -> None:
        """After the last worker, once: have everything received that was sent.

        Receivers run code of the program's, which may wait for the very thread that waits here (a
        pool can be collected as garbage while its program logs). So nobody waits for receivers that
        make no progress for so long (seconds); what they are late with comes when they go on.
        """
        finished = self._finished.take()
        if finished.fd < 0:
            return
        with contextlib.suppress(OSError):  # the reader has given up
            send_message(finished.fd, b"x")  # closing is not enough: the zygote has copies
        finished.close()
        self._theirs.close()
        if self._thread is None:
            self._close_reader()
        elif self._thread is not threading.current_thread():
            self._wait(self._thread, patience)

    def _wait(self, thread: threading.Thread, patience: float) -> None:
        received, since = self._received, time.monotonic()
        while thread.is_alive() and time.monotonic() - since < patience:
            thread.join(0.05)
            if self._received != received:
                received, since = self._received, time.monotonic()

    def close_parents(self) -> None:
        """In a worker: its copies of what is the parent's alone."""
        self._close_reader()
        self._finished.close()

    def disown(self) -> None:
        """In another fork of the parent: let go of the descriptors."""
        self.close_parents()
        self._theirs.close()

    def _close_reader(self) -> None:
        self._ours.close()
        self._over.close()

    def _run(self) -> None:
        try:
            # Without them, this is a child that a receiver has forked.
            while self._ours.fd >= 0 and self._take_next():
                self._received += 1
        except OSError:
            pass  # the system refuses to have it wait: what is told from now on is lost
        finally:
            self._close_reader()

    def _take_next(self) -> bool:
        """Wait for a message and hand it on; False: there will be none any more."""
        ours, over = self._ours.fd, self._over.fd
        message = None
        while message is None:
            poller = select.poll()
            poller.register(ours, select.POLLIN)
            poller.register(over, select.POLLIN)
            is_over = any(fd == over for fd, _ in poller.poll())
            message = receive_message(ours, _HEAD.size + LARGEST)
            if message is None and is_over:
                return False
        data, file = message
        if not data:
            return False
        crash_point("mail.received")
        try:
            self._receive(data, file)
        except BaseException as error:
            _show(error)
        return True

    def _receive(self, data: bytes, file: Descriptor) -> None:
        if file.fd == -errno.EMFILE:
            raise OSError(errno.EMFILE, "no descriptor left for a message of a worker")
        kind, worker_id = _HEAD.unpack_from(data)
        content = data[_HEAD.size :]
        if file.fd >= 0:
            with open(file.fd, "rb", closefd=False) as stream:
                content = stream.read()
        self._receivers[kind](worker_id, content)


def _show(error: BaseException) -> None:
    """Show an error of a receiver as the uncaught one of this thread."""
    arguments = (type(error), error, error.__traceback__, threading.current_thread())
    with contextlib.suppress(BaseException):  # the program's own hook is broken; the pool goes on
        threading.excepthook(threading.ExceptHookArgs(arguments))


class Sender:
    """A worker's side; may be used by several threads.

    Parameters
    ----------
    fd : int
        That of :attr:`Mailbox.fd`, in this process.
    worker_id : int
    """

    def __init__(self, fd: int, worker_id: int) -> None:
        # A descriptor of its own: in a forked worker, `fd` belongs to the copy of the mailbox.
        self._end = os.dup(fd)
        self._worker_id = worker_id

    def send(self, kind: int, content: bytes, patience: float) -> bool:
        """Send a message; returns whether there was room for it within `patience` seconds.

        Raises
        ------
        OSError
            When the parent is gone, or the system refuses a descriptor or memory.
        """
        head = _HEAD.pack(kind, self._worker_id)
        crash_point("mail.begin")
        if len(content) <= LARGEST:
            return self._put(head + content, -1, patience)
        file = create_file()
        with open(file.fd, "w+b", closefd=False) as stream:
            stream.write(content)
            stream.seek(0)  # the reader shares the position
            return self._put(head, file.fd, patience)

    def close(self) -> None:
        """Nothing more is sent."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def _put(self, data: bytes, fd: int, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not send_message(self._end, data, fd):
            # Not a timeout of a socket's: a task that is stopped raises such an error, too.
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await_room(self._end, math.ceil(left * 1000))
        crash_point("mail.sent")
        return True
