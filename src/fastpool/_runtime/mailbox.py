"""What workers tell the parent beside results: what their exit functions returned, log records.

One socket for all workers of a pool. A message is one datagram, so a worker that is killed leaves
none half sent, and messages of one worker keep their order. One that is too large for a datagram
lies in a nameless file, whose descriptor the datagram brings. There is a mailbox, and the thread
that reads it, only when some argument of the pool needs it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping

from fastpool._runtime.crash import crash_point

#: Kinds of messages.
EXIT_RESULT, EXIT_ERROR, LOG_RECORD, LOG_LOST = range(4)

#: Takes a message: (worker id, content).
Receiver = Callable[[int, bytes], None]

#: The largest content that a datagram has in itself; some of them fit into any socket's buffer.
LARGEST = 16 << 10

#: How long a worker waits for room when the parent reads nothing, in seconds.
SEND_PATIENCE = 10.0

_HEAD = struct.Struct("=BI")
_FD = struct.Struct("i")


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
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(True)  # whatever default timeout the program has set
        self._thread: threading.Thread | None = None
        self._received = 0

    @property
    def fd(self) -> int:
        """What workers write to."""
        return self._theirs.fileno()

    def start(self) -> None:
        """Begin to read: after the first workers have been forked, not beside a thread of ours."""
        thread = threading.Thread(target=self._run, name="fastpool-mailbox", daemon=True)
        thread.start()
        self._thread = thread

    def finish(self, patience: float) -> None:
        """After the last worker: have everything received that was sent.

        Receivers run code of the program's, which may wait for the very thread that waits here (a
        pool can be collected as garbage while its program logs). So nobody waits for receivers that
        make no progress for so long (seconds); what they are late with comes when they go on.
        """
        self._theirs.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(
                socket.SHUT_RD
            )  # what has arrived can still be read, then the end
        if self._thread is None:
            self._socket.close()
        elif self._thread is not threading.current_thread():
            self._wait(self._thread, patience)

    def _wait(self, thread: threading.Thread, patience: float) -> None:
        received, since = self._received, time.monotonic()
        while thread.is_alive() and time.monotonic() - since < patience:
            thread.join(0.05)
            if self._received != received:
                received, since = self._received, time.monotonic()

    def close_reader(self) -> None:
        """In a worker: its copy of what only the parent reads."""
        self._socket.close()

    def disown(self) -> None:
        """In another fork of the parent: let go of the descriptors."""
        self._socket.close()
        self._theirs.close()

    def _run(self) -> None:
        room = _HEAD.size + LARGEST
        with self._socket:
            while True:
                try:
                    data, control, flags, _ = self._socket.recvmsg(
                        room, socket.CMSG_LEN(_FD.size), socket.MSG_CMSG_CLOEXEC
                    )
                except OSError:
                    return
                if not data:
                    return
                crash_point("mail.received")
                try:
                    fds = [_FD.unpack(sent[: _FD.size])[0] for _, _, sent in control]
                    if flags & socket.MSG_CTRUNC and not fds:
                        raise OSError(errno.EMFILE, "no descriptor left for a message of a worker")
                    self._receive(data, fds)
                except BaseException as error:
                    _show(error)
                self._received += 1

    def _receive(self, data: bytes, fds: list[int]) -> None:
        kind, worker_id = _HEAD.unpack_from(data)
        content = data[_HEAD.size :]
        for fd in fds:
            with open(fd, "rb") as file:
                content = file.read()
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
        self._socket = socket.socket(fileno=os.dup(fd))
        self._socket.setblocking(True)
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
            return self._put(head + content, [], patience)
        with open(os.memfd_create("fastpool-mail", os.MFD_CLOEXEC), "w+b") as file:
            file.write(content)
            file.seek(0)  # the reader shares the position
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(file.fileno()))
            return self._put(head, [rights], patience)

    def close(self) -> None:
        """Nothing more is sent."""
        self._socket.close()

    def _put(self, data: bytes, rights: list[tuple[int, int, bytes]], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while True:
            try:
                self._socket.sendmsg([data], rights, socket.MSG_DONTWAIT)
                crash_point("mail.sent")
                return True
            except BlockingIOError:
                # Not a timeout of the socket's: a task that is stopped raises such an error, too.
                room = select.poll()
                room.register(self._socket, select.POLLOUT)
                if not room.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    return False
