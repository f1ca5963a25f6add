# cython: nonecheck=True
"""The way of results from the rings to their jobs, and waiting for it.

Everything here runs under the lock, like the rest of the parent's loop (see _submit).
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF
from libc.stdlib cimport calloc, free

from fastpool._core._c cimport *
from fastpool._core._jobs cimport Carrier
from fastpool._core._protocol cimport (
    RESULT_KEEPS, RESULT_PART, RESULT_REST, RESULT_STOPPED, RESULT_UNREAD, STATUS_FREE, STATUS_INIT,
    STATUS_OK, STATUS_SKIPPED, payload_of_result,
)
from fastpool._core._segment cimport Heap, Segment
from fastpool._core._threads cimport FREE_THREADED

cdef extern from *:
    """
    /* 1 when some ring has something, within so many pauses. */
    static inline int fp_glance(const fp_resring *rings, uint32_t n, uint32_t pauses) {
        for (uint32_t i = 0; i < pauses; i++) {
            for (uint32_t r = 0; r < n; r++) {
                if (!fp_resring_empty(&rings[r])) {
                    return 1;
                }
            }
            fp_relax();
        }
        return 0;
    }
    """
    bint fp_glance(const fp_resring *rings, uint32_t n, uint32_t pauses) nogil

# Run by the interpreter, which has the thread that comes by give up those of its objects that other
# threads have dropped: without a GIL, nobody else may. What lies in shared memory may be among them.
cdef object come_by = eval("lambda: None")

cdef enum:
    LOOK_NS = 1000000  # look for signals this often while spinning


cdef class Receiver(Sender):
    """Takes results, and waits for them.

    Parameters
    ----------
    segment, heap
        As of a Sender.
    codec : Codec
        Over that heap.
    timeout_error : type
        What waiting too long raises.
    min_block_ns, max_block_ns : int
        Bounds of the time a waiting thread spins before it sleeps.
    """

    def __cinit__(self, Segment segment, Heap heap, Codec codec, _remember, timeout_error,
                  uint64_t min_block_ns, uint64_t max_block_ns):
        self.codec = codec
        self.timeout_error = timeout_error
        fp_patience_init(&self.patience, min_block_ns, max_block_ns)
        self.rings = <fp_resring *> calloc(segment.pool.slots, sizeof(fp_resring))
        if self.rings == NULL:
            raise MemoryError
        self.kept = {}

    def __dealloc__(self):
        free(self.rings)

    # ---- results -------------------------------------------------------------------------------

    cdef int drain(self) except -1:
        """Read every result that has arrived; returns how many."""
        cdef fp_result result
        cdef fp_resring *ring
        cdef uint32_t i
        cdef int n = 0
        cdef int here
        cdef bint crowded
        for i in range(self.top):
            ring = &self.rings[i]
            crowded = False
            here = 0
            try:
                while here < 256 and fp_resring_pop(ring, &result):
                    crowded |= fp_resring_crowded(ring)
                    here += 1
                    FP_CP("drain.popped")
                    self.handle(&result, i)
                    FP_CP("drain.handled")
            finally:
                if crowded:
                    FP_CP("drain.crowded")
                    fp_pool_made_room(&self.segment.pool, i)
            n += here
        return n

    cdef int handle(self, fp_result *result, uint32_t slot) except -1:
        cdef fp_entry entry
        cdef Payload payload
        cdef Job job
        if result.status == STATUS_FREE:
            FP_CP("handle.released")
            self.kept.pop((slot, result.ticket), None)
            return 0
        payload_of_result(result, self.segment.pool.base, &payload)
        self.segment.reading[slot] += 1  # until the block is back, the slot's memory has no new owner
        try:
            if result.status == STATUS_INIT:
                self.fail_pool(self.decode_error(&payload))
                return 0
            if result.cookie >= self.ledger.capacity \
                    or self.ledger.entries[result.cookie].state != FP_ENTRY_SENT \
                    or self.ledger.entries[result.cookie].ticket != result.ticket:
                return 0  # settled before, when everything was failed
            if result.status == STATUS_SKIPPED:
                FP_CP("handle.skipped")
                return self.resend(result.cookie)
            if result.flags & RESULT_PART:
                FP_CP("handle.part")
                return self.take_part(result.cookie, &payload)
            if result.flags & RESULT_REST:
                FP_CP("handle.rest")
                if result.flags & RESULT_KEEPS and self.ledger.entries[result.cookie].keeps != NULL:
                    keeps = <object> self.ledger.entries[result.cookie].keeps
                    self.kept[slot, result.ticket] = keeps, None
                    if self.ledger.entries[result.cookie].state != FP_ENTRY_SENT \
                            or self.ledger.entries[result.cookie].ticket != result.ticket:
                        return 0  # settled while the tuples were made
                return self.take_stop(result.cookie, &payload, result.flags & RESULT_STOPPED)
            job = self.take_entry(result.cookie, &entry, True)
            keeps = None
            if entry.keeps != NULL:  # until the result is read, which may name the same blocks
                keeps = <object> entry.keeps
                Py_DECREF(keeps)
            if result.flags & RESULT_KEEPS:
                self.kept[slot, result.ticket] = keeps, job.function
            FP_CP("handle.entry")
            if job.settled:
                return self.forget_payload(&payload)
            if result.status == STATUS_OK:
                job.deliver(&entry, &payload, True)
                FP_CP("handle.delivered")
                return 0
            error = self.decode_error(&payload)
            if result.flags & RESULT_UNREAD:
                return job.run_singly(&entry)
            if result.flags & RESULT_STOPPED:
                error = self.recovery.stopped(job, entry.index, error)
            job.fail_rest(&entry, error)
            FP_CP("handle.failed")
        finally:
            if result.in_block:
                FP_CP("handle.giving_back")
                self.segment.give_back(result.payload.ref)
                FP_CP("handle.given_back")
            self.segment.reading[slot] -= 1
        return 0

    cdef int take_part(self, uint32_t cookie, const Payload *payload) except -1:
        """Take some of a task's results; more will follow."""
        cdef fp_entry entry = self.ledger.entries[cookie]
        cdef Job job = <Job> entry.job
        keeps = None if entry.keeps == NULL else <object> entry.keeps
        self.ledger.entries[cookie].done += payload.count
        FP_CP("part.counted")
        if job.settled:
            return self.forget_payload(payload)
        return job.deliver(&entry, payload, False)

    cdef int take_stop(self, uint32_t cookie, const Payload *payload, bint stopped) except -1:
        """Take the end of an item whose worker leaves; what is behind it runs elsewhere.

        The books come first: to unpickle the error may let others in.
        """
        cdef fp_entry entry = self.ledger.entries[cookie]
        cdef fp_entry closed
        cdef Job job = <Job> entry.job
        cdef bint last = entry.done + 1 >= entry.count
        keeps = None if entry.keeps == NULL else <object> entry.keeps
        self.ledger.entries[cookie].done += 1
        self.ledger.entries[cookie].deaths = 0
        if last:
            self.take_entry(cookie, &closed, False)
        else:
            self.resend(cookie)
        error = self.decode_error(payload)
        if stopped:
            error = self.recovery.stopped(job, entry.index + entry.done, error)
        if job.settled:
            return 0
        if entry.done >= entry.count:  # it was over already: this is nobody's error
            return self.end_task(job, &entry)
        return job.fail_item(&entry, error, last)

    cdef int end_task(self, Job job, const fp_entry *entry) except -1:
        """All results of a task have come, but for the word that it is over."""
        cdef Payload nothing
        nothing.codec = nothing.count = nothing.refs = 0
        nothing.len = 0
        nothing.data = NULL
        return job.deliver(entry, &nothing, True)

    cdef int forget_payload(self, const Payload *payload) except -1:
        """Give back the blocks of a result that nobody wants."""
        if payload.refs:
            self.codec.open_refs(payload)
        FP_CP("handle.unwanted")
        return 0

    cdef object decode_error(self, const Payload *payload):
        """The exception that a result brings."""
        try:
            return self.codec.decode_one(payload)
        except BaseException as error:
            return error

    # ---- waiting -------------------------------------------------------------------------------

    cdef int pump(self) except -1:
        """One round of everything that moves: results in, tasks out."""
        cdef Carrier held = self  # the job for which it was asked may end here, and let go of it
        if self.foreign:
            return 0
        self.drain()
        if self.sources:
            self.feed()
        return 0

    cdef int wait(self, Job job, object timeout) except -1:
        """Wait for the job's flag: 1, or 0 when `timeout` seconds passed first."""
        cdef Carrier held = self  # see `pump`
        cdef fp_pool *pool = &self.segment.pool
        cdef uint64_t deadline = 0
        cdef uint64_t since = 0
        cdef uint64_t until
        cdef uint32_t top, bell
        cdef int code
        cdef double seconds
        if timeout is not None:
            seconds = timeout
            deadline = fp_os_now_ns()
            if seconds > 0:
                deadline += <uint64_t> (min(seconds, 1e9) * 1e9)
        if self.foreign:
            self.ensure_usable()
        self.waiting_threads += 1
        try:
            while True:
                code = self.drain()
                if self.sources:
                    self.feed()
                if FP_LOAD32(&job.flag):
                    break
                if code > 0 or self.glance(pool.pauses):
                    PyErr_CheckSignals()  # a stream of results must not keep Ctrl-C off
                    continue
                if since == 0:
                    since = fp_os_now_ns()
                until = since + self.patience.block_ns
                top = self.top
                bell = fp_parent_bell(pool)  # with `top`: another thread may change that from here on
                self.sleeping_threads += 1
                FP_CP("wait.begin")
                with nogil:
                    code = fp_parent_wait(pool, self.rings, top, &job.flag, bell, until, deadline,
                                          LOOK_NS)
                self.sleeping_threads -= 1
                FP_CP("wait.up")
                if FREE_THREADED:
                    come_by()
                if code < 0:
                    PyErr_CheckSignals()
                    if deadline != 0 and fp_os_now_ns() >= deadline:
                        self.pump()
                        return FP_LOAD32(&job.flag)
            if since != 0:
                fp_patience_learn(&self.patience, fp_os_now_ns() - since)
            return 1
        finally:
            self.waiting_threads -= 1
            if self.sources and self.waiting_threads == 0:
                self.leave_to_background()

    cdef bint glance(self, uint32_t pauses) noexcept:
        """Whether a result comes while one pauses so often."""
        return fp_glance(self.rings, self.top, pauses)

    cdef bint await_memory(self, uint64_t before) except -1:
        """Wait until a task is done, which may give memory back; False when none is under way.

        `before`: of `done_tasks`, when memory was asked for. Raises what the pool died of, which may be
        why there is none.
        """
        cdef uint32_t top, bell
        cdef int code
        while self.sent and self.dead is None:
            self.drain()
            if self.done_tasks != before:
                return True
            top = self.top
            bell = fp_parent_bell(&self.segment.pool)
            self.sleeping_threads += 1
            with nogil:
                code = fp_parent_wait(&self.segment.pool, self.rings, top, &self.never, bell, 0, 0,
                                      LOOK_NS)
            self.sleeping_threads -= 1
            if FREE_THREADED:
                come_by()
            if code < 0:
                PyErr_CheckSignals()
        if self.dead is not None:
            raise self.dead
        return self.done_tasks != before
