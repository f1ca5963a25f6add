# cython: nonecheck=True
"""The parent's books of unfinished tasks, and their way into the ring.

Everything here runs under the lock, like the rest of the parent's loop (see _submit).
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cython cimport critical_section
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastpool._core._c cimport *
from fastpool._core._protocol cimport FLAG_AGAIN, Again
from fastpool._core._segment cimport LOCK, Segment, check


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
            capacity = max(2 * self.capacity, <size_t> 256)
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
        cdef Sender d = <Sender> self.dispatcher
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


cdef void drop_task(Heap heap, const fp_task *task, PyObject *keeps) noexcept:
    """Give back what a task has that will not be sent."""
    if task.in_block:
        heap.free(task.payload.ref)
    Py_XDECREF(keeps)


cdef class Sender(Carrier):
    """Publishes tasks, and knows each one that is not done.

    Parameters
    ----------
    segment : Segment
    heap : Heap
        The parent's region.
    """

    def __cinit__(self, Segment segment, Heap heap, *_):
        self.segment = segment
        self.heap = heap
        check(fp_ledger_init(&self.ledger, segment.pool.ring.mask))
        self.sources = []
        self.feeders = set()
        self.marked = set()
        self.accepting = True

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.ledger.capacity):
            if self.ledger.entries[i].state != FP_ENTRY_FREE:
                Py_DECREF(<object> self.ledger.entries[i].job)
                Py_XDECREF(<PyObject *> self.ledger.entries[i].keeps)
        fp_ledger_close(&self.ledger)

    cdef int ensure_usable(self) except -1:
        if self.foreign:
            raise RuntimeError("this pool belongs to another process: a forked child can't use the "
                               "pool of its parent; create one in the child")
        if not self.accepting:
            raise ValueError("Pool not running")
        return 0

    cdef int call_background(self) except -1:
        FP_CP("background.begin")
        fp_os_bell_ring(self.segment.bell_fd)
        FP_CP("background.called")
        return 0

    # ---- tasks that are not done ---------------------------------------------------------------

    cdef Job take_entry(self, uint32_t cookie, fp_entry *copy, bint keep):
        """Close a ledger entry: its argument block is free, its job reference becomes ours.

        `keep`: so does its reference to what else the task needs.
        """
        cdef fp_entry *entry = &self.ledger.entries[cookie]
        cdef Job job = <Job> entry.job
        FP_CP("entry.closing")
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
        Py_DECREF(job)  # the entry's reference; `job` holds another one
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

    # ---- the way into the ring -----------------------------------------------------------------

    cdef int launch(self, fp_task *task, Job job, uint64_t index, PyObject *keeps) except -1:
        """Send one task, or keep it until the ring has room; takes over `keeps`."""
        cdef uint32_t cookie
        try:
            if self.sources and self.dead is None and not job.settled:
                self.feed()  # which pickles, like what came before: others may have ended all
        except BaseException as error:
            drop_task(self.heap, task, keeps)
            job.settle(False, error)
            raise
        if self.dead is not None:
            drop_task(self.heap, task, keeps)
            return job.fail(index, 1, self.dead)
        if job.settled:  # cancelled meanwhile
            drop_task(self.heap, task, keeps)
            return 0
        cookie = self.entry(job, index, 1, task.payload.ref if task.in_block else 0, keeps)
        FP_CP("launch.entered")
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
            if self.dead is not None:  # meanwhile, and the entry is closed with all others
                return 0
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
        cdef Carrier held = self  # the source may end here, and let go of it
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

    # ---- the end -------------------------------------------------------------------------------

    @property
    def failure(self):
        """Why no job can run any more, or None."""
        with critical_section(LOCK):
            return self.broken

    def fail_pool(self, error):
        """No worker can run: settle every unfinished and every later call with this exception."""
        with critical_section(LOCK):
            self.broken = error
            FP_CP("fail.begin")
            fp_pool_set_state(&self.segment.pool, FP_POOL_STOP)
            fp_pool_wake_all(&self.segment.pool, self.top)
            self.fail_all(error)

    def fail_all(self, error):
        """Settle every unfinished call with this exception; nothing is sent any more."""
        cdef Source source
        cdef fp_entry entry
        cdef uint32_t i = 0
        cdef Job job
        with critical_section(LOCK):
            # A worker may be reading the arguments of a call that is failed here: they stay.
            self.heap.frozen = True
            self.dead = error
            FP_CP("fail.dead")
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
