"""What becomes of tasks that do not simply end: their worker died, they shall be stopped, or are not wanted.

Everything here runs under the lock, like the rest of the parent's loop (see _submit).
"""

import weakref

from cython cimport critical_section
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpool._core._c cimport *
from fastpool._core._arrays cimport dtype_of
from fastpool._core._codec cimport SCALARS, Payload
from fastpool._core._protocol cimport VERDICT_CANCEL, VERDICT_TIMEOUT
from fastpool._core._jobs cimport Job
from fastpool._core._segment cimport LOCK
from fastpool._core._submit cimport Dispatcher

from fastpool._core._jobs import ApplyJob

TIMEOUT = VERDICT_TIMEOUT
CANCEL = VERDICT_CANCEL


cdef class Recovery:
    """Settles what a dead worker held, and withdraws calls.

    It belongs to the dispatcher, so it must not hold that: in a cycle, a pool that has ended would
    keep its address space until the collector comes by.

    Parameters
    ----------
    dispatcher : Dispatcher
    retries : int
        How often an item is tried again whose worker died.
    make_cancelled : callable
        job -> the exception of a call that was cancelled.
    make_timeout : callable
        (job, index, error or None) -> the exception of an item that took too long; `error` is what
        came of it in the worker, when that lived on.
    stop : method
        (slot, ticket) -> None: have the worker of a slot stop what it runs, if it is this task.
        Its object isn't held either.
    """
    cdef object dispatcher  # weak references
    cdef object stop
    cdef uint32_t retries
    cdef object make_cancelled
    cdef object make_timeout
    cdef list outliving  # tickets of timed tasks that run on though their call was cancelled

    def __cinit__(self, Dispatcher dispatcher, uint32_t retries, make_cancelled, make_timeout, stop):
        self.dispatcher = weakref.ref(dispatcher)
        self.retries = retries
        self.make_cancelled = make_cancelled
        self.make_timeout = make_timeout
        self.stop = weakref.WeakMethod(stop)
        self.outliving = []

    # ---- deaths --------------------------------------------------------------------------------

    def settle_worker(self, uint32_t slot, make_error, uint64_t overdue=0, bint spare=False):
        """The worker of this slot is dead: take its last results, settle what it held.

        The results of a chunk that it had saved are taken too. Then the item that it ran is tried
        again, or fails, and the items behind it run in another worker.

        Parameters
        ----------
        slot : int
        make_error : callable
            (job, index, deaths) -> the exception for the item at `index` of its call, of which so
            many workers have died.
        overdue : int
            The ticket of a task that took too long, and was the reason of the death.
        spare : bool
            Nothing that it held was: that runs once more, whatever the number of retries.

        Returns
        -------
        int
            The number of items that failed.
        """
        cdef Dispatcher d = self.dispatcher()
        cdef uint32_t cookie = 0
        cdef int lost = 0
        with critical_section(LOCK):
            d.alive -= 1
            FP_CP("death.begin")
            fp_park_forget(&d.segment.pool, slot)
            FP_CP("death.woken")
            try:
                d.drain()
                FP_CP("death.drained")
            finally:
                for key in [key for key in d.kept if key[0] == slot]:
                    d.kept.pop(key, None)
                try:
                    self.take_saved(slot)
                    FP_CP("death.saved_taken")
                finally:
                    d.segment.slot_ended(slot)
                    FP_CP("death.slot_ended")
                    try:
                        while True:
                            cookie = fp_ledger_held(&d.ledger, &d.segment.pool.ring, slot, cookie)
                            if cookie == FP_NO_COOKIE:
                                break
                            FP_CP("death.held")
                            lost += self.settle_task(cookie, &d.segment.pool.ctl[slot], make_error,
                                                     overdue, spare)
                            FP_CP("death.settled")
                    finally:
                        d.kick()
                        FP_CP("death.kicked")
            return lost

    cdef int take_saved(self, uint32_t slot) except -1:
        """Take the results of a chunk that a dead worker had saved and not published."""
        cdef Dispatcher d = self.dispatcher()
        cdef fp_ctl *ctl = &d.segment.pool.ctl[slot]
        cdef uint32_t cookie = fp_ledger_find(&d.ledger, FP_LOAD64(&ctl.ticket))
        cdef uint64_t word = FP_LOAD64_ACQUIRE(&ctl.saved)
        cdef uint64_t at = word >> 8
        cdef fp_entry *entry
        cdef Payload payload
        cdef int64_t n
        if cookie == FP_NO_COOKIE \
                or fp_ledger_holder(&d.ledger, &d.segment.pool.ring, cookie) != slot:
            return 0
        entry = &d.ledger.entries[cookie]
        n = <int64_t> (fp_ctl_progress(ctl) - entry.done)
        if n <= 0 or n > entry.count - entry.done or at == 0 or at >= d.segment.pool.total:
            return 0
        payload.codec = word & 0xff
        payload.count = <uint32_t> n
        payload.refs = 0
        payload.data = d.segment.pool.base + at
        payload.len = 8 * <uint64_t> n
        if payload.codec == SCALARS:
            payload.len = 16 + n * <uint64_t> dtype_of(payload.data).itemsize
        d.segment.reading[slot] += 1
        FP_CP("saved.found")
        try:
            d.take_part(cookie, &payload)
            FP_CP("saved.taken")
        finally:
            d.segment.reading[slot] -= 1
        return 0

    cdef int settle_task(self, uint32_t cookie, const fp_ctl *ctl, make_error,
                         uint64_t overdue, bint spare) except -1:
        """Settle what a dead worker held of a task; returns how many items failed."""
        cdef Dispatcher d = self.dispatcher()
        cdef fp_entry *entry = &d.ledger.entries[cookie]
        cdef fp_entry copy
        cdef Job job = <Job> entry.job
        cdef uint32_t item = entry.done
        cdef int lost = entry.count - entry.done
        if job.settled:
            d.close_entry(cookie)
            return 0
        if entry.done >= entry.count:  # it died after its last item
            job = d.take_entry(cookie, &copy, False)
            FP_CP("death.all_done")
            d.end_task(job, &copy)
            return 0
        if FP_LOAD64(<fp_a64 *> &ctl.ticket) == entry.ticket:
            # Those between were done, but their results were not saved: they run again.
            item = max(item, FP_LOAD32(<fp_a32 *> &ctl.item))
        if overdue == entry.ticket and item < entry.count:
            d.fail_item(cookie, item, self.make_timeout(job, entry.index + item, None))
            return 1
        if spare:
            d.resend(cookie)
            return 0
        # Only an item that none came to before begins anew: two that die in turns must come to an end.
        if entry.deaths == 0 or entry.culprit < item:
            entry.culprit = item
            entry.deaths = 0
        entry.deaths += 1
        FP_CP("death.counted")
        if entry.deaths <= self.retries:
            d.resend(cookie)
            return 0
        deaths = entry.deaths
        if item < entry.count:
            d.fail_item(cookie, item, make_error(job, entry.index + item, deaths))
            return 1
        # All items were done, and it died of sending their results: so would the next one.
        job = d.take_entry(cookie, &copy, False)
        for item in range(copy.done, copy.count):
            if job.settled:
                break
            error = make_error(job, copy.index + item, deaths)
            copy.done = item
            job.fail_item(&copy, error, item + 1 == copy.count)
        return lost

    # ---- what shall not run, or run on ---------------------------------------------------------

    def cancel(self, Job job, bint kill):
        """See ``Job.cancel``."""
        cdef Dispatcher d = self.dispatcher()
        cdef fp_entry *entry
        cdef uint32_t cookie
        cdef uint32_t holder
        cdef list running = []
        with critical_section(LOCK):
            if d.foreign:
                d.ensure_usable()
            FP_CP("cancel.begin")
            d.pump()
            if job.settled:
                return False
            # A single call has one task, and a loop that cancels many of them would look through all.
            for cookie in (range(job.cookie, job.cookie + 1) if isinstance(job, ApplyJob)
                           else range(d.ledger.capacity)):
                if cookie >= d.ledger.capacity:
                    break
                entry = &d.ledger.entries[cookie]
                if entry.state != FP_ENTRY_SENT or <Job> entry.job is not job:
                    continue
                holder = fp_ledger_holder(&d.ledger, &d.segment.pool.ring, cookie)
                if holder == FP_UNCLAIMED:
                    d.marked.add(cookie)
                    FP_CP("cancel.marked")
                    if fp_pool_cancel(&d.segment.pool, entry.ticket):
                        continue
                    holder = fp_ledger_holder(&d.ledger, &d.segment.pool.ring, cookie)
                running.append((holder, entry.ticket))
            FP_CP("cancel.known")
            if running and not kill and isinstance(job, ApplyJob):
                return False
            error = self.make_cancelled(job)
            if job.settled:  # while that was made
                return False
            job.was_cancelled = True
            job.withdraw(error)
            FP_CP("cancel.withdrawn")
            if kill:
                stop = self.stop()
                for slot, ticket in running:
                    stop(slot, ticket)
                    FP_CP("cancel.stopped")
            elif job.limit:
                self.outliving += [ticket for _, ticket in running]
            return True

    def unfinished(self):
        """The calls that have tasks which are not done."""
        cdef Dispatcher d = self.dispatcher()
        cdef list jobs = []
        cdef uint32_t cookie
        with critical_section(LOCK):
            for cookie in range(d.ledger.capacity):
                if d.ledger.entries[cookie].state != FP_ENTRY_FREE:
                    jobs.append(<object> d.ledger.entries[cookie].job)
            return jobs

    def has_outliving(self):
        """Whether some task with a limit runs on that no call waits for: it still may not take longer."""
        cdef Dispatcher d = self.dispatcher()
        with critical_section(LOCK):
            if self.outliving:
                self.outliving = [ticket for ticket in self.outliving
                                  if fp_ledger_find(&d.ledger, ticket) != FP_NO_COOKIE]
            return len(self.outliving) > 0

    def stopped(self, Job job, uint64_t index, error):
        """The exception of an item that was stopped, and whose worker lived to tell."""
        with critical_section(LOCK):
            if job.settled or not job.limit:
                return error
            return self.make_timeout(job, index, error)

    def condemn(self, uint32_t slot, uint64_t ticket, since, uint32_t verdict):
        """Before the signal: what the worker of a slot shall stop; every item if `since` is None."""
        cdef Dispatcher d = self.dispatcher()
        FP_CP("condemn.begin")
        fp_ctl_condemn(&d.segment.pool.ctl[slot], ticket,
                       FP_ANY_ITEM if since is None else <uint64_t> since, verdict)
        FP_CP("condemn.done")

    def running(self, uint32_t slot):
        """(ticket, since when in ns, limit in ns) of the timed item that a worker runs, or None."""
        cdef Dispatcher d = self.dispatcher()
        cdef uint64_t ticket = 0
        cdef uint64_t since = 0
        cdef uint32_t cookie
        cdef Job job
        with critical_section(LOCK):
            if not fp_ctl_running(&d.segment.pool.ctl[slot], &ticket, &since):
                return None
            cookie = fp_ledger_find(&d.ledger, ticket)
            if cookie == FP_NO_COOKIE:
                return None
            job = <Job> d.ledger.entries[cookie].job
            if not job.limit:
                return None
            return ticket, since, job.limit

    def is_held_by(self, uint32_t slot, uint64_t ticket):
        """Whether a worker has taken this task, and its result has not been read."""
        cdef Dispatcher d = self.dispatcher()
        cdef uint32_t cookie
        with critical_section(LOCK):
            cookie = fp_ledger_find(&d.ledger, ticket)
            return cookie != FP_NO_COOKIE \
                and fp_ledger_holder(&d.ledger, &d.segment.pool.ring, cookie) == slot

    def is_running(self, uint32_t slot, uint64_t ticket, since):
        """Whether a worker still runs this task; and the item that began at `since`, if not None."""
        cdef Dispatcher d = self.dispatcher()
        cdef fp_ctl *ctl = &d.segment.pool.ctl[slot]
        if FP_LOAD64(&ctl.ticket) != ticket:
            return False
        return since is None or FP_LOAD64(&ctl.since) == <uint64_t> since
