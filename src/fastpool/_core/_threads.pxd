# What has to be done where no GIL keeps other threads out; nothing, on every other build.

cdef extern from *:
    """
    #if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    #define FREE_THREADED 1

    /* Who stepped outside stands in a section of his own. */
    typedef struct {
        PyMutex own;
        PyCriticalSection section;
    } fp_outside;

    /* Let others into the critical sections that this thread is in, until fp_step_inside: who is
       about to run the program's code, which may take long. A thread that stops for a moment lets
       go of all its sections, and takes back the innermost only. */
    static inline void fp_step_outside(fp_outside *o) {
        o->own = (PyMutex){0};
        PyCriticalSection_BeginMutex(&o->section, &o->own);
        PyEval_RestoreThread(PyEval_SaveThread());
    }
    static inline void fp_step_inside(fp_outside *o) {
        PyCriticalSection_End(&o->section);
    }

    /* Whether an object has one holder beside the caller. Another thread's count can't be read. */
    static inline int fp_has_one_holder(PyObject *o, unsigned callers) {
        Py_ssize_t shared = _Py_atomic_load_ssize_relaxed(&o->ob_ref_shared);
        if (_Py_IsOwnedByCurrentThread(o)) {
            return _Py_atomic_load_uint32_relaxed(&o->ob_ref_local) == 1 + callers && shared == 0;
        }
        return shared == _Py_REF_SHARED(1 + (Py_ssize_t)callers, _Py_REF_MERGED);
    }

    /* Have a new object, which no other thread has seen, be nobody's: then it dies when the last
       reference goes. One that is its maker's waits, when it is dropped by another thread, until its
       maker runs Python code again; and that may sleep for ever, while workers lack the memory. */
    static inline void fp_disown(PyObject *o) {
        Py_ssize_t count = (Py_ssize_t)_Py_atomic_load_uint32_relaxed(&o->ob_ref_local)
            + Py_ARITHMETIC_RIGHT_SHIFT(Py_ssize_t, o->ob_ref_shared, _Py_REF_SHARED_SHIFT);
        if (_Py_IsOwnedByCurrentThread(o) && !_Py_IsImmortal(o)) {
            _Py_atomic_store_uint32_relaxed(&o->ob_ref_local, 0);
            _Py_atomic_store_uintptr_relaxed(&o->ob_tid, 0);
            _Py_atomic_store_ssize_relaxed(&o->ob_ref_shared, _Py_REF_SHARED(count, _Py_REF_MERGED));
        }
    }
    #else
    #define FREE_THREADED 0
    typedef struct { char nothing; } fp_outside;
    #define fp_step_outside(o) ((void)(o))
    #define fp_step_inside(o) ((void)(o))
    #define fp_has_one_holder(o, callers) (Py_REFCNT(o) == 1)
    #define fp_disown(o) ((void)(o))
    #endif
    /* A borrowed reference is good as long as nobody else can run: elsewhere it is made ours. */
    #define fp_hold(o) do { if (FREE_THREADED) Py_INCREF(o); } while (0)
    #define fp_let_go(o) do { if (FREE_THREADED) Py_DECREF(o); } while (0)
    """
    ctypedef struct fp_outside:
        pass
    bint FREE_THREADED
    void fp_step_outside(fp_outside *o)
    void fp_step_inside(fp_outside *o)
    bint fp_has_one_holder(void *o, unsigned callers)
    void fp_disown(void *o)
    void fp_hold(void *o)
    void fp_let_go(void *o)
