# cython: nonecheck=True
"""Calls over many items: how they send them, and what ``map`` waits for."""

from cython cimport critical_section
from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._blocks cimport Call
from fastpool._core._c cimport (
    FP_CP, FP_ENTRY_FREE, FP_NO_COOKIE, fp_ctl_position, fp_entry, fp_ledger_find, fp_pool,
    fp_task, fp_taskring_room,
)
from fastpool._core._codec cimport PICKLED, PICKLED_ONE, Cursor, Encoded, Payload, step
from fastpool._core._protocol cimport (
    FLAG_CATCH, FLAG_SEEDED, KIND_FILL, KIND_MAP, KIND_STARMAP, make_room, place,
)
from fastpool._core._functions cimport call
from fastpool._core._jobs cimport Job, is_interrupt
from fastpool._core._segment cimport LOCK
from fastpool._core._submit cimport Dispatcher

from fastpool._core._blocks import OutOfBlocksError


cdef class ManyJob(Job):
    """A call over many items: sends them chunk by chunk, as the ring has room."""

    cdef int plan(self, object items, Py_ssize_t length, Py_ssize_t chunksize, Py_ssize_t divisor,
                  Py_ssize_t largest, int kind) except -1:
        """What to send: chunks of `chunksize`, or guided ones when `divisor` > 0."""
        self.items = items
        self.length = length
        self.again = []
        self._chunksize = chunksize
        self.divisor = divisor
        self.largest = largest
        self.kind = kind
        return 0

    cdef Py_ssize_t window(self):
        """How many more items may be sent now."""
        return self.length - self.position

    cdef Py_ssize_t next_chunk(self):
        cdef Py_ssize_t left = self.length - self.position
        cdef Py_ssize_t n = self._chunksize
        if self.divisor > 0:
            n = min(max(left // self.divisor, 1), self.largest)
        return n if n < left else left

    cdef int feed(self) except -1:
        cdef Dispatcher d = <Dispatcher> self.dispatcher
        cdef Py_ssize_t n
        cdef int early = 0
        if d is None:  # it ended while it was queued
            return 1
        if self.again and d.done_tasks == self.failed_at and d.sent:
            return 0  # nothing can have been given back
        while self.again and not self.settled and fp_taskring_room(&d.segment.pool.ring):
            index, n = self.again.pop()
            FP_CP("chunks.again")
            if not self.send_chunk(index, n):
                return 0
        while self.position < self.length and not self.settled:
            n = self.next_chunk()
            if self.window() < n or fp_taskring_room(&d.segment.pool.ring) == 0:
                break
            if not self.send(n):
                break
            if early < 4:  # workers start on the first chunks while the others are written
                early += 1
                d.kick()
                FP_CP("chunks.early")
        d.kick()
        FP_CP("chunks.kicked")
        return self.settled or (self.position >= self.length and not self.is_writing())

    cdef bint is_writing(self) noexcept:
        """Whether chunks that were begun still need the items."""
        return self.writing != 0 or len(self.again) != 0

    cdef bint starving(self):
        return len(self.again) != 0

    cdef bint send(self, Py_ssize_t n) except -1:
        """Write and send the next n items; False when there is no memory for them now."""
        cdef Py_ssize_t index = self.position
        self.position += n
        self.in_flight += 1
        FP_CP("chunks.begin")
        return self.send_chunk(index, n)

    cdef bint send_chunk(self, Py_ssize_t index, Py_ssize_t n) except -1:
        """Write and send a chunk; what can't be pickled fails it.

        False when there is no memory for it: then it is tried again when some task is done.
        """
        self.writing += 1  # others may run meanwhile
        try:
            return self.write_chunk(index, n)
        finally:
            self.writing -= 1

    cdef bint write_chunk(self, Py_ssize_t index, Py_ssize_t n) except -1:
        cdef Dispatcher d = <Dispatcher> self.dispatcher
        cdef fp_task task
        cdef Encoded out
        cdef Py_ssize_t start = index - self.base
        cdef uint64_t before = d.done_tasks
        make_room(&task, &out, self.flags)
        try:
            if start < 0 or len(self.items) < start + n:
                raise RuntimeError("the list changed its size while the pool was reading it")
            if not d.codec.encode_values(self.items, start, n, &out, self.about):
                if n == 1:
                    d.codec.encode_pickle(self.items[start], PICKLED_ONE, 1, &out, self.about)
                else:
                    d.codec.encode_pickle(self.items[start:start + n], PICKLED, n, &out,
                                          self.about)
            if self.flags & FLAG_SEEDED:
                d.stamp(self, index, &out)
        except BaseException as error:
            chunk = (index, n)  # before the look: to make it may let others run
            if self.settled:  # cancelled meanwhile, and the items with it
                return True
            if isinstance(error, OutOfBlocksError) and (d.sent or d.done_tasks != before) \
                    and d.dead is None and not self.abandoned:
                self.again.append(chunk)
                self.failed_at = d.done_tasks
                return False
            if isinstance(error, OutOfBlocksError):
                error = MemoryError(str(error)) if d.dead is None else d.dead
            if n > 1 and self.flags & FLAG_CATCH and isinstance(error, Exception):
                return self.send_singly(index, n)
            if d.explain is not None:
                try:
                    d.explain.of_items(error, self.items[start:start + n], index)
                except BaseException as interrupt:  # of the look
                    error = interrupt
            if not self.settled:  # it may have been cancelled meanwhile, and the items with it
                self.fail(index, n, error)
            if is_interrupt(error):
                raise error
            return True
        if d.dead is not None or self.settled:  # since the pickling began
            d.codec.discard(&out)
            if not self.settled:
                self.fail(index, n, d.dead)
            return True
        FP_CP("chunks.written")
        place(&task, &out)
        call(&task, self.function, self.kind, self.flags)
        self.sent_bytes(n, out.len if out.refs == 0 else d.codec.size_of_encoded(&out))
        # Pickling may have let other threads run, who filled the ring.
        d.send(&task, d.entry(self, index, n, out.ref if out.in_block else 0, out.keeps))
        FP_CP("chunks.sent")
        return True

    cdef bint send_singly(self, Py_ssize_t index, Py_ssize_t n) except -1:
        """Send each item of a chunk by itself: some can't be sent, and the others shall run."""
        cdef bint sent = True
        cdef Py_ssize_t i
        for i in range(index, index + n):
            if self.settled:
                break
            sent = self.write_chunk(i, 1) and sent
        return sent

    cdef int sent_bytes(self, Py_ssize_t n, uint64_t size) except -1:
        """`size` bytes went out for `n` items."""
        return 0

    @property
    def _length(self):
        """How many items there are, as far as they have been read."""
        with critical_section(LOCK):
            return self.length - self.has_own_error

    def _items_done(self, Dispatcher d not None):
        """How many items are done, those of chunks that are being worked on too: for reports.

        It is what was sent, less what the ledger knows as not done, and with that up to where the
        workers say that they are: nobody counts for it. It may be less than it was, when items of a
        dead worker run again. `d` is the dispatcher, which a settled job has forgotten.

        Returns
        -------
        int
            -1 when there is nothing to say: the call was dropped, or is being changed right now.
        """
        cdef fp_pool *pool = &d.segment.pool
        cdef Py_ssize_t done
        cdef fp_entry *entry
        cdef uint64_t ticket = 0
        cdef uint32_t item = 0
        cdef uint32_t cookie, slot
        with critical_section(LOCK):
            done = self.position - self.has_own_error
            if d.foreign or d.dead is not None or self.was_cancelled or self.writing:
                return -1
            for _, n in self.again:
                done -= n
            for cookie in range(d.ledger.capacity):
                entry = &d.ledger.entries[cookie]
                if entry.state != FP_ENTRY_FREE and entry.job == <void *> self:
                    done -= entry.count - entry.done
            for slot in range(d.top):
                if not fp_ctl_position(&pool.ctl[slot], &ticket, &item):
                    continue
                cookie = fp_ledger_find(&d.ledger, ticket)
                if cookie != FP_NO_COOKIE and d.ledger.entries[cookie].job == <void *> self:
                    entry = &d.ledger.entries[cookie]
                    done += max(min(item, entry.count), entry.done) - entry.done
            return done

    cdef Py_ssize_t unsent(self):
        cdef Py_ssize_t size = max(self._chunksize, 1)
        return (self.length - self.position + size - 1) // size + len(self.again)

    cdef int abandon(self, object error) except -1:
        cdef Py_ssize_t start = self.position
        self.abandoned = True
        again, self.again = self.again, []
        for index, n in again:
            self.fail(index, n, error)
        if start < self.length:
            self.position = self.length
            self.in_flight += 1
            self.fail(start, self.length - start, error)
        return 0


cdef class MapJob(ManyJob):
    """The list of results of ``map``; ready when every chunk is done, also after an error."""
    cdef list results
    cdef object out             # an array that takes the results instead, or None
    cdef object store           # (index, column or list) -> into that array
    cdef object error
    cdef bint catch             # exceptions are results
    cdef dict holes             # index of an item that has failed, and whose place is held -> error
    cdef Py_ssize_t done_items

    cdef int start(self, bint awaited, object out, object store, bint catch) except -1:
        """Send; `plan` was called before."""
        if self.settled:
            return 0
        self.catch = catch
        if catch:
            self.flags |= FLAG_CATCH
        self.out = out
        self.store = store
        if self.length == 0 or (self._chunksize <= 0 and self.divisor <= 0):
            # No task, so no callback either: as the standard library has it.
            self.settled = self.success = True
            self.value = [None] * self.length if out is None else out
            return self.publish()
        try:
            if self.out is None:
                self.results = [None] * self.length
            self.about = Call(borrow=awaited and out is None and self.dispatcher.callbacks == 0,
                              many=True)
            return self.dispatcher.enqueue(self, awaited)
        except BaseException:  # Ctrl-C: nobody will have this object, to wait or to cancel
            if not self.settled:
                self.cancel(True)
            raise

    def _get_or_drop(self):
        """`get` for the only caller there is: if it is interrupted, the call is cancelled."""
        with critical_section(LOCK):
            try:
                return self.get()
            except BaseException:
                if not self.settled:
                    self.cancel(True)
                raise

    @property
    def _number_left(self):
        """Chunks that are not done; guided chunks are counted as if they had the usual size."""
        with critical_section(LOCK):
            if not self.settled:
                self.dispatcher.pump()
            if self.settled or self._chunksize <= 0:
                return 0
            return (self.length - self.done_items + self._chunksize - 1) // self._chunksize

    cdef int deliver(self, const fp_entry *entry, const Payload *payload, bint last) except -1:
        cdef Dispatcher d = <Dispatcher> self.dispatcher
        cdef Py_ssize_t index = entry.index + entry.done
        # To the end of the chunk with its last result, whatever that says.
        cdef Py_ssize_t count = entry.count - entry.done if last else payload.count
        try:
            if self.error is not None:
                d.codec.open_refs(payload)  # takes its blocks, which go back at once
            elif payload.count == 0:
                pass  # the end of a chunk whose results came before
            elif self.catch:
                self.decode_apart(index, payload)
            elif self.out is None:
                d.codec.decode_into(self.results, index, payload)
            else:
                self.fill_out(index, payload)
        except BaseException as error:
            self.note(index, count, error)
            self.advance(count)
            if is_interrupt(error):
                raise
            return 0
        return self.advance(count)

    cdef int decode_apart(self, Py_ssize_t index, const Payload *payload) except -1:
        """Read the results of a chunk; one that can't be read is the error of its own item."""
        cdef Cursor cursor
        cdef Py_ssize_t i
        held = self.dispatcher.codec.open(&cursor, payload)
        for i in range(index, index + payload.count):
            try:
                value = step(&cursor, held, payload)
            except Exception as error:
                value = error
            if self.results is not None:  # cancelled meanwhile
                self.results[i] = value
        return 0

    cdef int fill_out(self, Py_ssize_t index, const Payload *payload) except -1:
        """Store the results of a chunk in the caller's array."""
        values = self.dispatcher.codec.decode_array(payload)
        if values is None:
            values = [None] * payload.count
            self.dispatcher.codec.decode_into(values, 0, payload)
        self.store(index, values)
        return 0

    cdef int fail_item(self, const fp_entry *entry, object error, bint last) except -1:
        self.note(entry.index + entry.done, 1, error)
        return self.advance(1)

    cdef int fail_rest(self, const fp_entry *entry, object error) except -1:
        self.note(entry.index + entry.done, entry.count - entry.done, error)
        return self.advance(entry.count - entry.done)

    cdef int run_singly(self, const fp_entry *entry) except -1:
        cdef Dispatcher d = <Dispatcher> self.dispatcher
        cdef uint64_t i
        for i in range(entry.index + entry.done, entry.index + entry.count):
            if self.settled:
                return 0
            if self.holes and i in self.holes:
                self.advance(1)
            else:
                self.send_chunk(i, 1)
        if self.again and not self.queued:
            d.queue_source(self, False)
        d.kick()
        return 0

    cdef int hole(self, uint64_t index, object error) except -1:
        if not self.catch:
            return self.note(index, 1, error)
        if self.holes is None:
            self.holes = {}
        self.holes[index] = error
        return 0

    cdef int fill_holes(self) except -1:
        for index, error in self.holes.items():
            self.results[index] = error
        return 0

    cdef int note(self, Py_ssize_t index, Py_ssize_t count, object error) except -1:
        """An exception comes in the place of some results."""
        cdef Py_ssize_t i
        if self.settled:
            return 0
        if self.catch:
            for i in range(index, index + count):
                self.results[i] = error
        elif self.error is None:
            self.error = error
            self.results = None  # nobody will see them, and others may need their memory
        return 0

    cdef int advance(self, Py_ssize_t count) except -1:
        """So many more items are done."""
        self.done_items += count
        FP_CP("map.advanced")
        if self.done_items < self.length or self.settled:
            return 0
        # What is dropped may let others run: at the end of this, when the call is over.
        items = self.items
        about = self.about
        self.items = self.about = None
        if self.holes:
            self.fill_holes()
        results, self.results = self.results, None
        if self.out is not None:
            results, self.out = self.out, None
            store, self.store = self.store, None
            if self.error is None:
                store.close()
        if self.error is not None:
            error, self.error = self.error, None
            return self.settle(False, error)
        return self.settle(True, results)

    cdef int withdraw(self, object error) except -1:
        self.position = self.length
        self.abandoned = True
        self.again.clear()
        FP_CP("map.withdrawn")
        self.settle(False, error)
        # Now that nobody brings results any more: what is dropped may let others run.
        if not self.is_writing():
            self.items = self.about = None
        self.results = self.out = self.store = None
        return 0


def begin_map(Dispatcher d not None, cls, pool, func, callback, error_callback, uint64_t limit, items,
              error, Py_ssize_t chunksize, Py_ssize_t divisor, Py_ssize_t largest, bint star, bint fill,
              bint awaited, out, store, bint catch):
    """Begin a call over a list, in one step: no signal handler can leave it half begun.

    Parameters
    ----------
    cls : type
        Of the job, a `MapJob`.
    limit : int
        ns that an item may take; 0: any time.
    error : BaseException, optional
        Why there are no items.
    chunksize, divisor, largest : int
        See `ManyJob.plan`.
    star, fill : bool
        Each item is (*arguments), or (where the result goes, *arguments).
    awaited : bool
        The caller waits for the result now.
    out, store : object
        See `MapJob`.
    catch : bool
        Exceptions are results.
    """
    cdef Py_ssize_t length = len(items)
    cdef MapJob job
    with critical_section(LOCK):
        job = d.make_job(cls, pool, d.carry(func), callback, error_callback, False, limit)
        if error is not None:
            job.settle(False, error)
        job.plan(items, length, chunksize, divisor, largest,
                 KIND_FILL if fill else KIND_STARMAP if star else KIND_MAP)
        job.start(awaited, out, store, catch)
        return job
