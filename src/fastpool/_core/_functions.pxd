from libc.stdint cimport uint8_t, uint64_t

from fastpool._core._c cimport fp_task
from fastpool._core._codec cimport Codec
from fastpool._core._protocol cimport FLAG_STATE
from fastpool._core._segment cimport Heap


cdef class Function:
    # A function as workers know it: by number, with its pickle in a block.
    cdef Heap heap
    cdef object target      # keeps id(target) from being used again
    cdef uint64_t number
    cdef uint64_t ref
    cdef bint stateful      # made for one call: workers unpickle it for each task
    cdef list keeps         # blocks that its pickle names


cdef class Functions:
    cdef Heap heap
    cdef Codec codec
    cdef object remember
    cdef dict by_id
    cdef Function last            # that was asked for
    cdef uint64_t next_number
    cdef Function lookup(self, object func)


# Say in the task what to call.
cdef inline void call(fp_task *task, Function function, int kind, uint8_t flags) noexcept:
    task.kind = kind
    task.func = function.number
    task.func_ref = function.ref
    task.flags = flags | (FLAG_STATE if function.stateful else 0)
