from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._blocks cimport Call
from fastpool._core._c cimport fp_a32, fp_entry, fp_ledger, fp_patience, fp_resring, fp_result, fp_task
from fastpool._core._codec cimport Codec, Encoded, Payload
from fastpool._core._protocol cimport FLAG_STATE
from fastpool._core._segment cimport Heap, Segment


cdef enum:
    NO_ITEM = 0xFFFFFFFF


cdef class Function:
    # A function as workers know it: by number, with its pickle in a block.
    cdef Heap heap
    cdef object target      # keeps id(target) from being used again
    cdef uint64_t number
    cdef uint64_t ref
    cdef bint stateful      # made for one call: workers unpickle it for each task
    cdef list keeps         # blocks that its pickle names


cdef class Source:
    # Something that still has tasks to send.
    cdef Dispatcher dispatcher
    cdef bint queued        # in dispatcher.sources
    cdef int feed(self) except -1
    cdef int abandon(self, object error) except -1
    cdef Py_ssize_t unsent(self)
    cdef int nudge(self) except -1
    cdef bint blocked(self)
    cdef bint starving(self)


cdef class Job(Source):
    # What one call is waiting for.  Subclassed in Python to be the standard library's classes too.
    cdef public object _pool
    cdef object callback
    cdef object error_callback
    cdef object value       # the result, or the exception
    cdef bint success
    cdef bint was_cancelled
    cdef bint settled       # value is final; `flag` follows, after the callback
    cdef fp_a32 flag        # read by waiting threads without the GIL
    cdef object target      # what is called, to name it in errors
    cdef Function function
    cdef uint64_t limit     # ns that each item may take; 0: any time
    cdef uint8_t flags      # of its tasks
    cdef uint32_t cookie    # of the task that was made last
    cdef int deliver(self, const fp_entry *entry, const Payload *payload, bint last) except -1
    cdef int fail_item(self, const fp_entry *entry, object error, bint last) except -1
    cdef int fail_rest(self, const fp_entry *entry, object error) except -1
    cdef int fail(self, uint64_t index, uint32_t count, object error) except -1
    cdef int run_singly(self, const fp_entry *entry) except -1
    cdef int hole(self, uint64_t index, object error) except -1
    cdef int withdraw(self, object error) except -1
    cdef int settle(self, bint success, object value) except -1


cdef class Dispatcher:
    cdef readonly Segment segment
    cdef readonly Heap heap
    cdef Codec codec
    cdef object remember
    cdef object timeout_error
    cdef public object recovery   # settles what workers do not: Recovery, set by whoever makes both
    cdef fp_ledger ledger
    cdef fp_patience patience
    cdef fp_resring *rings
    cdef uint32_t top             # worker slots below it are or were in use
    cdef public uint32_t alive    # workers that run
    cdef dict kept                # (slot, ticket) -> what that worker goes on using
    cdef object dead              # fail_all()'s error: nothing is sent any more
    cdef uint64_t sent            # tasks in the ring or in workers
    cdef uint64_t done_tasks      # that were sent
    cdef fp_a32 never             # a flag that nobody raises
    cdef set marked               # cookies of tasks that may lie in the queue, cancelled
    cdef readonly Py_ssize_t timed        # unfinished jobs with a limit
    cdef readonly uint64_t shortest       # of their limits, or of others that were there with them
    cdef public bint watched              # the background thread looks again within that time
    cdef list sources             # of Source, first in, first served
    cdef set feeders              # streams that a thread pushes items to
    cdef dict functions
    cdef Function last_function
    cdef uint64_t next_number
    cdef int sleeping_threads
    cdef int waiting_threads
    cdef readonly Py_ssize_t jobs         # unfinished
    cdef readonly Py_ssize_t callbacks    # unfinished jobs that have callbacks
    cdef readonly object done             # settled jobs whose callback is due
    cdef public bint accepting
    cdef public object failure            # why no job can run any more, or None
    cdef readonly bint foreign            # this process is a fork of the pool's owner

    cdef int ensure_usable(self) except -1
    cdef Job make_job(self, object cls, object pool, object func, object callback,
                      object error_callback, bint late, uint64_t limit)
    cpdef hold(self)
    cpdef let_go(self)
    cdef int call_background(self) except -1
    cdef Function lookup(self, object func)
    cdef PyObject *describe(self, fp_task *task, object func, object args, object kwds, Job job,
                            Call about) except? NULL
    cdef PyObject *try_to_describe(self, fp_task *task, object func, object args, object kwds,
                                   Job job, Call about) except? NULL
    cdef int launch(self, fp_task *task, Job job, uint64_t index, PyObject *keeps) except -1
    cdef uint32_t entry(self, Job job, uint64_t index, uint32_t count, uint64_t block,
                        PyObject *keeps) except? 0xFFFFFFFF
    cdef void push(self, fp_task *task, uint32_t cookie) noexcept
    cdef void kick(self) noexcept
    cdef int enqueue(self, Source source, bint awaited) except -1
    cdef int send(self, fp_task *task, uint32_t cookie) except -1
    cdef int postpone(self, fp_task *task, uint32_t cookie) except -1
    cdef object decode_error(self, const Payload *payload)
    cdef int drain(self) except -1
    cdef int handle(self, fp_result *result, uint32_t slot) except -1
    cdef int wait(self, Job job, object timeout) except -1
    cdef int pump(self) except -1
    cdef int feed(self) except -1
    cdef int queue_source(self, Source source, bint awaited) except -1
    cdef int ask_for_low(self) except -1
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


cdef bint is_interrupt(error) except -1


# Say in the task what to call.
cdef inline void call(fp_task *task, Function function, int kind, uint8_t flags) noexcept:
    task.kind = kind
    task.func = function.number
    task.func_ref = function.ref
    task.flags = flags | (FLAG_STATE if function.stateful else 0)
