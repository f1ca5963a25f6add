from cpython.object cimport PyObject
from libc.stdint cimport uint32_t



# Where tagged values are written: a fixed room first, then memory of its own that grows.
cdef struct Writer:
    unsigned char *at
    size_t len
    size_t room
    bint fixed
    bint full                # a fixed room was too small
    uint32_t arrays          # large ones, which go into blocks of their own
    uint32_t arrays_room
    PyObject **array
    uint32_t mutables        # lists, dicts and arrays so far
    bint shared              # somebody else holds one of them, or an array's memory
    uint32_t seen_count
    PyObject *seen[32]       # those that somebody else holds too


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
    /* The bytes of one character, 0 for ASCII; -1 when the string can't be had so. */
    static inline int fp_str_form(PyObject *s) {
    #if PY_VERSION_HEX < 0x030C0000
        if (PyUnicode_READY(s) < 0) {
            PyErr_Clear();
            return -1;
        }
    #endif
        return PyUnicode_IS_ASCII(s) ? 0 : (int)PyUnicode_KIND(s);
    }
    static inline PyObject *fp_str_of(int form, const void *data, Py_ssize_t n) {
        if (form == 1 && n == 1) {
            return PyUnicode_FromOrdinal(*(const unsigned char *)data); /* kept by the interpreter */
        }
        if (form == 0 && n <= 1) {
            return PyUnicode_DecodeASCII((const char *)data, n, NULL); /* likewise */
        }
        PyObject *s = PyUnicode_New(n, form == 0 ? 0x7f : form == 1 ? 0xff : form == 2 ? 0xffff : 0x10ffff);
        if (s != NULL) {
            memcpy(PyUnicode_DATA(s), data, (size_t)n * (form ? form : 1));
        }
        return s;
    }
    """
    long long fp_as_int64(PyObject *o, int *overflow)
    int fp_str_form(PyObject *s) noexcept
    object fp_str_of(int form, const void *data, Py_ssize_t n)


# What the arrays of a payload are read from.
cdef class Refs:
    cdef list views


cdef void begin(Writer *w, unsigned char *at, size_t room, bint fixed) noexcept
cdef void restart(Writer *w, unsigned char *at, size_t room, bint fixed) noexcept
cdef void finish(Writer *w) noexcept
cdef bint put(Writer *w, PyObject *value, int depth) except -1
cdef object take(const unsigned char **at, Refs refs)
