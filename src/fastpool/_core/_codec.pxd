from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpool._core._arrays cimport Dtype
from fastpool._core._blocks cimport Call, Exchange, Ref
from fastpool._core._plain cimport Refs, Writer


# How a payload of `count` values is written.
cdef enum:
    TAGGED = 0       # one after the other, each with a tag
    INT64 = 1        # a column of native int64
    FLOAT64 = 2      # a column of native doubles
    RANGE = 3        # start and step, two int64
    NONES = 4        # nothing to write
    PICKLED = 5      # one pickle: a list or tuple of the values
    PICKLED_ONE = 6  # one pickle: the only value
    BOOLS = 7        # a column of bytes
    TEXTS = 8        # a column of str: sizes, then characters
    SCALARS = 9      # a column of NumPy scalars: dtype, then values
    ROWS = 10        # one array, whose rows are the values
    BATCHES = 11     # pickles of lists, each behind its length: what a worker saved


# A payload being written.  Behind it, at its end, lies a table of the blocks that it names.
cdef struct Encoded:
    uint8_t codec
    uint8_t in_block
    uint32_t count
    uint32_t refs          # entries of the table
    uint32_t room          # bytes at `bytes`
    uint32_t head          # bytes to leave free at the start of a block
    uint64_t len           # of all, the table included
    uint64_t ref           # when in_block
    unsigned char *bytes   # where inline payload goes
    PyObject *keeps        # a list that must live as long as the payload, or NULL; owned


# A payload to be read.
cdef struct Payload:
    uint8_t codec
    uint32_t count
    uint32_t refs
    uint64_t len
    const unsigned char *data


# Walks over the values of a payload.
cdef struct Cursor:
    uint8_t codec
    PyObject *loads        # the codec's, for pickles between tagged values
    const unsigned char *at
    Py_ssize_t index


cdef class Codec:
    cdef readonly Exchange exchange
    cdef readonly object pack
    cdef readonly object loads
    cdef unsigned char *scratch
    cdef size_t scratch_size

    cdef unsigned char *place(self, Encoded *out, uint64_t length) except NULL
    cdef int discard(self, Encoded *out) except -1
    cdef bint encode_values(self, object items, Py_ssize_t start, Py_ssize_t n, Encoded *out,
                            Call call) except -1
    cdef int encode_one(self, object value, Encoded *out, Call call) except -1
    cdef int encode_pickle(self, object value, uint8_t codec, uint32_t count, Encoded *out,
                           Call call) except -1
    cdef int encode_bytes(self, bytes data, uint8_t codec, uint32_t count,
                          Encoded *out) except -1

    cdef bint encode_tagged(self, object items, Py_ssize_t start, Py_ssize_t n, Encoded *out,
                            Call call) except -1
    cdef int close_tagged(self, Writer *w, Encoded *out, Call call) except -1
    cdef int give_all(self, list owners, Ref *refs, Encoded *out, Call call) except -1
    cdef unsigned char *lay_out(self, uint64_t stream, list owners, Encoded *out,
                                Call call) except NULL
    cdef bint encode_range(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_ints(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_floats(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_bools(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_texts(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_scalars(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out) except -1
    cdef bint encode_column(self, object column, const Dtype *dtype, Py_ssize_t n,
                            Encoded *out) except -1
    cdef bint encode_array(self, items, Py_ssize_t start, Py_ssize_t n, Encoded *out,
                           Call call) except -1

    cdef Refs open_refs(self, const Payload *payload)
    cdef object load(self, const Payload *payload)
    cdef object unpickle(self, object data, list buffers)
    cdef list load_batches(self, const Payload *payload)
    cdef object open(self, Cursor *cursor, const Payload *payload)
    cdef object decode_one(self, const Payload *payload)
    cdef object decode_tuple(self, const Payload *payload)
    cdef int decode_into(self, list target, Py_ssize_t index, const Payload *payload) except -1
    cdef uint64_t size_of(self, const Payload *payload) noexcept
    cdef uint64_t size_of_encoded(self, const Encoded *out) noexcept
    cdef object decode_array(self, const Payload *payload)


cdef object step(Cursor *cursor, object held, const Payload *payload)
