from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._c cimport fp_a32, fp_entry
from fastpool._core._codec cimport Codec, Payload
from fastpool._core._functions cimport Function
from fastpool._core._segment cimport Segment


cdef class Carrier  # declared below


cdef class Source:
    # Something that still has tasks to send.
    cdef Carrier dispatcher
    cdef bint queued        # in dispatcher.sources
    cdef int feed(self) except -1
    cdef int abandon(self, object error) except -1
    cdef Py_ssize_t unsent(self)
    cdef int nudge(self) except -1
    cdef bint blocked(self)
    cdef bint starving(self)


cdef class Carrier:
    # What a call knows of the dispatcher that serves it.
    cdef object __weakref__
    cdef readonly Segment segment
    cdef Codec codec
    cdef object timeout_error
    cdef public object recovery   # settles what workers do not: Recovery, set by whoever makes both
    cdef public uint32_t alive    # workers that run
    cdef readonly Py_ssize_t timed        # unfinished jobs with a limit
    cdef set feeders              # streams that a thread pushes items to
    cdef int sleeping_threads
    cdef readonly Py_ssize_t jobs         # unfinished
    cdef readonly Py_ssize_t callbacks    # unfinished jobs of which somebody is to be told
    cdef readonly object done             # jobs of which the background thread is to tell now
    cdef public bint accepting
    cdef readonly bint foreign            # this process is a fork of the pool's owner
    cdef int ensure_usable(self) except -1
    cdef int call_background(self) except -1
    cdef int pump(self) except -1
    cdef int wait(self, Job job, object timeout) except -1
    cdef int enqueue(self, Source source, bint awaited) except -1
    cdef int ask_for_low(self) except -1


cdef class Job(Source):
    # What one call is waiting for.  Subclassed in Python to be the standard library's classes too.
    cdef object pool        # kept as long as it runs
    cdef object callback
    cdef object error_callback
    cdef bint told          # somebody is to be told of it: it is counted in `callbacks`
    cdef list watchers      # who is, besides the callbacks; or None
    cdef int awaiters       # between `_watch` and `_unwatch`
    cdef object value       # the result, or the exception
    cdef bint success
    cdef bint was_cancelled
    cdef bint settled       # value is final; `flag` follows, after the callback
    cdef fp_a32 flag        # read by waiting threads without the GIL
    cdef object target      # what is called, to name it in errors
    cdef Function function
    cdef uint64_t limit     # ns that each item may take; 0: any time
    cdef uint8_t flags      # of its tasks
    cdef uint64_t call      # its number, if its tasks are seeded
    cdef uint32_t cookie    # of the task that was made last
    cdef int deliver(self, const fp_entry *entry, const Payload *payload, bint last) except -1
    cdef int fail_item(self, const fp_entry *entry, object error, bint last) except -1
    cdef int fail_rest(self, const fp_entry *entry, object error) except -1
    cdef int fail(self, uint64_t index, uint32_t count, object error) except -1
    cdef int run_singly(self, const fp_entry *entry) except -1
    cdef int hole(self, uint64_t index, object error) except -1
    cdef int withdraw(self, object error) except -1
    cdef int settle(self, bint success, object value) except -1
    cdef int publish(self) except -1
    cdef bint is_there(self)
    cdef int tell(self) except -1


cdef class ApplyJob(Job):
    pass


cdef bint is_interrupt(error) except -1
