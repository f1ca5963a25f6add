from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._c cimport fp_entry, fp_ledger, fp_task
from fastpool._core._jobs cimport Carrier, Job, Source
from fastpool._core._segment cimport Heap


cdef enum:
    NO_ITEM = 0xFFFFFFFF


cdef class Sender(Carrier):
    cdef readonly Heap heap
    cdef fp_ledger ledger
    cdef uint32_t top             # worker slots below it are or were in use
    cdef object dead              # fail_all()'s error: nothing is sent any more
    cdef object broken            # why no job can run any more, or None
    cdef uint64_t sent            # tasks in the ring or in workers
    cdef uint64_t done_tasks      # that were sent
    cdef set marked               # cookies of tasks that may lie in the queue, cancelled
    cdef list sources             # of Source, first in, first served
    cdef int waiting_threads

    cdef int ensure_usable(self) except -1
    cdef Job take_entry(self, uint32_t cookie, fp_entry *copy, bint keep)
    cdef int unmark(self, uint32_t cookie) except -1
    cdef int close_entry(self, uint32_t cookie) except -1
    cdef int fail_item(self, uint32_t cookie, uint32_t item, object error) except -1
    cdef int resend(self, uint32_t cookie, uint32_t hole=*) except -1
    cdef int write_again(self, fp_entry *entry, fp_task *task, uint32_t hole) noexcept
    cdef int launch(self, fp_task *task, Job job, uint64_t index, PyObject *keeps) except -1
    cdef int send(self, fp_task *task, uint32_t cookie) except -1
    cdef int postpone(self, fp_task *task, uint32_t cookie) except -1
    cdef uint32_t entry(self, Job job, uint64_t index, uint32_t count, uint64_t block,
                        PyObject *keeps) except? 0xFFFFFFFF
    cdef void push(self, fp_task *task, uint32_t cookie) noexcept
    cdef void kick(self) noexcept
    cdef int queue_source(self, Source source, bint awaited) except -1
    cdef int leave_to_background(self) except -1
    cdef bint is_starving(self) except -1
    cdef int feed(self) except -1
