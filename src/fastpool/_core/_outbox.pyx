"""What a worker sends: results, errors, and notes about what it keeps."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._c cimport *
from fastpool._core._blocks cimport Call
from fastpool._core._codec cimport NONES, PICKLED_ONE, Codec, Encoded
from fastpool._core._protocol cimport (
    KIND_APPLY, RESULT_KEEPS, RESULT_PART, STATUS_ERROR, STATUS_FREE, STATUS_INIT, STATUS_OK,
    STATUS_SKIPPED,
)
from fastpool._core._segment cimport Segment
from fastpool._core._threads cimport FREE_THREADED

from fastpool._core._blocks import OutOfBlocksError

cdef enum:
    MEMORY_WAIT_NS = 1000000000  # how long to look for memory before giving up ...
    MEMORY_NAP_NS = 10000000     # ... and how long to sleep between

cdef Call RESULT = Call()


cdef class Outbox:
    """The result ring of one worker slot, seen from its worker.

    Parameters
    ----------
    segment : Segment
    slot : int
    codec : Codec
        Over this worker's heap.
    report : callable
        exception -> bytes, the pickle that makes get() raise it.
    unsendable : callable
        (exception, value) -> the exception that says that the value could not be pickled, and why.
    """

    def __cinit__(self, Segment segment, uint32_t slot, Codec codec, report, unsendable):
        self.segment = segment
        self.slot = slot
        self.codec = codec
        self.exchange = codec.exchange
        self.report = report
        self.unsendable = unsendable
        self.ctl = &segment.pool.ctl[slot]
        fp_pool_resring(&segment.pool, slot, &self.ring)

    def post_init_error(self, error):
        """Tell the parent that the initializer raised."""
        FP_CP("init.raised")
        self.post_error(NULL, 0, STATUS_INIT, error, 0)
        FP_CP("init.reported")

    cdef fp_result *slot_for(self, const fp_task *task, uint64_t ticket) except? NULL:
        """The next free result slot, its head filled in; NULL when the pool stops meanwhile."""
        cdef fp_result *result
        cdef int code
        while not fp_resring_room(&self.ring):
            FP_CP("outbox.full")
            with nogil:
                code = fp_worker_wait_room(&self.segment.pool, self.slot, &self.ring,
                                           self.segment.bell_fd)
            if code == FP_GOT_STOP:
                return NULL
            if code < 0:
                PyErr_CheckSignals()
        result = fp_resring_next(&self.ring)
        result.ticket = ticket
        result.cookie = task.cookie if task != NULL else FP_NO_COOKIE
        result.status = STATUS_OK
        FP_CP("outbox.slot")
        return result

    cdef int publish(self, fp_result *result, Encoded *out, uint8_t flags) except -1:
        """Send what was written; without RESULT_PART the task is over."""
        self.outcome = None
        FP_CP("send.begin")
        result.codec = out.codec
        result.in_block = out.in_block
        result.flags = flags
        result.count = out.count
        result.refs = out.refs
        result.len = out.len
        if out.in_block:
            result.payload.ref = out.ref
        if not flags & RESULT_PART:
            if self.exchange.lease is not None and self.exchange.end_task(result.ticket):
                result.flags |= RESULT_KEEPS
                FP_CP("send.keeps")
            self.open = False
        if out.in_block or out.refs:
            if result.status == STATUS_OK:
                self.starving = False
            self.exchange.heap.publish(self.slot)
            FP_CP("send.heap")
        fp_resring_publish(&self.ring)
        FP_CP("send.published")
        fp_worker_published(&self.segment.pool, self.segment.bell_fd)
        FP_CP("send.told")
        return 0

    cdef int post_outcome(self, const fp_task *task, uint64_t ticket) except -1:
        """Publish `outcome`, what one call returned, or why that can't be done."""
        cdef fp_result *result = self.slot_for(task, ticket)
        cdef Encoded out
        cdef uint64_t since = 0
        if result == NULL:
            return 0
        write_into(result, &out)
        while True:
            try:
                self.codec.encode_one(self.outcome, &out, RESULT)
                break
            except OutOfBlocksError as error:
                if not self.await_memory(&since):
                    return self.post_error(task, ticket, STATUS_ERROR, MemoryError(str(error)), 0)
            except MemoryError as error:
                return self.post_error(task, ticket, STATUS_ERROR, error, 0)
            except Exception as error:
                if self.stopping:  # a signal's, and not the result's
                    raise
                shown = self.outcome if task.kind == KIND_APPLY else [self.outcome]
                return self.post_error(task, ticket, STATUS_ERROR,
                                       self.unsendable(error, shown), 0)
        FP_CP("outcome.written")
        return self.publish(result, &out, 0)

    cdef int post_error(self, const fp_task *task, uint64_t ticket, uint8_t status, object error,
                        uint8_t flags) except -1:
        """Publish an exception."""
        return self.post_report(task, ticket, status, self.report(error), flags)

    cdef int post_report(self, const fp_task *task, uint64_t ticket, uint8_t status, bytes data,
                         uint8_t flags) except -1:
        """Publish the pickle of an exception."""
        cdef fp_result *result = self.slot_for(task, ticket)
        cdef Encoded out
        cdef uint64_t since = 0
        if result == NULL:
            return 0
        write_into(result, &out)
        while True:
            try:
                self.codec.encode_bytes(data, PICKLED_ONE, 1, &out)
                break
            except OutOfBlocksError:
                if not self.await_memory(&since):
                    raise
        result.status = status
        FP_CP("error.written")
        return self.publish(result, &out, flags)

    cdef int post_skipped(self, const fp_task *task, uint64_t ticket) except -1:
        """Say that a cancelled task was taken and not begun."""
        return self.post_empty(task, ticket, STATUS_SKIPPED)

    cdef int post_released(self) except -1:
        """Tell the parent that nothing is used any more of what some tasks were sent."""
        while self.exchange.released:
            ticket = self.exchange.released.pop()
            FP_CP("released.taken")
            self.post_empty(NULL, ticket, STATUS_FREE)
        return 0

    cdef int post_empty(self, const fp_task *task, uint64_t ticket, uint8_t status) except -1:
        cdef fp_result *result = self.slot_for(task, ticket)
        cdef Encoded out
        if result == NULL:
            return 0
        result.status = status
        out.codec = NONES
        out.in_block = 0
        out.count = 0
        out.refs = 0
        out.len = 0
        return self.publish(result, &out, 0)

    cdef bint await_memory(self, uint64_t *since) except -1:
        """Sleep, so that the parent may give something back; False when it is time to give up.

        Who has given up does not wait again before something has been sent that took memory: a long
        row of tasks must not wait for each of them.
        """
        cdef uint64_t now = fp_os_now_ns()
        if since[0] == 0:
            since[0] = now
            if FREE_THREADED:  # threads of the parent that sleep may have to let go of something
                fp_os_bell_ring(self.segment.bell_fd)
                fp_parent_wake(&self.segment.pool)
        if self.starving or fp_pool_state(&self.segment.pool) == FP_POOL_STOP:
            return False
        if now - since[0] > MEMORY_WAIT_NS:
            self.starving = True
            return False
        with nogil:
            FP_CP("outbox.starving")
            fp_os_park(&self.never, 0, MEMORY_NAP_NS)
        PyErr_CheckSignals()
        return True
