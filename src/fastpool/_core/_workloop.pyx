"""The worker's loop: claim, decode, call, encode, publish."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_FromLongLong
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpool._core._c cimport *
from fastpool._core._blocks cimport WorkerExchange
from fastpool._core._chunk cimport ONLY_NONE, Chunk
from fastpool._core._codec cimport INT64, PICKLED_ONE, RANGE, Codec, Cursor, Payload, step
from fastpool._core._outbox cimport Outbox
from fastpool._core._plain cimport fp_as_int64
from fastpool._core._protocol cimport (
    FLAG_AGAIN, FLAG_CATCH, FLAG_KWDS, FLAG_SEEDED, FLAG_STATE, FLAG_TIMED, KIND_APPLY, KIND_FILL, KIND_MAP,
    KIND_STARMAP, RESULT_REST, RESULT_STOPPED, RESULT_UNREAD, STATUS_ERROR, Again, FunctionHead, Stream,
    payload_of_task,
)
from fastpool._core._segment cimport Segment

cdef extern from "Python.h":
    object PyObject_Call(object func, object args, PyObject *kwds)
    bint PyLong_CheckExact(object o)
    bint PyFloat_CheckExact(object o)
    double PyFloat_AS_DOUBLE(object o)

cdef extern from *:
    """
    /* About a microsecond of pauses, with the GIL held: a hot loop's next task comes in a tenth. */
    static inline int fp_await_task(fp_taskring *ring, uint32_t pauses) {
        for (uint32_t i = 0; i < pauses; i++) {
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
    vectorcallfunc fp_vectorcall_of(object func)
    object fp_call1(vectorcallfunc direct, object func, object arg)
    bint fp_await_task(fp_taskring *ring, uint32_t pauses) nogil

cdef enum:
    MAX_FUNCTIONS = 1024


cdef class WorkLoop:
    """Runs tasks in the worker of one slot.

    Parameters
    ----------
    outbox : Outbox
        Of this worker.
    limit : int
        Leave after so many tasks; 0: never.
    memory_limit : int
        Leave when this process has so many bytes of memory more than it began with; 0: never.
    stopped : callable
        verdict -> the exception to raise in a task that shall be stopped.
    min_block_ns, max_block_ns : int
        Bounds of the time an idle worker spins before it sleeps.
    seeder : callable, optional
        (call, index) -> None: begin the random streams of an item.
    """

    def __cinit__(self, Outbox outbox, uint64_t limit, uint64_t memory_limit, stopped,
                  uint64_t min_block_ns, uint64_t max_block_ns, seeder=None):
        self.seeder = seeder
        self.segment = outbox.segment
        self.slot = outbox.slot
        self.outbox = outbox
        self.chunk = Chunk(outbox)
        self.codec = outbox.codec
        self.exchange = outbox.exchange
        self.ctl = outbox.ctl
        self.stopped = stopped
        self.limit = limit
        self.memory_limit = memory_limit
        fp_patience_init(&self.patience, min_block_ns, max_block_ns)
        self.functions = {}

    def run(self):
        """Work until told to leave, or until a limit is reached.

        Raises
        ------
        BaseException
            What a task raised, or a signal handler, that is not an ``Exception``. The task's caller
            has got it before.
        """
        cdef fp_pool *pool = &self.segment.pool
        cdef fp_ctl *ctl = self.ctl
        cdef fp_task task
        cdef uint64_t ticket
        cdef uint64_t since = 0
        cdef uint64_t done = 0
        cdef bint told = False
        cdef int code
        if self.memory_limit:
            # What a forked worker shares with its parent looks like its own: it does not count.
            self.memory_limit += fp_memory_of_self()
        FP_CP("loop.begin")
        FP_STORE32(&ctl.state, FP_IDLE)
        FP_CP("loop.idle")
        while not FP_LOAD32(&ctl.stop) and fp_pool_state(pool) != FP_POOL_STOP:
            ticket = fp_taskring_claim(&pool.ring, self.slot, &task)
            if ticket == 0:
                if fp_await_task(&pool.ring, pool.pauses):
                    continue
                with nogil:
                    code = fp_worker_wait(pool, self.slot, &self.patience, &since)
                if code == FP_GOT_STOP:
                    return
                if code < 0:
                    PyErr_CheckSignals()
                    if not told and not fp_resring_empty(&self.outbox.ring):
                        # Nobody waits for these: the background thread shall read them.
                        told = True
                        fp_os_bell_ring(self.segment.bell_fd)
                continue
            since = 0
            told = False
            FP_CP("loop.claimed")
            FP_SAVE(&ctl.ticket, ticket)  # the last task's item is forgotten before
            FP_CP("loop.ticket")
            FP_STORE32(&ctl.state, FP_BUSY)
            FP_CP("loop.busy")
            if not fp_worker_claimed(pool, ticket, self.segment.bell_fd):
                self.outbox.post_skipped(&task, ticket)
                FP_CP("loop.skipped")
            else:
                FP_CP("loop.answered")
                done += 1
                if done == self.limit:
                    self.announce_last()
                self.execute(&task, ticket)
                FP_CP("loop.executed")
                fp_ctl_count(&ctl.tasks, 1)
                fp_ctl_count(&ctl.items, task.count)
            FP_CP("loop.counted")
            fp_ctl_finished(ctl, 0)
            FP_CP("loop.unfinished")
            FP_STORE32(&ctl.item, 0)
            FP_CP("loop.no_item")
            FP_STORE64(&ctl.ticket, 0)
            FP_CP("loop.no_ticket")
            FP_STORE32(&ctl.state, FP_IDLE)
            FP_CP("loop.free")
            if self.exchange.released:
                self.outbox.post_released()
            if self.leaving or (done and done == self.limit) or self.is_too_large():
                FP_CP("loop.leave")
                return

    cdef bint is_too_large(self):
        """Whether it has grown beyond its limit; looks every millisecond, not after every task."""
        cdef uint64_t now
        if self.memory_limit == 0:
            return False
        now = fp_os_now_ns()
        if now < self.weighed + 1000000:
            return False
        self.weighed = now
        return fp_memory_of_self() > self.memory_limit

    cdef int announce_last(self) except -1:
        """Have the parent start a successor while the last task runs."""
        FP_CP("last.begin")
        FP_STORE32(&self.ctl.last, 1)
        FP_CP("last.stored")
        fp_os_bell_ring(self.segment.bell_fd)
        FP_CP("last.rung")
        return 0

    def judge(self):
        """In a signal handler: raise, if the parent wants the item that runs right now to be stopped.

        The signal may come late; then it finds another item, or none.
        """
        cdef uint32_t verdict
        if not self.outbox.open:
            return
        verdict = fp_ctl_verdict(self.ctl)
        FP_CP("judge.read")
        if verdict:
            self.leaving = True  # whatever the task was doing may be half done
            self.stopped_item = FP_LOAD32(&self.ctl.item)
            self.outbox.stopping = True
            raise self.stopped(verdict)

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
            FP_CP("function.unknown")
            function = self.load_function(task)
            FP_CP("function.loaded")
            if len(self.functions) >= MAX_FUNCTIONS:
                self.functions.clear()
            self.functions[task.func] = function
        self.last_number = task.func
        self.last_function = function
        return function

    cdef int execute(self, fp_task *task, uint64_t ticket) except -1:
        """Run one task and publish what came of it."""
        cdef Payload payload
        cdef Again again
        cdef uint32_t skip = 0
        cdef uint8_t rest = 0
        self.hole_count = 0
        if task.flags & FLAG_AGAIN:
            self.holes = <const uint32_t *> (self.segment.pool.base + task.payload.ref
                                             + sizeof(Again))
            memcpy(&again, self.segment.pool.base + task.payload.ref, sizeof(Again))
            again.task.cookie = task.cookie
            skip = again.skip
            self.hole_count = again.holes
            task[0] = again.task
            FP_CP("execute.again")
        payload_of_task(task, self.segment.pool.base, &payload)
        self.timed = task.flags & FLAG_TIMED != 0
        self.seeded = task.flags & FLAG_SEEDED != 0
        if self.seeded:
            memcpy(&self.stream, self.segment.pool.base + task.payload.ref, sizeof(Stream))
        self.outbox.open = True
        FP_CP("execute.open")
        try:
            if self.timed:
                FP_SAVE(&self.ctl.since, fp_os_now_ns())
                FP_CP("execute.since")
            if task.kind == KIND_APPLY:
                self.outbox.outcome = self.run_apply(task, &payload)
                FP_CP("execute.applied")
                self.outbox.post_outcome(task, ticket)
            elif task.count == 1:
                self.outbox.outcome = self.run_one(task, &payload)
                FP_CP("execute.called")
                self.outbox.post_outcome(task, ticket)
            else:
                self.run_many(task, ticket, &payload, skip)
        except BaseException as error:
            FP_CP("execute.raised")
            self.end_item()
            self.outbox.outcome = None
            self.post_error(task, ticket, error)
            FP_CP("execute.reported")
            if not isinstance(error, Exception):
                raise
        finally:
            if self.timed:
                FP_SAVE(&self.ctl.since, 0)
                FP_CP("execute.untimed")
        return 0

    cdef bint is_stopped(self) noexcept:
        """Whether the item that has just ended was told to stop.

        One that made nothing of that is over, and the worker leaves after the task; but what becomes
        of the items behind it is their own doing.
        """
        return self.leaving and FP_LOAD32(&self.ctl.item) == self.stopped_item

    cdef int end_item(self) noexcept:
        """It may not be stopped any more: what came of it is not to be torn while it is pickled."""
        if self.timed:
            FP_SAVE(&self.ctl.since, 0)
        return 0

    cdef int post_error(self, fp_task *task, uint64_t ticket, error) except -1:
        """Publish what ended the task."""
        cdef uint8_t flags = 0
        cdef bytes report
        self.outbox.open = False  # what it ended with is known; it is not stopped any more
        # Before anything is forgotten: whoever dies of it is this item.
        report = self.outbox.report(error)
        if task.count > 1 and task.kind != KIND_APPLY:
            if self.is_stopped() or (task.flags & FLAG_CATCH and not isinstance(error, Exception)):
                # Of one item only: those before it are done, those behind it have not begun.
                try:
                    self.chunk.flush()
                    flags = RESULT_REST
                except Exception as unsent:  # those before it can't be sent
                    self.chunk.discard()
                    report = self.outbox.report(unsent)
                FP_CP("rest.flushed")
            else:
                self.chunk.discard()
                FP_CP("rest.discarded")
        if self.is_stopped():
            flags |= RESULT_STOPPED
        elif self.unread and task.flags & FLAG_CATCH and isinstance(error, Exception):
            flags |= RESULT_UNREAD
        self.unread = False
        return self.outbox.post_report(task, ticket, STATUS_ERROR, report, flags)

    cdef object run_apply(self, fp_task *task, const Payload *payload):
        cdef object args
        cdef object kwds
        if task.func == 0:
            function, args, kwds = self.codec.load(payload)
            if self.seeded:
                self.begin_streams(0)
            return function(*args, **kwds)
        function = self.function_of(task)
        if task.flags & FLAG_KWDS:
            args, kwds = self.codec.load(payload)
            if self.seeded:
                self.begin_streams(0)
            return function(*args, **kwds)
        args = self.codec.decode_tuple(payload)
        if self.seeded:
            self.begin_streams(0)
        return PyObject_Call(function, args, NULL)

    cdef int begin_streams(self, uint32_t item) except -1:
        """Right before an item's function is called: what was loaded for it may have drawn numbers."""
        self.seeder(self.stream.call, self.stream.index + item)
        return 0

    cdef object call_with(self, int kind, object function, object item):
        if kind == KIND_STARMAP:
            return PyObject_Call(function, item if type(item) is tuple else tuple(item), NULL)
        if kind == KIND_FILL:
            item[0][...] = PyObject_Call(function, item[1:], NULL)
            return None
        return function(item)

    cdef object run_one(self, fp_task *task, const Payload *payload):
        """Call the function on the only item of a chunk."""
        function = self.function_of(task)
        item = self.codec.decode_one(payload)
        if self.seeded:
            self.begin_streams(0)
        return self.call_with(task.kind, function, item)

    cdef int run_many(self, fp_task *task, uint64_t ticket, const Payload *payload,
                      uint32_t skip) except -1:
        """Call the function on each item; results go straight into a column while they fit one."""
        cdef Cursor cursor
        cdef Chunk chunk = self.chunk
        cdef uint32_t n = task.count
        cdef uint32_t i
        chunk.begin(task, ticket, skip)
        FP_CP("many.begun")
        function = self.function_of(task)
        cdef vectorcallfunc direct = fp_vectorcall_of(function)
        self.unread = True
        held = self.codec.open(&cursor, payload)
        self.unread = False
        FP_CP("many.opened")
        for i in range(skip):
            step(&cursor, held, payload)
        i = skip
        while i < n:
            try:
                self.run_items(task, &cursor, held, payload, function, direct, &i)
            except Exception as error:
                self.end_item()
                if not task.flags & FLAG_CATCH or self.is_stopped():
                    raise
                self.outbox.open = False
                chunk.add_error(error)
                self.outbox.open = True
                i += 1
            if chunk.stopped:
                return 0
        held = function = None
        FP_STORE32(&self.ctl.item, n)  # who dies of what follows dies of none of the items
        FP_CP("many.called")
        return chunk.finish()

    cdef bint is_hole(self, uint32_t item) noexcept:
        """Whether an item has failed before, and only holds its place."""
        cdef uint32_t i
        for i in range(self.hole_count):
            if self.holes[i] == item:
                return True
        return False

    cdef int run_items(self, fp_task *task, Cursor *cursor, object held, const Payload *payload,
                       object function, vectorcallfunc direct, uint32_t *at) except -1:
        """Go on with item `at` of a chunk, until its end or the next exception; say how far it came."""
        cdef Chunk chunk = self.chunk
        cdef fp_ctl *ctl = self.ctl
        cdef const unsigned char *data = payload.data
        cdef bint timed = self.timed
        cdef bint seeded = self.seeded
        cdef int kind = task.kind
        cdef int overflow = 0
        cdef int64_t number
        cdef uint32_t n = task.count
        cdef uint32_t i
        for i in range(at[0], n):
            at[0] = i
            FP_CP("item.begin")
            if self.hole_count and self.is_hole(i):
                step(cursor, held, payload)  # or the next one would get its argument
                chunk.add(None)
                FP_CP("item.hole")
                continue
            FP_STORE32(&ctl.item, i)
            FP_CP("item.noted")
            if timed:
                FP_SAVE(&ctl.since, fp_os_now_ns())
                FP_CP("item.since")
            if cursor.codec == INT64:  # the two commonest, without a call
                item = PyLong_FromLongLong((<const int64_t *> data)[i])
            elif cursor.codec == RANGE:
                item = PyLong_FromLongLong((<const int64_t *> data)[0]
                                           + i * (<const int64_t *> data)[1])
            else:
                item = step(cursor, held, payload)
            if seeded:
                self.begin_streams(i)
            if kind == KIND_MAP:
                value = fp_call1(direct, function, item)
            else:
                value = self.call_with(kind, function, item)
            FP_CP("item.called")
            if timed:
                FP_SAVE(&ctl.since, 0)  # it may not be stopped any more
                FP_CP("item.untimed")
            if chunk.ints != NULL and PyLong_CheckExact(value):
                number = fp_as_int64(<PyObject *> value, &overflow)
                if not overflow:
                    chunk.ints[chunk.saved] = number
                    chunk.saved += 1
                    chunk.finished += 1
                    FP_CP("item.int_written")
                    fp_ctl_finished(ctl, chunk.finished)
                    FP_CP("item.int_saved")
                    continue
                overflow = 0
            elif chunk.reals != NULL and PyFloat_CheckExact(value):
                chunk.reals[chunk.saved] = PyFloat_AS_DOUBLE(value)
                chunk.saved += 1
                chunk.finished += 1
                FP_CP("item.float_written")
                fp_ctl_finished(ctl, chunk.finished)
                FP_CP("item.float_saved")
                continue
            elif chunk.form == ONLY_NONE and value is None:
                chunk.saved += 1
                chunk.finished += 1
                fp_ctl_finished(ctl, chunk.finished)
                FP_CP("item.none_saved")
                continue
            item = None  # or it would look as if somebody else held it
            chunk.add(value)
            FP_CP("item.added")
            if chunk.stopped:
                break
        at[0] = n
        return 0
