from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._c cimport fp_a32, fp_entry, fp_patience, fp_resring, fp_result
from fastpool._core._codec cimport Codec, Payload
from fastpool._core._jobs cimport Job
from fastpool._core._send cimport Sender


cdef class Receiver(Sender):
    cdef fp_resring *rings
    cdef dict kept                # (slot, ticket) -> what that worker goes on using
    cdef fp_patience patience
    cdef fp_a32 never             # a flag that nobody raises

    cdef int drain(self) except -1
    cdef int handle(self, fp_result *result, uint32_t slot) except -1
    cdef int take_part(self, uint32_t cookie, const Payload *payload) except -1
    cdef int take_stop(self, uint32_t cookie, const Payload *payload, bint stopped) except -1
    cdef int end_task(self, Job job, const fp_entry *entry) except -1
    cdef int forget_payload(self, const Payload *payload) except -1
    cdef object decode_error(self, const Payload *payload)
    cdef bint await_memory(self, uint64_t before) except -1
    cdef bint glance(self, uint32_t pauses) noexcept
