"""NumPy's arrays, without needing NumPy: found when the program has imported it, or is sent one."""

import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cython cimport critical_section
from libc.string cimport memcpy

from fastpool._core._ndarray cimport fp_ndarray
from fastpool._core._segment cimport LOCK
from fastpool._core._threads cimport fp_disown

cdef PyTypeObject *ndarray_type = NULL
cdef object numpy = None
cdef bint distrusted = False
cdef dict codes = {}         # address of a dtype that stays -> (its code, filled up; item size)
cdef dict scalar_codes = {}  # scalar type -> the same
cdef dict dtypes = {}        # code -> dtype


cdef bint find_numpy() except -1:
    """Whether the program has imported NumPy, and its arrays look as they should."""
    global numpy, ndarray_type, distrusted
    if ndarray_type != NULL:
        return True
    if distrusted:
        return False
    module = sys.modules.get("numpy")
    if getattr(module, "ndarray", None) is None or getattr(module, "arange", None) is None:
        return False  # not imported, or not yet
    if not looks_right(module):
        distrusted = True
        return False
    numpy = module
    ndarray_type = <PyTypeObject *> <PyObject *> module.ndarray
    return True


def is_plain_array(value):
    """Whether it is an exact ``numpy.ndarray``; false as long as NumPy is not imported."""
    with critical_section(LOCK):
        return find_numpy() and is_array(<PyObject *> value)


cdef bint looks_right(module) except -1:
    """Does the struct of an array hold what its attributes say?"""
    cdef object sample = module.arange(24, dtype="<i4").reshape(2, 3, 4)[:, 1:, ::2]
    cdef fp_ndarray *a = <fp_ndarray *> <PyObject *> sample
    return (
        a.nd == 3
        and <size_t> a.data == sample.__array_interface__["data"][0]
        and (a.dims[0], a.dims[1], a.dims[2]) == sample.shape
        and (a.strides[0], a.strides[1], a.strides[2]) == sample.strides
        and a.base == <PyObject *> sample.base
        and a.descr == <PyObject *> sample.dtype
        and a.flags & 0x403 == 0x400  # writable, not contiguous
    )


cdef bint describe(PyObject *descr, Dtype *out) except -1:
    """Name a dtype; False for one that is more than a kind, a size and a byte order."""
    # By address: dtypes that are equal may still be different ones.
    code = codes.get(<size_t> descr)
    if code is None:
        code = code_of(<object> descr)
        if code is None:
            return False
        codes[<size_t> descr] = code
    return unpack(code, out)


cdef bint describe_scalar(object kind, Dtype *out) except -1:
    """Name the dtype of a NumPy scalar type; False for other types and for those with units."""
    code = scalar_codes.get(kind, False)
    if code is False:
        code = None
        if find_numpy() and isinstance(kind, type) and issubclass(kind, numpy.generic):
            try:
                dtype = numpy.dtype(kind)
            except TypeError:
                dtype = None
            if dtype is not None and dtype.type is kind:
                code = code_of(dtype)
            scalar_codes[kind] = code
    return unpack(code, out)


cdef object code_of(object dtype):
    """A dtype's code, if that gives this very dtype back, which NumPy then keeps for good."""
    if dtype.kind not in "biufc" or dtype.isbuiltin != 1 or numpy.dtype(dtype.str) is not dtype:
        return None
    return dtype.str.encode("ascii").ljust(16, b"\0"), dtype.itemsize


cdef bint unpack(object code, Dtype *out) except -1:
    if code is None:
        return False
    memcpy(out.code, PyBytes_AS_STRING((<tuple> code)[0]), sizeof(out.code))
    out.itemsize = (<tuple> code)[1]
    return True


cdef object dtype_of(const unsigned char *code):
    """The dtype that a code names."""
    cdef bytes key = PyBytes_FromStringAndSize(<const char *> code, 16)
    found = dtypes.get(key)
    if found is None:
        import_numpy()
        found = dtypes[key] = numpy.dtype(key.rstrip(b"\0").decode("ascii"))
    return found


cdef int import_numpy() except -1:
    """NumPy, for a process that was sent an array and may not have imported it."""
    global numpy
    if numpy is None:
        import numpy as module
        numpy = module
        find_numpy()
    return 0


cdef tuple shape_of(int nd, const Py_ssize_t *dims):
    return tuple([dims[i] for i in range(nd)])


cdef object new_array(object dtype, int nd, const Py_ssize_t *dims, bint fortran):
    """An array of its own, not filled."""
    import_numpy()
    return numpy.ndarray(shape_of(nd, dims), dtype, None, 0, None, "F" if fortran else "C")


cdef object array_over(object buffer, object dtype, int nd, const Py_ssize_t *dims, bint fortran):
    """An array over all of a buffer."""
    import_numpy()
    array = numpy.ndarray(shape_of(nd, dims), dtype, buffer, 0, None, "F" if fortran else "C")
    fp_disown(<PyObject *> array)
    return array


cdef object view_over(object buffer, object dtype, int nd, const Py_ssize_t *dims,
                      const Py_ssize_t *strides, Py_ssize_t offset):
    """An array over parts of a buffer."""
    import_numpy()
    array = numpy.ndarray(shape_of(nd, dims), dtype, buffer, offset, shape_of(nd, strides))
    fp_disown(<PyObject *> array)
    return array
