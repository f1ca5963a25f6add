from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._blocks cimport WorkerExchange
from fastpool._core._c cimport FP_RESULT_INLINE, fp_a32, fp_ctl, fp_resring, fp_result, fp_task
from fastpool._core._codec cimport Codec, Encoded
from fastpool._core._segment cimport Segment


cdef class Outbox:
    # A worker's way to the parent: its result ring, and memory for what does not fit there.
    cdef readonly Segment segment
    cdef readonly Codec codec
    cdef WorkerExchange exchange
    cdef object report
    cdef object unsendable
    cdef object outcome          # what the task that runs has returned
    cdef bint open               # a task runs, and what it ends with is not known: it may be stopped
    cdef bint stopping           # a task has been told to stop; the worker leaves after it
    cdef bint starving           # it has waited for memory in vain
    cdef fp_a32 never            # a word that nobody changes
    cdef uint32_t slot
    cdef fp_ctl *ctl
    cdef fp_resring ring

    cdef fp_result *slot_for(self, const fp_task *task, uint64_t ticket) except? NULL
    cdef int publish(self, fp_result *result, Encoded *out, uint8_t flags) except -1
    cdef int post_outcome(self, const fp_task *task, uint64_t ticket) except -1
    cdef int post_error(self, const fp_task *task, uint64_t ticket, uint8_t status, object error,
                        uint8_t flags) except -1
    cdef int post_report(self, const fp_task *task, uint64_t ticket, uint8_t status, bytes data,
                         uint8_t flags) except -1
    cdef int post_skipped(self, const fp_task *task, uint64_t ticket) except -1
    cdef int post_released(self) except -1
    cdef bint await_memory(self, uint64_t *since) except -1
    cdef int post_empty(self, const fp_task *task, uint64_t ticket, uint8_t status) except -1


# Have a payload written into a result's slot, as far as it fits there.
cdef inline void write_into(fp_result *result, Encoded *out) noexcept:
    out.bytes = result.payload.bytes
    out.room = FP_RESULT_INLINE
    out.head = 0
