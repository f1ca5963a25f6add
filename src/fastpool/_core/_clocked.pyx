"""The worker's loop of a pool whose use is reported: it takes the time of tasks and calls.

A class of its own, so that the other loop doesn't even ask whether somebody wants to know.
"""

from libc.stdint cimport uint64_t

from fastpool._core._c cimport fp_ctl, fp_ctl_count, fp_os_now_ns, fp_task
from fastpool._core._codec cimport Payload
from fastpool._core._workloop cimport WorkLoop


cdef class Clocked:
    """A function whose calls are timed."""
    cdef object function
    cdef fp_ctl *ctl

    def __call__(self, *args, **kwds):
        cdef uint64_t begin = fp_os_now_ns()
        try:
            return self.function(*args, **kwds)
        finally:
            fp_ctl_count(&self.ctl.call_ns, fp_os_now_ns() - begin)


cdef class ClockedLoop(WorkLoop):
    """A loop that says in its control block how long its tasks took, and the calls in them."""

    cdef int execute(self, fp_task *task, uint64_t ticket) except -1:
        cdef uint64_t begin = fp_os_now_ns()
        try:
            return WorkLoop.execute(self, task, ticket)
        finally:
            fp_ctl_count(&self.ctl.task_ns, fp_os_now_ns() - begin)

    cdef object function_of(self, const fp_task *task):
        return self.clocked(WorkLoop.function_of(self, task))

    cdef object run_apply(self, fp_task *task, const Payload *payload):
        cdef object args
        cdef object kwds
        if task.func != 0:
            return WorkLoop.run_apply(self, task, payload)
        function, args, kwds = self.codec.load(payload)
        return self.clocked(function)(*args, **kwds)

    cdef Clocked clocked(self, object function):
        cdef Clocked clocked = Clocked.__new__(Clocked)
        clocked.function = function
        clocked.ctl = self.ctl
        return clocked
