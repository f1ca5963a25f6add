from libc.stdint cimport uint64_t

from fastpool._core._blocks cimport Call
from fastpool._core._jobs cimport Job


cdef class ManyJob(Job):
    # A call over many items.
    cdef object items           # list, tuple or range: the items from `base` on
    cdef Py_ssize_t base
    cdef Py_ssize_t length      # base + len(items)
    cdef Py_ssize_t position    # of the first item not sent
    cdef readonly Py_ssize_t _chunksize
    cdef Py_ssize_t divisor     # > 0: guided, a chunk is 1/divisor of what is left
    cdef Py_ssize_t largest     # ... but no larger than this
    cdef int kind
    cdef Call about
    cdef Py_ssize_t in_flight   # chunks
    cdef list again             # chunks that there was no memory for: (index, items)
    cdef uint64_t failed_at     # how many tasks were done then
    cdef int writing            # chunks that some thread is writing right now
    cdef bint abandoned         # nothing more is sent
    cdef bint has_own_error     # behind the items, one place is that of the iterable's exception

    cdef int plan(self, object items, Py_ssize_t length, Py_ssize_t chunksize, Py_ssize_t divisor,
                  Py_ssize_t largest, int kind) except -1
    cdef Py_ssize_t window(self)
    cdef Py_ssize_t next_chunk(self)
    cdef bint is_writing(self) noexcept
    cdef bint send(self, Py_ssize_t n) except -1
    cdef bint send_chunk(self, Py_ssize_t index, Py_ssize_t n) except -1
    cdef bint write_chunk(self, Py_ssize_t index, Py_ssize_t n) except -1
    cdef bint send_singly(self, Py_ssize_t index, Py_ssize_t n) except -1
    cdef int sent_bytes(self, Py_ssize_t n, uint64_t size) except -1
