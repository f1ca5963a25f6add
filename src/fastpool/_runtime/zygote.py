"""The zygote: a single-threaded copy of the parent that forks all workers, first and later ones.

It is forked before fastpool starts a thread, so a worker never inherits a lock that some thread of
ours held, and a replacement sees the same globals as its siblings. It is a loop in C that runs no
Python, so that it copies hardly a page of the parent's. It reaps the workers, so the parent's own
``os.wait()`` and SIGCHLD handler never meet them; the zygote itself is an ordinary child, so that
its CPU time and theirs are counted where tools look for them.

Nobody is left behind: the zygote ends when the parent does (it polls a watch of it), and each
worker when the zygote does: the kernel kills it (the zygote's only thread is the one that forked
them), or a thread of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing import resource_tracker, util
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from fastpool._core._system import (
    NOTE_EXIT,
    NOTE_FORKED,
    ORDER_ROOM,
    Descriptor,
    Line,
    SignalMask,
    await_room,
    fork_zygote,
    hang_up,
    message_pair,
    receive_message,
    send_message,
    send_signal,
    watch_kind,
    watch_self,
)
from fastpool._runtime.crash import crash_point

#: Makes, in the new worker, the process object to bootstrap: (order, name, identity) -> process.
MakeWorker = Callable[[Any, str, tuple[int, ...]], BaseProcess]

#: A zygote that does not answer for so long is stopped, or worse: as good as gone.
ANSWER_SECONDS = 30

#: How long it may take to tell how a worker has ended. One that is stopped tells nothing at all.
EXIT_SECONDS = 1.0

#: Since 3.13 a forked process of multiprocessing runs its finalizers, and what it registered with
#: atexit, after its bootstrap and no longer inside it.
_RUNS_ATEXIT = sys.version_info >= (3, 13)

#: Where it is, a forked child leaves its parent's resource tracker and starts one of its own,
#: unless the thread that forks says otherwise here. What a worker has made in shared memory would
#: then be gone with the worker.
_fork_intent: Any = getattr(resource_tracker, "_fork_intent", None)

_NOTE = struct.Struct("=iiiiQ")  # fp_zygote_note


class Zygote:
    """The parent's side. Nothing is there before :meth:`fork`, and nothing after :meth:`close`."""

    def __init__(self) -> None:
        # Re-entrant, and replies are kept: a signal handler may come here in the middle of fork().
        self.lock = threading.RLock()
        self._exits: dict[int, tuple[int, int | None]] = {}
        self._replies: deque[tuple[int, Descriptor] | OSError] = deque()
        self._ended = False
        self._is_silent = False  # it was waited for in vain, and has said nothing since
        self.pid = 0  # as long as there is none
        self.parent_watch = self.watch = self._end = self._theirs = Descriptor()
        self._line = Line()

    def fork(self, make_worker: MakeWorker) -> None:
        """Fork it.

        What an exception leaves, a signal handler's after the fork, is ended by :meth:`close`.

        Parameters
        ----------
        make_worker : callable
            Called in each new worker with the order that :meth:`order` was given and the process's
            name and identity; returns the process object to run.

        Raises
        ------
        OSError
            When the system grants no process or descriptor.
        """
        util._flush_std_streams()  # type: ignore[attr-defined]
        # Blocked from before the fork on: the copy never runs a handler of the parent's.
        mask = SignalMask()
        try:
            self._fork(make_worker, mask)
        finally:
            mask.restore()
        crash_point("zygote.started")

    def _fork(self, make_worker: MakeWorker, mask: SignalMask) -> None:
        _keep_tracker(True)
        try:
            self._end, self._theirs = message_pair()
            kind = watch_kind()
            self.parent_watch, self._line = watch_self(kind)
            order = fork_zygote(self, self._end, self._theirs, kind, self.parent_watch.fd)
            if order is not None:
                _become_worker(order, make_worker, mask, self.parent_watch.fd)
            self._theirs.close()
        finally:
            _keep_tracker(False)

    def order(self, order: Any, name: str, identity: tuple[int, ...]) -> None:
        """Have a worker forked; the answers come in the order of the orders.

        Raises
        ------
        ChildProcessError
            When the zygote is gone.
        """
        message = pickle.dumps((order, name, identity))
        if len(message) > ORDER_ROOM:
            raise ValueError("the name or the CPU set of a worker is too long to start it")
        with self.lock:
            if self._ended:
                raise ChildProcessError("the process that forks workers is gone")
            try:
                crash_point("order.begin")
                while not send_message(self._end.fd, message):
                    await_room(self._end.fd, -1)
                crash_point("order.sent")
            except OSError as gone:
                self.kill()
                raise ChildProcessError("the process that forks workers is gone") from gone

    def answer(self) -> tuple[int, Descriptor]:
        """Return the process id and a watch of the next worker that was ordered.

        Raises
        ------
        OSError
            When the system could not fork it.
        ChildProcessError
            When the zygote is gone.
        """
        with self.lock:
            try:
                while not self._replies:
                    if self._ended or not self._receive(ANSWER_SECONDS):
                        raise EOFError
            except (OSError, EOFError) as gone:
                self.kill()  # it may live: then who can't be heard has workers that nobody knows
                raise ChildProcessError("the process that forks workers is gone") from gone
            crash_point("answer.here")
            answer = self._replies.popleft()
            if isinstance(answer, OSError):
                raise answer
            return answer

    def cancel_next(self) -> None:
        """Take back the next order that has no answer yet: end the worker, should there be one."""
        try:
            pid, watch = self.answer()
        except OSError:
            return
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            send_signal(watch.fd, pid, signal.SIGKILL)
        watch.close()
        self.exit_status(pid)

    def exit_status(self, pid: int) -> tuple[int | None, int | None]:
        """Return how a worker that has ended did so, and its peak memory in bytes; once.

        The first as in ``Process.exitcode``. Either is None when it is unknown.
        """
        begin = time.monotonic()
        with self.lock:
            while pid not in self._exits and not self._ended:
                patience = 0.0 if self._is_silent else EXIT_SECONDS
                try:
                    if not self._receive(begin + patience - time.monotonic()):
                        self._is_silent = True
                        break
                except (OSError, EOFError):
                    self.kill()
            if pid not in self._exits and self._ended:
                return -signal.SIGKILL, None  # the kernel kills the workers of a dead zygote
            # Its number may soon be another's.
            return self._exits.pop(pid, (None, None))

    def close(self) -> None:
        """End the zygote, and with it every worker that still runs; wait until it is gone."""
        with self.lock:
            if self.pid > 0:
                self.kill()
                crash_point("zygote.killed")
                try:
                    os.waitpid(self.pid, 0)
                except ChildProcessError:
                    pass  # SIGCHLD is ignored, or somebody's os.wait() took it
                self.pid = 0  # it may be another's
                crash_point("zygote.reaped")
            self._close_descriptors()

    def kill(self) -> None:
        """Begin to end the zygote, which takes the system as long as it has memory mapped."""
        self._ended = True
        if self.pid <= 0:
            return
        try:
            # Not by its id alone: somebody's os.wait() may have reaped it, and it be another's now.
            send_signal(self.watch.fd, self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended
        except OSError:  # signals are filtered: it ends when nobody speaks to it any more
            with contextlib.suppress(OSError):
                send_message(self._end.fd, b"")  # what it hears then; by datagrams, it hears no end
            hang_up(self._end.fd)

    def abandon(self) -> None:
        """In a fork of the parent: let go of the descriptors."""
        self._ended = True
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        unread = [answer[1] for answer in self._replies if not isinstance(answer, OSError)]
        self._replies.clear()
        for descriptor in (self._end, self._theirs, self.watch, self.parent_watch, *unread):
            descriptor.close()
        self._line.let_go()

    def _receive(self, timeout: float) -> bool:
        """Take the next note, if one comes within so many seconds."""
        if not _readable((self._end.fd, self.watch.fd), timeout):
            return False
        self._is_silent = False
        note = receive_message(self._end.fd, _NOTE.size)
        if note is None and _readable((self.watch.fd,), 0):
            note = receive_message(self._end.fd, _NOTE.size)  # what it said before it ended
            if note is None:
                raise EOFError
        crash_point("answer.received")
        if note is not None:
            self._take(*note)
        return True

    def _take(self, data: bytes, watch: Descriptor) -> None:
        if not data:
            raise EOFError
        kind, pid, value, _, peak = _NOTE.unpack(data)
        if kind == NOTE_EXIT:
            self._exits[pid] = os.waitstatus_to_exitcode(value), peak or None
        elif kind == NOTE_FORKED and watch.fd >= 0:
            self._replies.append((pid, watch))
        elif kind == NOTE_FORKED:
            # No descriptor is left for its watch.
            os.kill(pid, signal.SIGKILL)
            self.exit_status(pid)
            self._replies.append(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        else:
            self._replies.append(OSError(value, os.strerror(value)))


class ZygotePopen:
    """Stands where ``multiprocessing`` keeps a started process: ``Process._popen``."""

    method = "fork"

    def __init__(self, zygote: Zygote, process: BaseProcess) -> None:
        self._zygote = zygote
        self.returncode: int | None = None
        self.peak_memory: int | None = None
        self.pid, self.watch = zygote.answer()

    @property
    def sentinel(self) -> int:
        """What becomes readable with the end of the process."""
        return self.watch.fd

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self.wait(0 if flag == os.WNOHANG else None)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the process; returns the exit code, or None after `timeout`."""
        if self.returncode is None and self._ended(timeout):
            with self._zygote.lock:
                if self.returncode is None:
                    status, self.peak_memory = self._zygote.exit_status(self.pid)
                    self.returncode = 255 if status is None else status
        return self.returncode

    def _ended(self, timeout: float | None) -> bool:
        return self.sentinel < 0 or _readable((self.sentinel,), timeout)

    def _send_signal(self, number: int) -> None:
        if self.returncode is None and self.sentinel >= 0:
            try:
                send_signal(self.sentinel, self.pid, number)
            except ProcessLookupError:
                pass

    def interrupt(self) -> None:
        """Send SIGINT, as in Python 3.14."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptor."""
        self.watch.close()


def _keep_tracker(keep: bool) -> None:
    """Say whether children that this thread forks go on with this process's resource tracker."""
    if _fork_intent is not None:
        _fork_intent.preserve_fd = keep


def _readable(fds: Iterable[int], timeout: float | None) -> bool:
    """Wait until one of these descriptors is readable, at most `timeout` seconds."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else max(0.0, timeout * 1000)))


# ---- in a new worker ---------------------------------------------------------------------------


def _become_worker(
    order: bytes, make_worker: MakeWorker, mask: SignalMask, parent_watch: int
) -> NoReturn:
    """Run the process object that belongs to an order, and exit as it says."""
    code = 1
    try:
        _keep_tracker(False)
        # Everything inherited is left out of this process's collections, which would copy it.
        gc.freeze()
        crash_point("child.begin")
        process = make_worker(*pickle.loads(order))
        mask.restore()
        crash_point("child.unmasked")
        if _RUNS_ATEXIT:
            atexit._clear()
            atexit.register(util._exit_function)  # type: ignore[attr-defined]
        code = process._bootstrap(parent_sentinel=parent_watch)  # type: ignore[attr-defined]
        crash_point("child.bootstrapped")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        if _RUNS_ATEXIT:
            atexit._run_exitfuncs()
        crash_point("child.exit")
        os._exit(code)
