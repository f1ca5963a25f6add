"""One plain value to bytes and back, each with a tag that tells its type.

Only exact built-in types and plain NumPy arrays are plain: the same value comes out with the same
type. What two places of a payload share would come out twice, which matters for what can be
changed; so a list, dict or array that is met twice is not plain, and the serializer has to write
the payload. One that only its container holds can't be met twice and need not be remembered.
"""

import pickle

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_FromLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastpool._core._arrays cimport (
    Dtype, array_over, describe, describe_scalar, dtype_of, find_numpy, is_array, new_array,
    view_over,
)
from fastpool._core._blocks cimport LENT, OWN_BLOCK, SHARED, View, view_of
from fastpool._core._ndarray cimport (
    FP_C_CONTIGUOUS, FP_F_CONTIGUOUS, FP_MAX_DIMS, FP_WRITEABLE, fp_array_items, fp_ndarray,
)
from fastpool._core._threads cimport FREE_THREADED, fp_has_one_holder, fp_hold, fp_let_go

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject *o)
    bint PyFloat_CheckExact(PyObject *o)
    bint PyUnicode_CheckExact(PyObject *o)
    bint PyBytes_CheckExact(PyObject *o)
    bint PyTuple_CheckExact(PyObject *o)
    bint PyList_CheckExact(PyObject *o)
    bint PyDict_CheckExact(PyObject *o)
    Py_ssize_t PyDict_Size(PyObject *o)
    object PyDict_Copy(PyObject *o)
    bint PyDict_Next(PyObject *o, Py_ssize_t *pos, PyObject **key, PyObject **value)
    void *PyUnicode_DATA(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)
    double PyFloat_AS_DOUBLE(PyObject *o)
    object PyFloat_FromDouble(double x)
    int PyObject_GetBuffer(PyObject *o, Py_buffer *view, int flags) except -1
    void PyBuffer_Release(Py_buffer *view)
    int PyBUF_SIMPLE
    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False

cdef enum:
    MAX_DEPTH = 6       # of nested tuples, lists and dicts; deeper ones go to the serializer
    MAX_PLAIN = 512     # longer strings go to the serializer, which writes a shared one once
    IN_FORTRAN_ORDER = 1
    READ_ONLY = 2       # a view of shared memory
    MAX_SEEN = 32       # things that can be changed and have other holders, in one payload

# From protocol 5 on, pickle keeps the flag of a read-only array; before, all come out writable.
cdef bint KEEPS_READ_ONLY = pickle.DEFAULT_PROTOCOL >= 5


# ---- writing ----------------------------------------------------------------------------------

cdef void begin(Writer *w, unsigned char *at, size_t room, bint fixed) noexcept:
    """Start to write into `room` bytes; those of a writer that is not fixed were malloc()ed."""
    w.array = NULL
    w.arrays = w.arrays_room = 0
    restart(w, at, room, fixed)


cdef void drop_arrays(Writer *w) noexcept:
    while w.arrays:
        w.arrays -= 1
        Py_DECREF(<object> w.array[w.arrays])


cdef void restart(Writer *w, unsigned char *at, size_t room, bint fixed) noexcept:
    drop_arrays(w)
    w.at = at
    w.len = 0
    w.room = room
    w.fixed = fixed
    w.full = False
    w.shared = False
    w.mutables = 0
    w.seen_count = 0


cdef void finish(Writer *w) noexcept:
    """The list of arrays is not needed any more; what was written is the caller's."""
    drop_arrays(w)
    free(w.array)
    w.array = NULL


cdef bint grow(Writer *w, size_t need) except -1:
    cdef size_t size
    cdef void *bigger
    if w.fixed:
        w.full = True
        return False
    size = 2 * w.room + need + 256
    bigger = realloc(w.at, size)
    if bigger == NULL:
        raise MemoryError
    w.at = <unsigned char *> bigger
    w.room = size
    return True


cdef bint is_new(Writer *w, PyObject *value) noexcept:
    """Whether this payload has not met `value` yet, as far as it can remember."""
    cdef uint32_t i
    if fp_has_one_holder(value, 1):
        return True
    w.shared = True
    for i in range(w.seen_count):
        if w.seen[i] == value:
            return False
    if w.seen_count == MAX_SEEN:
        return False
    w.seen[w.seen_count] = value
    w.seen_count += 1
    return True


cdef bint has_shared_memory(PyObject *array) noexcept:
    """Whether somebody else may hold the memory that an array views."""
    cdef PyObject *base = (<fp_ndarray *> array).base
    while base != NULL:
        if not fp_has_one_holder(base, 0):
            return True
        if not is_array(base):
            return type(<object> base) is not View
        base = (<fp_ndarray *> base).base
    return False


cdef bint put(Writer *w, PyObject *value, int depth) except -1:
    """Write one tagged value; False when it is not a plain one, or a fixed room is full.

    On a free-threaded build, the caller has a reference of its own.
    """
    cdef unsigned char *p
    cdef int overflow = 0
    cdef int form
    cdef int64_t number
    cdef double real
    cdef uint32_t before
    if w.len + 9 > w.room and not grow(w, 9):
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
    if PyUnicode_CheckExact(value):
        form = fp_str_form(value)
        if form < 0:
            return False
        return put_bytes(w, c"u" + form if form else c"s", <const char *> PyUnicode_DATA(value),
                         PyUnicode_GET_LENGTH(value) * (form if form else 1))
    if PyFloat_CheckExact(value):
        real = PyFloat_AS_DOUBLE(value)
        p[0] = b"f"
        memcpy(p + 1, &real, 8)
        w.len += 9
        return True
    if PyTuple_CheckExact(value):
        before = w.mutables
        if not put_tuple(w, <tuple> value, depth):
            return False
        return w.mutables == before or is_new(w, value)
    if value == Py_None:
        p[0] = b"N"
        w.len += 1
        return True
    if value == Py_True or value == Py_False:
        p[0] = b"T" if value == Py_True else b"F"
        w.len += 1
        return True
    if PyList_CheckExact(value):
        w.mutables += 1
        return is_new(w, value) and put_list(w, <list> value, depth)
    if PyDict_CheckExact(value):
        w.mutables += 1
        return is_new(w, value) and put_dict(w, value, depth)
    if PyBytes_CheckExact(value):
        return put_bytes(w, b"b", PyBytes_AS_STRING(<object> value),
                         PyBytes_GET_SIZE(<object> value))
    if find_numpy():
        if is_array(value):
            w.mutables += 1
            w.shared = w.shared or has_shared_memory(value)
            return is_new(w, value) and put_array(w, value)
        return put_scalar(w, value)
    return False


cdef bint put_bytes(Writer *w, unsigned char tag, const char *data, Py_ssize_t n) except -1:
    cdef uint32_t n32 = <uint32_t> n
    if n > MAX_PLAIN:
        return False
    if w.len + 5 + n > w.room and not grow(w, 5 + n):
        return False
    w.at[w.len] = tag
    memcpy(w.at + w.len + 1, &n32, 4)
    memcpy(w.at + w.len + 5, data, n)
    w.len += 5 + n
    return True


cdef inline void put_head(Writer *w, unsigned char tag, uint32_t n) noexcept:
    """A container's tag and size; `put` has made room."""
    w.at[w.len] = tag
    memcpy(w.at + w.len + 1, &n, 4)
    w.len += 5


cdef bint put_tuple(Writer *w, tuple value, int depth) except -1:
    cdef Py_ssize_t n = PyTuple_GET_SIZE(value)
    cdef Py_ssize_t i
    if n > 255 or depth >= MAX_DEPTH:
        return False
    w.at[w.len] = b"t"
    w.at[w.len + 1] = <unsigned char> n
    w.len += 2
    cdef PyObject *item
    for i in range(n):
        item = <PyObject *> PyTuple_GET_ITEM(value, i)
        fp_hold(item)
        try:
            if not put(w, item, depth + 1):
                return False
        finally:
            fp_let_go(item)
    return True


cdef bint put_list(Writer *w, list value, int depth) except -1:
    if FREE_THREADED:  # others may change it meanwhile
        return put_items(w, value[:], depth)
    return put_items(w, value, depth)


cdef inline bint put_items(Writer *w, list value, int depth) except -1:
    cdef Py_ssize_t n = PyList_GET_SIZE(value)
    cdef Py_ssize_t i
    if n > 0x7FFFFFFF or depth >= MAX_DEPTH:
        return False
    put_head(w, b"l", <uint32_t> n)
    for i in range(n):
        if not put(w, <PyObject *> PyList_GET_ITEM(value, i), depth + 1):
            return False
    return True


cdef bint put_dict(Writer *w, PyObject *value, int depth) except -1:
    if FREE_THREADED:
        copy = PyDict_Copy(value)
        return put_pairs(w, <PyObject *> copy, depth)
    return put_pairs(w, value, depth)


cdef inline bint put_pairs(Writer *w, PyObject *value, int depth) except -1:
    cdef Py_ssize_t n = PyDict_Size(value)
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *item
    if n > 0x7FFFFFFF or depth >= MAX_DEPTH:
        return False
    put_head(w, b"d", <uint32_t> n)
    while PyDict_Next(value, &position, &key, &item):
        if not put(w, key, depth + 1) or not put(w, item, depth + 1):
            return False
    return True


cdef bint put_scalar(Writer *w, PyObject *value) except -1:
    """A NumPy scalar: its dtype and its bytes."""
    cdef Dtype dtype
    cdef Py_buffer view
    if not describe_scalar(type(<object> value), &dtype):
        return False
    if w.len + 17 + dtype.itemsize > w.room and not grow(w, 17 + dtype.itemsize):
        return False
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        if view.len != dtype.itemsize:
            return False
        w.at[w.len] = b"n"
        memcpy(w.at + w.len + 1, dtype.code, 16)
        memcpy(w.at + w.len + 17, view.buf, dtype.itemsize)
    finally:
        PyBuffer_Release(&view)
    w.len += 17 + dtype.itemsize
    return True


cdef bint put_array(Writer *w, PyObject *value) except -1:
    """An array: its head, and its bytes when they are few; else a note that they go to a block."""
    cdef fp_ndarray *a = <fp_ndarray *> value
    cdef Dtype dtype
    cdef View view = view_of(<object> value)
    cdef bint shared = view is not None and view.reach == SHARED
    cdef Py_ssize_t size
    cdef Py_ssize_t need
    cdef uint32_t index
    cdef int64_t offset
    cdef unsigned char *p
    if not describe(a.descr, &dtype):
        return False
    if not shared and not a.flags & (FP_C_CONTIGUOUS | FP_F_CONTIGUOUS):
        return False
    if KEEPS_READ_ONLY and not shared and not a.flags & FP_WRITEABLE:
        return False
    size = fp_array_items(a) * dtype.itemsize
    need = 19 + 8 * a.nd
    if shared:
        need += 12 + 8 * a.nd
    else:
        need += 4 if size >= OWN_BLOCK else size
    if w.len + need > w.room and not grow(w, need):
        return False
    p = w.at + w.len
    p[0] = b"V" if shared else b"A" if size >= OWN_BLOCK else b"a"
    p[1] = 0 if a.flags & FP_C_CONTIGUOUS else IN_FORTRAN_ORDER
    if shared and not a.flags & FP_WRITEABLE:
        p[1] |= READ_ONLY
    p[2] = <unsigned char> a.nd
    memcpy(p + 3, dtype.code, 16)
    memcpy(p + 19, a.dims, 8 * a.nd)
    p += 19 + 8 * a.nd
    w.len += need
    if not shared and size < OWN_BLOCK:
        memcpy(p, a.data, size)
        return True
    index = w.arrays
    add_array(w, <PyObject *> view if shared else value)
    memcpy(p, &index, 4)
    if shared:
        offset = a.data - view.at
        memcpy(p + 4, &offset, 8)
        memcpy(p + 12, a.strides, 8 * a.nd)
    return True


cdef int add_array(Writer *w, PyObject *owner) except -1:
    cdef uint32_t room
    cdef void *bigger
    if w.arrays == w.arrays_room:
        room = 2 * w.arrays_room + 8
        bigger = realloc(w.array, room * sizeof(PyObject *))
        if bigger == NULL:
            raise MemoryError
        w.array = <PyObject **> bigger
        w.arrays_room = room
    Py_INCREF(<object> owner)
    w.array[w.arrays] = owner
    w.arrays += 1
    return 0


cdef class Refs:
    """The buffers that a payload names, in its order."""


# ---- reading ----------------------------------------------------------------------------------

cdef inline uint32_t load32(const unsigned char *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef object take(const unsigned char **at, Refs refs):
    """Read one tagged value and move on."""
    cdef const unsigned char *p = at[0]
    cdef unsigned char tag = p[0]
    cdef int64_t number
    cdef double real
    cdef uint32_t n
    cdef Py_ssize_t i
    cdef int form
    cdef tuple result
    cdef list items
    cdef dict pairs
    if tag == b"i":
        at[0] = p + 2
        return PyLong_FromLongLong(<signed char> p[1])
    if tag == b"I":
        memcpy(&number, p + 1, 8)
        at[0] = p + 9
        return PyLong_FromLongLong(number)
    if tag == c"s" or c"u" < tag <= c"u" + 4:
        n = load32(p + 1)
        form = 0 if tag == c"s" else tag - c"u"
        at[0] = p + 5 + n
        return fp_str_of(form, p + 5, n // form if form > 1 else n)
    if tag == b"f":
        memcpy(&real, p + 1, 8)
        at[0] = p + 9
        return PyFloat_FromDouble(real)
    if tag == b"t":
        n = p[1]
        at[0] = p + 2
        result = PyTuple_New(n)
        for i in range(n):
            value = take(at, refs)
            Py_INCREF(value)
            PyTuple_SET_ITEM(result, i, value)
        return result
    if tag == b"l":
        n = load32(p + 1)
        at[0] = p + 5
        items = PyList_New(n)
        for i in range(n):
            value = take(at, refs)
            Py_INCREF(value)
            PyList_SET_ITEM(items, i, value)
        return items
    if tag == b"d":
        n = load32(p + 1)
        at[0] = p + 5
        pairs = {}
        for i in range(n):
            key = take(at, refs)
            pairs[key] = take(at, refs)
        return pairs
    if tag == b"b":
        n = load32(p + 1)
        at[0] = p + 5 + n
        return PyBytes_FromStringAndSize(<const char *> p + 5, n)
    if tag == b"a" or tag == b"A" or tag == b"V":
        return take_array(at, refs)
    if tag == b"n":
        return take_scalar(at)
    at[0] = p + 1
    if tag == b"N":
        return None
    if tag == b"T":
        return True
    if tag == b"F":
        return False
    raise SystemError(f"fastpool: unknown tag {tag} in a payload")


cdef object take_scalar(const unsigned char **at):
    cdef const unsigned char *p = at[0]
    cdef object dtype = dtype_of(p + 1)
    cdef object array = new_array(dtype, 0, NULL, False)
    cdef Py_ssize_t size = dtype.itemsize
    memcpy((<fp_ndarray *> <PyObject *> array).data, p + 17, size)
    at[0] = p + 17 + size
    return array[()]


cdef object take_array(const unsigned char **at, Refs refs):
    cdef const unsigned char *p = at[0]
    cdef unsigned char tag = p[0]
    cdef bint fortran = p[1] & IN_FORTRAN_ORDER
    cdef bint read_only = p[1] & READ_ONLY
    cdef int nd = p[2]
    cdef object dtype = dtype_of(p + 3)
    cdef Py_ssize_t dims[FP_MAX_DIMS]
    cdef Py_ssize_t strides[FP_MAX_DIMS]
    cdef fp_ndarray *a
    cdef int64_t offset
    cdef Py_ssize_t size
    cdef View view
    cdef object array
    memcpy(dims, p + 19, 8 * nd)
    p += 19 + 8 * nd
    if tag == b"a":
        array = new_array(dtype, nd, dims, fortran)
        a = <fp_ndarray *> <PyObject *> array
        size = fp_array_items(a) * <Py_ssize_t> dtype.itemsize
        memcpy(a.data, p, size)
        at[0] = p + size
        return array
    view = refs.views[load32(p)]
    at[0] = p + 4
    if tag == b"V":
        memcpy(&offset, p + 4, 8)
        memcpy(strides, p + 12, 8 * nd)
        at[0] = p + 12 + 8 * nd
        # Lent: it is shared memory of another pool, of which this is a copy.
        buffer = bytearray(view) if view.reach == LENT else view
        array = view_over(buffer, dtype, nd, dims, strides, offset)
        if read_only:
            array.setflags(write=False)
        return array
    if view.reach != LENT:
        return array_over(view, dtype, nd, dims, fortran)
    array = new_array(dtype, nd, dims, fortran)
    memcpy((<fp_ndarray *> <PyObject *> array).data, view.at, view.length)
    return array
