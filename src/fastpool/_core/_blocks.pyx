"""Blocks of shared memory as Python objects: who holds one, and the buffers over it."""

import weakref
from _thread import _count as other_threads

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject
from cython cimport critical_section
from libc.string cimport memcmp, memcpy, memset

from fastpool._core._arrays cimport find_numpy, is_array
from fastpool._core._c cimport *
from fastpool._core._ndarray cimport fp_ndarray
from fastpool._core._segment cimport LOCK, check
from fastpool._core._threads cimport fp_disown

cdef enum:
    LARGE_COPY = 1 << 20    # bytes from which on other threads may run during a copy
    MAX_BASES = 8           # of an array's chain of bases
    MAX_KNOWN = 4096        # arrays that one call remembers
    COPIES = 16             # arguments that are copied after one that was written all over


class OutOfBlocksError(MemoryError):
    """No shared memory now; there may be when a task is done."""


@cython.no_gc
@cython.final
cdef class Block:

    def __dealloc__(self):
        with critical_section(LOCK):
            if self.offset:
                if self.detached and self.segment.is_ours() \
                        and fp_block_attach(self.segment.pool.base, self.segment.fd, self.offset) < 0:
                    return  # lost until the pool ends: nobody else can use it
                FP_CP("block.dead")
                self.segment.forget_block(self.offset)
                FP_CP("block.forgotten")
                if self.heap is not None:
                    self.heap.free(self.offset)
                else:
                    self.segment.give_back(self.offset)


@cython.no_gc
@cython.final
cdef class Loan:

    def __dealloc__(self):
        with critical_section(LOCK):
            self.block.loans -= 1


cdef Loan lend(Block block):
    cdef Loan loan = Loan.__new__(Loan)
    fp_disown(<PyObject *> loan)
    loan.block = block
    block.loans += 1
    return loan


cdef Block hold(Segment segment, Heap heap, uint64_t offset):
    """The object that holds a block."""
    cdef Block block = Block.__new__(Block)
    fp_disown(<PyObject *> block)
    block.segment = segment
    block.heap = heap
    segment.remember_block(offset, weakref.ref(block))
    FP_CP("block.held")
    block.offset = offset
    return block


# ---- views ------------------------------------------------------------------------------------

# The newest copy-on-write mapping of this process.
cdef PyObject *mappings = NULL

# How many of the next arguments are copied, since what was mapped last has been written: a page that
# is written costs a fault and a copy, six times what the copy alone costs.
cdef int copies_due = 0


@cython.no_gc
@cython.final
cdef class View:

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.length, 0, flags)

    def __len__(self):
        return self.length

    @property
    def is_shared(self):
        """Whether tasks that get this view see the same memory."""
        return self.reach == SHARED

    def offset_of(self, size_t address):
        """Where in this view an address lies."""
        return <Py_ssize_t> (address - <size_t> self.at)

    def __dealloc__(self):
        global copies_due
        if self.reach != MAPPED and type(self.keeper) is not Lease:
            return
        with critical_section(LOCK):
            if self.reach == MAPPED:
                unlink(self)
                FP_CP("view.unlinked")
                if fp_os_memory_is_written(self.at, self.length) > 0:
                    copies_due = COPIES
                fp_os_memory_unmap_private(self.at, self.length)
                FP_CP("view.unmapped")
            if type(self.keeper) is Lease:
                (<Lease> self.keeper).drop()


cdef View view_at(char *at, Py_ssize_t length, object keeper, Reach reach):
    cdef View view = View.__new__(View)
    fp_disown(<PyObject *> view)
    view.at = at
    view.length = length
    view.keeper = keeper
    view.reach = reach
    return view


cdef View view_of(object owner):
    """The view that an array, or another buffer of ours, lies in; None if there is none."""
    cdef PyObject *o = <PyObject *> owner
    for _ in range(MAX_BASES):
        if o == NULL:
            return None
        if type(<object> o) is View:
            return <View> o
        if not is_array(o):
            return None
        o = (<fp_ndarray *> o).base
    return None


OWN_BYTES = OWN_BLOCK


cpdef View view_of_array(array):
    """The view that an array lies in, or None."""
    with critical_section(LOCK):
        find_numpy()
        return view_of(array)


def window_on(array):
    """A writable buffer over an exact, contiguous array's memory, whatever its flags and dtype."""
    with critical_section(LOCK):
        if not find_numpy() or not is_array(<PyObject *> array):
            raise TypeError(f"an array of NumPy is needed, not {type(array).__name__}")
        return view_at((<fp_ndarray *> <PyObject *> array).data, array.nbytes, array, FOREIGN)


cdef void link(View view) noexcept:
    """Enter a mapping into the list of them; no references are counted."""
    global mappings
    view.older = mappings
    view.newer = NULL
    if mappings != NULL:
        (<View> mappings).newer = <PyObject *> view
    mappings = <PyObject *> view


cdef void unlink(View view) noexcept:
    global mappings
    if view.newer != NULL:
        (<View> view.newer).older = view.older
    else:
        mappings = view.older
    if view.older != NULL:
        (<View> view.older).newer = view.newer


def own_mappings():
    """Before a fork: what this process has mapped no longer depends on the segment.

    The child's copy would outlive this process's hold on the blocks.
    """
    cdef PyObject *at
    with critical_section(LOCK):
        at = mappings
        while at != NULL:
            # Without a reference: some thread may be about to free it, and waits for the lock.
            check(fp_os_memory_own((<View> at).at, (<View> at).length))
            at = (<View> at).older


def own_results(dict segments not None):
    """Before a fork: the results that the parent holds no longer depend on these segments.

    Parent and child would see what the other writes, and the child what a worker puts there later.
    What a task of another thread's call reads right now has to stay where it is.

    `segments`: weak references, by anything.
    """
    cdef int failed = 0
    cdef object error = None
    for reference in list(segments.values()):
        segment = reference()
        if segment is not None:
            try:
                failed = own_results_in(segment) or failed
            except BaseException as raised:  # the others all the same
                error = raised
    if error is not None:
        raise error
    check(failed)


cdef int own_results_in(Segment segment) except 1:
    cdef Block block
    cdef int code
    cdef int failed = 0
    with critical_section(LOCK):
        if not segment.is_ours():
            return 0
        for block in segment.all_blocks():
            if block.heap is None and not block.detached and block.loans == 0:
                FP_CP("own.begin")
                code = fp_block_detach(segment.pool.base, segment.fd, block.offset)
                FP_CP("own.done")
                if code < 0:
                    failed = code
                else:
                    block.detached = True
    return failed


# ---- leases -----------------------------------------------------------------------------------

@cython.final
cdef class Lease:

    cdef void drop(self) noexcept:
        """One view less."""
        self.live -= 1
        if self.live == 0 and self.announced:
            self.announced = False
            self.released.append(self.ticket)
            FP_CP("lease.released")


@cython.final
cdef class Call:

    def __cinit__(self, bint borrow=False, bint verify=False, bint many=False):
        self.borrow = borrow
        self.verify = verify
        self.known = {} if many else None


# ---- giving and taking ------------------------------------------------------------------------

cdef class Exchange:
    """How buffers that have a block of their own travel.

    Parameters
    ----------
    heap : Heap
        The region that this process allocates from.
    """

    def __cinit__(self, Heap heap):
        self.heap = heap
        self.segment = heap.segment

    cdef uint64_t alloc(self, uint64_t n) except 0:
        """The offset of a new block."""
        cdef uint64_t offset = self.heap.alloc(n)
        FP_CP("exchange.asked")
        if offset == 0:
            if not self.heap.could_hold(n):
                raise MemoryError(f"no shared memory for {n} bytes: more than one process of this pool "
                                  "has in all (an address-space limit, ulimit -v, makes that less)")
            raise OutOfBlocksError(f"no shared memory for {n} bytes{self.segment.shortage(n)}")
        return offset

    cdef int copy(self, const char *data, uint64_t n, Ref *ref) except -1:
        """Copy bytes into a new block."""
        cdef char *to
        ref.offset = self.alloc(n)
        ref.size = n
        to = <char *> self.segment.pool.base + ref.offset
        if n < LARGE_COPY:
            memcpy(to, data, n)
        else:
            with nogil:
                memcpy(to, data, n)
        FP_CP("exchange.copied")
        return 0

    cdef int give(self, const char *data, uint64_t n, object owner, Call call, Ref *ref,
                  list keeps) except -1:
        """Say in `ref` where the receiver finds these bytes, which `owner` exports.

        What must live until the receiver is done is added to `keeps`.
        """
        raise NotImplementedError

    cdef int undo(self, const Ref *refs, uint32_t n) except -1:
        """Take back what was given but will not be sent."""
        return 0

    cdef View take(self, const Ref *ref):
        """The buffer that a reference stands for."""
        raise NotImplementedError

    cdef int share(self, View view, Ref *ref) except -1:
        """Refer to a whole block of shared memory."""
        ref.offset = <uint64_t> (view.at - <char *> self.segment.pool.base)
        ref.size = <uint64_t> view.length | REF_SHARED
        return 0

    cdef bint lies_here(self, View view) noexcept:
        """Whether a view's memory is this segment's."""
        cdef char *base = <char *> self.segment.pool.base
        return view.reach in (SHARED, HELD) and base <= view.at < base + self.segment.pool.total


@cython.final
cdef class ParentExchange(Exchange):

    def new_shared(self, uint64_t n, bint zeroed):
        """A view of a new block of `n` bytes that tasks get by reference."""
        cdef uint64_t size = n if n > 0 else 1
        cdef uint64_t offset
        with critical_section(LOCK):
            offset = self.alloc(size)
            block = hold(self.segment, self.heap, offset)
            if zeroed:
                memset(self.segment.pool.base + offset, 0, size)
            return view_at(<char *> self.segment.pool.base + offset, size, block, SHARED)

    def is_shared(self, array):
        """Whether tasks of this pool see this very array."""
        with critical_section(LOCK):
            view = view_of_array(array)
            return view is not None and view.reach == SHARED and self.lies_here(view)

    cdef int give(self, const char *data, uint64_t n, object owner, Call call, Ref *ref,
                  list keeps) except -1:
        cdef View view = view_of(owner)
        cdef Block block
        if view is not None and view.reach == FOREIGN:  # a window on an array
            owner = view.keeper
            view = view_of(owner)
        if view is not None and self.lies_here(view):
            if view.reach == SHARED and data == view.at and n == <uint64_t> view.length:
                self.share(view, ref)
                FP_CP("give.shared")
                return self.keep(view.keeper, n, keeps)
            # A thread of the program besides the main one and the pool's might change it.
            if view.reach == HELD and call.borrow and not (<Block> view.keeper).detached \
                    and other_threads() <= 1:
                ref.offset = <uint64_t> (data - <const char *> self.segment.pool.base)
                ref.size = n | REF_BORROWED
                FP_CP("give.lent")
                return self.keep(lend(view.keeper), n, keeps)
        if call.known is not None:
            block = self.find_known(data, n, owner, call)
            if block is not None:
                ref.offset = block.offset
                ref.size = n
                FP_CP("give.known")
                return self.keep(block, n, keeps)
        self.copy(data, n, ref)
        block = hold(self.segment, self.heap, ref.offset)
        keeps.append(block)
        FP_CP("give.copied")
        if call.known is not None and is_array(<PyObject *> owner):
            if len(call.known) >= MAX_KNOWN:
                call.known.clear()  # most of them are gone by now
            call.known[id(owner)] = (weakref.ref(owner), weakref.ref(block), <size_t> data, n)
        return 0

    cdef int keep(self, object block, uint64_t n, list keeps) except -1:
        keeps.append(block)
        self.copies_avoided += 1
        self.bytes_not_copied += n
        return 0

    cdef Block find_known(self, const char *data, uint64_t n, object owner, Call call):
        """The block with a copy of this very array that the call made before, if it lives."""
        cdef Block block
        found = call.known.get(id(owner))
        if found is None:
            return None
        array, held, address, size = found
        block = held()
        if block is None or array() is not owner or address != <size_t> data or size != n:
            del call.known[id(owner)]
            return None
        if call.verify and memcmp(data, <char *> self.segment.pool.base + block.offset, n) != 0:
            del call.known[id(owner)]
            return None
        return block

    cdef View take(self, const Ref *ref):
        cdef char *at = <char *> self.segment.pool.base + ref.offset
        cdef uint64_t size = ref.size & REF_SIZE
        cdef Reach reach
        if ref.size & REF_SHARED:
            return view_at(at, size, self.segment.find_block(ref.offset), SHARED)
        FP_CP("take.found")
        reach = LENT
        if size >= OWN_BLOCK and self.segment.has_room_for(ref.offset, size):
            reach = HELD
        return view_at(at, size, hold(self.segment, None, ref.offset), reach)


@cython.final
cdef class WorkerExchange(Exchange):

    def __init__(self, Heap heap):
        self.released = []

    cdef int give(self, const char *data, uint64_t n, object owner, Call call, Ref *ref,
                  list keeps) except -1:
        cdef View view = view_of(owner)
        if view is not None and view.reach == SHARED and self.lies_here(view) \
                and data == view.at and n == <uint64_t> view.length:
            return self.share(view, ref)
        return self.copy(data, n, ref)

    cdef int undo(self, const Ref *refs, uint32_t n) except -1:
        cdef uint32_t i
        for i in range(n):
            if not refs[i].size & REF_SHARED:
                self.heap.free(refs[i].offset)
                FP_CP("undo.freed")
        return 0

    cdef View take(self, const Ref *ref):
        cdef char *at = <char *> self.segment.pool.base + ref.offset
        cdef uint64_t size = ref.size & REF_SIZE
        global copies_due
        cdef View view
        cdef void *mapped
        if ref.size & REF_SHARED:
            return self.leased(view_at(at, size, None, SHARED))
        if size < MAPPED_FROM or self.segment.fd < 0:
            return view_at(at, size, None, LENT)
        if copies_due > 0 and size <= COPIED_TO:
            copies_due -= 1
            return view_at(at, size, None, LENT)
        if fp_os_memory_map_private(self.segment.fd, ref.offset, size, &mapped) < 0:
            return view_at(at, size, None, LENT)  # too many mappings: a copy will do
        view = view_at(<char *> mapped, size, None, MAPPED)
        FP_CP("take.mapped")
        view.borrowed = ref.size & REF_BORROWED != 0
        with critical_section(LOCK):
            link(view)
        return self.leased(view)

    cdef View leased(self, View view):
        """Have the task that runs answer for a view."""
        if self.lease is None:
            self.lease = Lease.__new__(Lease)
            self.lease.released = self.released
        with critical_section(LOCK):
            self.lease.live += 1
        view.keeper = self.lease
        FP_CP("take.leased")
        return view

    cdef bint end_task(self, uint64_t ticket) except -1:
        """Before a task's result is published: whether views of its blocks go on living."""
        cdef Lease lease = self.lease
        cdef PyObject *at
        if lease is None:
            return False
        self.lease = None
        with critical_section(LOCK):  # threads that the task has started may drop views
            if lease.live == 0:
                return False
            lease.ticket = ticket
            lease.announced = True
            FP_CP("lease.announced")
            at = mappings
            while at != NULL:
                # Without a reference, as in `own_mappings`.
                if (<View> at).borrowed and (<View> at).keeper is lease:
                    # After the task the parent's array may change.  Without memory for a copy, that
                    # shows; the block stays in any case.
                    if fp_os_memory_own((<View> at).at, (<View> at).length) == 0:
                        (<View> at).borrowed = False
                at = (<View> at).older
        return True
