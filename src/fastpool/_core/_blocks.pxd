from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._segment cimport Heap, Segment


# One entry of the table at the end of a payload: bytes that lie elsewhere in the segment.
cdef struct Ref:
    uint64_t offset
    uint64_t size      # and how it may be used, in the highest bits

cdef extern from *:
    """
    #define REF_SHARED (1ull << 63)   /* to be seen and written by everyone; a whole block */
    #define REF_BORROWED (1ull << 62) /* the parent's own array, unchanged for as long as the task runs */
    #define REF_SIZE (REF_BORROWED - 1)
    """
    uint64_t REF_SHARED
    uint64_t REF_BORROWED
    uint64_t REF_SIZE

cdef enum:
    OWN_BLOCK = 65536       # bytes from which on a buffer has a block of its own
    MAPPED_FROM = 1 << 20   # bytes from which on a worker maps an argument instead of copying it
    COPIED_TO = 1 << 28     # bytes up to which it copies one if it is likely to be written


cdef class Block:
    # In the parent: a block that somebody here holds, given back when nobody does.
    cdef object __weakref__
    cdef readonly Segment segment
    cdef Heap heap              # of the parent's region, for a block of it
    cdef readonly uint64_t offset
    cdef bint detached          # its pages are this process's own, other than the segment's
    cdef Py_ssize_t loans       # unfinished tasks that read it as the parent's own array


cdef class Loan:
    # What a task keeps of a block that it reads so.
    cdef Block block


cdef enum Reach:
    LENT      # valid only until the payload has been read: copy it
    SHARED    # the segment's own memory, which others see
    HELD      # the segment's own memory, which is nobody else's
    MAPPED    # a copy-on-write mapping of it
    FOREIGN   # some other object's memory


cdef class View:
    # A writable buffer over memory that `keeper` keeps.
    cdef char *at
    cdef Py_ssize_t length
    cdef readonly object keeper
    cdef Reach reach
    cdef bint borrowed
    cdef PyObject *newer        # neighbours among the mappings of this process, borrowed
    cdef PyObject *older


cdef class Lease:
    # In a worker: what one task's views keep the parent from using again.
    cdef uint64_t ticket
    cdef Py_ssize_t live
    cdef bint announced         # the parent knows that something is kept
    cdef list released          # where to say that nothing is kept any more
    cdef void drop(self) noexcept


cdef class Call:
    # What is known of the call that a payload belongs to.
    cdef bint borrow            # its caller waits, and so leaves its arrays alone
    cdef bint verify            # its objects may change between one item and the next
    cdef dict known             # id of an array -> what was copied of it


cdef class Exchange:
    # How large buffers travel: the parent's way and the workers'.
    cdef readonly Segment segment
    cdef Heap heap
    cdef readonly uint64_t copies_avoided
    cdef readonly uint64_t bytes_not_copied

    cdef uint64_t alloc(self, uint64_t n) except 0
    cdef int give(self, const char *data, uint64_t n, object owner, Call call, Ref *ref,
                  list keeps) except -1
    cdef int copy(self, const char *data, uint64_t n, Ref *ref) except -1
    cdef int undo(self, const Ref *refs, uint32_t n) except -1
    cdef View take(self, const Ref *ref)
    cdef int share(self, View view, Ref *ref) except -1
    cdef bint lies_here(self, View view) noexcept


cdef class ParentExchange(Exchange):
    cdef int keep(self, object block, uint64_t n, list keeps) except -1
    cdef Block find_known(self, const char *data, uint64_t n, object owner, Call call)


cdef class WorkerExchange(Exchange):
    cdef Lease lease            # of the task that runs, once it has a view
    cdef readonly list released
    cdef View leased(self, View view)
    cdef bint end_task(self, uint64_t ticket) except -1


cdef View view_of(object owner)
