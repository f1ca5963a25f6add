"""The worker's loop: claim, decode, call, encode, publish."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_FromLongLong
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpool._core._c cimport *
from fastpool._core._blocks cimport Call, WorkerExchange
from fastpool._core._codec cimport (
    FLOAT64, INT64, NONES, PICKLED, PICKLED_ONE, RANGE, Codec, Cursor, Encoded, Payload, step,
)
from fastpool._core._plain cimport fp_as_int64
from fastpool._core._protocol cimport (
    FLAG_KWDS, FLAG_STATE, KIND_APPLY, KIND_FILL, KIND_STARMAP, RESULT_KEEPS, STATUS_ERROR,
    STATUS_FREE, STATUS_INIT, STATUS_OK, FunctionHead, payload_of_task,
)
from fastpool._core._segment cimport Segment

from fastpool._core._blocks import OutOfBlocksError

cdef extern from "Python.h":
    object PyObject_Call(object func, object args, PyObject *kwds)
    bint PyLong_CheckExact(object o)
    bint PyFloat_CheckExact(object o)
    double PyFloat_AS_DOUBLE(object o)

cdef extern from *:
    """
    /* About a microsecond of pauses, with the GIL held: a hot loop's next task comes in a tenth. */
    static inline int fp_await_task(fp_taskring *ring, int pauses) {
        for (int i = 0; i < pauses; i++) {
            if (!fp_taskring_empty(ring)) {
                return 1;
            }
            fp_relax();
        }
        return 0;
    }
    /* What PyObject_CallOneArg does, with the look-up done once for a chunk. */
    static inline vectorcallfunc fp_vectorcall_of(PyObject *func) {
        return PyVectorcall_Function(func);
    }
    static inline PyObject *fp_call1(vectorcallfunc direct, PyObject *func, PyObject *arg) {
        if (direct == NULL) {
            return PyObject_CallOneArg(func, arg);
        }
        PyObject *args[2] = {NULL, arg};
        return direct(func, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    """
    ctypedef void *vectorcallfunc
    vectorcallfunc fp_vectorcall_of(object func)
    object fp_call1(vectorcallfunc direct, object func, object arg)
    bint fp_await_task(fp_taskring *ring, int pauses) nogil

cdef enum:
    PAUSES = 40
    MAX_FUNCTIONS = 1024
    MEMORY_WAIT_NS = 1000000000  # how long to look for memory before giving up ...
    MEMORY_NAP_NS = 10000000     # ... and how long to sleep between

# What the results of a chunk have been so far.
cdef enum:
    UNDECIDED
    INTS
    FLOATS
    ONLY_NONE
    ANY


cdef Call RESULT = Call()


cdef class WorkLoop:
    """Runs tasks in the worker of one slot.

    Parameters
    ----------
    segment : Segment
    slot : int
    codec : Codec
        Over this worker's heap.
    report : callable
        exception -> bytes, the pickle that makes get() raise it.
    report_unsendable : callable
        (exception, value) -> bytes, when the value could not be pickled because of the exception.
    limit : int
        Leave after so many tasks; 0: never.
    min_block_ns, max_block_ns : int
        Bounds of the time an idle worker spins before it sleeps.
    """
    cdef Segment segment
    cdef Codec codec
    cdef object report
    cdef object report_unsendable
    cdef WorkerExchange exchange
    cdef object outcome          # what the task that runs has returned
    cdef fp_a32 never            # a word that nobody changes
    cdef uint32_t slot
    cdef uint64_t limit
    cdef fp_resring ring
    cdef fp_patience patience
    cdef dict functions
    cdef uint64_t last_number
    cdef object last_function

    def __cinit__(self, Segment segment, uint32_t slot, Codec codec, report, report_unsendable,
                  uint64_t limit, uint64_t min_block_ns, uint64_t max_block_ns):
        self.segment = segment
        self.slot = slot
        self.codec = codec
        self.exchange = codec.exchange
        self.report = report
        self.report_unsendable = report_unsendable
        self.limit = limit
        self.patience.min_ns = min_block_ns
        self.patience.max_ns = max_block_ns
        self.patience.block_ns = min(max(min_block_ns, 200000), max_block_ns)
        self.functions = {}
        fp_pool_resring(&segment.pool, slot, &self.ring)

    def run(self):
        """Work until told to leave, or until `limit` tasks are done.

        Raises
        ------
        BaseException
            What a task raised, or a signal handler, that is not an ``Exception``. The task's caller
            has got it before.
        """
        cdef fp_pool *pool = &self.segment.pool
        cdef fp_ctl *ctl = &pool.ctl[self.slot]
        cdef fp_task task
        cdef uint64_t ticket
        cdef uint64_t since = 0
        cdef uint64_t done = 0
        cdef int code
        FP_STORE32(&ctl.state, FP_IDLE)
        while not FP_LOAD32(&ctl.stop) and fp_pool_state(pool) != FP_POOL_STOP:
            ticket = fp_taskring_claim(&pool.ring, self.slot, &task)
            if ticket == 0:
                if fp_await_task(&pool.ring, PAUSES):
                    continue
                with nogil:
                    code = fp_worker_wait(pool, self.slot, &self.patience, &since)
                if code == FP_GOT_STOP:
                    return
                if code < 0:
                    PyErr_CheckSignals()
                continue
            since = 0
            FP_STORE64(&ctl.ticket, ticket)
            FP_STORE32(&ctl.state, FP_BUSY)
            fp_worker_claimed(pool, ticket, self.segment.bell_fd)
            self.execute(&task, ticket)
            if self.exchange.released:
                self.post_released()
            fp_ctl_count(&ctl.tasks, 1)
            fp_ctl_count(&ctl.items, task.count)
            FP_STORE64(&ctl.ticket, 0)
            FP_STORE32(&ctl.state, FP_IDLE)
            done += 1
            if done == self.limit:
                return

    def post_init_error(self, error):
        """Tell the parent that the initializer raised."""
        self.post_error(NULL, 0, STATUS_INIT, self.report(error))

    cdef object load_function(self, const fp_task *task):
        cdef const unsigned char *at = self.segment.pool.base + task.func_ref
        cdef const FunctionHead *head = <const FunctionHead *> at
        cdef Payload payload
        payload.codec = PICKLED_ONE
        payload.count = 1
        payload.refs = head.refs
        payload.len = head.len
        payload.data = at + sizeof(FunctionHead)
        return self.codec.load(&payload)

    cdef object function_of(self, const fp_task *task):
        """The function a task names: remembered, or unpickled now.

        One that brings state along is unpickled for each task: what a task does to it must not be
        seen by the next one, which may run in another worker.
        """
        if task.flags & FLAG_STATE:
            return self.load_function(task)
        if task.func == self.last_number:
            return self.last_function
        function = self.functions.get(task.func)
        if function is None:
            function = self.load_function(task)
            if len(self.functions) >= MAX_FUNCTIONS:
                self.functions.clear()
            self.functions[task.func] = function
        self.last_number = task.func
        self.last_function = function
        return function

    cdef int execute(self, fp_task *task, uint64_t ticket) except -1:
        """Run one task and publish what came of it."""
        cdef Payload payload
        payload_of_task(task, self.segment.pool.base, &payload)
        try:
            if task.kind == KIND_APPLY:
                self.outcome = self.run_apply(task, &payload)
                self.post_outcome(task, ticket, False)
            else:
                self.run_many(task, ticket, &payload)
        except BaseException as error:
            self.outcome = None
            self.post_error(task, ticket, STATUS_ERROR, self.report(error))
            if not isinstance(error, Exception):
                raise
        return 0

    cdef object run_apply(self, fp_task *task, const Payload *payload):
        cdef object args
        cdef object kwds
        if task.func == 0:
            function, args, kwds = self.codec.load(payload)
            return function(*args, **kwds)
        function = self.function_of(task)
        if task.flags & FLAG_KWDS:
            args, kwds = self.codec.load(payload)
            return function(*args, **kwds)
        args = self.codec.decode_tuple(payload)
        return PyObject_Call(function, args, NULL)

    cdef int run_many(self, fp_task *task, uint64_t ticket, const Payload *payload) except -1:
        """Call the function on each item; results go straight into a column while they fit one."""
        cdef Cursor cursor
        cdef Encoded out
        cdef unsigned char small[FP_RESULT_INLINE]
        cdef int64_t *ints = NULL
        cdef double *reals = NULL
        cdef int mode = UNDECIDED
        cdef int overflow = 0
        cdef int64_t number = 0
        cdef uint32_t n = task.count
        cdef uint32_t i
        cdef list values = None
        cdef int kind = task.kind
        cdef const unsigned char *data = payload.data
        function = self.function_of(task)
        cdef vectorcallfunc direct = fp_vectorcall_of(function)
        held = self.codec.open(&cursor, payload)
        out.bytes = small
        out.room = FP_RESULT_INLINE
        out.head = 0
        out.in_block = 0
        out.refs = 0
        out.keeps = NULL
        out.count = n
        try:
            for i in range(n):
                if cursor.codec == INT64:  # the two commonest, without a call
                    item = PyLong_FromLongLong((<const int64_t *> data)[i])
                elif cursor.codec == RANGE:
                    item = PyLong_FromLongLong((<const int64_t *> data)[0]
                                               + i * (<const int64_t *> data)[1])
                else:
                    item = step(&cursor, held, payload)
                if kind == KIND_STARMAP:
                    value = PyObject_Call(function,
                                          item if type(item) is tuple else tuple(item), NULL)
                elif kind == KIND_FILL:
                    item[0][...] = PyObject_Call(function, item[1:], NULL)
                    value = None
                else:
                    value = fp_call1(direct, function, item)
                if mode == INTS:
                    if PyLong_CheckExact(value):
                        number = fp_as_int64(<PyObject *> value, &overflow)
                        if not overflow:
                            ints[i] = number
                            continue
                elif mode == FLOATS:
                    if PyFloat_CheckExact(value):
                        reals[i] = PyFloat_AS_DOUBLE(value)
                        continue
                elif mode == ONLY_NONE:
                    if value is None:
                        continue
                elif mode == UNDECIDED and n > 1:
                    if PyLong_CheckExact(value):
                        number = fp_as_int64(<PyObject *> value, &overflow)
                        if not overflow:
                            mode = INTS
                            ints = <int64_t *> self.room_for(&out, 8 * <uint64_t> n)
                            ints[0] = number
                            continue
                    elif PyFloat_CheckExact(value):
                        mode = FLOATS
                        reals = <double *> self.room_for(&out, 8 * <uint64_t> n)
                        reals[0] = PyFloat_AS_DOUBLE(value)
                        continue
                    elif value is None:
                        mode = ONLY_NONE
                        out.len = 0
                        continue
                if n == 1:
                    self.outcome = value
                    item = value = held = function = None
                    return self.post_outcome(task, ticket, False)
                if mode != ANY:
                    values = self.as_list(mode, ints, reals, i)
                    self.codec.discard(&out)
                    mode = ANY
                values.append(value)
        except BaseException:
            self.codec.discard(&out)
            raise
        item = value = held = function = None
        if mode == ANY or mode == UNDECIDED:
            self.outcome = values if values is not None else []
            values = None
            return self.post_outcome(task, ticket, True)
        out.codec = INT64 if mode == INTS else FLOAT64 if mode == FLOATS else NONES
        self.post(task, ticket, &out)
        return 0

    cdef list as_list(self, int mode, int64_t *ints, double *reals, uint32_t n):
        """The first n results, out of their column."""
        cdef uint32_t i
        if mode == INTS:
            return [ints[i] for i in range(n)]
        if mode == FLOATS:
            return [reals[i] for i in range(n)]
        return [None] * n

    # ---- publishing --------------------------------------------------------------------------

    cdef fp_result *slot_for(self, const fp_task *task, uint64_t ticket) except? NULL:
        """The next free result slot, its head filled in; NULL when the pool stops meanwhile."""
        cdef fp_result *result
        cdef int code
        while not fp_resring_room(&self.ring):
            with nogil:
                code = fp_worker_wait_room(&self.segment.pool, self.slot, &self.ring,
                                           self.segment.bell_fd)
            if code == FP_GOT_STOP:
                return NULL
            if code < 0:
                PyErr_CheckSignals()
        result = fp_resring_next(&self.ring)
        result.ticket = ticket
        result.cookie = task.cookie if task != NULL else FP_NO_COOKIE
        result.status = STATUS_OK
        result.flags = 0
        return result

    cdef int publish(self, fp_result *result, Encoded *out) except -1:
        self.outcome = None
        result.codec = out.codec
        result.in_block = out.in_block
        result.count = out.count
        result.refs = out.refs
        result.len = out.len
        if out.in_block:
            result.payload.ref = out.ref
        if self.exchange.lease is not None and self.exchange.end_task(result.ticket):
            result.flags |= RESULT_KEEPS
        if out.in_block or out.refs:
            self.exchange.heap.publish(self.slot)
        fp_resring_publish(&self.ring)
        fp_worker_published(&self.segment.pool, self.segment.bell_fd)
        return 0

    cdef int post(self, fp_task *task, uint64_t ticket, Encoded *out) except -1:
        """Publish a payload that was written elsewhere."""
        cdef fp_result *result = self.slot_for(task, ticket)
        if result == NULL:
            return self.codec.discard(out)
        if not out.in_block:
            memcpy(result.payload.bytes, out.bytes, out.len)
        return self.publish(result, out)

    cdef int post_outcome(self, fp_task *task, uint64_t ticket, bint many) except -1:
        """Publish what one call returned, or the list of what the calls of a chunk did."""
        cdef fp_result *result = self.slot_for(task, ticket)
        cdef Encoded out
        cdef uint64_t since = 0
        if result == NULL:
            return 0
        out.bytes = result.payload.bytes
        out.room = FP_RESULT_INLINE
        out.head = 0
        while True:
            try:
                self.encode_outcome(&out, many)
                break
            except OutOfBlocksError as error:
                if not self.await_memory(&since):
                    return self.post_error(task, ticket, STATUS_ERROR,
                                           self.report(MemoryError(str(error))))
            except MemoryError as error:
                return self.post_error(task, ticket, STATUS_ERROR, self.report(error))
            except Exception as error:
                shown = self.outcome if many or task.kind == KIND_APPLY else [self.outcome]
                return self.post_error(task, ticket, STATUS_ERROR,
                                       self.report_unsendable(error, shown))
        return self.publish(result, &out)

    cdef int encode_outcome(self, Encoded *out, bint many) except -1:
        cdef Py_ssize_t n
        if not many:
            return self.codec.encode_one(self.outcome, out, RESULT)
        n = len(self.outcome)
        if not self.codec.encode_values(self.outcome, 0, n, out, RESULT):
            self.codec.encode_pickle(self.outcome, PICKLED, n, out, RESULT)
        return 0

    cdef unsigned char *room_for(self, Encoded *out, uint64_t size) except NULL:
        """Where a column of results goes, waiting for memory if need be."""
        cdef uint64_t since = 0
        while True:
            try:
                return self.codec.place(out, size)
            except OutOfBlocksError as error:
                if not self.await_memory(&since):
                    raise MemoryError(str(error)) from None

    cdef bint await_memory(self, uint64_t *since) except -1:
        """Sleep, so that the parent may give something back; False when it is time to give up."""
        cdef uint64_t now = fp_os_now_ns()
        if since[0] == 0:
            since[0] = now
        if now - since[0] > MEMORY_WAIT_NS or fp_pool_state(&self.segment.pool) == FP_POOL_STOP:
            return False
        with nogil:
            fp_os_park(&self.never, 0, MEMORY_NAP_NS)
        PyErr_CheckSignals()
        return True

    cdef int post_released(self) except -1:
        """Tell the parent that nothing is used any more of what some tasks were sent."""
        cdef fp_result *result
        cdef Encoded out
        while self.exchange.released:
            ticket = self.exchange.released.pop()
            result = self.slot_for(NULL, ticket)
            if result == NULL:
                return 0
            result.status = STATUS_FREE
            out.codec = NONES
            out.in_block = 0
            out.count = 0
            out.refs = 0
            out.len = 0
            self.publish(result, &out)
        return 0

    cdef int post_error(self, const fp_task *task, uint64_t ticket, uint8_t status,
                        bytes data) except -1:
        cdef fp_result *result = self.slot_for(task, ticket)
        cdef Encoded out
        if result == NULL:
            return 0
        out.bytes = result.payload.bytes
        out.room = FP_RESULT_INLINE
        out.head = 0
        cdef uint64_t since = 0
        while True:
            try:
                self.codec.encode_bytes(data, PICKLED_ONE, 1, &out)
                break
            except OutOfBlocksError:
                if not self.await_memory(&since):
                    raise
        result.status = status
        return self.publish(result, &out)
