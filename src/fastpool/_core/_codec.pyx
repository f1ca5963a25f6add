"""Values to bytes and back: tags and columns for plain values, the serializer for all others.

The same value comes out with the same type: only exact built-in types are written here, so that
True is not 1, a subclass keeps its class, and an int beyond 64 bits goes to the serializer.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.long cimport PyLong_FromLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject *o)
    bint PyFloat_CheckExact(PyObject *o)
    bint PyUnicode_CheckExact(PyObject *o)
    bint PyBytes_CheckExact(PyObject *o)
    bint PyTuple_CheckExact(PyObject *o)
    bint PyUnicode_IS_ASCII(PyObject *o)
    void *PyUnicode_DATA(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)
    double PyFloat_AS_DOUBLE(PyObject *o)
    object PyFloat_FromDouble(double x)
    object PyUnicode_DecodeUTF8(const char *s, Py_ssize_t n, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(PyObject *o, Py_ssize_t *n)
    void PyErr_Clear()
    object PyMemoryView_FromMemory(char *mem, Py_ssize_t size, int flags)
    int PyBUF_READ
    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False

# Of nested tuples; deeper ones go to the serializer.
cdef enum:
    MAX_DEPTH = 6
    MAX_COPIED_UTF8 = 64  # a str keeps the UTF-8 copy it was asked for: only ask short ones
    KEPT_SCRATCH = 1 << 20
    MAX_PLAIN = 512       # longer strings go to the serializer, which writes a shared one once
    VIEW_FROM = 4096      # from here on, loads() reads shared memory itself instead of a copy


cdef inline PyObject *item_of(object items, Py_ssize_t i) noexcept:
    """Item i of an exact list or tuple, borrowed."""
    if type(items) is list:
        return <PyObject *> PyList_GET_ITEM(items, i)
    return <PyObject *> PyTuple_GET_ITEM(items, i)


cdef inline int64_t load64(const unsigned char *p) noexcept nogil:
    cdef int64_t v
    memcpy(&v, p, 8)
    return v


cdef inline double loadf(const unsigned char *p) noexcept nogil:
    cdef double v
    memcpy(&v, p, 8)
    return v


cdef inline uint32_t load32(const unsigned char *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef class Codec:
    """Encodes into blocks of one heap; decodes from anywhere.

    Parameters
    ----------
    heap : Heap
        The region of this process, for payloads that don't fit inline.
    dumps, loads : callable
        The general serializer: object to bytes, bytes-like to object.
    """

    def __cinit__(self, Heap heap, dumps, loads):
        self.heap = heap
        self.dumps = dumps
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
        out.ref = self.heap.alloc(length)
        if out.ref == 0:
            raise MemoryError(f"fastpool: no shared memory for a payload of {length} bytes")
        out.in_block = 1
        return self.heap.segment.pool.base + out.ref

    cdef int discard(self, Encoded *out) except -1:
        """Give an encoded payload's block back that will not be sent."""
        if out.in_block:
            self.heap.free(out.ref)
            out.in_block = 0
        return 0

    cdef bint grow(self, Writer *w, size_t need) except -1:
        cdef size_t size
        cdef void *bigger
        if w.fixed:
            return False
        size = 2 * self.scratch_size + need + 256
        bigger = realloc(self.scratch, size)
        if bigger == NULL:
            raise MemoryError
        self.scratch = <unsigned char *> bigger
        self.scratch_size = size
        w.at = self.scratch
        w.room = size
        return True

    cdef bint put(self, Writer *w, PyObject *value, int depth) except -1:
        """Write one tagged value; False when it is not a plain one, or a fixed room is full."""
        cdef unsigned char *p
        cdef int overflow = 0
        cdef int64_t number
        cdef double real
        cdef Py_ssize_t n
        cdef uint32_t n32
        cdef const char *data
        if w.len + 9 > w.room and not self.grow(w, 9):
            return False
        p = w.at + w.len
        if PyLong_CheckExact(value):
            number = fp_as_int64(value, &overflow)
            if overflow:
                return False
            if -128 <= number <= 127:
                p[0] = b"i"
                p[1] = <unsigned char> <signed char> number
                w.len += 2
            else:
                p[0] = b"I"
                memcpy(p + 1, &number, 8)
                w.len += 9
            return True
        if value == Py_None:
            p[0] = b"N"
            w.len += 1
            return True
        if value == Py_True or value == Py_False:
            p[0] = b"T" if value == Py_True else b"F"
            w.len += 1
            return True
        if PyFloat_CheckExact(value):
            real = PyFloat_AS_DOUBLE(value)
            p[0] = b"f"
            memcpy(p + 1, &real, 8)
            w.len += 9
            return True
        if PyUnicode_CheckExact(value):
            n = PyUnicode_GET_LENGTH(value)
            if PyUnicode_IS_ASCII(value):
                data = <const char *> PyUnicode_DATA(value)
            elif n <= MAX_COPIED_UTF8:
                data = PyUnicode_AsUTF8AndSize(value, &n)
                if data == NULL:  # a lone surrogate
                    PyErr_Clear()
                    return False
            else:
                return False
            return self.put_bytes(w, b"s", data, n)
        if PyBytes_CheckExact(value):
            return self.put_bytes(w, b"b", PyBytes_AS_STRING(<object> value),
                                  PyBytes_GET_SIZE(<object> value))
        if PyTuple_CheckExact(value):
            n = PyTuple_GET_SIZE(<object> value)
            if n > 255 or depth >= MAX_DEPTH:
                return False
            p[0] = b"t"
            p[1] = <unsigned char> n
            w.len += 2
            for i in range(n):
                if not self.put(w, <PyObject *> PyTuple_GET_ITEM(<object> value, i), depth + 1):
                    return False
            return True
        return False

    cdef bint put_bytes(self, Writer *w, unsigned char tag, const char *data,
                        Py_ssize_t n) except -1:
        cdef uint32_t n32 = <uint32_t> n
        if n > MAX_PLAIN:
            return False
        if w.len + 5 + n > w.room and not self.grow(w, 5 + n):
            return False
        w.at[w.len] = tag
        memcpy(w.at + w.len + 1, &n32, 4)
        memcpy(w.at + w.len + 5, data, n)
        w.len += 5 + n
        return True

    cdef bint encode_values(self, object items, Py_ssize_t start, Py_ssize_t n,
                            Encoded *out) except -1:
        """Write items[start:start+n] of an exact list, tuple or range without the serializer.

        False, with nothing kept, when some value is not a plain one.
        """
        cdef Writer w
        cdef PyObject *first
        out.count = <uint32_t> n
        out.in_block = 0
        if type(items) is range:
            return self.encode_range(items, start, n, out)
        if n > 1:
            first = item_of(items, start)
            if PyLong_CheckExact(first):
                if self.encode_ints(items, start, n, out):
                    return True
            elif PyFloat_CheckExact(first):
                if self.encode_floats(items, start, n, out):
                    return True
        w.at = out.bytes
        w.len = 0
        w.room = out.room
        w.fixed = True
        out.codec = TAGGED
        cdef Py_ssize_t i = 0
        if n <= <Py_ssize_t> out.room:
            while i < n and self.put(&w, item_of(items, start + i), 0):
                i += 1
            if i == n:
                out.len = w.len
                return True
        w.at = self.scratch
        w.len = 0
        w.room = self.scratch_size
        w.fixed = False
        for i in range(n):
            if not self.put(&w, item_of(items, start + i), 0):
                return False
        cdef unsigned char *to = self.place(out, w.len)
        memcpy(to, w.at, w.len)
        if self.scratch_size > KEPT_SCRATCH:
            free(self.scratch)
            self.scratch = NULL
            self.scratch_size = 0
        return True

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

    cdef int encode_one(self, object value, Encoded *out) except -1:
        """Write one value of any kind; raises what the serializer raises."""
        cdef Writer w
        w.at = out.bytes
        w.len = 0
        w.room = out.room
        w.fixed = True
        if self.put(&w, <PyObject *> value, 0):
            out.codec = TAGGED
            out.count = 1
            out.in_block = 0
            out.len = w.len
            return 0
        return self.encode_pickle(value, PICKLED_ONE, 1, out)

    cdef int encode_pickle(self, object value, uint8_t codec, uint32_t count,
                           Encoded *out) except -1:
        """Write a value with the serializer."""
        return self.encode_bytes(self.dumps(value), codec, count, out)

    cdef int encode_bytes(self, bytes data, uint8_t codec, uint32_t count,
                          Encoded *out) except -1:
        """Write what the serializer made before."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef unsigned char *to = self.place(out, n)
        memcpy(to, PyBytes_AS_STRING(data), n)
        out.codec = codec
        out.count = count
        return 0

    # ---- decoding ----------------------------------------------------------------------------

    cdef object load(self, const unsigned char *data, uint64_t length):
        if length < VIEW_FROM:
            return self.loads(PyBytes_FromStringAndSize(<const char *> data, length))
        return self.loads(PyMemoryView_FromMemory(<char *> data, length, PyBUF_READ))

    cdef object open(self, Cursor *cursor, uint8_t codec, uint32_t count,
                     const unsigned char *data, uint64_t length):
        """Begin to step over the values; returns what must be held meanwhile."""
        cursor.codec = codec
        cursor.left = count
        cursor.at = data
        cursor.index = 0
        if codec == PICKLED:
            return self.load(data, length)
        if codec == PICKLED_ONE:
            return (self.load(data, length),)
        return None

    cdef object decode_one(self, uint8_t codec, const unsigned char *data, uint64_t length):
        """The only value of a payload."""
        if codec == TAGGED:
            return take(&data)
        if codec == PICKLED_ONE:
            return self.load(data, length)
        cdef Cursor cursor
        held = self.open(&cursor, codec, 1, data, length)
        return step(&cursor, held)

    cdef object decode_tuple(self, uint8_t codec, uint32_t count, const unsigned char *data,
                             uint64_t length):
        """All values as a tuple."""
        cdef Cursor cursor
        cdef Py_ssize_t i
        held = self.open(&cursor, codec, count, data, length)
        if codec == PICKLED:
            return tuple(held)
        cdef tuple result = PyTuple_New(count)
        for i in range(count):
            value = step(&cursor, held)
            Py_INCREF(value)
            PyTuple_SET_ITEM(result, i, value)
        return result

    cdef int decode_into(self, list target, Py_ssize_t index, uint8_t codec, uint32_t count,
                         const unsigned char *data, uint64_t length) except -1:
        """Store all values into target[index:index+count], which must hold None there."""
        cdef Cursor cursor
        cdef Py_ssize_t i
        held = self.open(&cursor, codec, count, data, length)
        if index + count > PyList_GET_SIZE(target):
            raise IndexError("fastpool: more results than items")
        if codec == NONES:
            return 0
        for i in range(count):
            if codec == INT64:
                value = PyLong_FromLongLong((<const int64_t *> data)[i])
            else:
                value = step(&cursor, held)
            Py_INCREF(value)
            Py_DECREF(None)
            PyList_SET_ITEM(target, index + i, value)
        return 0


cdef object take(const unsigned char **at):
    """Read one tagged value and move on."""
    cdef const unsigned char *p = at[0]
    cdef unsigned char tag = p[0]
    cdef uint32_t n
    cdef Py_ssize_t i
    cdef tuple result
    if tag == b"i":
        at[0] = p + 2
        return PyLong_FromLongLong(<signed char> p[1])
    if tag == b"I":
        at[0] = p + 9
        return PyLong_FromLongLong(load64(p + 1))
    if tag == b"f":
        at[0] = p + 9
        return PyFloat_FromDouble(loadf(p + 1))
    if tag == b"s":
        n = load32(p + 1)
        at[0] = p + 5 + n
        return PyUnicode_DecodeUTF8(<const char *> p + 5, n, NULL)
    if tag == b"b":
        n = load32(p + 1)
        at[0] = p + 5 + n
        return PyBytes_FromStringAndSize(<const char *> p + 5, n)
    if tag == b"t":
        n = p[1]
        at[0] = p + 2
        result = PyTuple_New(n)
        for i in range(n):
            value = take(at)
            Py_INCREF(value)
            PyTuple_SET_ITEM(result, i, value)
        return result
    at[0] = p + 1
    if tag == b"N":
        return None
    if tag == b"T":
        return True
    if tag == b"F":
        return False
    raise SystemError(f"fastpool: unknown tag {tag} in a payload")


cdef object step(Cursor *cursor, object held):
    """The next value; the caller counts."""
    cdef Py_ssize_t i = cursor.index
    cdef uint8_t codec = cursor.codec
    cursor.index = i + 1
    if codec == INT64:
        return PyLong_FromLongLong((<const int64_t *> cursor.at)[i])
    if codec == RANGE:
        return PyLong_FromLongLong((<const int64_t *> cursor.at)[0]
                                   + i * (<const int64_t *> cursor.at)[1])
    if codec == FLOAT64:
        return PyFloat_FromDouble((<const double *> cursor.at)[i])
    if codec == TAGGED:
        return take(&cursor.at)
    if codec == NONES:
        return None
    return held[i]
