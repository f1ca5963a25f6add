# cython: nonecheck=True
"""The functions that workers know by number, so that a task need not bring its own."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from cython cimport critical_section
from libc.string cimport memcpy

from fastpool._core._blocks cimport Call
from fastpool._core._c cimport *
from fastpool._core._codec cimport PICKLED_ONE, Encoded
from fastpool._core._protocol cimport FunctionHead
from fastpool._core._segment cimport LOCK
from fastpool._core._threads cimport fp_disown

cdef enum:
    MAX_FUNCTIONS = 512

cdef Call COPYING = Call()


@cython.no_gc_clear  # the heap is needed until the end
cdef class Function:
    """A function as workers know it."""

    def __dealloc__(self):
        with critical_section(LOCK):
            if self.ref != 0:
                self.heap.free(self.ref)


cdef class Functions:
    """Numbers for functions, with their pickles in blocks.

    Parameters
    ----------
    heap : Heap
        The parent's region.
    codec : Codec
        Over that heap.
    remember : callable
        func -> bool: does it pickle by reference, so that workers may keep it?
    """

    def __cinit__(self, Heap heap, Codec codec, remember):
        self.heap = heap
        self.codec = codec
        self.remember = remember
        self.by_id = {}
        self.next_number = 1

    cdef Function lookup(self, object func):
        """The number of a function; one that pickles by reference keeps it."""
        cdef Function function = self.last
        cdef FunctionHead head
        cdef Encoded out
        if function is not None and function.target is func:
            return function
        function = self.by_id.get(id(func))
        if function is None:
            remember = self.remember(func)
            out.room = 0
            out.head = sizeof(FunctionHead)
            self.codec.encode_pickle(func, PICKLED_ONE, 1, &out, COPYING)
            function = Function.__new__(Function)
            fp_disown(<PyObject *> function)
            function.heap = self.heap
            function.number = self.next_number
            self.next_number += 1
            function.stateful = not remember
            function.ref = out.ref
            if out.keeps != NULL:
                function.keeps = <list> out.keeps
                Py_DECREF(function.keeps)
            head.len = out.len
            head.refs = out.refs
            head.reserved = 0
            memcpy(self.heap.segment.pool.base + function.ref, &head, sizeof(FunctionHead))
            if not remember:
                return function
            function.target = func
            if len(self.by_id) >= MAX_FUNCTIONS:
                self.by_id.clear()
            self.by_id[id(func)] = function
            FP_CP("lookup.remembered")
        self.last = function
        return function

    def forget(self):
        """No worker is left that could use them."""
        with critical_section(LOCK):
            self.by_id.clear()
            self.last = None

    def remembered(self):
        """(number, bytes) of the blocks with functions that workers may go on using."""
        cdef Function function
        cdef uint64_t total = 0
        with critical_section(LOCK):
            for function in self.by_id.values():
                total += fp_block_size(self.heap.segment.pool.base, function.ref)
            return len(self.by_id), total
