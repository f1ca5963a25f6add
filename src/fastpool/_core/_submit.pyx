# cython: nonecheck=True
"""The parent's loop: write tasks, publish them, read results, wait.

Everything here runs under the GIL, which is the parent's lock; where Python code may run in the
middle (a pickle's ``__reduce__``), the structures are whole before it starts.
"""

from collections import deque

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from fastpool._core._c cimport *
from fastpool._core._blocks import OutOfBlocksError

from fastpool._core._codec cimport PICKLED, PICKLED_ONE, Codec, Encoded
from fastpool._core._functions cimport Function, call
from fastpool._core._jobs cimport ApplyJob
from fastpool._core._protocol cimport (
    FLAG_AGAIN, FLAG_KWDS, FLAG_TIMED, KIND_APPLY, RESULT_KEEPS, RESULT_PART, RESULT_REST,
    RESULT_STOPPED, RESULT_UNREAD, STATUS_FREE, STATUS_INIT, STATUS_OK, STATUS_SKIPPED, Again,
    payload_of_result, place,
)
from fastpool._core._segment cimport Segment, check

cdef extern from *:
    """
    /* A new object of a Python subclass, without its __init__. */
    static inline PyObject *fp_new(PyObject *cls, PyObject *empty) {
        return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, empty, NULL);
    }
    /* About a microsecond of pauses; 1 when some ring has something. */
    static inline int fp_glance(const fp_resring *rings, uint32_t n, int pauses) {
        for (int i = 0; i < pauses; i++) {
            for (uint32_t r = 0; r < n; r++) {
                if (!fp_resring_empty(&rings[r])) {
                    return 1;
                }
            }
            fp_relax();
        }
        return 0;
    }
    """
    object fp_new(object cls, object empty)
    bint fp_glance(const fp_resring *rings, uint32_t n, int pauses) nogil

cdef enum:
    PAUSES = 60
    LOOK_NS = 1000000  # look for signals this often while spinning

cdef tuple EMPTY = ()
cdef object NO_FUNCTION = object()

cdef Call BORROWING = Call(borrow=True)  # the caller waits, so its arrays stay as they are
cdef Call COPYING = Call()


cdef class Backlog(Source):
    """Single tasks that found the ring full."""
    cdef fp_task *tasks
    cdef uint32_t *cookies
    cdef size_t first
    cdef size_t end
    cdef size_t capacity

    def __dealloc__(self):
        free(self.tasks)
        free(self.cookies)

    cdef int append(self, fp_task *task, uint32_t cookie) except -1:
        cdef size_t capacity
        cdef void *bigger
        if self.end == self.capacity:
            capacity = max(2 * self.capacity, 256)
            bigger = realloc(self.tasks, capacity * sizeof(fp_task))
            if bigger == NULL:
                raise MemoryError
            self.tasks = <fp_task *> bigger
            bigger = realloc(self.cookies, capacity * sizeof(uint32_t))
            if bigger == NULL:
                raise MemoryError
            self.cookies = <uint32_t *> bigger
            self.capacity = capacity
        memcpy(&self.tasks[self.end], task, sizeof(fp_task))
        self.cookies[self.end] = cookie
        self.end += 1
        return 0

    cdef int feed(self) except -1:
        cdef Dispatcher d = self.dispatcher
        while self.first < self.end and fp_taskring_room(&d.segment.pool.ring):
            self.first += 1
            if (<Job> d.ledger.entries[self.cookies[self.first - 1]].job).settled:
                d.close_entry(self.cookies[self.first - 1])  # cancelled
            else:
                d.push(&self.tasks[self.first - 1], self.cookies[self.first - 1])
        d.kick()
        return self.first == self.end

    cdef Py_ssize_t unsent(self):
        return self.end - self.first

    cdef int abandon(self, object error) except -1:
        self.first = self.end  # the ledger knows these tasks, and fails them
        return 0


cdef class Dispatcher(Carrier):
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
        self.segment = segment
        self.heap = heap
        self.codec = codec
        self.functions = Functions(heap, codec, remember)
        self.timeout_error = timeout_error
        self.patience.min_ns = min_block_ns
        self.patience.max_ns = max_block_ns
        self.patience.block_ns = min(max(min_block_ns, 200000), max_block_ns)
        self.rings = <fp_resring *> calloc(segment.pool.slots, sizeof(fp_resring))
        if self.rings == NULL:
            raise MemoryError
        check(fp_ledger_init(&self.ledger, segment.pool.ring.mask))
        self.sources = []
        self.feeders = set()
        self.kept = {}
        self.marked = set()
        self.done = deque()
        self.accepting = True

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.ledger.capacity):
            if self.ledger.entries[i].state != FP_ENTRY_FREE:
                Py_DECREF(<object> self.ledger.entries[i].job)
                Py_XDECREF(<PyObject *> self.ledger.entries[i].keeps)
        fp_ledger_close(&self.ledger)
        free(self.rings)

    # ---- state ---------------------------------------------------------------------------------

    def disown(self):
        """This process is a fork of the owner: touch nothing of the owner's any more."""
        self.foreign = True
        self.heap.frozen = True

    cdef int ensure_usable(self) except -1:
        if self.foreign:
            raise RuntimeError("this pool belongs to another process: a forked child can't use the "
                               "pool of its parent; create one in the child")
        if not self.accepting:
            raise ValueError("Pool not running")
        return 0

    @property
    def unfinished(self):
        """Tasks that were submitted and are not done, as far as they were made."""
        return self.ledger.used

    def poll_jobs(self):
        """Take what has arrived; returns how many calls are unfinished."""
        self.pump()
        return self.jobs

    def queue_length(self):
        """Tasks that no worker has claimed yet."""
        cdef Py_ssize_t n = fp_taskring_queued(&self.segment.pool.ring)
        cdef Source source
        for source in self.sources:
            n += source.unsent()
        return n

    cdef int call_background(self) except -1:
        FP_CP("background.begin")
        fp_os_bell_ring(self.segment.bell_fd)
        FP_CP("background.called")
        return 0

    def stop_accepting(self):
        """No new calls; streams run to their end without waiting for their consumers."""
        self.accepting = False
        FP_CP("stop.refusing")
        for source in tuple(self.feeders):
            (<Source> source).nudge()
        self.call_background()

    cpdef hold(self):
        """Begin a call that will make others: the pool does not end before `let_go`."""
        self.jobs += 1

    cpdef let_go(self):
        """The call that `hold` began has made all its calls."""
        self.jobs -= 1
        if self.jobs == 0 and not self.accepting:
            self.call_background()

    # ---- workers -------------------------------------------------------------------------------

    def attach_worker(self, uint32_t slot):
        """A worker is about to start in this slot; its former owner is dead and settled.

        The ring and our handle of it begin anew in one step: another thread may read it next.
        """
        FP_CP("worker.begin")
        self.segment.prepare_slot(slot)
        FP_CP("worker.slot")
        fp_pool_resring(&self.segment.pool, slot, &self.rings[slot])
        self.top = max(self.top, slot + 1)
        FP_CP("worker.attached")
        self.alive += 1

    def fail_pool(self, error):
        """No worker can run: settle every unfinished and every later call with this exception."""
        self.failure = error
        FP_CP("fail.begin")
        fp_pool_set_state(&self.segment.pool, FP_POOL_STOP)
        fp_pool_wake_all(&self.segment.pool, self.top)
        self.fail_all(error)

    def fail_all(self, error):
        """Settle every unfinished call with this exception; nothing is sent any more."""
        # A worker may be reading the arguments of a call that is failed here: they stay.
        self.heap.frozen = True
        self.dead = error
        FP_CP("fail.dead")
        cdef Source source
        cdef fp_entry entry
        cdef uint32_t i = 0
        cdef Job job
        sources, self.sources = self.sources, []
        for source in sources + list(self.feeders):
            source.queued = False
            source.abandon(error)
        while i < self.ledger.capacity:
            if self.ledger.entries[i].state != FP_ENTRY_FREE:
                job = self.take_entry(i, &entry, False)
                if not job.settled:
                    job.fail_rest(&entry, error)
            i += 1

    cdef Job take_entry(self, uint32_t cookie, fp_entry *copy, bint keep):
        """Close a ledger entry: its argument block is free, its job reference becomes ours.

        `keep`: so does its reference to what else the task needs.
        """
        cdef fp_entry *entry = &self.ledger.entries[cookie]
        cdef Job job = <Job> entry.job
        FP_CP("entry.closing")
        Py_DECREF(job)  # the entry's reference; `job` holds another one
        copy[0] = entry[0]
        if entry.state == FP_ENTRY_SENT:
            self.sent -= 1
            self.done_tasks += 1
        if entry.block != 0:
            self.heap.free(entry.block)
        if entry.again != 0:
            self.heap.free(entry.again)
        if self.marked:
            self.unmark(cookie)
        FP_CP("entry.freed")
        fp_ledger_release(&self.ledger, cookie)
        FP_CP("entry.closed")
        if not keep:
            Py_XDECREF(<PyObject *> copy.keeps)
        return job

    cdef int unmark(self, uint32_t cookie) except -1:
        """A task is not in the queue any more, cancelled."""
        if cookie in self.marked:
            self.marked.discard(cookie)
            if not self.marked:
                fp_pool_ask_no_more(&self.segment.pool, FP_ATT_CANCEL)
        return 0

    cdef int close_entry(self, uint32_t cookie) except -1:
        """Close the entry of a task whose job wants nothing any more."""
        cdef fp_entry entry
        self.take_entry(cookie, &entry, False)
        return 0

    cdef int fail_item(self, uint32_t cookie, uint32_t item, object error) except -1:
        """An item of a task fails; what is not done of the others shall run in another worker."""
        cdef fp_entry entry = self.ledger.entries[cookie]
        cdef Job job
        cdef bint last
        if entry.state != FP_ENTRY_SENT:  # everything was failed while the error was made
            return 0
        job = <Job> entry.job
        if job.settled:
            return self.close_entry(cookie)
        self.ledger.entries[cookie].deaths = 0
        if item > entry.done:
            job.hole(entry.index + item, error)
            FP_CP("fail.hole")
            return self.resend(cookie, item)
        last = entry.done + 1 >= entry.count
        self.ledger.entries[cookie].done += 1
        if last:
            job = self.take_entry(cookie, &entry, False)
            entry.done -= 1
            return job.fail_item(&entry, error, True)
        job.fail_item(&entry, error, False)
        FP_CP("fail.item")
        return self.resend(cookie)

    cdef int resend(self, uint32_t cookie, uint32_t hole=NO_ITEM) except -1:
        """Send the rest of a task once more; `hole`: this item is left out from now on."""
        cdef fp_entry *entry = &self.ledger.entries[cookie]
        cdef fp_task task
        cdef fp_entry copy
        cdef Job job
        cdef int code = 0
        if entry.state != FP_ENTRY_SENT:
            return 0
        job = <Job> entry.job
        if job.settled or self.dead is not None:
            return self.close_entry(cookie)
        FP_CP("resend.begin")
        fp_ledger_task(&self.ledger, &self.segment.pool.ring, cookie, &task)
        if entry.done != 0 or hole != NO_ITEM:
            code = self.write_again(entry, &task, hole)
        if code != 0:
            job = self.take_entry(cookie, &copy, False)
            return job.fail_rest(&copy, MemoryError("no memory to send a task once more"))
        self.unmark(cookie)
        self.sent -= 1
        entry.state = FP_ENTRY_WAITING
        FP_CP("resend.waiting")
        self.send(&task, cookie)
        FP_CP("resend.sent")
        self.kick()
        FP_CP("resend.kicked")
        return 0

    cdef int write_again(self, fp_entry *entry, fp_task *task, uint32_t hole) noexcept:
        """Have a task go on behind what is done; 0 or -ENOMEM."""
        cdef Again again
        cdef uint64_t before = entry.again
        cdef uint64_t size = sizeof(Again)
        cdef uint64_t block
        again.task = task[0]
        again.holes = 0
        if before != 0:
            memcpy(&again, self.segment.pool.base + before, sizeof(Again))
        size += 4 * again.holes
        block = self.heap.alloc(size + 4)
        if block == 0:
            return -12
        if before != 0:
            memcpy(self.segment.pool.base + block, self.segment.pool.base + before, size)
            self.heap.free(before)
        again.skip = entry.done
        if hole != NO_ITEM:
            memcpy(self.segment.pool.base + block + size, &hole, 4)
            again.holes += 1
        memcpy(self.segment.pool.base + block, &again, sizeof(Again))
        entry.again = block
        FP_CP("again.written")
        task.flags |= FLAG_AGAIN
        task.in_block = 1
        task.len = sizeof(Again)
        task.payload.ref = block
        return 0

    cdef bint await_memory(self) except -1:
        """Wait until a task is done, which may give memory back; False when none is under way."""
        cdef uint64_t before = self.done_tasks
        cdef uint32_t top, bell
        cdef int code
        while self.sent and self.dead is None:
            self.drain()
            if self.done_tasks != before:
                return True
            top = self.top
            bell = fp_parent_bell(&self.segment.pool)
            self.sleeping_threads += 1
            with nogil:
                code = fp_parent_wait(&self.segment.pool, self.rings, top, &self.never, bell, 0, 0,
                                      LOOK_NS)
            self.sleeping_threads -= 1
            if code < 0:
                PyErr_CheckSignals()
        return self.done_tasks != before

    # ---- calls ---------------------------------------------------------------------------------

    def new_job(self, cls, pool, func, callback, error_callback, bint late=False,
                uint64_t limit=0):
        """A registered job of a Python subclass; `func` is what a ManyJob calls.

        `late`: part of a call that was made before the pool was closed. `limit`: ns that an item may
        take; 0: any time.
        """
        return self.make_job(cls, pool, func, callback, error_callback, late, limit)

    cdef Job make_job(self, object cls, object pool, object func, object callback,
                      object error_callback, bint late, uint64_t limit):
        cdef Job job
        if not late or self.foreign:
            self.ensure_usable()
        job = fp_new(cls, EMPTY)
        job.dispatcher = self
        job._pool = pool
        self.jobs += 1
        if callback is not None or error_callback is not None:
            job.callback = callback
            job.error_callback = error_callback
            self.callbacks += 1
            fp_pool_ask(&self.segment.pool, FP_ATT_RESULTS)
        if limit:
            self.set_limit(job, limit)
        if self.failure is not None or self.dead is not None:
            job.settle(False, self.failure if self.failure is not None else self.dead)
        elif func is not NO_FUNCTION:
            job.target = func
            try:
                while job.function is None:
                    try:
                        job.function = self.functions.lookup(func)
                    except OutOfBlocksError as error:
                        if not self.await_memory():
                            raise MemoryError(str(error)) from None
            except BaseException as error:
                job.settle(False, error)
                if not isinstance(error, Exception):
                    raise
        return job

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
        self.ensure_usable()
        if self.failure is not None:
            raise self.failure
        job.dispatcher = self
        self.hold()  # pickling may let other threads run, who close the pool
        try:
            # A callback might change what the caller, who waits, leaves alone.
            keeps = self.describe(&task, func, args, kwds, job,
                                  COPYING if self.callbacks else BORROWING)
        except BaseException:
            self.let_go()
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
        cdef Job job = self.make_job(cls, pool, NO_FUNCTION, callback, error_callback, late, limit)
        cdef fp_task task
        cdef PyObject *keeps
        if job.settled:
            return job
        try:
            keeps = self.describe(&task, func, args, kwds, job, COPYING)
        except BaseException as error:
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
        while True:
            try:
                return self.try_to_describe(task, func, args, kwds, job, about)
            except OutOfBlocksError as error:
                if not self.await_memory():
                    raise MemoryError(str(error)) from None

    cdef PyObject *try_to_describe(self, fp_task *task, object func, object args, object kwds,
                                   Job job, Call about) except? NULL:
        cdef Encoded out
        cdef Function function = None
        job.target = func
        out.bytes = task.payload.bytes
        out.room = FP_TASK_INLINE
        out.head = 0
        if type(args) is not tuple:
            args = tuple(args)
        if self.functions.last is not None and self.functions.last.target is func:
            function = self.functions.last
        elif self.functions.remember(func):
            function = self.functions.lookup(func)
        if function is None:
            # Together with its arguments, so that what they share stays shared.
            self.codec.encode_pickle((func, args, kwds), PICKLED_ONE, 1, &out, about)
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
        place(task, &out)
        call(task, function, KIND_APPLY, job.flags)
        if kwds:
            task.flags |= FLAG_KWDS
        return out.keeps

    cdef int launch(self, fp_task *task, Job job, uint64_t index, PyObject *keeps) except -1:
        """Send one task, or keep it until the ring has room; takes over `keeps`."""
        cdef uint32_t cookie
        if self.dead is not None:  # since the pickling of the arguments began
            Py_XDECREF(keeps)
            return job.fail(index, 1, self.dead)
        if job.settled:  # cancelled meanwhile
            Py_XDECREF(keeps)
            return 0
        cookie = self.entry(job, index, 1, task.payload.ref if task.in_block else 0, keeps)
        FP_CP("launch.entered")
        if self.sources:
            self.feed()
        if self.sources:
            return self.postpone(task, cookie)
        self.send(task, cookie)
        self.kick()
        return 0

    cdef int send(self, fp_task *task, uint32_t cookie) except -1:
        """Publish a task, or keep it until the ring has room."""
        if fp_taskring_room(&self.segment.pool.ring) == 0:
            return self.postpone(task, cookie)
        self.push(task, cookie)
        return 0

    cdef int postpone(self, fp_task *task, uint32_t cookie) except -1:
        """Keep a task until the ring has room."""
        cdef Backlog backlog
        newest = self.sources[len(self.sources) - 1] if self.sources else None
        if type(newest) is Backlog:
            backlog = newest
        else:
            backlog = Backlog.__new__(Backlog)
            backlog.dispatcher = self
            self.queue_source(backlog, False)
        backlog.append(task, cookie)
        FP_CP("launch.postponed")
        return 0

    cdef uint32_t entry(self, Job job, uint64_t index, uint32_t count, uint64_t block,
                        PyObject *keeps) except? 0xFFFFFFFF:
        """Open a ledger entry; takes over `keeps`."""
        cdef uint32_t cookie = fp_ledger_take(&self.ledger)
        cdef fp_entry *entry
        if cookie == FP_NO_COOKIE:
            Py_XDECREF(keeps)
            raise MemoryError
        entry = &self.ledger.entries[cookie]
        Py_INCREF(job)
        job.cookie = cookie
        entry.job = <void *> job
        entry.index = index
        entry.count = count
        entry.block = block
        entry.keeps = keeps
        return cookie

    cdef void push(self, fp_task *task, uint32_t cookie) noexcept:
        """Publish a task; the ring has room."""
        cdef fp_taskring *ring = &self.segment.pool.ring
        task.cookie = cookie
        FP_CP("submit.begin")
        fp_ledger_sent(&self.ledger, ring, cookie)
        FP_CP("submit.noted")
        fp_taskring_push(ring, task)
        FP_CP("submit.pushed")
        self.sent += 1

    cdef void kick(self) noexcept:
        """Wake as many sleepers as the tasks need."""
        fp_pool_kick(&self.segment.pool, self.top, self.alive, self.sent)

    cdef int enqueue(self, Source source, bint awaited) except -1:
        """Let a source send, now and whenever there is room; a waiting caller sees to that."""
        if self.dead is not None:
            return source.abandon(self.dead)
        if self.sources:
            self.feed()
        try:
            if not self.sources and source.feed():
                return 0
        except BaseException as error:  # Ctrl-C: nobody will ask for the rest
            source.abandon(error)
            raise
        if self.dead is not None:
            return source.abandon(self.dead)
        return self.queue_source(source, awaited)

    cdef int queue_source(self, Source source, bint awaited) except -1:
        source.queued = True
        self.sources.append(source)
        FP_CP("source.queued")
        if not awaited and self.waiting_threads == 0:
            self.leave_to_background()
        return 0

    cdef int leave_to_background(self) except -1:
        """Nobody may come to send the rest: have the background thread called in time."""
        if self.is_starving():
            self.call_background()  # it asks for every result
        return self.ask_for_low()

    cdef int ask_for_low(self) except -1:
        """Have the background thread called when the ring runs low, if that helps any source."""
        cdef Source source
        for source in self.sources:
            if not source.blocked() and not source.starving():
                break
        else:
            return 0
        fp_pool_ask(&self.segment.pool, FP_ATT_LOW)
        if 4 * fp_taskring_queued(&self.segment.pool.ring) <= self.segment.pool.ring.mask:
            self.call_background()
        return 0

    cdef bint is_starving(self) except -1:
        """Whether some source waits for memory."""
        cdef Source source
        for source in self.sources:
            if source.starving():
                return True
        return False

    cdef int feed(self) except -1:
        """Let the sources send, the oldest first."""
        cdef Source source
        cdef Py_ssize_t i = 0
        while i < len(self.sources):
            if fp_taskring_room(&self.segment.pool.ring) == 0:
                break
            source = self.sources[i]
            if source.feed():
                # Pickling may have run code that changed the list.
                source.queued = False
                if i < len(self.sources) and self.sources[i] is source:
                    del self.sources[i]
                else:
                    i = 0
            else:
                i += 1
        return 0

    # ---- results -------------------------------------------------------------------------------

    cdef int drain(self) except -1:
        """Read every result that has arrived; returns how many."""
        cdef fp_result result
        cdef fp_resring *ring
        cdef uint32_t i
        cdef int n = 0
        cdef int here
        cdef bint crowded
        for i in range(self.top):
            ring = &self.rings[i]
            crowded = False
            here = 0
            try:
                while here < 256 and fp_resring_pop(ring, &result):
                    crowded |= fp_resring_crowded(ring)
                    here += 1
                    FP_CP("drain.popped")
                    self.handle(&result, i)
                    FP_CP("drain.handled")
            finally:
                if crowded:
                    FP_CP("drain.crowded")
                    fp_pool_made_room(&self.segment.pool, i)
            n += here
        return n

    cdef int handle(self, fp_result *result, uint32_t slot) except -1:
        cdef fp_entry entry
        cdef Payload payload
        cdef Job job
        if result.status == STATUS_FREE:
            FP_CP("handle.released")
            self.kept.pop((slot, result.ticket), None)
            return 0
        payload_of_result(result, self.segment.pool.base, &payload)
        self.segment.reading[slot] += 1  # until the block is back, the slot's memory has no new owner
        try:
            if result.status == STATUS_INIT:
                self.fail_pool(self.decode_error(&payload))
                return 0
            if result.cookie >= self.ledger.capacity \
                    or self.ledger.entries[result.cookie].state != FP_ENTRY_SENT \
                    or self.ledger.entries[result.cookie].ticket != result.ticket:
                return 0  # settled before, when everything was failed
            if result.status == STATUS_SKIPPED:
                FP_CP("handle.skipped")
                return self.resend(result.cookie)
            if result.flags & RESULT_PART:
                FP_CP("handle.part")
                return self.take_part(result.cookie, &payload)
            if result.flags & RESULT_REST:
                FP_CP("handle.rest")
                if result.flags & RESULT_KEEPS and self.ledger.entries[result.cookie].keeps != NULL:
                    self.kept[slot, result.ticket] = \
                        <object> self.ledger.entries[result.cookie].keeps, None
                return self.take_stop(result.cookie, &payload, result.flags & RESULT_STOPPED)
            job = self.take_entry(result.cookie, &entry, True)
            keeps = None
            if entry.keeps != NULL:  # until the result is read, which may name the same blocks
                keeps = <object> entry.keeps
                Py_DECREF(keeps)
            if result.flags & RESULT_KEEPS:
                self.kept[slot, result.ticket] = keeps, job.function
            FP_CP("handle.entry")
            if job.settled:
                return self.forget_payload(&payload)
            if result.status == STATUS_OK:
                job.deliver(&entry, &payload, True)
                FP_CP("handle.delivered")
                return 0
            error = self.decode_error(&payload)
            if result.flags & RESULT_UNREAD:
                return job.run_singly(&entry)
            if result.flags & RESULT_STOPPED:
                error = self.recovery.stopped(job, entry.index, error)
            job.fail_rest(&entry, error)
            FP_CP("handle.failed")
        finally:
            if result.in_block:
                FP_CP("handle.giving_back")
                self.segment.give_back(result.payload.ref)
                FP_CP("handle.given_back")
            self.segment.reading[slot] -= 1
        return 0

    cdef int take_part(self, uint32_t cookie, const Payload *payload) except -1:
        """Take some of a task's results; more will follow."""
        cdef fp_entry entry = self.ledger.entries[cookie]
        cdef Job job = <Job> entry.job
        keeps = None if entry.keeps == NULL else <object> entry.keeps
        self.ledger.entries[cookie].done += payload.count
        FP_CP("part.counted")
        if job.settled:
            return self.forget_payload(payload)
        return job.deliver(&entry, payload, False)

    cdef int take_stop(self, uint32_t cookie, const Payload *payload, bint stopped) except -1:
        """Take the end of an item whose worker leaves; what is behind it runs elsewhere.

        The books come first: to unpickle the error may let others in.
        """
        cdef fp_entry entry = self.ledger.entries[cookie]
        cdef fp_entry closed
        cdef Job job = <Job> entry.job
        cdef bint last = entry.done + 1 >= entry.count
        keeps = None if entry.keeps == NULL else <object> entry.keeps
        self.ledger.entries[cookie].done += 1
        self.ledger.entries[cookie].deaths = 0
        if last:
            self.take_entry(cookie, &closed, False)
        else:
            self.resend(cookie)
        error = self.decode_error(payload)
        if stopped:
            error = self.recovery.stopped(job, entry.index + entry.done, error)
        if job.settled:
            return 0
        if entry.done >= entry.count:  # it was over already: this is nobody's error
            return self.end_task(job, &entry)
        return job.fail_item(&entry, error, last)

    cdef int end_task(self, Job job, const fp_entry *entry) except -1:
        """All results of a task have come, but for the word that it is over."""
        cdef Payload nothing
        nothing.codec = nothing.count = nothing.refs = 0
        nothing.len = 0
        nothing.data = NULL
        return job.deliver(entry, &nothing, True)

    cdef int forget_payload(self, const Payload *payload) except -1:
        """Give back the blocks of a result that nobody wants."""
        if payload.refs:
            self.codec.open_refs(payload)
        FP_CP("handle.unwanted")
        return 0

    cdef object decode_error(self, const Payload *payload):
        """The exception that a result brings."""
        try:
            return self.codec.decode_one(payload)
        except BaseException as error:
            return error

    # ---- waiting -------------------------------------------------------------------------------

    cdef int pump(self) except -1:
        """One round of everything that moves: results in, tasks out."""
        if self.foreign:
            return 0
        self.drain()
        if self.sources:
            self.feed()
        return 0

    cdef int wait(self, Job job, object timeout) except -1:
        """Wait for the job's flag: 1, or 0 when `timeout` seconds passed first."""
        cdef fp_pool *pool = &self.segment.pool
        cdef uint64_t deadline = 0
        cdef uint64_t since = 0
        cdef uint64_t until
        cdef uint32_t top, bell
        cdef int code
        cdef double seconds
        if timeout is not None:
            seconds = timeout
            deadline = fp_os_now_ns()
            if seconds > 0:
                deadline += <uint64_t> (min(seconds, 1e9) * 1e9)
        if self.foreign:
            self.ensure_usable()
        self.waiting_threads += 1
        try:
            while True:
                code = self.drain()
                if self.sources:
                    self.feed()
                if FP_LOAD32(&job.flag):
                    break
                if code > 0 or fp_glance(self.rings, self.top, PAUSES):
                    PyErr_CheckSignals()  # a stream of results must not keep Ctrl-C off
                    continue
                if since == 0:
                    since = fp_os_now_ns()
                until = since + self.patience.block_ns
                top = self.top
                bell = fp_parent_bell(pool)  # with `top`: another thread may change that from here on
                self.sleeping_threads += 1
                FP_CP("wait.begin")
                with nogil:
                    code = fp_parent_wait(pool, self.rings, top, &job.flag, bell, until, deadline,
                                          LOOK_NS)
                self.sleeping_threads -= 1
                FP_CP("wait.up")
                if code < 0:
                    PyErr_CheckSignals()
                    if deadline != 0 and fp_os_now_ns() >= deadline:
                        self.pump()
                        return FP_LOAD32(&job.flag)
            if since != 0:
                fp_patience_learn(&self.patience, fp_os_now_ns() - since)
            return 1
        finally:
            self.waiting_threads -= 1
            if self.sources and self.waiting_threads == 0:
                self.leave_to_background()

    # ---- the background thread -------------------------------------------------------------------

    def service(self):
        """What the background thread does on a call: one round, then ask to be called again.

        Returns whether there is more to do at once.
        """
        cdef uint32_t i
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
        return fp_glance(self.rings, self.top, 1)
