from cpython.object cimport PyObject

from fastpool._core._ndarray cimport fp_ndarray


cdef PyTypeObject *ndarray_type    # NULL until NumPy is found
cdef object numpy                  # None until it is needed

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject *Py_TYPE(PyObject *o)


# A dtype as a payload names it.
cdef struct Dtype:
    unsigned char code[16]         # b"<f8", filled up with zeros
    Py_ssize_t itemsize


cdef bint find_numpy() except -1
cdef int import_numpy() except -1
cdef bint describe(PyObject *descr, Dtype *out) except -1
cdef bint describe_scalar(object kind, Dtype *out) except -1
cdef object dtype_of(const unsigned char *code)
cdef object new_array(object dtype, int nd, const Py_ssize_t *dims, bint fortran)
cdef object array_over(object buffer, object dtype, int nd, const Py_ssize_t *dims, bint fortran)
cdef object view_over(object buffer, object dtype, int nd, const Py_ssize_t *dims,
                      const Py_ssize_t *strides, Py_ssize_t offset)


cdef inline bint is_array(PyObject *o) noexcept:
    return ndarray_type != NULL and Py_TYPE(o) == ndarray_type
