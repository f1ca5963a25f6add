from fastpool._core._jobs cimport ApplyJob


cdef class FutureJob(ApplyJob):
    # `settled`: the value is final. `shown`: those who look at `_state` see that.
    cdef bint shown
    cdef object condition   # None until somebody asks for it
    cdef list waiters       # of wait() and as_completed()
    cdef list registered    # those of them that were there as it was shown
    cdef list done_callbacks
    cdef str name           # of what is called, when that is not kept

    cdef int show(self) except -1
    cdef int show_when_free(self) except -1
    cdef int show_if_free(self) except -1
    cdef bint is_held(self) except -1
    cdef int listen(self) except -1
    cdef int finish(self, object timeout) except -1
