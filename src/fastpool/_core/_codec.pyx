"""Values to bytes and back: columns, tagged values, and the serializer for all others.

The same value comes out with the same type: only exact built-in types, NumPy's plain scalars and
plain arrays are written here, so that True is not 1, a subclass keeps its class, and an int beyond
64 bits goes to the serializer.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.long cimport PyLong_FromLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastpool._core._arrays cimport (
    Dtype, Py_TYPE, PyTypeObject, describe, describe_scalar, dtype_of, import_numpy, is_array,
    numpy,
)
from fastpool._core._blocks cimport LENT, REF_BORROWED, REF_SHARED, View
from fastpool._core._ndarray cimport FP_C_CONTIGUOUS, fp_ndarray
from fastpool._core._threads cimport (
    FREE_THREADED, fp_disown, fp_hold, fp_let_go, fp_outside, fp_step_inside, fp_step_outside,
)
from fastpool._core._plain cimport (
    begin, finish, fp_as_int64, fp_str_form, fp_str_of, put, restart, take,
)

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject *o)
    bint PyFloat_CheckExact(PyObject *o)
    bint PyBool_Check(PyObject *o)
    bint PyUnicode_CheckExact(PyObject *o)
    void *PyUnicode_DATA(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)
    double PyFloat_AS_DOUBLE(PyObject *o)
    object PyFloat_FromDouble(double x)
    object PyMemoryView_FromMemory(char *mem, Py_ssize_t size, int flags)
    int PyObject_GetBuffer(object o, Py_buffer *view, int flags) except -1
    void PyBuffer_Release(Py_buffer *view)
    int PyBUF_READ
    int PyBUF_SIMPLE
    PyObject *Py_True

cdef enum:
    KEPT_SCRATCH = 1 << 20
    VIEW_FROM = 4096       # from here on, loads() reads shared memory itself instead of a copy
    LONGEST_TEXT = 1024    # longer ones go to the serializer, which writes a shared one once
    REF_BYTES = 16
    PICKLE_TAG = 80        # P: before a pickle between tagged values: this, 32 bits of length


cdef inline PyObject *item_of(object items, Py_ssize_t i) noexcept:
    """Item i of an exact list or tuple, borrowed."""
    if type(items) is list:
        return <PyObject *> PyList_GET_ITEM(items, i)
    return <PyObject *> PyTuple_GET_ITEM(items, i)


cdef inline uint64_t align8(uint64_t n) noexcept nogil:
    return (n + 7) & ~<uint64_t> 7


cdef class Codec:
    """Encodes for, and decodes from, another process.

    Parameters
    ----------
    exchange : Exchange
        Where payloads that don't fit inline go, and large buffers.
    pack : callable
        The general serializer: object to (list of bytes, list of out-of-band buffers).
    loads : callable
        Its inverse: ``loads(bytes-like, buffers=list)``.
    """

    def __cinit__(self, Exchange exchange, pack, loads):
        self.exchange = exchange
        self.pack = pack
        self.loads = loads
        self.scratch = NULL
        self.scratch_size = 0

    def __dealloc__(self):
        free(self.scratch)

    # ---- encoding ----------------------------------------------------------------------------

    cdef unsigned char *place(self, Encoded *out, uint64_t length) except NULL:
        """Where `length` bytes of payload go: inline when they fit, else a new block."""
        out.len = length
        out.in_block = 0
        if length <= out.room:
            return out.bytes
        out.ref = self.exchange.alloc(out.head + length)
        out.in_block = 1
        return self.exchange.segment.pool.base + out.ref + out.head

    cdef int discard(self, Encoded *out) except -1:
        """Give back what an encoded payload took that will not be sent."""
        cdef const unsigned char *data = out.bytes
        if out.in_block:
            data = self.exchange.segment.pool.base + out.ref + out.head
        if out.refs:
            self.exchange.undo(<const Ref *> (data + out.len - REF_BYTES * out.refs), out.refs)
            out.refs = 0
        if out.in_block:
            self.exchange.heap.free(out.ref)
            out.in_block = 0
        Py_XDECREF(out.keeps)
        out.keeps = NULL
        return 0

    cdef bint encode_values(self, object items, Py_ssize_t start, Py_ssize_t n, Encoded *out,
                            Call call) except -1:
        """Write items[start:start+n] of a list, tuple, range or array without the serializer.

        False, with nothing kept, when some value is not a plain one.
        """
        cdef PyObject *first
        values = items
        out.count = <uint32_t> n
        out.in_block = 0
        out.refs = 0
        out.keeps = NULL
        if type(items) is range:
            return self.encode_range(items, start, n, out)
        if is_array(<PyObject *> items):
            return self.encode_array(items, start, n, out, call)
        if FREE_THREADED:  # others may change a list meanwhile
            values = list(items[start:start + n])
            start = 0
            if len(values) != n:
                raise RuntimeError("the list changed its size while the pool was reading it")
        if n > 1:
            first = item_of(values, start)
            if PyLong_CheckExact(first):
                if self.encode_ints(values, start, n, out):
                    return True
            elif PyFloat_CheckExact(first):
                if self.encode_floats(values, start, n, out):
                    return True
            elif PyUnicode_CheckExact(first):
                if self.encode_texts(values, start, n, out):
                    return True
            elif PyBool_Check(first):
                if self.encode_bools(values, start, n, out):
                    return True
            elif self.encode_scalars(values, start, n, out):
                return True
        return self.encode_tagged(values, start, n, out, call)

    cdef bint encode_tagged(self, object items, Py_ssize_t start, Py_ssize_t n, Encoded *out,
                            Call call) except -1:
        cdef Writer w
        cdef Py_ssize_t i = 0
        begin(&w, out.bytes, out.room, True)
        out.codec = TAGGED
        try:
            if n <= <Py_ssize_t> out.room:
                while i < n and put(&w, item_of(items, start + i), 0):
                    i += 1
                if i == n:
                    self.close_tagged(&w, out, call)
                    return True
                if not w.full:
                    return False
            # Ours until the end: the allocation of an object may let others in, who encode too.
            restart(&w, self.scratch, self.scratch_size, False)
            self.scratch = NULL
            self.scratch_size = 0
            try:
                for i in range(n):
                    if not put(&w, item_of(items, start + i), 0):
                        return False
                self.close_tagged(&w, out, call)
                return True
            finally:
                if self.scratch == NULL and w.room <= KEPT_SCRATCH:
                    self.scratch = w.at
                    self.scratch_size = w.room
                else:
                    free(w.at)
        finally:
            finish(&w)

    cdef int close_tagged(self, Writer *w, Encoded *out, Call call) except -1:
        """Give the arrays that the values name, and put all where it is sent from."""
        owners = [<object> w.array[i] for i in range(w.arrays)]
        cdef unsigned char *to = self.lay_out(w.len, owners, out, call)
        if to != w.at:
            memcpy(to, w.at, w.len)
        return 0

    cdef unsigned char *lay_out(self, uint64_t stream, list owners, Encoded *out,
                                Call call) except NULL:
        """Give what `owners` export, write the table of that, and return where the stream goes."""
        cdef Py_ssize_t n = PyList_GET_SIZE(owners)
        cdef unsigned char *to
        cdef Ref *refs
        if n == 0:
            return self.place(out, stream)
        stream = align8(stream)
        refs = <Ref *> malloc(REF_BYTES * n)
        if refs == NULL:
            raise MemoryError
        try:
            self.give_all(owners, refs, out, call)
            try:
                to = self.place(out, stream + REF_BYTES * n)
            except BaseException:
                self.exchange.undo(refs, out.refs)
                out.refs = 0
                Py_XDECREF(out.keeps)
                out.keeps = NULL
                raise
            memcpy(to + stream, refs, REF_BYTES * n)
        finally:
            free(refs)
        return to

    cdef int give_all(self, list owners, Ref *refs, Encoded *out, Call call) except -1:
        """Fill the table of blocks for arrays, or for the serializer's out-of-band buffers."""
        cdef list keeps = []
        fp_disown(<PyObject *> keeps)
        cdef Py_buffer view
        cdef fp_ndarray *a
        cdef View ours
        cdef uint32_t i = 0
        try:
            for owner in owners:
                if is_array(<PyObject *> owner):
                    a = <fp_ndarray *> <PyObject *> owner
                    self.exchange.give(a.data, owner.nbytes, owner, call, &refs[i], keeps)
                elif type(owner) is View:
                    ours = owner
                    self.exchange.give(ours.at, ours.length, owner, call, &refs[i], keeps)
                else:
                    raw = owner.raw()
                    PyObject_GetBuffer(raw, &view, PyBUF_SIMPLE)
                    try:
                        self.exchange.give(<const char *> view.buf, view.len, raw.obj, call,
                                           &refs[i], keeps)
                    finally:
                        PyBuffer_Release(&view)
                i += 1
        except BaseException:
            self.exchange.undo(refs, i)
            raise
        out.refs = i
        if keeps:
            Py_INCREF(keeps)
            out.keeps = <PyObject *> keeps
        return 0

    cdef bint encode_range(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1:
        cdef int64_t bounds[2]
        part = items[start:start + n]
        if not (-1 << 62 < part.start < 1 << 62 and -1 << 62 < part.stop < 1 << 62
                and -1 << 62 < part.step < 1 << 62):
            return False
        bounds[0] = part.start
        bounds[1] = part.step
        out.codec = RANGE
        memcpy(self.place(out, 16), bounds, 16)
        return True

    cdef bint encode_ints(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1:
        cdef int64_t *to = <int64_t *> self.place(out, 8 * n)
        cdef PyObject *value
        cdef int overflow = 0
        cdef Py_ssize_t i
        for i in range(n):
            value = item_of(items, start + i)
            if not PyLong_CheckExact(value):
                break
            to[i] = fp_as_int64(value, &overflow)
            if overflow:
                break
        else:
            out.codec = INT64
            return True
        self.discard(out)
        return False

    cdef bint encode_floats(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1:
        cdef double *to = <double *> self.place(out, 8 * n)
        cdef PyObject *value
        cdef Py_ssize_t i
        for i in range(n):
            value = item_of(items, start + i)
            if not PyFloat_CheckExact(value):
                break
            to[i] = PyFloat_AS_DOUBLE(value)
        else:
            out.codec = FLOAT64
            return True
        self.discard(out)
        return False

    cdef bint encode_bools(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1:
        cdef unsigned char *to = self.place(out, n)
        cdef PyObject *value
        cdef Py_ssize_t i
        for i in range(n):
            value = item_of(items, start + i)
            if not PyBool_Check(value):
                break
            to[i] = value == Py_True
        else:
            out.codec = BOOLS
            return True
        self.discard(out)
        return False

    cdef bint encode_texts(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1:
        """A word for each str (its length, and three bits for the bytes of a character), then all
        characters as they lie in memory."""
        cdef PyObject *value
        cdef uint64_t total = 4 * n
        cdef uint32_t *words
        cdef unsigned char *to
        cdef Py_ssize_t i, size
        cdef int form
        for i in range(n):
            value = item_of(items, start + i)
            if not PyUnicode_CheckExact(value):
                return False
            form = fp_str_form(value)
            size = PyUnicode_GET_LENGTH(value)
            if form < 0 or size > LONGEST_TEXT:
                return False
            total += size * (form if form else 1)
        words = <uint32_t *> self.place(out, total)
        to = <unsigned char *> (words + n)
        for i in range(n):
            value = item_of(items, start + i)
            form = fp_str_form(value)
            size = PyUnicode_GET_LENGTH(value)
            words[i] = <uint32_t> (size << 3 | form)
            size *= form if form else 1
            memcpy(to, PyUnicode_DATA(value), size)
            to += size
        out.codec = TEXTS
        return True

    cdef bint encode_scalars(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1:
        """NumPy scalars of one type."""
        cdef Dtype dtype
        cdef Py_ssize_t i
        cdef object column
        cdef PyTypeObject *kind = Py_TYPE(item_of(items, start))
        if not describe_scalar(<object> <PyObject *> kind, &dtype):
            return False
        for i in range(n):
            if Py_TYPE(item_of(items, start + i)) != kind:
                return False
        column = numpy.array(items[start:start + n], dtype_of(dtype.code))
        return self.encode_column(column, &dtype, n, out)

    cdef bint encode_column(self, object column, const Dtype *dtype, Py_ssize_t n,
                            Encoded *out) except -1:
        """The values of a one-dimensional array, contiguous or not."""
        cdef fp_ndarray *a
        cdef unsigned char *to
        if not (<fp_ndarray *> <PyObject *> column).flags & FP_C_CONTIGUOUS:
            column = column.copy()
        a = <fp_ndarray *> <PyObject *> column
        to = self.place(out, 16 + n * dtype.itemsize)
        memcpy(to, dtype.code, 16)
        memcpy(to + 16, a.data, n * dtype.itemsize)
        out.codec = SCALARS
        return True

    cdef bint encode_array(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out,
                           Call call) except -1:
        """Items of an array: its scalars, or its rows."""
        cdef Dtype dtype
        part = items[start:start + n]
        if not describe((<fp_ndarray *> <PyObject *> part).descr, &dtype):
            return False
        if (<fp_ndarray *> <PyObject *> part).nd == 1:
            return self.encode_column(part, &dtype, n, out)
        if not self.encode_tagged((part,), 0, 1, out, call):
            return False
        out.codec = ROWS
        return True

    cdef int encode_one(self, object value, Encoded *out, Call call) except -1:
        """Write one value of any kind; raises what the serializer raises."""
        cdef Writer w
        out.count = 1
        out.in_block = 0
        out.refs = 0
        out.keeps = NULL
        begin(&w, out.bytes, out.room, True)
        fp_hold(<PyObject *> value)
        try:
            if put(&w, <PyObject *> value, 0):
                out.codec = TAGGED
                return self.close_tagged(&w, out, call)
        finally:
            fp_let_go(<PyObject *> value)
            finish(&w)
        if w.full and self.encode_tagged((value,), 0, 1, out, call):
            return 0
        return self.encode_pickle(value, PICKLED_ONE, 1, out, call)

    cdef int encode_pickle(self, object value, uint8_t codec, uint32_t count, Encoded *out,
                           Call call) except -1:
        """Write a value with the serializer."""
        cdef uint64_t stream = 0
        cdef unsigned char *to
        cdef bytes piece
        cdef fp_outside outside
        fp_step_outside(&outside)
        try:
            pieces, buffers = self.pack(value)
        finally:
            fp_step_inside(&outside)
        for piece in pieces:
            stream += PyBytes_GET_SIZE(piece)
        out.codec = codec
        out.count = count
        out.in_block = 0
        out.refs = 0
        out.keeps = NULL
        to = self.lay_out(stream, buffers, out, call)
        for piece in pieces:
            memcpy(to, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            to += PyBytes_GET_SIZE(piece)
        return 0

    cdef int encode_bytes(self, bytes data, uint8_t codec, uint32_t count,
                          Encoded *out) except -1:
        """Write what the serializer made before."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef unsigned char *to = self.place(out, n)
        memcpy(to, PyBytes_AS_STRING(data), n)
        out.codec = codec
        out.count = count
        out.refs = 0
        out.keeps = NULL
        return 0

    # ---- decoding ----------------------------------------------------------------------------

    cdef Refs open_refs(self, const Payload *payload):
        """The buffers that a payload names; None when it names none."""
        cdef Refs refs
        cdef Ref ref
        cdef uint32_t i
        if payload.refs == 0:
            return None
        refs = Refs.__new__(Refs)
        refs.views = []
        for i in range(payload.refs):
            memcpy(&ref, payload.data + payload.len - REF_BYTES * (payload.refs - i), REF_BYTES)
            refs.views.append(self.exchange.take(&ref))
        return refs

    cdef uint64_t size_of(self, const Payload *payload) noexcept:
        """Bytes of a payload and of all that was copied for it."""
        cdef uint64_t total = payload.len
        cdef Ref ref
        cdef uint32_t i
        for i in range(payload.refs):
            memcpy(&ref, payload.data + payload.len - REF_BYTES * (i + 1), REF_BYTES)
            if not ref.size & (REF_SHARED | REF_BORROWED):
                total += ref.size
        return total

    cdef uint64_t size_of_encoded(self, const Encoded *out) noexcept:
        """The same of a payload that has just been written."""
        cdef Payload payload
        payload.len = out.len
        payload.refs = out.refs
        payload.data = out.bytes
        if out.in_block:
            payload.data = self.exchange.segment.pool.base + out.ref + out.head
        return self.size_of(&payload)

    cdef object load(self, const Payload *payload):
        cdef uint64_t length = payload.len - REF_BYTES * payload.refs
        cdef Refs refs
        cdef View view
        cdef object data
        if length < VIEW_FROM:
            data = PyBytes_FromStringAndSize(<const char *> payload.data, length)
        else:
            data = PyMemoryView_FromMemory(<char *> payload.data, length, PyBUF_READ)
        if payload.refs == 0:
            return self.unpickle(data, None)
        refs = self.open_refs(payload)
        buffers = []
        for view in refs.views:
            buffers.append(bytearray(view) if view.reach == LENT else view)
        return self.unpickle(data, buffers)

    cdef object unpickle(self, object data, list buffers):
        """What the serializer makes of its own."""
        cdef fp_outside outside
        fp_step_outside(&outside)
        try:
            if buffers is None:
                return self.loads(data)
            return self.loads(data, buffers=buffers)
        finally:
            fp_step_inside(&outside)

    cdef list load_batches(self, const Payload *payload):
        """The values of all batches; there may be half a one behind those that count."""
        cdef const unsigned char *at = payload.data
        cdef uint32_t length
        cdef list values = []
        while len(values) < payload.count:
            memcpy(&length, at, 4)
            values += self.unpickle(PyBytes_FromStringAndSize(<const char *> at + 4, length), None)
            at += 4 + length
        return values

    cdef object open(self, Cursor *cursor, const Payload *payload):
        """Begin to step over the values; returns what must be held meanwhile."""
        cdef const unsigned char *at = payload.data
        cursor.codec = payload.codec
        cursor.loads = <PyObject *> self.loads
        cursor.at = at
        cursor.index = 0
        if payload.codec == TAGGED:
            return self.open_refs(payload)
        if payload.codec == TEXTS:
            cursor.at += 4 * <uint64_t> payload.count
            return None
        if payload.codec == PICKLED:
            return self.load(payload)
        if payload.codec == PICKLED_ONE:
            return (self.load(payload),)
        if payload.codec == SCALARS:
            return list(self.decode_array(payload))
        if payload.codec == BATCHES:
            return self.load_batches(payload)
        if payload.codec == ROWS:
            return take(&at, self.open_refs(payload))
        return None

    cdef object decode_one(self, const Payload *payload):
        """The only value of a payload."""
        cdef const unsigned char *at = payload.data
        cdef Cursor cursor
        if payload.codec == TAGGED and at[0] != PICKLE_TAG:
            return take(&at, self.open_refs(payload))
        if payload.codec == PICKLED_ONE:
            return self.load(payload)
        held = self.open(&cursor, payload)
        return step(&cursor, held, payload)

    cdef object decode_tuple(self, const Payload *payload):
        """All values as a tuple."""
        cdef Cursor cursor
        cdef Py_ssize_t i
        held = self.open(&cursor, payload)
        if payload.codec == PICKLED:
            return tuple(held)
        cdef tuple result = PyTuple_New(payload.count)
        for i in range(payload.count):
            value = step(&cursor, held, payload)
            Py_INCREF(value)
            PyTuple_SET_ITEM(result, i, value)
        return result

    cdef int decode_into(self, list target, Py_ssize_t index, const Payload *payload) except -1:
        """Store all values into target[index:index+count], which must hold None there."""
        cdef Cursor cursor
        cdef Py_ssize_t i
        held = self.open(&cursor, payload)
        if index + payload.count > PyList_GET_SIZE(target):
            raise IndexError("fastpool: more results than items")
        if payload.codec == NONES:
            return 0
        for i in range(payload.count):
            if payload.codec == INT64:
                value = PyLong_FromLongLong((<const int64_t *> payload.data)[i])
            else:
                value = step(&cursor, held, payload)
            Py_INCREF(value)
            Py_DECREF(None)
            PyList_SET_ITEM(target, index + i, value)
        return 0

    cdef object decode_array(self, const Payload *payload):
        """A column as an array over the payload, valid as long as that is; None for other forms."""
        cdef const unsigned char *at = payload.data
        cdef object dtype
        if payload.codec == INT64:
            dtype = "i8"
        elif payload.codec == FLOAT64:
            dtype = "f8"
        elif payload.codec == BOOLS:
            dtype = "?"
        elif payload.codec == SCALARS:
            dtype = dtype_of(at)
            at += 16
        else:
            return None
        import_numpy()
        return numpy.frombuffer(
            PyMemoryView_FromMemory(<char *> at, payload.len - (at - payload.data), PyBUF_READ),
            dtype, payload.count)


cdef object take_pickle(Cursor *cursor):
    """A value that the serializer wrote between tagged ones."""
    cdef uint32_t length
    memcpy(&length, cursor.at + 1, 4)
    data = PyBytes_FromStringAndSize(<const char *> cursor.at + 5, length)
    cursor.at += 5 + length
    return (<object> cursor.loads)(data)


cdef object step(Cursor *cursor, object held, const Payload *payload):
    """The next value; the caller counts."""
    cdef Py_ssize_t i = cursor.index
    cdef uint8_t codec = cursor.codec
    cdef uint32_t word
    cdef Py_ssize_t size
    cdef int form
    cursor.index = i + 1
    if codec == INT64:
        return PyLong_FromLongLong((<const int64_t *> payload.data)[i])
    if codec == RANGE:
        return PyLong_FromLongLong((<const int64_t *> payload.data)[0]
                                   + i * (<const int64_t *> payload.data)[1])
    if codec == FLOAT64:
        return PyFloat_FromDouble((<const double *> payload.data)[i])
    if codec == TAGGED:
        if cursor.at[0] == PICKLE_TAG:
            return take_pickle(cursor)
        return take(&cursor.at, <Refs> held)
    if codec == TEXTS:
        memcpy(&word, payload.data + 4 * i, 4)
        size = word >> 3
        form = word & 7
        value = fp_str_of(form, cursor.at, size)
        cursor.at += size * (form if form else 1)
        return value
    if codec == NONES:
        return None
    if codec == BOOLS:
        return payload.data[i] != 0
    return held[i]
