"""The worker's loop of a pool whose use is reported: it takes the time of tasks and calls.

Classes of their own, so that the other loop doesn't even ask whether somebody wants to know.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._c cimport fp_ctl, fp_ctl_count, fp_os_now_ns, fp_result, fp_task
from fastpool._core._codec cimport Encoded, Payload
from fastpool._core._outbox cimport Outbox
from fastpool._core._protocol cimport RESULT_PART
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


cdef class ClockedOutbox(Outbox):
    """Notes that a task is done before anybody can know.

    A pool is often ended as soon as the last result is there, and its workers are killed.
    """
    cdef uint64_t since  # when the time of the task that runs was noted last; 0: none runs
    cdef uint32_t items

    cdef int publish(self, fp_result *result, Encoded *out, uint8_t flags) except -1:
        if self.since and not flags & RESULT_PART:
            fp_ctl_count(&self.ctl.task_count, 1)
            fp_ctl_count(&self.ctl.item_count, self.items)
            self.note()
        return Outbox.publish(self, result, out, flags)

    cdef int note(self) noexcept:
        cdef uint64_t now = fp_os_now_ns()
        fp_ctl_count(&self.ctl.task_ns, now - self.since)
        self.since = now
        return 0


cdef class ClockedLoop(WorkLoop):
    """A loop that says in its control block how long its tasks took, and the calls in them.

    Its outbox is a ClockedOutbox.
    """

    cdef int execute(self, fp_task *task, uint64_t ticket) except -1:
        cdef ClockedOutbox outbox = <ClockedOutbox?> self.outbox
        outbox.since = fp_os_now_ns()
        outbox.items = task.count
        try:
            return WorkLoop.execute(self, task, ticket)
        finally:
            outbox.note()
            outbox.since = 0

    cdef object function_of(self, const fp_task *task):
        return self.clocked(WorkLoop.function_of(self, task))

    cdef object run_apply(self, fp_task *task, const Payload *payload):
        cdef object args
        cdef object kwds
        if task.func != 0:
            return WorkLoop.run_apply(self, task, payload)
        function, args, kwds = self.codec.load(payload)
        if self.seeded:
            self.begin_streams(0)
        return self.clocked(function)(*args, **kwds)

    cdef Clocked clocked(self, object function):
        cdef Clocked clocked = Clocked.__new__(Clocked)
        clocked.function = function
        clocked.ctl = self.ctl
        return clocked
