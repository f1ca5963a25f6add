# cython: nonecheck=True
"""One call as a future of ``concurrent.futures``.

There a future has a condition, which ``wait()`` and ``as_completed()`` of the standard library hold
while they look at the states of many futures and register themselves. Making one costs more than a
whole call here, so it is made when somebody asks for it; until then the parent's lock is enough.

What holds the condition must not see the state change. So a result that arrives meanwhile is settled
(who waits for the value goes on) but not shown; the background thread shows it as soon as it gets
the condition. It also tells whoever is to be told: waiters and callbacks run code of others, which
has no place in the thread that happened to read the ring.

Everything here runs under the lock, like the rest of the parent's loop (see _submit).
"""

import threading
from _thread import RLock

from cython cimport critical_section

from concurrent.futures._base import (
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
    CancelledError,
    InvalidStateError,
    TimeoutError,
)

from fastpool._core._c cimport *
from fastpool._core._jobs cimport Carrier, Job
from fastpool._core._segment cimport LOCK
from fastpool._core._submit cimport Dispatcher
from fastpool._core._threads cimport FREE_THREADED


class Condition(RLock):
    """The condition of a future, of which ``wait()`` and ``as_completed()`` use the lock alone.

    ``threading.Condition`` is several objects and costs as much as submitting a call, so the rest of
    it is made for those who use it.
    """

    whole = None

    def __getattr__(self, name):
        if self.whole is None:  # one for all threads that come here at once
            self.__dict__.setdefault("whole", threading.Condition(self))
        return getattr(self.whole, name)


cdef class FutureJob(ApplyJob):
    """The one result of ``submit``; the base of a class that is also the standard library's."""

    # ---- from the core -------------------------------------------------------------------------

    cdef int settle(self, bint success, object value) except -1:
        cdef Dispatcher d = self.dispatcher
        cdef bint called
        if self.settled:
            return 0
        if not success and not self.was_cancelled:
            value = self._error_of(value, value is d.dead or value is d.broken)
            if self.settled:  # while that was made
                return 0
        FP_CP("future.begin")
        self.settled = True
        self.success = success
        self.value = value
        self.function = None
        self.target = None
        self.show_if_free()
        # One that was cancelled is told of by who cancelled it.
        if not self.was_cancelled and (self.condition is not None or self.done_callbacks):
            # Then it has not come to the last one yet; without a GIL it may, before this one is there.
            called = len(d.done) != 0 and not FREE_THREADED
            d.done.append(self)
            FP_CP("future.queued")
            if not called:
                d.call_background()
        return self.publish()

    def _due(self):
        """What the background thread does with it once it is settled."""
        return self._tell, None

    def _tell(self, _):
        """Show it if that had to wait, and tell whoever wanted to be told."""
        with critical_section(LOCK):
            if self.condition is not None:
                with self.condition:
                    if not self.shown:
                        self.show()
                    registered, self.registered = self.registered, None
                    for waiter in registered or ():
                        if self.was_cancelled:
                            waiter.add_cancelled(self)
                        elif self.success:
                            waiter.add_result(self)
                        else:
                            waiter.add_exception(self)
                    if self.condition.whole is not None:
                        self.condition.notify_all()
            told = self.done_callbacks is not None
        if told:
            self._invoke_callbacks()

    def _target_name(self):
        """The name of what is called."""
        with critical_section(LOCK):
            return self.name if self.name is not None else Job._target_name(self)

    # ---- who may see what ----------------------------------------------------------------------

    cdef int show(self) except -1:
        """Let the state be seen; the condition, if there is one, is ours.

        Who registers with the condition from now on sees the state, and is not told: it would count
        this future twice.
        """
        self.registered = self.waiters[:] if self.waiters else None
        self.shown = True
        return 0

    cdef int show_if_free(self) except -1:
        """Show it unless some thread holds the condition: this one neither, which could do so twice."""
        if self.condition is None:
            self.shown = True
        elif not self.condition._is_owned() and self.condition.acquire(False):
            try:
                self.show()
            finally:
                self.condition.release()
        return 0

    cdef int show_when_free(self) except -1:
        """Show what is settled, unless this very thread is looking at the state."""
        if not self.shown and not self.condition._is_owned():
            with self.condition:
                if not self.shown:
                    self.show()
        return 0

    cdef bint is_held(self) except -1:
        """Whether a worker has taken the task."""
        cdef Dispatcher d = self.dispatcher
        cdef fp_entry *entry
        if d is None or d.foreign or self.cookie >= d.ledger.capacity:
            return False
        entry = &d.ledger.entries[self.cookie]
        return entry.state == FP_ENTRY_SENT and entry.job == <void *> self \
            and fp_ledger_holder(&d.ledger, &d.segment.pool.ring, self.cookie) != FP_UNCLAIMED

    cdef int listen(self) except -1:
        """Somebody is to be told: have the background thread take the result."""
        cdef Dispatcher d = self.dispatcher
        if self.settled or self.told:
            return 0
        if d.foreign:
            d.ensure_usable()
        self.told = True
        d.callbacks += 1
        if d.callbacks == 1:
            fp_pool_ask(&d.segment.pool, FP_ATT_RESULTS)
            d.pump()  # what came before the request is seen here
        return 0

    # ---- what the standard library's functions look at ------------------------------------------

    @property
    def _condition(self):
        with critical_section(LOCK):
            if self.condition is None:
                self.listen()
                condition = Condition()
                if self.condition is None:  # another thread may have been here meanwhile
                    self.condition = condition
            return self.condition

    @property
    def _state(self):
        with critical_section(LOCK):
            if self.shown:
                return CANCELLED_AND_NOTIFIED if self.was_cancelled else FINISHED
            return RUNNING if self.settled or self.is_held() else PENDING

    @property
    def _waiters(self):
        with critical_section(LOCK):
            if self.waiters is None:
                self.waiters = []
            return self.waiters

    @property
    def _done_callbacks(self):
        with critical_section(LOCK):
            return self.done_callbacks or ()

    @property
    def _result(self):
        with critical_section(LOCK):
            return self.value if self.shown and self.success else None

    @property
    def _exception(self):
        with critical_section(LOCK):
            if self.success or self.was_cancelled:
                return None
            return self.value if self.shown else None

    # ---- the face ------------------------------------------------------------------------------

    def cancel(self, kill=False):
        """Have the call not run.

        Parameters
        ----------
        kill : bool
            Stop it if it runs, first by an exception, half a second later by SIGKILL of its worker,
            which is replaced. The standard library's futures have no such argument.

        Returns
        -------
        bool
            Whether it is cancelled; without `kill`, False if a worker has begun it or it has ended.
        """
        with critical_section(LOCK):
            if self.settled or not Job.cancel(self, kill):
                return self.was_cancelled
        self._tell(None)
        return True

    def cancelled(self):
        """Return whether the call was cancelled."""
        with critical_section(LOCK):
            return self.was_cancelled

    def running(self):
        """Return whether a worker runs the call."""
        with critical_section(LOCK):
            if not self.settled:
                self.dispatcher.pump()
            return not self.settled and self.is_held()

    def done(self):
        """Return whether the call has ended or was cancelled."""
        with critical_section(LOCK):
            if not self.settled:
                self.dispatcher.pump()
            if self.settled and not self.shown:
                self.show_when_free()
            return self.settled

    def add_done_callback(self, fn):
        """Have ``fn(future)`` called when the call has ended or was cancelled.

        In the executor's background thread; in the thread that cancels; or here, if it has ended
        already. What `fn` raises is logged.
        """
        cdef list callbacks = []  # before the look: to make it may let others run
        with critical_section(LOCK):
            if not self.settled:
                if self.done_callbacks is None:
                    self.done_callbacks = callbacks
                self.listen()
            if not self.settled:
                self.done_callbacks.append(fn)
                return
            if not self.shown:
                self.show_when_free()
        self._call(fn)

    cdef int finish(self, object timeout) except -1:
        """Wait until it is settled; TimeoutError when `timeout` seconds passed first."""
        if not FP_LOAD32(&self.flag) and not self.dispatcher.wait(self, timeout):
            raise TimeoutError()
        if not self.shown:
            self.show_when_free()
        if self.was_cancelled:
            raise CancelledError()
        return 0

    def result(self, timeout=None):
        """Return what the call returned, or raise what it raised.

        Parameters
        ----------
        timeout : float, optional
            Wait at most so many seconds.

        Raises
        ------
        concurrent.futures.TimeoutError
            If the call has not ended within `timeout`.
        concurrent.futures.CancelledError
            If it was cancelled.
        concurrent.futures.process.BrokenProcessPool
            If its worker died (then it is a :class:`fastpool.WorkerDiedError`, too), the initializer
            raised, or the workers were terminated.
        """
        with critical_section(LOCK):
            self.finish(timeout)
            if self.success:
                return self.value
            raise self.value

    def exception(self, timeout=None):
        """Return what the call raised, or None; see :meth:`result`."""
        with critical_section(LOCK):
            self.finish(timeout)
            return None if self.success else self.value

    def set_running_or_notify_cancel(self):
        """Return whether the call was not cancelled; the executor itself has no need to be told.

        Raises
        ------
        RuntimeError
            If it has ended.
        """
        with critical_section(LOCK):
            if self.settled and not self.was_cancelled:
                raise RuntimeError("Future in unexpected state")
            return not self.was_cancelled

    def set_result(self, result):
        """Give the future this result, whatever becomes of the call.

        Raises
        ------
        concurrent.futures.InvalidStateError
            If it has ended or was cancelled.
        """
        with critical_section(LOCK):
            if self.settled:
                raise InvalidStateError(f"{self._state}: {self!r}")
            self.settle(True, result)

    def set_exception(self, exception):
        """Give the future this exception; see :meth:`set_result`."""
        with critical_section(LOCK):
            if self.settled:
                raise InvalidStateError(f"{self._state}: {self!r}")
            self.settle(False, exception)


def submit(Dispatcher dispatcher, cls, func, args, kwds):
    """A future of class `cls` for ``func(*args, **kwds)``; None when no calls are taken any more."""
    cdef FutureJob job
    with critical_section(LOCK):
        if dispatcher.broken is not None or not (dispatcher.accepting or dispatcher.foreign):
            return None
        job = dispatcher.apply_async(cls, None, func, args, kwds, None, None)
        if job.function is None and not job.settled:
            # It has been pickled together with its arguments; what it holds shall not outlive the
            # call.
            job.name = job._target_name()
            job.target = None
        return job
