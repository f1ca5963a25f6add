# cython: nonecheck=True
"""The parent's loop: calls are written into tasks here; _send publishes them, _receive reads results.

All of it runs under the parent's lock, which is the GIL, or LOCK where there is none; where Python
code may run in the middle (a pickle's ``__reduce__``), the structures are whole before it starts.
"""

from collections import deque

from cpython.object cimport PyObject
from cython cimport critical_section
from libc.string cimport memcpy

from fastpool._core._c cimport *
from fastpool._core._blocks import OutOfBlocksError

from fastpool._core._codec cimport PICKLED, PICKLED_ONE, Codec, Encoded
from fastpool._core._functions cimport Function, call
from fastpool._core._jobs cimport ApplyJob, Source
from fastpool._core._protocol cimport (
    FLAG_KWDS, FLAG_SEEDED, FLAG_TIMED, KIND_APPLY, Stream, make_room, place,
)
from fastpool._core._segment cimport LOCK, Heap, Segment
from fastpool._core._threads cimport fp_disown

cdef extern from *:
    """
    /* A new object of a Python subclass, without its __init__. */
    static inline PyObject *fp_new(PyObject *cls, PyObject *empty) {
        return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, empty, NULL);
    }
    """
    object fp_new(object cls, object empty)

cdef tuple EMPTY = ()
cdef object NO_FUNCTION = object()

cdef Call BORROWING = Call(borrow=True)  # the caller waits, so its arrays stay as they are
cdef Call COPYING = Call()


cdef class Dispatcher(Receiver):
    """Sends tasks to the workers of one segment and takes their results.

    Parameters
    ----------
    segment : Segment
    heap : Heap
        The parent's region.
    codec : Codec
        Over that heap.
    remember : callable
        func -> bool: does it pickle by reference, so that workers may keep it?
    timeout_error : type
        What waiting too long raises.
    min_block_ns, max_block_ns : int
        Bounds of the time a waiting thread spins before it sleeps.
    """

    def __cinit__(self, Segment segment, Heap heap, Codec codec, remember, timeout_error,
                  uint64_t min_block_ns, uint64_t max_block_ns):
        self.functions = Functions(heap, codec, remember)
        self.done = deque()

    # ---- state ---------------------------------------------------------------------------------

    def disown(self):
        """This process is a fork of the owner: touch nothing of the owner's any more."""
        with critical_section(LOCK):
            self.foreign = True
            self.heap.frozen = True

    @property
    def unfinished(self):
        """Tasks that were submitted and are not done, as far as they were made."""
        with critical_section(LOCK):
            return self.ledger.used

    def poll_jobs(self):
        """Take what has arrived; returns how many calls are unfinished."""
        with critical_section(LOCK):
            self.pump()
            return self.jobs

    def queue_length(self):
        """Tasks that no worker has claimed yet."""
        cdef Py_ssize_t n
        cdef Source source
        with critical_section(LOCK):
            n = fp_taskring_queued(&self.segment.pool.ring)
            for source in self.sources:
                n += source.unsent()
            return n

    def stop_accepting(self):
        """No new calls; streams run to their end without waiting for their consumers."""
        with critical_section(LOCK):
            self.accepting = False
            FP_CP("stop.refusing")
            for source in list(self.feeders):
                (<Source> source).nudge()
            self.call_background()

    cpdef hold(self):
        """Begin a call that will make others: the pool does not end before `let_go`."""
        with critical_section(LOCK):
            self.jobs += 1

    cpdef let_go(self):
        """The call that `hold` began has made all its calls."""
        with critical_section(LOCK):
            self.jobs -= 1
            if self.jobs == 0 and not self.accepting:
                self.call_background()

    # ---- workers -------------------------------------------------------------------------------

    def attach_worker(self, uint32_t slot):
        """A worker is about to start in this slot; its former owner is dead and settled.

        The ring and our handle of it begin anew in one step: another thread may read it next.
        """
        with critical_section(LOCK):
            FP_CP("worker.begin")
            self.segment.prepare_slot(slot)
            FP_CP("worker.slot")
            fp_pool_resring(&self.segment.pool, slot, &self.rings[slot])
            self.top = max(self.top, slot + 1)
            FP_CP("worker.attached")
            self.alive += 1

    # ---- calls ---------------------------------------------------------------------------------

    cpdef object carry(self, object func):
        """What to call in the place of `func`: a subclass has it bring something along."""
        return func

    cdef Job make_job(self, object cls, object pool, object func, object callback,
                      object error_callback, bint late, uint64_t limit):
        """A registered job of a Python subclass; `func` is what a ManyJob calls.

        `late`: part of a call that was made before the pool was closed. `limit`: ns that an item may
        take; 0: any time. The pool does not end before it is settled, so nothing that can fail may
        come between this and what will see to that.
        """
        cdef uint64_t before
        cdef Job job = fp_new(cls, EMPTY)  # first: it may let others run, who close the pool
        fp_disown(<PyObject *> job)
        if not late or self.foreign:
            self.ensure_usable()
        job.dispatcher = self
        job.pool = pool
        self.jobs += 1
        if callback is not None or error_callback is not None:
            job.callback = callback
            job.error_callback = error_callback
            job.told = True
            self.callbacks += 1
            fp_pool_ask(&self.segment.pool, FP_ATT_RESULTS)
        if limit:
            self.set_limit(job, limit)
        if self.seeded:
            self.number(job)
        if self.broken is not None or self.dead is not None:
            job.settle(False, self.broken if self.broken is not None else self.dead)
        elif func is not NO_FUNCTION:
            job.target = func
            try:
                while job.function is None:
                    before = self.done_tasks
                    try:
                        job.function = self.functions.lookup(func)
                    except OutOfBlocksError as error:
                        if not self.await_memory(before):
                            raise MemoryError(str(error)) from None
            except BaseException as error:
                try:
                    if self.explain is not None:
                        self.explain.of_function(error, func)
                finally:  # Ctrl-C may have ended the look, and nobody else would settle it
                    job.settle(False, error)
                if not isinstance(error, Exception):
                    raise
        return job

    cdef int number(self, Job job) noexcept:
        """Calls are numbered in their order, for their random streams."""
        job.flags |= FLAG_SEEDED
        job.call = self.calls
        self.calls += 1
        return 0

    cdef int stamp(self, Job job, uint64_t index, Encoded *out) except -1:
        """Behind `make_room` and the payload of a seeded task: say which streams its items have."""
        cdef Stream stream
        if not out.in_block:  # there was nothing to write
            out.ref = self.codec.exchange.alloc(sizeof(Stream))
            out.in_block = 1
        stream.call = job.call
        stream.index = index
        memcpy(self.segment.pool.base + out.ref, &stream, sizeof(Stream))
        return 0

    cdef int set_limit(self, Job job, uint64_t limit) except -1:
        """Have an eye on how long its items take."""
        job.limit = limit
        job.flags |= FLAG_TIMED
        if self.timed == 0 and not self.watched:
            self.shortest = limit
        self.timed += 1
        FP_CP("limit.set")
        if not self.watched or limit < self.shortest:
            self.shortest = min(limit, self.shortest)
            self.watched = True
            self.call_background()
        return 0

    def apply(self, func, args, kwds):
        """Call in a worker and wait for the result."""
        cdef ApplyJob job = ApplyJob.__new__(ApplyJob)
        cdef fp_task task
        cdef PyObject *keeps
        with critical_section(LOCK):
            func = self.carry(func)
            self.ensure_usable()
            if self.broken is not None:
                raise self.broken
            job.dispatcher = self
            if self.seeded:
                self.number(job)
            self.jobs += 1  # pickling may let other threads run, who close the pool
            try:
                # A callback might change what the caller, who waits, leaves alone.
                keeps = self.describe(&task, func, args, kwds, job,
                                      COPYING if self.callbacks else BORROWING)
            except BaseException as error:
                self.let_go()
                if self.explain is not None:
                    self.explain.of_call(error, func, args, kwds)
                raise
            FP_CP("apply.described")
            self.launch(&task, job, 0, keeps)
            FP_CP("apply.launched")
            try:
                self.wait(job, None)
            except BaseException:  # Ctrl-C: nobody wants the result any more
                if not job.settled:
                    self.recovery.cancel(job, True)
                raise
            if job.success:
                return job.value
            raise job.value

    def apply_async(self, cls, pool, func, args, kwds, callback, error_callback, bint late=False,
                    uint64_t limit=0):
        """Call in a worker; errors of pickling come through the job."""
        cdef Job job
        cdef fp_task task
        cdef PyObject *keeps
        with critical_section(LOCK):
            func = self.carry(func)
            job = self.make_job(cls, pool, NO_FUNCTION, callback, error_callback, late, limit)
            if job.settled:
                return job
            try:
                keeps = self.describe(&task, func, args, kwds, job, COPYING)
            except BaseException as error:
                try:
                    if self.explain is not None:
                        self.explain.of_call(error, func, args, kwds)
                finally:  # see make_job
                    job.settle(False, error)
                if isinstance(error, Exception):
                    return job
                raise
            self.launch(&task, job, 0, keeps)
            return job

    cdef PyObject *describe(self, fp_task *task, object func, object args, object kwds, Job job,
                            Call about) except? NULL:
        """Write one call into a task, waiting for memory if need be.

        Returns a new reference to what must be kept for the task, or NULL.
        """
        cdef uint64_t before
        while True:
            before = self.done_tasks
            try:
                return self.try_to_describe(task, func, args, kwds, job, about)
            except OutOfBlocksError as error:
                if not self.await_memory(before):
                    raise MemoryError(str(error)) from None

    cdef PyObject *try_to_describe(self, fp_task *task, object func, object args, object kwds,
                                   Job job, Call about) except? NULL:
        cdef Encoded out
        cdef Function function = None
        job.target = func
        make_room(task, &out, job.flags)
        if type(args) is not tuple:
            args = tuple(args)
        if self.functions.last is not None and self.functions.last.target is func:
            function = self.functions.last
        elif self.functions.remember(func):
            function = self.functions.lookup(func)
        if function is None:
            # Together with its arguments, so that what they share stays shared.
            self.codec.encode_pickle((func, args, kwds), PICKLED_ONE, 1, &out, about)
            if job.flags & FLAG_SEEDED:
                self.stamp(job, 0, &out)
            place(task, &out)
            task.func = 0
            task.kind = KIND_APPLY
            task.flags = job.flags
            return out.keeps
        job.function = function
        if kwds:
            self.codec.encode_pickle((args, kwds), PICKLED_ONE, 1, &out, about)
        elif not self.codec.encode_values(args, 0, len(args), &out, about):
            self.codec.encode_pickle(args, PICKLED, len(args), &out, about)
        if job.flags & FLAG_SEEDED:
            self.stamp(job, 0, &out)
        place(task, &out)
        call(task, function, KIND_APPLY, job.flags)
        if kwds:
            task.flags |= FLAG_KWDS
        return out.keeps

    # ---- the background thread -------------------------------------------------------------------

    def watch(self):
        """Say that somebody looks after the limits from now on, or that there are none.

        Returns
        -------
        int or None
            The shortest of them, in ns: when to look again. None: when `call_background` does.
        """
        with critical_section(LOCK):
            self.watched = self.timed > 0 or self.recovery.has_outliving()
            return self.shortest if self.watched else None

    def service(self):
        """What the background thread does on a call: one round, then ask to be called again.

        Returns whether there is more to do at once.
        """
        cdef uint32_t i
        with critical_section(LOCK):
            if self.foreign:
                return False
            FP_CP("service.begin")
            self.pump()
            FP_CP("service.pumped")
            # After the bell: a worker that waits for room, or that left while a task waits, has rung it.
            for i in range(self.top):
                fp_pool_made_room(&self.segment.pool, i)
            self.kick()
            FP_CP("service.kicked")
            if self.done:
                return True
            # After close() also for a call that has sent nothing yet: its iterable may still be read.
            if self.callbacks or (not self.accepting and self.jobs) or self.is_starving():
                fp_pool_ask(&self.segment.pool, FP_ATT_RESULTS)
            if self.sources and self.waiting_threads == 0:
                self.ask_for_low()
            FP_CP("service.asked")
            # Asked before this look: what came before the request is seen here.
            return self.glance(1)
