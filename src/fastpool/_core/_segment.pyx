"""One pool's shared memory, its worker slots, and the books of its blocks."""

import os
import threading

cimport cython
from cython cimport critical_section
from libc.errno cimport ENOMEM, EOPNOTSUPP
from libc.stdlib cimport calloc, free
from posix.unistd cimport close

from fastpool._core._c cimport *
from fastpool._core._threads cimport FREE_THREADED

STATES = {FP_FREE: "free", FP_STARTING: "starting", FP_IDLE: "idle", FP_BUSY: "busy",
          FP_LEAVING: "leaving"}

POOL_RUN = FP_POOL_RUN
POOL_DRAIN = FP_POOL_DRAIN
POOL_STOP = FP_POOL_STOP


# Guards all that the C core and these modules keep in this process, wherever there is no GIL to do so;
# with a GIL, `critical_section` is nothing. Held by whoever comes from Python, and like the GIL let
# go of by a thread that waits, for whatever that may be: so it can't take part in a deadlock, and
# what is true of the GIL is true of it. One for all pools, since blocks and arrays of one may be
# dropped in the middle of a call of another.
LOCK = object()


cdef extern from *:
    """
    /* What Cython writes asks for this number as it loads a module, and takes whoever is first for
       the only one that may: no other could load it later, the main interpreter neither. */
    static inline int64_t fp_main_interpreter_id(PyInterpreterState *interpreter) {
        if (interpreter != PyInterpreterState_Main()) {
            PyErr_SetString(PyExc_ImportError, "fastpool can't be imported in a subinterpreter: "
                            "processes that are forked there don't live");
            return -1;
        }
        return PyInterpreterState_GetID(interpreter);
    }
    #define PyInterpreterState_GetID fp_main_interpreter_id
    """


cdef extern from *:
    """
    #if FREE_THREADED
    static _Thread_local PyCriticalSection fp_fork_section;
    static _Thread_local int fp_fork_depth = 0;

    static inline void fp_begin_fork(PyObject *lock) {
        if (fp_fork_depth++ == 0) {
            PyCriticalSection_Begin(&fp_fork_section, lock);
        }
    }
    static inline void fp_end_fork(void) {
        if (fp_fork_depth > 0 && --fp_fork_depth == 0) {
            PyCriticalSection_End(&fp_fork_section);
        }
    }
    #else
    #define fp_begin_fork(lock) ((void)(lock))
    #define fp_end_fork() ((void)0)
    #endif
    """
    void fp_begin_fork(object lock)
    void fp_end_fork()


cdef object fork_lock = threading.RLock()


def no_fork():
    """What to be in for as long as no other thread may fork: ``with no_fork(): ...``.

    A child that is forked while another thread of its parent imports a module would wait for that
    thread, which it does not have, as soon as it imports the same module.

    Returns
    -------
    threading.RLock
        The lock itself: a method of ours could be interrupted between taking it and the block.
    """
    return fork_lock


def begin_fork():
    """Have all locks, from before a fork until it is over.

    Otherwise one might have been handed to a thread that had no time to take it, and in the child,
    where that thread is no more, be locked for ever.

    No signal handler comes between the lines of this, as it would in Python: nobody hears of what one
    raises in here, and the locks would be held for ever. While this waits, one may.
    """
    error = None
    fp_begin_fork(LOCK)
    while True:
        try:
            fork_lock.acquire()
            break
        except BaseException as raised:
            error = raised
    if error is not None:
        raise error


def end_fork():
    """In the parent, the fork is over."""
    fp_end_fork()
    fork_lock.release()


def end_fork_in_child():
    """Likewise in the child."""
    global fork_lock
    fp_end_fork()
    # Not released: who forks in C may not have called `begin_fork`, and who is in a block of
    # `no_fork` leaves the old one.
    fork_lock = threading.RLock()


os.register_at_fork(before=begin_fork, after_in_parent=end_fork, after_in_child=end_fork_in_child)


cdef extern from *:
    """
    #include <pthread.h>
    /* How often this process has been forked from another since this was loaded. Python's own hooks
       come too late: before them, a child drops what the parent's other threads had. */
    static unsigned fp_forks = 0;
    static void fp_count_fork(void) { fp_forks++; }
    static int fp_begin_counting(void) { return pthread_atfork(NULL, NULL, fp_count_fork); }
    """
    const unsigned fp_forks
    int fp_begin_counting()


cdef int check(int code, str asked=None) except -1:
    """The one door from the core's -errno to an exception.

    What a sandbox may refuse is named by ``asked``, which the error then says.
    """
    if code >= 0:
        return code
    if -code == ENOMEM:
        raise MemoryError("fastpool: the system grants no more memory")
    text = os.strerror(-code)
    if asked is not None:
        text = f"{text}: fastpool asked the system for {asked}"
    raise OSError(-code, text)


check(-fp_begin_counting())


cdef enum:
    NEAR_FULL = 1 << 20     # what may be left in a file system that has no room for a small block


# How many segments of ended pools this process has, with all their addresses.
cdef Py_ssize_t ended = 0


def may_give_addresses():
    """Whether the collector might find pools that have ended, and with them their addresses."""
    with critical_section(LOCK):
        return ended > 0


cdef class Segment:
    """A pool's shared memory: the task ring, the result rings, control blocks and blocks of bytes."""

    def __cinit__(self):
        self.fd = -1
        self.bell_fd = self.poll_fd = -1
        self.mapped = False
        self.blocks = {}
        self.live = self.reading = NULL
        self.live_bytes = NULL
        self.running = NULL

    @staticmethod
    def create(uint32_t slots, uint32_t ring_size=1024, uint32_t result_size=256,
               uint64_t keep=0):
        """Make a new segment for up to `slots` workers; ring sizes are powers of two.

        `keep`: bytes of returned blocks that may lie warm before a worker takes them home.
        """
        cdef Segment self = Segment.__new__(Segment)
        cdef int code
        self.live = <uint32_t *> calloc(slots + 1, sizeof(uint32_t))
        self.reading = <uint32_t *> calloc(slots, sizeof(uint32_t))
        self.running = <unsigned char *> calloc(slots, 1)
        self.live_bytes = <uint64_t *> calloc(slots + 1, sizeof(uint64_t))
        if self.live == NULL or self.live_bytes == NULL or self.reading == NULL or self.running == NULL:
            raise MemoryError
        code = fp_pool_create(&self.pool, slots, ring_size, result_size)
        if code == -EOPNOTSUPP:
            raise OSError(EOPNOTSUPP, "fastpool needs memory that processes share: allow "
                          "memfd_create, or files in /dev/shm or in $TMPDIR, with some room there")
        check(code, "memory that processes share (memfd_create, mmap)")
        self.mapped = self.owned = True
        self.born = fp_forks
        self.keep = keep
        self.fd = self.pool.fd
        self.bell_fd = self.pool.bell_fd = check(fp_os_bell_create(&self.poll_fd), "an eventfd or a pipe")
        return self

    @staticmethod
    def attach(int fd, int bell_fd):
        """Map a segment that another process made; both descriptors become this object's."""
        cdef Segment self = Segment.__new__(Segment)
        check(fp_pool_attach(&self.pool, fd))
        self.mapped = True
        self.fd = fd
        self.bell_fd = self.pool.bell_fd = bell_fd
        return self

    def reopen(self):
        """The same segment through a mapping of its own, where no block has been made private."""
        return Segment.attach(os.dup(self.fd), os.dup(self.bell_fd))

    def close_descriptors(self):
        """Close the descriptors; the mapping lives as long as this object.

        While the parent holds blocks, the segment's own is kept: a fork needs it.
        """
        with critical_section(LOCK):
            fds = [self.bell_fd]
            if self.poll_fd != self.bell_fd:
                fds.append(self.poll_fd)
            self.bell_fd = self.poll_fd = self.pool.bell_fd = -1
            if not self.is_ours() or not self.blocks:
                fds.append(self.fd)
                self.fd = -1
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def __dealloc__(self):
        global ended
        if self.retired:
            with critical_section(LOCK):
                ended -= 1
        free(self.live)
        free(self.live_bytes)
        free(self.reading)
        free(self.running)
        if self.mapped:
            fp_pool_unmap(&self.pool)
        if self.poll_fd == self.bell_fd:
            self.poll_fd = -1
        for fd in (self.fd, self.bell_fd, self.poll_fd):
            if fd >= 0:
                close(fd)

    @property
    def slots(self):
        return self.pool.slots

    @property
    def total(self):
        """Bytes of address space; memory is used only where touched."""
        return self.pool.total

    @property
    def is_small(self):
        """Whether it got fewer addresses than it asked for first."""
        return self.pool.total < FP_POOL_TOTAL

    @property
    def pauses(self):
        """How many pauses this process spins for a peer before it yields its CPU."""
        return self.pool.pauses

    @pauses.setter
    def pauses(self, uint32_t pauses):
        self.pool.pauses = pauses

    # ---- parent ------------------------------------------------------------------------------

    def set_state(self, uint32_t state):
        """Tell all workers: POOL_RUN, POOL_DRAIN (leave when idle) or POOL_STOP (leave)."""
        fp_pool_set_state(&self.pool, state)

    def is_stopping(self):
        """Whether all workers were told to leave at once."""
        return fp_pool_state(&self.pool) == FP_POOL_STOP

    def wake_all(self, uint32_t slots):
        """Get every sleeping worker of the first `slots` slots to look at its orders."""
        fp_pool_wake_all(&self.pool, slots)

    def stop_worker(self, uint32_t slot):
        """Tell one worker to leave after its current task."""
        FP_STOP(&self.pool.ctl[slot].stop)
        fp_pool_wake_all(&self.pool, slot + 1)

    cdef str shortage(self, uint64_t n):
        """What to add to the error that n bytes find no room; nothing where memory itself is short."""
        cdef uint64_t left, total
        cdef char folder[256]
        fp_os_memory_bounds(self.fd, &left, &total)
        if left > 2 * n + NEAR_FULL:
            return ""
        where = "the file system that it lies in"
        if fp_memory_folder(self.fd, folder, sizeof(folder)):
            where = os.fsdecode(folder)
        return (f": {where} has {total >> 20} MiB, and is full; a larger one helps (of a container: "
                "--shm-size), or to allow memfd_create, which needs none")

    def prepare_slot(self, uint32_t slot):
        """Make a slot ready for a new worker; its former owner must be dead and settled."""
        cdef fp_resring ring
        with critical_section(LOCK):
            if fp_pool_populate_slot(&self.pool, slot) < 0:
                raise MemoryError("no shared memory for one more worker" + self.shortage(0))
            self.restart(slot)
            self.running[slot] = 1
            fp_park_forget(&self.pool, slot)
            fp_ctl_reset(&self.pool.ctl[slot])
            fp_pool_resring(&self.pool, slot, &ring)
            fp_resring_reset(&ring)
            FP_STORE32(&self.pool.ctl[slot].state, FP_STARTING)

    def worker_report(self, uint32_t slot):
        """(pid, state, ticket or 0, tasks done, items done, times slept) of one worker."""
        cdef fp_ctl *ctl = &self.pool.ctl[slot]
        return (FP_LOAD32(&ctl.pid), STATES[FP_LOAD32(&ctl.state)], FP_LOAD64(&ctl.ticket),
                FP_LOAD64(&ctl.tasks), FP_LOAD64(&ctl.items), FP_LOAD64(&ctl.parks))

    def work_report(self, uint32_t slot):
        """(tasks, items, ns in tasks, ns in their functions), as a ClockedLoop has noted them."""
        cdef fp_ctl *ctl = &self.pool.ctl[slot]
        return (FP_LOAD64(&ctl.task_count), FP_LOAD64(&ctl.item_count), FP_LOAD64(&ctl.task_ns),
                FP_LOAD64(&ctl.call_ns))

    def is_leaving(self, uint32_t slot):
        """Whether a worker takes no more tasks: it has said so, or its exit handlers run."""
        cdef fp_ctl *ctl = &self.pool.ctl[slot]
        return FP_LOAD32(&ctl.last) != 0 or FP_LOAD32(&ctl.state) == FP_LEAVING

    def heap_report(self, uint32_t slot):
        """(bytes in use, bytes free and warm, most bytes ever in use) of a worker, as it last said."""
        cdef fp_ctl *ctl = &self.pool.ctl[slot]
        return FP_LOAD64(&ctl.heap_used), FP_LOAD64(&ctl.heap_warm), FP_LOAD64(&ctl.heap_peak)

    def clear_bell(self):
        """Hear the bell; returns whether workers have to be woken by a signal, as others can't."""
        check(fp_os_bell_clear(self.poll_fd))
        return fp_pool_answer(&self.pool)

    def ring_bell(self):
        """Wake the background thread; nothing happens when the descriptors are closed."""
        with critical_section(LOCK):
            fp_os_bell_ring(self.bell_fd)

    # ---- the blocks that the parent holds ------------------------------------------------------

    cdef bint is_ours(self) noexcept:
        """Whether this process made it, and is no fork of the one that did."""
        return self.owned and self.born == fp_forks

    cdef int remember_block(self, uint64_t offset, object reference) except -1:
        cdef uint32_t region = fp_pool_region_of(&self.pool, offset)
        self.blocks[offset] = reference
        self.live[region] += 1
        self.live_bytes[region] += fp_block_size(self.pool.base, offset)
        if region != 0:
            fp_block_hold(self.pool.base, offset)
        return 0

    cdef void forget_block(self, uint64_t offset) noexcept:
        cdef uint32_t region = fp_pool_region_of(&self.pool, offset)
        if self.blocks.pop(offset, None) is not None:
            self.live[region] -= 1
            self.live_bytes[region] -= fp_block_size(self.pool.base, offset)
        if self.retired and not self.blocks and self.fd >= 0:
            close(self.fd)
            self.fd = -1

    cdef object find_block(self, uint64_t offset):
        """The object that holds the block at this offset."""
        reference = self.blocks.get(offset)
        block = None if reference is None else reference()
        if block is None:
            raise SystemError("fastpool: a worker sent a block that nobody holds")
        return block

    cdef void give_back(self, uint64_t offset) noexcept:
        """Let a worker's block, or any block once the pool has ended, be used for something else."""
        cdef uint32_t region = fp_pool_region_of(&self.pool, offset)
        if not self.is_ours():
            return
        if self.retired:
            fp_block_drop(self.pool.base, offset)
        elif not self.running[region - 1]:
            fp_block_drop(self.pool.base, offset)
            if self.live[region] == 0:
                self.restart(region - 1)
        elif fp_pool_is_behind(&self.pool, offset):
            fp_block_drop(self.pool.base, offset)
        else:
            fp_block_return(self.pool.base, offset, self.keep)

    cdef void restart(self, uint32_t slot) noexcept:
        """A dead worker's memory goes back to the system, but for what is held or being read."""
        if self.reading[slot] == 0:
            fp_pool_restart_region(&self.pool, 1 + slot, self.live[1 + slot] != 0, self.keep)

    cdef void slot_ended(self, uint32_t slot) noexcept:
        """The worker of this slot is dead, and its results have been read."""
        self.running[slot] = 0
        self.restart(slot)

    def is_settled(self, uint32_t slot):
        """Whether nothing of a dead worker's memory is being read any more."""
        with critical_section(LOCK):
            return self.reading[slot] == 0

    def is_reading(self):
        """Whether some thread is in the middle of a result."""
        with critical_section(LOCK):
            return any([self.reading[slot] for slot in range(self.pool.slots)])

    def holds_region_of(self, uint32_t slot):
        """Whether the parent holds blocks of a worker's region."""
        with critical_section(LOCK):
            return self.live[1 + slot] != 0

    def held_results(self):
        """(number, bytes) of the workers' blocks that the parent holds."""
        cdef uint64_t number = 0
        cdef uint64_t total = 0
        with critical_section(LOCK):
            for region in range(1, self.pool.slots + 1):
                number += self.live[region]
                total += self.live_bytes[region]
            return number, total

    cdef bint has_room_for(self, uint64_t offset, uint64_t size) noexcept:
        """Whether the parent may hold this block of a worker too, and leave that enough to work."""
        cdef uint32_t region = fp_pool_region_of(&self.pool, offset)
        return 2 * (self.live_bytes[region] + size) <= self.pool.worker_region_size

    def all_blocks(self):
        """The objects that hold blocks."""
        with critical_section(LOCK):
            return [block for block in [reference() for reference in list(self.blocks.values())]
                    if block is not None]

    def retire(self, bint release):
        """The last worker has gone; `release`: everything goes back to the system but what is held."""
        cdef uint64_t at
        cdef uint64_t begin
        global ended
        with critical_section(LOCK):
            at = self.pool.regions
            ended += not self.retired
            self.retired = True
            FP_CP("retire.begin")
            if not release:
                return
            for offset in sorted(self.blocks):
                begin = offset - FP_BLOCK_HEADER
                fp_os_memory_release(self.pool.base + at, begin - at)
                at = offset + fp_block_size(self.pool.base, offset)
            fp_os_memory_release(self.pool.base + at, self.pool.total - at)

    def disown(self):
        """This process is a fork of the owner: it gives nothing back."""
        with critical_section(LOCK):
            self.owned = False

    # ---- worker ------------------------------------------------------------------------------

    def enter(self, uint32_t slot, uint32_t pid):
        """The worker of this slot has started."""
        FP_CP("enter.begin")
        FP_STORE32(&self.pool.ctl[slot].pid, pid)
        FP_CP("enter.done")

    def leave(self, uint32_t slot):
        """The worker of this slot takes no more tasks; its exit handlers may still run for long."""
        FP_CP("worker.leaving")
        FP_LEAVE(&self.pool.ctl[slot].state)
        FP_CP("worker.left")
        fp_os_bell_ring(self.bell_fd)  # so that a task that was left to it wakes another one


@cython.no_gc_clear  # blocks are given back until the end, so the segment must be there
cdef class Heap:
    """The blocks of one region: 0 is the parent's, 1 + i belongs to the worker in slot i."""

    def __init__(self, Segment segment, uint32_t region, uint64_t keep):
        self.segment = segment
        self.born = fp_forks
        fp_pool_heap(&segment.pool, region, keep, &self.heap)

    cdef uint64_t alloc(self, uint64_t n) noexcept:
        return fp_heap_alloc(&self.heap, n)

    cdef void free(self, uint64_t offset) noexcept:
        if self.segment.retired:
            self.segment.give_back(offset)
        elif not self.frozen and self.born == fp_forks:
            fp_heap_free(&self.heap, offset)

    cdef bint could_hold(self, uint64_t n) noexcept:
        """Whether so many bytes would fit if nothing else were there."""
        return n < self.heap.end - self.heap.region

    cdef void publish(self, uint32_t slot) noexcept:
        """Tell the parent how much memory this worker's blocks take."""
        cdef fp_ctl *ctl = &self.segment.pool.ctl[slot]
        fp_heap_collect(&self.heap)
        FP_STORE64(&ctl.heap_used, self.heap.used_bytes)
        FP_STORE64(&ctl.heap_warm, self.heap.warm_bytes)
        FP_STORE64(&ctl.heap_peak, self.heap.peak_bytes)

    def report(self):
        """(bytes in use, blocks in use, bytes free and warm, most bytes ever in use)."""
        with critical_section(LOCK):
            fp_heap_collect(&self.heap)
            return (self.heap.used_bytes, self.heap.blocks, self.heap.warm_bytes,
                    self.heap.peak_bytes)
