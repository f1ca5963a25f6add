from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._blocks cimport WorkerExchange
from fastpool._core._c cimport fp_ctl, fp_patience, fp_task
from fastpool._core._chunk cimport Chunk
from fastpool._core._codec cimport Codec, Cursor, Payload
from fastpool._core._outbox cimport Outbox
from fastpool._core._protocol cimport Stream
from fastpool._core._segment cimport Segment

cdef extern from *:
    ctypedef void *vectorcallfunc


cdef class WorkLoop:
    # Runs tasks in the worker of one slot.
    cdef Segment segment
    cdef Codec codec
    cdef Outbox outbox
    cdef Chunk chunk
    cdef WorkerExchange exchange
    cdef object stopped
    cdef fp_ctl *ctl
    cdef uint32_t slot
    cdef uint64_t limit
    cdef uint64_t memory_limit
    cdef uint64_t weighed        # when its memory was looked at, in ns
    cdef bint leaving            # after this task
    cdef bint unread             # the arguments of the chunk could not be loaded
    cdef uint32_t stopped_item   # why: it was told to stop in this item of the task
    cdef bint timed              # the parent wants to know when each item begins
    cdef const uint32_t *holes   # items that are left out
    cdef uint32_t hole_count
    cdef object seeder
    cdef bint seeded             # the items of the task have streams of their own
    cdef Stream stream           # those of the first one
    cdef fp_patience patience
    cdef dict functions
    cdef uint64_t last_number
    cdef object last_function

    cdef bint is_too_large(self)
    cdef int announce_last(self) except -1
    cdef object load_function(self, const fp_task *task)
    cdef object function_of(self, const fp_task *task)
    cdef int execute(self, fp_task *task, uint64_t ticket) except -1
    cdef bint is_stopped(self) noexcept
    cdef int end_item(self) noexcept
    cdef int post_error(self, fp_task *task, uint64_t ticket, error) except -1
    cdef object run_apply(self, fp_task *task, const Payload *payload)
    cdef int begin_streams(self, uint32_t item) except -1
    cdef object call_with(self, int kind, object function, object item)
    cdef object run_one(self, fp_task *task, const Payload *payload)
    cdef int run_many(self, fp_task *task, uint64_t ticket, const Payload *payload,
                      uint32_t skip) except -1
    cdef bint is_hole(self, uint32_t item) noexcept
    cdef int run_items(self, fp_task *task, Cursor *cursor, object held, const Payload *payload,
                       object function, vectorcallfunc direct, uint32_t *at) except -1
