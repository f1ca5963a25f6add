# cython: nonecheck=True
"""What ``imap`` waits for: results one after the other, sent as the consumer takes them."""

from cython cimport critical_section
from libc.stdint cimport uint32_t, uint64_t

from fastpool._core._blocks cimport Call
from fastpool._core._c cimport FP_CP, FP_FLAG, FP_STORE32, fp_entry, fp_parent_wake
from fastpool._core._codec cimport Payload
from fastpool._core._many cimport ManyJob
from fastpool._core._jobs cimport is_interrupt
from fastpool._core._protocol cimport KIND_MAP, KIND_STARMAP
from fastpool._core._segment cimport LOCK
from fastpool._core._submit cimport Dispatcher

cdef enum:
    FIRST_ITEMS = 16          # a stream's window until the size of its results is known
    STREAM_BYTES = 64 << 20   # of a stream's items in flight, or of its unread results

cdef tuple EMPTY = ()


cdef int open_lock(object lock) except -1:
    """Let go of a lock, if there is one and somebody has it.

    In C: a signal handler that raised in the middle of an Event's would leave a feeder asleep.
    """
    if lock is not None and lock.locked():
        lock.release()
    return 0


cdef class Failure:
    """An exception in the place of a result."""
    cdef object error

    def __cinit__(self, error):
        self.error = error


cdef class StreamJob(ManyJob):
    """The results of ``imap``, one after the other; `flag` means that there is something to hand out.

    Items are at hand as a sequence, or a feeding thread pushes them. At most `limit` of them are in
    flight or unread at any time, until the pool is closed: then everything runs, so that ``join``
    needs no consumer.
    """
    cdef bint ordered
    cdef dict early            # index of a chunk that overtook others -> its results
    cdef dict holes            # index of an item that has failed, and whose place is held -> Failure
    cdef dict partial          # index of a chunk that is not over -> [its results, how many lack]
    cdef Py_ssize_t due_index  # of the chunk whose results come next
    cdef list present          # results to hand out, last one first
    cdef list arrived          # results behind those, in order
    cdef Py_ssize_t unread     # items in flight or not handed out
    cdef Py_ssize_t taken      # items handed out since more was sent
    cdef Py_ssize_t limit      # of `unread`, when items are small
    cdef double mean_bytes     # of a result, lately; < 0: none has come yet
    cdef double mean_sent      # of an item, lately
    cdef bint strict           # `limit` is the caller's: neither size nor workers change it
    cdef bint exhausted        # nothing will be pushed any more
    cdef bint over
    cdef object last_error     # of the iterable
    cdef object space          # a lock that a feeding thread waits for until it may push again

    cdef int start(self, bint ordered, Py_ssize_t limit, bint strict, object space) except -1:
        """Send; `plan` was called before.  With `space`, a lock, items will be pushed."""
        cdef Dispatcher d = <Dispatcher> self.dispatcher
        try:
            self.prepare(ordered, limit, strict, space)
            if self.over:
                return 0
            if d.dead is not None:  # since this was begun
                return self.abandon(d.dead)
            if self.length:
                self.dispatcher.enqueue(self, False)
        except BaseException:  # Ctrl-C: nobody will have this object
            if not self.over:
                self.cancel(True)
            raise
        return self.end_if_done()

    cdef int prepare(self, bint ordered, Py_ssize_t limit, bint strict, object space) except -1:
        self.ordered = ordered
        self.limit = limit
        self.strict = strict
        self.mean_bytes = -1
        # Items that are pushed may be one object that changes.
        self.about = Call(verify=space is not None, many=True)
        self.early = {}
        self.partial = {}
        self.holes = {}
        self.present = []
        self.arrived = []
        self.space = space
        self.exhausted = space is None
        if self.settled:  # the function can't be sent
            self.present.append(Failure(self.value))
            self.unread = 1
            self.items = EMPTY
            self.base = self.length = self.position
            self.over = True
        elif space is not None or strict:
            self.dispatcher.feeders.add(self)
        return 0

    cdef Py_ssize_t allowed(self):
        """How many items may be in flight or unread, as far as is known of their size."""
        cdef Py_ssize_t least = 2 * self.dispatcher.alive * self._chunksize + self._chunksize
        cdef Py_ssize_t most = self.limit
        cdef double size = self.mean_sent
        if self.strict:
            return most
        if self.mean_bytes < 0:
            return max(min(most, FIRST_ITEMS), least)
        size = max(size, self.mean_bytes)
        if size * most > STREAM_BYTES:
            most = <Py_ssize_t> (STREAM_BYTES / size)
        return max(most, least)

    cdef int sent_bytes(self, Py_ssize_t n, uint64_t size) except -1:
        cdef double each = <double> size / n
        self.mean_sent = max(each, self.mean_sent + (each - self.mean_sent) / 8)
        return 0

    cdef Py_ssize_t window(self):
        if not self.dispatcher.accepting:
            return self.length - self.position
        return self.allowed() - self.unread

    def _room(self):
        """How many items a feeding thread may push; a negative number: none will ever be taken."""
        with critical_section(LOCK):
            if self.over or self.exhausted or self.dispatcher.foreign:
                return -1
            if not self.dispatcher.accepting:
                return -1 if self.strict else self._chunksize
            # 0 at least: the window may have shrunk below what is out already.
            return max(0, self.allowed() - self.unread - (self.length - self.position))

    def _push(self, list batch):
        """Send more items, in chunks of the planned size."""
        with critical_section(LOCK):
            if self.over:
                return
            if self.position == self.length and not self.is_writing():
                self.items = batch
                self.base = self.length
            else:
                self.items.extend(batch)
            self.length += len(batch)
            FP_CP("stream.pushed")
            if not self.queued:
                self.dispatcher.enqueue(self, False)

    def _push_end(self, error=None):
        """Nothing more will come, because of an exception of the iterable or because it ended."""
        with critical_section(LOCK):
            if self.over:
                return
            self.exhausted = True
            self.space = None
            self.last_error = error
            FP_CP("stream.exhausted")
            self.take_last_error()
            self.end_if_done()

    cdef int take_last_error(self) except -1:
        """The iterable's own exception takes its turn after all items."""
        cdef list values
        cdef Py_ssize_t index
        if self.last_error is None:
            return 0
        values = [Failure(self.last_error)]  # before the look: it may let others run
        index = self.length
        if self.last_error is None or self.position < index or self.is_writing():
            return 0
        items = self.items  # dropped at the end of this
        self.last_error = None
        self.in_flight += 1
        self.unread += 1
        self.has_own_error = True
        self.items = EMPTY
        self.base = self.length = self.position = index + 1
        return self.arrive(index, 1, values)

    cdef int feed(self) except -1:
        cdef int finished = ManyJob.feed(self)
        if finished:
            self.take_last_error()
        return finished

    cdef bint send(self, Py_ssize_t n) except -1:
        self.unread += n
        return ManyJob.send(self, n)

    cdef int deliver(self, const fp_entry *entry, const Payload *payload, bint last) except -1:
        cdef Dispatcher d = <Dispatcher> self.dispatcher
        cdef list values
        cdef bint first = self.mean_bytes < 0
        cdef double size = <double> d.codec.size_of(payload) / max(payload.count, 1)
        if payload.count:
            self.mean_bytes = size if first else self.mean_bytes + (size - self.mean_bytes) / 8
        try:
            if payload.count == 1:
                values = [d.codec.decode_one(payload)]
            else:
                values = [None] * payload.count
                d.codec.decode_into(values, 0, payload)
        except BaseException as error:
            if last:
                self.fail_rest(entry, error)
            else:
                self.gather(entry, [Failure(error) for _ in range(payload.count)], False)
            if is_interrupt(error):
                raise
            return 0
        self.gather(entry, values, last)
        if first and payload.count:  # the window has opened
            self.nudge()
            if self.position < self.length and not self.over:
                d.feed()
        return 0

    cdef int hole(self, uint64_t index, object error) except -1:
        self.holes[index] = Failure(error)
        return 0

    cdef int gather(self, const fp_entry *entry, list values, bint last) except -1:
        """A chunk's results are handed out when they are all there.

        Each goes to its place: of two parts, the one that is longer in the reading may come last.
        """
        cdef Py_ssize_t index = entry.index
        cdef Py_ssize_t n = len(values)
        cdef Py_ssize_t i
        cdef list part, places
        if self.holes:
            for i in range(n):
                values[i] = self.holes.pop(index + entry.done + i, values[i])
        if last and n == entry.count:
            return self.arrive(index, entry.count, values)
        part = self.partial.get(index)
        if part is None:
            # To make it may let others run, who bring another part of the same chunk.
            part = self.partial.setdefault(index, [[None] * entry.count, entry.count])
        places = part[0]
        places[entry.done:entry.done + n] = values
        part[1] -= n
        if part[1] > 0:
            return 0
        self.partial.pop(index, None)
        return self.arrive(index, entry.count, places)

    cdef int fail_item(self, const fp_entry *entry, object error, bint last) except -1:
        return self.gather(entry, [Failure(error)], last)

    cdef int fail_rest(self, const fp_entry *entry, object error) except -1:
        # An exception of an item takes the place of its whole chunk.
        self.partial.pop(entry.index, None)
        return self.arrive(entry.index, entry.count, [Failure(error)])

    cdef int withdraw(self, object error) except -1:
        cdef Failure failure = Failure(error)
        if self.over:  # since that was begun
            self.was_cancelled = False
            return 0
        space, self.space = self.space, None
        self.position = self.length
        self.arrived.append(failure)
        self.abandoned = self.exhausted = self.over = True
        self.dispatcher.feeders.discard(self)
        self.signal()
        self.settle(False, error)
        open_lock(space)
        # Last: what is dropped may let others run.
        self.again.clear()
        self.items = EMPTY
        self.base = self.length
        self.last_error = None
        self.early = {}
        self.partial = {}
        return 0

    cdef int arrive(self, Py_ssize_t index, uint32_t count, list values) except -1:
        cdef tuple early = None
        if self.ordered and index != self.due_index:
            # To make it may let others run, who bring what is due: so it is looked again below.
            early = (count, values)
        if self.over:  # cancelled meanwhile
            return 0
        self.in_flight -= 1
        FP_CP("stream.arrived")
        self.unread -= <Py_ssize_t> count - len(values)  # a failed chunk is read as one
        if not self.ordered:
            self.arrived.extend(values)
        elif index != self.due_index:
            self.early[index] = early
            return 0
        else:
            self.arrived.extend(values)
            self.due_index += count
            while self.early:
                found = self.early.pop(self.due_index, None)
                if found is None:
                    break
                self.due_index += <Py_ssize_t> found[0]
                self.arrived.extend(found[1])
        self.signal()
        return self.end_if_done()

    cdef int signal(self) except -1:
        FP_FLAG(&self.flag)
        FP_CP("stream.flagged")
        if self.dispatcher.sleeping_threads:
            fp_parent_wake(&self.dispatcher.segment.pool)
            FP_CP("stream.woken")
        if self.told:
            return self.tell()
        return 0

    cdef bint is_there(self):
        return len(self.present) != 0 or len(self.arrived) != 0 or self.over

    cdef int end_if_done(self) except -1:
        if self.exhausted and self.position == self.length and self.in_flight == 0 \
                and not self.over:
            self.over = True
            self.items = EMPTY
            self.space = None
            self.dispatcher.feeders.discard(self)
            self.settle(True, None)
        return 0

    cdef int abandon(self, object error) except -1:
        if self.over:
            return 0
        space, self.space = self.space, None
        self.exhausted = True
        if self.position == self.length:
            self.last_error = error  # for whoever waits for more
            self.take_last_error()
        ManyJob.abandon(self, error)
        self.end_if_done()
        open_lock(space)
        return 0

    cdef bint blocked(self):
        return self.position < self.length and self.window() < self.next_chunk()

    cdef int nudge(self) except -1:
        if self.space is not None:
            open_lock(self.space)
        elif self.strict and not self.over and not self.dispatcher.accepting:
            # The pool was closed: what was not sent has not been read.
            self.length = self.position
            self.end_if_done()
        return 0

    cdef bint await_next(self, object timeout) except -1:
        """Wait until there is a result to hand out, or the end; False when `timeout` was over first."""
        while not self.is_there():
            FP_STORE32(&self.flag, 0)
            if not self.dispatcher.wait(self, timeout):
                return False
        return True

    cdef object take(self, object timeout):
        """The next result; raises what its task raised, or StopIteration."""
        if not self.present:
            if not self.await_next(timeout):
                raise self.dispatcher.timeout_error
            if not self.present:  # another thread may have got there meanwhile
                if not self.arrived:
                    raise StopIteration
                self.present, self.arrived = self.arrived, self.present
                self.present.reverse()
        value = self.present.pop()
        FP_CP("stream.handed")
        self.unread -= 1
        self.taken += 1
        # Not for every item, but with a limit of the caller's for every chunk.
        if not self.over and (self.unread == 0 or 4 * self.taken >= self.allowed()
                              or (self.strict and self.taken >= self._chunksize)):
            self.taken = 0
            if self.position < self.length:
                self.dispatcher.pump()
            if self.queued and not self.over:
                self.dispatcher.ask_for_low()
            self.nudge()
        if type(value) is Failure:
            raise (<Failure> value).error
        return value


def begin_stream(Dispatcher d not None, feeder, func, uint64_t item_limit, items, Py_ssize_t chunksize,
                 bint star, bint ordered, Py_ssize_t limit, bint strict):
    """Begin an ``imap``, in one step: no signal handler can leave it half begun.

    Parameters
    ----------
    feeder : object, optional
        Will push the items: it is given the job, as ``feeder.job``, and waits for its lock
        ``feeder.space`` when there is no room for more.
    item_limit : int
        ns that an item may take; 0: any time.
    star : bool
        Each item is (*arguments).
    limit : int
        See `StreamJob`.
    strict : bool
        No more than `limit` items, and nothing is read any more once the pool is closed.
    """
    cdef StreamJob job
    with critical_section(LOCK):
        job = d.make_job(StreamJob, None, d.carry(func), None, None, False, item_limit)
        if feeder is not None:
            feeder.job = job
        job.plan(items, len(items), chunksize, 0, 0, KIND_STARMAP if star else KIND_MAP)
        job.start(ordered, limit, strict, None if feeder is None else feeder.space)
        return job


cdef class Stream:
    """What the program holds of an ``imap``: as long as it does, the pool lives.

    Not so the job itself: an iterator that was dropped unread must not keep its pool for ever.
    """
    cdef StreamJob job
    cdef object pool

    def __init__(self, StreamJob job not None, pool):
        self.job = job
        self.pool = pool

    @property
    def _pool(self):
        """The pool, until the last result was handed out."""
        with critical_section(LOCK):
            return self.pool

    @property
    def _chunksize(self):
        return self.job._chunksize

    def __iter__(self):
        return self

    def __next__(self):
        return self.hand_out(None)

    def next(self, timeout=None):
        """Return the next result, or raise what its task raised; the iteration goes on after that.

        Raises
        ------
        StopIteration
            If there are no more results.
        fastpool.TimeoutError
            If ``timeout`` is not None and no result arrives within ``timeout`` seconds.
        """
        return self.hand_out(timeout)

    cdef object hand_out(self, object timeout):
        with critical_section(LOCK):
            try:
                return self.job.take(timeout)
            except StopIteration:
                if self.job.over:
                    self.pool = None
                raise

    def _is_ready(self):
        """Whether `next` would not have to wait."""
        with critical_section(LOCK):
            if not self.job.is_there():
                self.job.dispatcher.pump()
            return self.job.is_there()

    def _await_next(self, timeout):
        """Wait until `next` would not have to; False when ``timeout`` seconds were over before."""
        with critical_section(LOCK):
            return self.job.await_next(timeout)

    def _items_done(self, dispatcher):
        """See `ManyJob._items_done`."""
        return self.job._items_done(dispatcher)

    def _watch(self, tell):
        """See `Job._watch`."""
        return self.job._watch(tell)

    def _unwatch(self, tell):
        """See `Job._watch`."""
        return self.job._unwatch(tell)

    def cancel(self, kill=False):
        """Have nothing run any more; see ``AsyncResult.cancel``."""
        return self.job.cancel(kill)

    def cancelled(self):
        """Return whether the call was cancelled."""
        return self.job.cancelled()
