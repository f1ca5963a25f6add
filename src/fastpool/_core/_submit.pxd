from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from fastpool._core._blocks cimport Call
from fastpool._core._c cimport fp_task
from fastpool._core._codec cimport Encoded
from fastpool._core._functions cimport Functions
from fastpool._core._jobs cimport Job
from fastpool._core._receive cimport Receiver


cdef class Dispatcher(Receiver):
    cdef readonly Functions functions
    cdef uint64_t shortest                # of their limits, or of others that were there with them
    cdef public bint seeded               # each item has random streams of its own
    cdef uint64_t calls                   # that are seeded
    cdef public object explain            # adds to an error of pickling what it was, or None
    cdef bint watched                     # the background thread looks again within that time

    cpdef object carry(self, object func)
    cdef Job make_job(self, object cls, object pool, object func, object callback,
                      object error_callback, bint late, uint64_t limit)
    cpdef hold(self)
    cpdef let_go(self)
    cdef PyObject *describe(self, fp_task *task, object func, object args, object kwds, Job job,
                            Call about) except? NULL
    cdef PyObject *try_to_describe(self, fp_task *task, object func, object args, object kwds,
                                   Job job, Call about) except? NULL
    cdef int number(self, Job job) noexcept
    cdef int stamp(self, Job job, uint64_t index, Encoded *out) except -1
    cdef int set_limit(self, Job job, uint64_t limit) except -1
