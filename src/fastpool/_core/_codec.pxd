from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._segment cimport Heap


cdef extern from *:
    """
    /* PyLong_AsLongLongAndOverflow, without a call for the small ints that most are. */
    static inline long long fp_as_int64(PyObject *o, int *overflow) {
    #if PY_VERSION_HEX >= 0x030C0000
        if (PyUnstable_Long_IsCompact((PyLongObject *)o)) {
            return PyUnstable_Long_CompactValue((PyLongObject *)o);
        }
    #else
        Py_ssize_t size = Py_SIZE(o);
        if (size >= -1 && size <= 1) {
            return size * (long long)((PyLongObject *)o)->ob_digit[0] * (size != 0);
        }
    #endif
        return PyLong_AsLongLongAndOverflow(o, overflow);
    }
    """
    long long fp_as_int64(PyObject *o, int *overflow)


# How a payload of `count` values is written.
cdef enum:
    TAGGED = 0       # one after the other, each with a tag
    INT64 = 1        # a column of native int64
    FLOAT64 = 2      # a column of native doubles
    RANGE = 3        # start and step, two int64
    NONES = 4        # nothing to write
    PICKLED = 5      # one pickle: a list or tuple of the values
    PICKLED_ONE = 6  # one pickle: the only value


cdef struct Encoded:
    uint8_t codec
    uint8_t in_block
    uint32_t count
    uint32_t room          # bytes at `bytes`
    uint64_t len
    uint64_t ref           # when in_block
    unsigned char *bytes   # where inline payload goes


# Walks over the values of a payload.
cdef struct Cursor:
    uint8_t codec
    uint32_t left
    const unsigned char *at
    Py_ssize_t index


cdef struct Writer:
    unsigned char *at
    size_t len
    size_t room
    bint fixed


cdef class Codec:
    cdef Heap heap
    cdef object dumps
    cdef object loads
    cdef unsigned char *scratch
    cdef size_t scratch_size

    cdef unsigned char *place(self, Encoded *out, uint64_t length) except NULL
    cdef bint encode_values(self, object items, Py_ssize_t start, Py_ssize_t n,
                            Encoded *out) except -1
    cdef int encode_one(self, object value, Encoded *out) except -1
    cdef int encode_pickle(self, object value, uint8_t codec, uint32_t count,
                           Encoded *out) except -1
    cdef int encode_bytes(self, bytes data, uint8_t codec, uint32_t count,
                          Encoded *out) except -1
    cdef int discard(self, Encoded *out) except -1

    cdef bint grow(self, Writer *w, size_t need) except -1
    cdef bint put(self, Writer *w, PyObject *value, int depth) except -1
    cdef bint put_bytes(self, Writer *w, unsigned char tag, const char *data,
                        Py_ssize_t n) except -1
    cdef bint encode_range(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_ints(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_floats(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1

    cdef object load(self, const unsigned char *data, uint64_t length)
    cdef object open(self, Cursor *cursor, uint8_t codec, uint32_t count,
                     const unsigned char *data, uint64_t length)
    cdef object decode_one(self, uint8_t codec, const unsigned char *data, uint64_t length)
    cdef object decode_tuple(self, uint8_t codec, uint32_t count, const unsigned char *data,
                             uint64_t length)
    cdef int decode_into(self, list target, Py_ssize_t index, uint8_t codec, uint32_t count,
                         const unsigned char *data, uint64_t length) except -1


cdef object step(Cursor *cursor, object held)
