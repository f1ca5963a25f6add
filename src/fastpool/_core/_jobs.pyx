# cython: nonecheck=True
"""What calls wait for, and what still has tasks to send.

Everything here runs under the lock, like the rest of the parent's loop (see _submit).
"""

import threading

from cython cimport critical_section

from fastpool._core._c cimport *
from fastpool._core._codec cimport Payload
from fastpool._core._segment cimport LOCK


cdef bint is_interrupt(error) except -1:
    """Is it Ctrl-C, and this the thread that gets it?  Elsewhere it is a task's error like others."""
    return isinstance(error, KeyboardInterrupt) \
        and threading.current_thread() is threading.main_thread()


cdef class Source:

    cdef int feed(self) except -1:
        """Send what fits: 1 when nothing is left to send, else 0."""
        return 1

    cdef int abandon(self, object error) except -1:
        """What was not sent yet never will be."""
        return 0

    cdef Py_ssize_t unsent(self):
        """Tasks still to send, as far as is known."""
        return 0

    cdef int nudge(self) except -1:
        """There may be room for more now."""
        return 0

    cdef bint blocked(self):
        """Whether it waits for something else than room in the ring."""
        return False

    cdef bint starving(self):
        """Whether it waits for memory, which a task may give back that is done."""
        return False


cdef class Carrier:
    """What a call knows of the dispatcher that serves it."""

    cdef int ensure_usable(self) except -1:
        """Raise, if this process may not use the pool, or nobody may any more."""
        raise NotImplementedError

    cdef int call_background(self) except -1:
        """Have the background thread look."""
        raise NotImplementedError

    cdef int pump(self) except -1:
        """One round of everything that moves: results in, tasks out."""
        raise NotImplementedError

    cdef int wait(self, Job job, object timeout) except -1:
        """Wait for the job's flag: 1, or 0 when `timeout` seconds passed first."""
        raise NotImplementedError

    cdef int enqueue(self, Source source, bint awaited) except -1:
        """Let a source send, now and whenever there is room; a waiting caller sees to that."""
        raise NotImplementedError

    cdef int ask_for_low(self) except -1:
        """Have the background thread called when the ring runs low, if that helps any source."""
        raise NotImplementedError


cdef class Job(Source):
    """What a call waits for; the base of all result objects."""

    # `entry.done` items of a task's have been taken before; `last`: the task is over with these.

    cdef int deliver(self, const fp_entry *entry, const Payload *payload, bint last) except -1:
        """Take the values of the next items of a task."""
        return 0

    cdef int fail_item(self, const fp_entry *entry, object error, bint last) except -1:
        """Take an exception in the place of the next item."""
        return 0

    cdef int fail_rest(self, const fp_entry *entry, object error) except -1:
        """Take an exception that ends the task, and with it all items that are left."""
        return 0

    cdef int fail(self, uint64_t index, uint32_t count, object error) except -1:
        """The same of items that were never sent."""
        cdef fp_entry entry
        entry.index = index
        entry.count = count
        entry.done = 0
        return self.fail_rest(&entry, error)

    cdef int run_singly(self, const fp_entry *entry) except -1:
        """Send each item of a task by itself: some can't be loaded, and the others shall run."""
        return 0

    cdef int hole(self, uint64_t index, object error) except -1:
        """Take an exception in the place of the result that will come for an item."""
        return 0

    cdef int withdraw(self, object error) except -1:
        """Settle now; what is still under way is nobody's business any more."""
        return self.settle(False, error)

    def cancel(self, kill=False):
        """Have the call not run.

        What no worker has begun will not be begun. What runs is left alone, unless `kill`: then its
        workers are stopped, first by an exception, half a second later by SIGKILL, and replaced.

        Parameters
        ----------
        kill : bool
            Stop what runs, too.

        Returns
        -------
        bool
            True if the call is cancelled: ``get()`` raises ``fastpool.TaskCancelledError``. False if
            it has completed, or is a single call that runs, without `kill`.
        """
        with critical_section(LOCK):
            if self.settled:
                return False
            return self.dispatcher.recovery.cancel(self, kill)

    def cancelled(self):
        """Return whether the call was cancelled."""
        with critical_section(LOCK):
            return self.was_cancelled

    cdef int settle(self, bint success, object value) except -1:
        """The value is final.  Callbacks come first, in the background thread; then readiness."""
        if self.settled:
            return 0
        FP_CP("settle.begin")
        self.settled = True
        self.success = success
        self.value = value
        self.function = None
        self.target = None
        if self.told and (self.watchers or (self.callback if success else self.error_callback)
                          is not None):
            return self.tell()
        return self.publish()

    cdef int tell(self) except -1:
        """Have the background thread tell those who are to be told."""
        self.told = False
        self.dispatcher.callbacks -= 1
        self.dispatcher.done.append(self)
        FP_CP("settle.queued")
        return self.dispatcher.call_background()

    cdef bint is_there(self):
        """Whether there is what a watcher waits for."""
        return FP_LOAD32(&self.flag)

    def _watch(self, tell):
        """Have the background thread call ``tell()``, once, when there is news; `_unwatch` has to follow.

        The news of a single result is that it is ready, that of a stream its next one.

        Returns
        -------
        bool
            False if it is there already; then nobody is told.
        """
        cdef Carrier d
        cdef list watchers = []  # before the look: to make it may let others run
        with critical_section(LOCK):
            d = self.dispatcher
            self.awaiters += 1
            if self.is_there():
                return False
            if d.foreign:
                d.ensure_usable()
            if not self.told:
                self.told = True
                d.callbacks += 1
            if self.watchers is None:
                self.watchers = watchers
            self.watchers.append(tell)
            fp_pool_ask(&d.segment.pool, FP_ATT_RESULTS)
            d.pump()  # no worker rings for what came before it was asked to
            return True

    def _unwatch(self, tell):
        """The end of what `_watch` began; returns how many others there are between the two."""
        with critical_section(LOCK):
            self.awaiters -= 1
            if self.watchers is not None and tell in self.watchers:
                self.watchers.remove(tell)
            return self.awaiters

    def _announce(self):
        """In the background thread, behind the callback: make the result visible to all.

        Returns
        -------
        list
            Whom else to tell.
        """
        with critical_section(LOCK):
            if self.settled:
                self.callback = self.error_callback = None
                self.publish()
            watchers, self.watchers = self.watchers, None
            return watchers or []

    cdef int publish(self) except -1:
        """Make the result visible to waiting threads."""
        cdef Carrier d = self.dispatcher
        if d is None:
            return 0
        pool = self.pool
        if self.told:  # of something else than came of it
            self.told = False
            d.callbacks -= 1
            self.callback = self.error_callback = None
        d.jobs -= 1
        if self.limit:
            d.timed -= 1
        FP_CP("ready.begin")
        FP_FLAG(&self.flag)
        FP_CP("ready.flagged")
        if d.sleeping_threads:
            fp_parent_wake(&d.segment.pool)
            FP_CP("ready.woken")
        if d.jobs == 0 and not d.accepting:
            d.call_background()
        # Last, since it may end the pool: a result that is kept must not keep the pool and its memory.
        self.dispatcher = None
        self.pool = None
        return 0

    @property
    def _pool(self):
        """The pool, until the result is there."""
        with critical_section(LOCK):
            return self.pool

    def _target_name(self):
        """The name of what is called."""
        with critical_section(LOCK):
            return getattr(self.target, "__qualname__", None) or type(self.target).__qualname__

    def _limit_seconds(self):
        """How long each item may take."""
        return self.limit / 1e9

    def _due(self):
        """(callback, value) of a job of which to tell; callback is None when there is none."""
        with critical_section(LOCK):
            return (self.callback if self.success else self.error_callback), self.value

    def ready(self):
        """Return whether the call has completed."""
        with critical_section(LOCK):
            if not FP_LOAD32(&self.flag):
                self.dispatcher.pump()
            return bool(FP_LOAD32(&self.flag))

    def wait(self, timeout=None):
        """Wait until the call has completed or ``timeout`` seconds have passed."""
        with critical_section(LOCK):
            if not FP_LOAD32(&self.flag):
                self.dispatcher.wait(self, timeout)

    def successful(self):
        """Return whether the call completed without raising.

        Raises
        ------
        ValueError
            If the result is not ready.
        """
        with critical_section(LOCK):
            if not self.ready():
                raise ValueError("{0!r} not ready".format(self))
            return bool(self.success)

    def get(self, timeout=None):
        """Return the result when it arrives, or raise what the call raised.

        Raises
        ------
        fastpool.TimeoutError
            If ``timeout`` is not None and the result does not arrive within ``timeout`` seconds.
        """
        with critical_section(LOCK):
            if not FP_LOAD32(&self.flag) and not self.dispatcher.wait(self, timeout):
                raise self.dispatcher.timeout_error
            if self.success:
                return self.value
            raise self.value


cdef class ApplyJob(Job):
    """The one result of ``apply``."""

    cdef int deliver(self, const fp_entry *entry, const Payload *payload, bint last) except -1:
        try:
            value = self.dispatcher.codec.decode_one(payload)
        except BaseException as error:
            self.settle(False, error)
            if is_interrupt(error):
                raise
            return 0
        return self.settle(True, value)

    cdef int fail_item(self, const fp_entry *entry, object error, bint last) except -1:
        return self.settle(False, error)

    cdef int fail_rest(self, const fp_entry *entry, object error) except -1:
        return self.settle(False, error)
