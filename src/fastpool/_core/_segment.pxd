from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._c cimport fp_heap, fp_pool

# What the GIL is elsewhere, on a free-threaded build: see _segment.pyx.
cdef object LOCK


cdef class Segment:
    # One pool's shared memory, as this process sees it.
    cdef fp_pool pool
    cdef readonly int fd        # the segment's descriptor; ours to close
    cdef readonly int bell_fd   # workers ring it for the parent's background thread
    cdef readonly int poll_fd   # the parent's: readable when it rings; on some systems the same
    cdef bint mapped
    # What follows is the parent's.
    cdef object __weakref__
    cdef dict blocks            # offset -> weak reference to the Block that is held there
    cdef uint32_t *live         # how many of them lie in each region ...
    cdef uint64_t *live_bytes   # ... and their size
    cdef uint32_t *reading      # results in each slot's region that are being read
    cdef unsigned char *running # whether each slot has a worker
    cdef uint64_t keep          # bytes that may wait, warm, on a worker's return stack
    cdef bint owned             # this process made it, and was not told to be a fork of who did
    cdef unsigned born          # how many forks there had been then
    cdef bint retired           # the pool has ended: nobody allocates any more

    cdef str shortage(self, uint64_t n)
    cdef bint is_ours(self) noexcept
    cdef int remember_block(self, uint64_t offset, object reference) except -1
    cdef void forget_block(self, uint64_t offset) noexcept
    cdef object find_block(self, uint64_t offset)
    cdef bint has_room_for(self, uint64_t offset, uint64_t size) noexcept
    cdef void give_back(self, uint64_t offset) noexcept
    cdef void restart(self, uint32_t slot) noexcept
    cdef void slot_ended(self, uint32_t slot) noexcept


cdef class Heap:
    # The blocks of the one region that this process allocates from.
    cdef Segment segment
    cdef fp_heap heap
    cdef bint frozen            # nothing is given back any more: others may still read it
    cdef unsigned born          # as of a segment
    cdef uint64_t alloc(self, uint64_t n) noexcept
    cdef void free(self, uint64_t offset) noexcept
    cdef bint could_hold(self, uint64_t n) noexcept
    cdef void publish(self, uint32_t slot) noexcept


cdef int check(int code, str asked=*) except -1
