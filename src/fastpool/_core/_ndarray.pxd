# A numpy.ndarray by the layout of its struct, so that NumPy is needed neither to build nor to import.
# These are the fields that NumPy's own inlined accessors read in every extension compiled against
# any NumPy since 1.7, so they stay where they are; `_arrays` compares them with an array's
# attributes before it trusts them.
from cpython.object cimport PyObject

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        char *data;
        int nd;
        Py_ssize_t *dims;
        Py_ssize_t *strides;
        PyObject *base;
        PyObject *descr;
        int flags;
    } fp_ndarray;
    #define FP_C_CONTIGUOUS 0x0001
    #define FP_F_CONTIGUOUS 0x0002
    #define FP_WRITEABLE 0x0400
    #define FP_MAX_DIMS 64
    static inline Py_ssize_t fp_array_items(const fp_ndarray *a) {
        Py_ssize_t n = 1;
        for (int i = 0; i < a->nd; i++) {
            n *= a->dims[i];
        }
        return n;
    }
    """
    ctypedef struct fp_ndarray:
        char *data
        int nd
        Py_ssize_t *dims
        Py_ssize_t *strides
        PyObject *base
        PyObject *descr
        int flags
    enum:
        FP_C_CONTIGUOUS
        FP_F_CONTIGUOUS
        FP_WRITEABLE
        FP_MAX_DIMS
    Py_ssize_t fp_array_items(const fp_ndarray *a) noexcept nogil
