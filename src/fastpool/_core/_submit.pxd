from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._blocks cimport Call
from fastpool._core._c cimport fp_a32, fp_entry, fp_ledger, fp_patience, fp_resring, fp_result, fp_task
from fastpool._core._codec cimport Payload
from fastpool._core._functions cimport Functions
from fastpool._core._jobs cimport Carrier, Job, Source
from fastpool._core._segment cimport Heap


cdef enum:
    NO_ITEM = 0xFFFFFFFF


cdef class Dispatcher(Carrier):
    cdef readonly Heap heap
    cdef readonly Functions functions
    cdef fp_ledger ledger
    cdef fp_patience patience
    cdef fp_resring *rings
    cdef uint32_t top             # worker slots below it are or were in use
    cdef dict kept                # (slot, ticket) -> what that worker goes on using
    cdef object dead              # fail_all()'s error: nothing is sent any more
    cdef uint64_t sent            # tasks in the ring or in workers
    cdef uint64_t done_tasks      # that were sent
    cdef fp_a32 never             # a flag that nobody raises
    cdef set marked               # cookies of tasks that may lie in the queue, cancelled
    cdef readonly uint64_t shortest       # of their limits, or of others that were there with them
    cdef public bint watched              # the background thread looks again within that time
    cdef list sources             # of Source, first in, first served
    cdef int waiting_threads
    cdef public object failure            # why no job can run any more, or None

    cdef int ensure_usable(self) except -1
    cdef Job make_job(self, object cls, object pool, object func, object callback,
                      object error_callback, bint late, uint64_t limit)
    cpdef hold(self)
    cpdef let_go(self)
    cdef PyObject *describe(self, fp_task *task, object func, object args, object kwds, Job job,
                            Call about) except? NULL
    cdef PyObject *try_to_describe(self, fp_task *task, object func, object args, object kwds,
                                   Job job, Call about) except? NULL
    cdef int launch(self, fp_task *task, Job job, uint64_t index, PyObject *keeps) except -1
    cdef uint32_t entry(self, Job job, uint64_t index, uint32_t count, uint64_t block,
                        PyObject *keeps) except? 0xFFFFFFFF
    cdef void push(self, fp_task *task, uint32_t cookie) noexcept
    cdef void kick(self) noexcept
    cdef int send(self, fp_task *task, uint32_t cookie) except -1
    cdef int postpone(self, fp_task *task, uint32_t cookie) except -1
    cdef object decode_error(self, const Payload *payload)
    cdef int drain(self) except -1
    cdef int handle(self, fp_result *result, uint32_t slot) except -1
    cdef int feed(self) except -1
    cdef int queue_source(self, Source source, bint awaited) except -1
    cdef int leave_to_background(self) except -1
    cdef bint await_memory(self) except -1
    cdef bint is_starving(self) except -1
    cdef int set_limit(self, Job job, uint64_t limit) except -1
    cdef int take_part(self, uint32_t cookie, const Payload *payload) except -1
    cdef int take_stop(self, uint32_t cookie, const Payload *payload, bint stopped) except -1
    cdef int end_task(self, Job job, const fp_entry *entry) except -1
    cdef int unmark(self, uint32_t cookie) except -1
    cdef int resend(self, uint32_t cookie, uint32_t hole=*) except -1
    cdef int write_again(self, fp_entry *entry, fp_task *task, uint32_t hole) noexcept
    cdef int fail_item(self, uint32_t cookie, uint32_t item, object error) except -1
    cdef int close_entry(self, uint32_t cookie) except -1
    cdef int forget_payload(self, const Payload *payload) except -1
    cdef Job take_entry(self, uint32_t cookie, fp_entry *copy, bint keep)
