from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._c cimport fp_heap, fp_pool


cdef class Segment:
    # One pool's shared memory, as this process sees it.
    cdef fp_pool pool
    cdef readonly int fd        # the segment's descriptor; ours to close
    cdef readonly int bell_fd   # poll()able: workers ring it for the parent's background thread
    cdef bint mapped


cdef class Heap:
    # The blocks of the one region that this process allocates from.
    cdef Segment segment
    cdef fp_heap heap
    cdef bint frozen            # nothing is given back any more: others may still read it
    cdef uint64_t alloc(self, uint64_t n) noexcept
    cdef void free(self, uint64_t offset) noexcept


cdef int check(int code) except -1
