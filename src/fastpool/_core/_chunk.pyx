"""The results of a chunk, saved item by item, so that a worker's death costs only what it runs.

While a chunk runs, its results lie in shared memory: in the next result slot while they fit there,
else in a block. The control block says where and how many (see fp_ctl.h). So nothing is copied when
the chunk is done, and the parent can take what a dead worker left. A result with large arrays, which
need blocks of their own, is published at once, by itself, and what was saved before it too.

Results that somebody else holds, too, may still change, and what they share must stay shared: they
are sent as they are when the chunk is done, as in multiprocessing. Meanwhile they are saved as they
are now, for the case that this process does not live to see the end; not more often than costs a
twentieth of the time, so that some short items may have to run again.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpool._core._c cimport *
from fastpool._core._arrays cimport Py_TYPE, describe_scalar, find_numpy
from fastpool._core._blocks cimport Call
from fastpool._core._codec cimport (
    BATCHES, BOOLS, FLOAT64, INT64, NONES, PICKLED, SCALARS, TAGGED, Codec, Encoded, Payload,
)
from fastpool._core._outbox cimport Outbox, write_into
from fastpool._core._plain cimport finish, fp_as_int64, put, restart
from fastpool._core._protocol cimport FLAG_CATCH, RESULT_PART
from fastpool._core._threads cimport fp_hold, fp_let_go

from fastpool._core._blocks import OutOfBlocksError

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject *o)
    bint PyFloat_Check(PyObject *o)
    bint PyFloat_CheckExact(PyObject *o)
    bint PyUnicode_CheckExact(PyObject *o)
    bint PyBool_Check(PyObject *o)
    double PyFloat_AS_DOUBLE(PyObject *o)
    int PyObject_GetBuffer(object o, Py_buffer *view, int flags) except -1
    void PyBuffer_Release(Py_buffer *view)
    int PyBUF_SIMPLE
    PyObject *Py_True

cdef enum:
    FORESEEN = 1 << 22  # most bytes that are set aside for results still to come
    MOST_KEPT = 1 << 22 # most bytes that are saved of results that are sent at the end
    MOST_PICKLE = 1 << 30  # largest pickle among other values
    SAVE_REST = 20      # for so many times as long as saving those took, they are not saved again

cdef Call RESULT = Call()

cdef uint64_t NEVER = <uint64_t> -1

# How the parent reads each form.
cdef uint8_t[8] CODEC = [NONES, INT64, FLOAT64, NONES, BOOLS, SCALARS, TAGGED, BATCHES]


cdef class Chunk:

    def __cinit__(self, Outbox outbox):
        self.outbox = outbox
        self.codec = outbox.codec
        self.ctl = outbox.ctl

    def __dealloc__(self):
        finish(&self.writer)

    cdef int begin(self, const fp_task *task, uint64_t ticket, uint32_t skip) except -1:
        """A chunk whose first `skip` items are done."""
        self.task = task
        self.ticket = ticket
        self.left = task.count - skip
        self.finished = skip
        FP_CP("chunk.begin")
        fp_ctl_finished(self.ctl, skip)
        FP_CP("chunk.skipped")
        self.stopped = False
        return self.take_slot()

    cdef int take_slot(self) except -1:
        """Nothing is saved: begin with the next record."""
        self.form = UNDECIDED
        self.saved = 0
        self.block = 0
        self.ints = NULL
        self.reals = NULL
        self.slot = self.outbox.slot_for(self.task, self.ticket)
        self.stopped = self.slot == NULL
        FP_CP("chunk.slot")
        return 0

    cdef int add(self, object value) except -1:
        """Save the result of the next item."""
        if self.stopped:
            return 0
        if self.form == VALUES and PyUnicode_CheckExact(<PyObject *> value):
            # The commonest of tagged values, and nothing that somebody else could change.
            if put(&self.writer, <PyObject *> value, 0):
                FP_CP("text.written")
                return self.more(1)
            self.writer.full = False  # put_value() makes room, or sends it otherwise
        if self.form == UNDECIDED:
            self.decide(value)
        if self.form == KEPT:
            return self.keep(value)
        if self.form != VALUES:
            if self.put_in_column(value):
                return self.more(1)
            self.to_values()
        return self.put_value(value)

    cdef int add_error(self, object error) except -1:
        """Save an exception as the result of the next item."""
        cdef bytes data = self.outbox.report(error)
        if self.stopped:
            return 0
        if self.form != VALUES:
            self.to_values()
        self.put_pickle([data])
        FP_CP("chunk.error_written")
        return self.more(1)

    cdef int finish(self) except -1:
        """All items are done: publish what is saved."""
        if self.stopped:
            return 0
        FP_CP("chunk.done")
        return self.send_kept(0) if self.form == KEPT else self.send(0)

    cdef int flush(self) except -1:
        """Publish what is saved; more of the task will follow."""
        if self.stopped or (self.saved == 0 and not self.kept):
            return self.discard()
        FP_CP("flush.begin")
        if self.form == KEPT:
            self.left -= <uint32_t> len(self.kept)
            self.send_kept(RESULT_PART)
        else:
            self.left -= self.saved
            self.send(RESULT_PART)
        FP_CP("flush.sent")
        return self.take_slot()

    cdef int discard(self) except -1:
        """Forget what is saved and not published."""
        self.finished -= self.saved
        FP_CP("discard.begin")
        fp_ctl_finished(self.ctl, self.finished)  # before its memory may be used again
        FP_CP("discard.forgotten")
        self.saved = 0
        self.form = UNDECIDED
        self.kept = None
        self.drop_block(self.block)
        FP_CP("discard.dropped")
        self.block = 0
        return 0

    cdef int drop_block(self, uint64_t block) except -1:
        if block:
            FP_CP("chunk.drop")
            self.codec.exchange.heap.free(block)
            FP_CP("chunk.dropped")
        return 0

    # ---- forms ---------------------------------------------------------------------------------

    cdef int decide(self, object value) except -1:
        """Choose the form of which this result is."""
        cdef PyObject *o = <PyObject *> value
        cdef int overflow = 0
        if PyLong_CheckExact(o):
            fp_as_int64(o, &overflow)
            if not overflow:
                self.make_room(8 * <uint64_t> self.left)
                self.ints = <int64_t *> self.buffer
                self.form = INTS
        elif PyFloat_CheckExact(o):
            self.make_room(8 * <uint64_t> self.left)
            self.reals = <double *> self.buffer
            self.form = FLOATS
        elif value is None:
            self.make_room(0)
            self.form = ONLY_NONE
        elif PyBool_Check(o):
            self.make_room(self.left)
            self.form = FLAGS
        elif find_numpy() and describe_scalar(type(value), &self.dtype):
            self.make_room(16 + self.left * <uint64_t> self.dtype.itemsize)
            memcpy(self.buffer, self.dtype.code, 16)
            self.kind = Py_TYPE(o)
            self.form = SCALARS_OF
        if self.form == UNDECIDED:
            return self.to_values()
        return self.point()

    cdef int make_room(self, uint64_t size) except -1:
        """Have `buffer` be so many bytes of shared memory; what it was is left as it is."""
        cdef uint64_t since = 0
        if size <= FP_RESULT_INLINE:
            self.buffer = self.slot.payload.bytes
            self.room = FP_RESULT_INLINE
            return 0
        while True:
            try:
                self.block = self.codec.exchange.alloc(size)
                break
            except OutOfBlocksError as error:
                if not self.outbox.await_memory(&since):
                    raise MemoryError(str(error)) from None
        self.buffer = self.outbox.segment.pool.base + self.block
        self.room = size
        FP_CP("chunk.block")
        return 0

    cdef int point(self) noexcept:
        """Tell the parent where the results are saved."""
        FP_CP("point.begin")
        FP_SAVE(&self.ctl.saved,
                fp_saved_word(self.buffer - self.outbox.segment.pool.base, CODEC[<int> self.form]))
        FP_CP("point.saved")
        return 0

    cdef int more(self, uint32_t n) noexcept:
        """So many more results are saved."""
        self.saved += n
        self.finished += n
        FP_CP("more.begin")
        fp_ctl_finished(self.ctl, self.finished)
        FP_CP("more.done")
        return 0

    cdef bint put_in_column(self, object value) except -1:
        """Save a result in the column, if it is of its type."""
        cdef PyObject *o = <PyObject *> value
        cdef int overflow = 0
        cdef int64_t number
        cdef double real
        cdef Py_buffer view
        cdef bint fits
        if self.form == INTS:
            if not PyLong_CheckExact(o):
                return False
            number = fp_as_int64(o, &overflow)
            if overflow:
                return False
            self.ints[self.saved] = number
        elif self.form == FLOATS:
            if not PyFloat_CheckExact(o):
                return False
            self.reals[self.saved] = PyFloat_AS_DOUBLE(o)
        elif self.form == ONLY_NONE:
            return value is None
        elif self.form == FLAGS:
            if not PyBool_Check(o):
                return False
            self.buffer[self.saved] = o == Py_True
        elif self.form == SCALARS_OF:
            if Py_TYPE(o) != self.kind:
                return False
            if PyFloat_Check(o):  # numpy.float64 is one, and its value lies in the same place
                real = PyFloat_AS_DOUBLE(o)
                memcpy(self.buffer + 16 + 8 * <uint64_t> self.saved, &real, 8)
                return True
            PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
            fits = view.len == self.dtype.itemsize
            if fits:
                memcpy(self.buffer + 16 + self.saved * view.len, view.buf, view.len)
            PyBuffer_Release(&view)
            return fits
        else:
            return False
        return True

    # ---- tagged values -------------------------------------------------------------------------

    cdef int to_values(self) except -1:
        """Go on with tagged values: those in the column are written anew."""
        cdef Payload payload
        cdef list values = []
        cdef uint64_t before = self.block
        cdef uint64_t size = FP_RESULT_INLINE
        if self.saved:
            payload.codec = CODEC[<int> self.form]
            payload.count = self.saved
            payload.refs = 0
            payload.len = 8 * <uint64_t> self.saved
            if self.form == SCALARS_OF:
                payload.len = 16 + self.saved * <uint64_t> self.dtype.itemsize
            payload.data = self.buffer
            values = [None] * self.saved
            self.codec.decode_into(values, 0, &payload)
            # The column may lie in the slot; no plain scalar takes more.
            size = 64 * (<uint64_t> self.saved + 4)
        self.make_room(size)
        self.rewind(0)
        for value in values:
            if not put(&self.writer, <PyObject *> value, 0):
                raise SystemError("fastpool: a scalar of a column is not plain")
        FP_CP("values.written")
        self.form = VALUES
        self.ints = NULL
        self.reals = NULL
        self.point()
        FP_CP("values.pointed")
        if before != self.block:
            self.drop_block(before)
        return 0

    cdef int put_value(self, object value) except -1:
        """Save a result of any kind."""
        cdef size_t before = self.writer.len
        cdef bint plain = self.put_plain(value)
        cdef bint arrays = self.writer.arrays != 0
        FP_CP("value.written")
        cdef bint shared = self.writer.shared
        cdef bint apart = self.task.flags & FLAG_CATCH != 0
        if plain and (apart or not shared):
            return self.more(1)
        self.rewind(before)
        if arrays and (apart or not shared):
            return self.send_alone(value)
        if apart:
            return self.put_apart(value)
        # Somebody else may hold it, or what it refers to.
        if self.saved:
            self.left -= self.saved
            self.send(RESULT_PART)
            FP_CP("kept.sent_before")
            self.take_slot()
            if self.stopped:
                return 0
        before = self.block
        self.make_room(2 * FP_RESULT_INLINE)  # a block: the slot takes the results at the end
        FP_CP("kept.room")
        self.drop_block(before)
        self.length = 0
        if self.due == NEVER:
            self.due = 0
        self.form = KEPT
        self.kept = []
        self.point()
        FP_CP("kept.begun")
        return self.keep(value)

    cdef int keep(self, object value) except -1:
        """Have a result sent at the end, and save it from time to time as it is now."""
        cdef uint64_t now
        self.kept.append(value)
        FP_CP("kept.added")
        if self.due != NEVER:
            now = fp_os_now_ns()
            if now >= self.due:
                try:
                    self.save_kept(now)
                except BaseException:  # stopped meanwhile: the item is not done
                    self.kept.pop()
                    raise
        return 0

    cdef int put_apart(self, object value) except -1:
        """Save a result as a pickle of its own, so that only its own item fails if it can't be read."""
        cdef uint64_t size
        try:
            pieces, buffers = self.codec.pack(value)
        except MemoryError:
            raise
        except Exception as error:
            if self.outbox.stopping:
                raise
            raise self.outbox.unsendable(error, [value])
        size = sum([len(piece) for piece in pieces])
        if buffers or size > MOST_PICKLE:
            return self.send_alone(value)
        self.put_pickle(pieces)
        return self.more(1)

    cdef int save_kept(self, uint64_t now) except -1:
        """Save what was added since the last time, and rest for some times as long as that takes."""
        cdef list pieces
        cdef bytes piece
        cdef uint64_t size = 0
        cdef uint32_t size32
        cdef uint32_t n = <uint32_t> len(self.kept) - self.saved
        cdef uint64_t before = self.block
        cdef const unsigned char *old = self.buffer
        cdef unsigned char *to
        try:
            pieces, buffers = self.codec.pack(self.kept[self.saved:])
            for piece in pieces:
                size += PyBytes_GET_SIZE(piece)
            if buffers or self.length + size > MOST_KEPT:
                self.due = NEVER
                return 0
            if self.length + size + 4 > self.room:
                self.make_room(2 * self.room + size + 4)
                memcpy(self.buffer, old, self.length)
                FP_CP("kept.moved")
                self.point()
                self.drop_block(before)
        except Exception:  # it can't be pickled, or there is no memory: the end will tell
            if self.outbox.stopping:
                raise
            self.due = NEVER
            return 0
        size32 = <uint32_t> size
        to = self.buffer + self.length
        memcpy(to, &size32, 4)
        to += 4
        for piece in pieces:
            memcpy(to, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            to += PyBytes_GET_SIZE(piece)
        self.length += 4 + size
        FP_CP("kept.batch")
        self.more(n)
        now += (SAVE_REST + 1) * (fp_os_now_ns() - now)
        self.due = now
        return 0

    cdef int send_kept(self, uint8_t flags) except -1:
        """Publish the results as they are now."""
        cdef Encoded out
        cdef uint64_t block = self.block
        cdef Py_ssize_t n = len(self.kept)
        write_into(self.slot, &out)
        try:
            self.encode(self.kept, True, &out)
        except MemoryError:
            raise
        except Exception as error:
            raise self.outbox.unsendable(error, self.kept)
        FP_CP("kept.written")
        self.outbox.outcome, self.kept = self.kept, None  # to be dropped as late as that of one call
        self.outbox.publish(self.slot, &out, flags)
        FP_CP("kept.sent")
        self.finished += n - self.saved
        fp_ctl_finished(self.ctl, self.finished)
        FP_CP("kept.counted")
        self.block = 0
        return self.drop_block(block)

    cdef bint put_plain(self, object value) except -1:
        """Write a plain value; False when it is none, or has arrays in blocks of their own.

        In the latter case the writer names them.
        """
        cdef size_t before = self.writer.len
        cdef bint written
        while True:
            # What was met in an earlier result is forgotten: each result is one by itself.
            self.writer.seen_count = self.writer.mutables = 0
            self.writer.shared = False
            try:
                fp_hold(<PyObject *> value)
                written = put(&self.writer, <PyObject *> value, 0)
            except BaseException:
                self.rewind(before)
                raise
            finally:
                fp_let_go(<PyObject *> value)
            if written and not self.writer.arrays:
                return True
            self.writer.len = before
            if not self.writer.full:
                if not written:
                    self.writer.shared = True  # what was not looked at may be anybody's
                return False
            self.rewind(before)
            self.grow(0)

    cdef int put_pickle(self, list pieces) except -1:
        """Write a pickle between the tagged values."""
        cdef uint32_t length = 0
        cdef unsigned char *to
        cdef bytes piece
        for piece in pieces:
            length += <uint32_t> PyBytes_GET_SIZE(piece)
        if self.writer.len + 5 + length > self.room:
            self.grow(5 + length)
        to = self.writer.at + self.writer.len
        to[0] = b"P"  # see take_pickle()
        memcpy(to + 1, &length, 4)
        to += 5
        for piece in pieces:
            memcpy(to, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            to += PyBytes_GET_SIZE(piece)
        self.writer.len += 5 + length
        FP_CP("chunk.pickle_written")
        return 0

    cdef int rewind(self, size_t length) noexcept:
        """What was written behind `length` does not count."""
        restart(&self.writer, self.buffer, self.room, True)
        self.writer.len = length
        return 0

    cdef int grow(self, uint64_t need) except -1:
        """Move to a larger buffer, large enough for the whole chunk if it goes on like this."""
        cdef uint64_t length = self.writer.len
        cdef uint64_t before = self.block
        cdef const unsigned char *old = self.buffer
        cdef uint64_t size = (length + need + 64) * self.left // (self.saved + 1)
        self.make_room(max(min(size, <uint64_t> FORESEEN), 2 * self.room + need))
        memcpy(self.buffer, old, length)
        self.rewind(length)
        FP_CP("grow.moved")
        self.point()
        FP_CP("grow.pointed")
        return self.drop_block(before)

    # ---- publishing ----------------------------------------------------------------------------

    cdef int send(self, uint8_t flags) except -1:
        """Publish what is saved."""
        cdef Encoded out
        out.codec = CODEC[<int> self.form]
        out.count = self.saved
        out.refs = 0
        out.in_block = self.block != 0
        out.ref = self.block
        if self.form == INTS or self.form == FLOATS:
            out.len = 8 * <uint64_t> self.saved
        elif self.form == FLAGS:
            out.len = self.saved
        elif self.form == SCALARS_OF:
            out.len = 16 + self.saved * <uint64_t> self.dtype.itemsize
        elif self.form == VALUES:
            out.len = self.writer.len
        else:
            out.len = 0
        self.block = 0
        return self.outbox.publish(self.slot, &out, flags)

    cdef int encode(self, object value, bint many, Encoded *out) except -1:
        """Write one value, or a list of values, waiting for memory if need be."""
        cdef uint64_t since = 0
        cdef Py_ssize_t n
        while True:
            try:
                if not many:
                    return self.codec.encode_one(value, out, RESULT)
                n = len(value)
                if not self.codec.encode_values(value, 0, n, out, RESULT):
                    self.codec.encode_pickle(value, PICKLED, n, out, RESULT)
                return 0
            except OutOfBlocksError as error:
                if not self.outbox.await_memory(&since):
                    raise MemoryError(str(error)) from None

    cdef int send_alone(self, object value) except -1:
        """Publish the result of one item by itself, and before it what is saved."""
        cdef Encoded out
        self.flush()
        FP_CP("alone.flushed")
        if self.stopped:
            return 0
        write_into(self.slot, &out)
        self.encode(value, False, &out)
        FP_CP("alone.written")
        self.left -= 1
        # A part also if it is the last one: the value, and what it was made of, are still held.
        self.outbox.publish(self.slot, &out, RESULT_PART)
        FP_CP("alone.sent")
        self.finished += 1
        fp_ctl_finished(self.ctl, self.finished)
        FP_CP("alone.counted")
        return self.take_slot()
