# The meaning of a task's and a result's small fields, for both ends.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._c cimport FP_TASK_INLINE, fp_result, fp_task
from fastpool._core._codec cimport Encoded, Payload

cdef enum:
    KIND_APPLY = 0
    KIND_MAP = 1      # func(item) for each item
    KIND_STARMAP = 2  # func(*item) for each item
    KIND_FILL = 3     # item[0][...] = func(*item[1:]) for each item

    FLAG_KWDS = 1     # apply: the payload is (args, kwds)
    FLAG_STATE = 2    # the function has state: unpickle it for each task
    FLAG_TIMED = 4    # say when each item begins
    FLAG_CATCH = 8    # an exception is the result of its item, and does not end the chunk
    FLAG_AGAIN = 16   # the payload is an Again
    FLAG_SEEDED = 32  # the payload lies in a block, behind a Stream

    STATUS_OK = 0
    STATUS_ERROR = 1
    STATUS_INIT = 2   # the worker's initializer raised; no task is meant
    STATUS_FREE = 3   # nothing is kept any more of what task `ticket` was sent
    STATUS_SKIPPED = 4  # the task had been cancelled, and was not begun

    # Flags of a result.
    RESULT_KEEPS = 1  # the worker goes on using what the task was sent
    RESULT_PART = 2   # more results of the task follow
    RESULT_REST = 4   # of one item; those behind it were not begun, and shall run elsewhere

    RESULT_STOPPED = 8  # the parent wanted the task to be stopped
    RESULT_UNREAD = 16  # some argument can't be loaded: no item was begun

    # Why a task is stopped.
    VERDICT_TIMEOUT = 1
    VERDICT_CANCEL = 2


# A function as it lies in its block: this, then the pickle and its table of blocks.
cdef struct FunctionHead:
    uint64_t len
    uint32_t refs
    uint32_t reserved


# A task that is sent once more: where to go on in it, and the task as it was.  Behind it lie the
# numbers of items that are left out, ascending.
cdef struct Again:
    uint32_t skip
    uint32_t holes
    fp_task task


# Which random streams the items of a task have.
cdef struct Stream:
    uint64_t call          # of the pool
    uint64_t index         # of the first item


cdef inline void make_room(fp_task *task, Encoded *out, uint8_t flags) noexcept:
    # Before the payload of a task with these flags is written: it goes into the task if it fits.
    out.bytes = task.payload.bytes
    out.room = FP_TASK_INLINE
    out.head = 0
    if flags & FLAG_SEEDED:
        out.room = 0
        out.head = sizeof(Stream)


cdef inline void place(fp_task *task, Encoded *out) noexcept:
    # Say in the task how its payload was written.
    task.codec = out.codec
    task.in_block = out.in_block
    task.count = out.count
    task.refs = out.refs
    task.len = out.len
    if out.in_block:
        task.payload.ref = out.ref


cdef inline void payload_of_task(const fp_task *task, const unsigned char *base,
                                 Payload *payload) noexcept nogil:
    payload.codec = task.codec
    payload.count = task.count
    payload.refs = task.refs
    payload.len = task.len
    payload.data = base + task.payload.ref if task.in_block else task.payload.bytes
    if task.flags & FLAG_SEEDED:
        payload.data += sizeof(Stream)


cdef inline void payload_of_result(const fp_result *result, const unsigned char *base,
                                   Payload *payload) noexcept nogil:
    payload.codec = result.codec
    payload.count = result.count
    payload.refs = result.refs
    payload.len = result.len
    payload.data = base + result.payload.ref if result.in_block else result.payload.bytes
