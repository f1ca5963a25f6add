# The meaning of a task's and a result's small fields, for both ends.
from fastpool._core._c cimport fp_task
from fastpool._core._codec cimport Encoded

cdef enum:
    KIND_APPLY = 0
    KIND_MAP = 1      # func(item) for each item
    KIND_STARMAP = 2  # func(*item) for each item

    FLAG_KWDS = 1     # apply: the payload is (args, kwds)
    FLAG_STATE = 2    # the function has state: unpickle it for each task

    STATUS_OK = 0
    STATUS_ERROR = 1
    STATUS_INIT = 2   # the worker's initializer raised; no task is meant


cdef inline void place(fp_task *task, Encoded *out) noexcept:
    # Say in the task how its payload was written.
    task.codec = out.codec
    task.in_block = out.in_block
    task.count = out.count
    task.len = out.len
    if out.in_block:
        task.payload.ref = out.ref
