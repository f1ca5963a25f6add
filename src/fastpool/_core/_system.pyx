"""What is asked of the system: processes and their ends, signals, memory, CPUs."""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdlib cimport free, malloc
from libc.stdint cimport uint64_t
from posix.unistd cimport _exit, close, fork

from fastpool._core._c cimport *
from fastpool._core._segment cimport check

# ---- processes --------------------------------------------------------------------------------

def pidfd_open(int pid):
    """A close-on-exec descriptor that becomes readable when process `pid` ends."""
    return check(fp_os_pidfd_open(pid))


def die_with(int pidfd):
    """SIGKILL for this process when the one behind `pidfd` ends, watched by a thread."""
    check(fp_os_die_with(pidfd))


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int SIG_UNBLOCK
    int SIGINT
    int sigfillset(sigset_t *mask)
    int sigemptyset(sigset_t *mask)
    int sigaddset(sigset_t *mask, int number)
    int pthread_sigmask(int how, const sigset_t *mask, sigset_t *before)


cdef class SignalMask:
    """The calling thread's signal mask, all signals blocked until `restore`.

    ``signal.pthread_sigmask`` makes an enum member of each of the 64 signals, twice, which takes
    longer than forking does.
    """
    cdef sigset_t before

    def __cinit__(self):
        cdef sigset_t everything
        sigfillset(&everything)
        check(-pthread_sigmask(SIG_SETMASK, &everything, &self.before))

    def restore(self):
        """Have the mask that was before; also right for a child that was forked meanwhile."""
        check(-pthread_sigmask(SIG_SETMASK, &self.before, NULL))


def unblock_interrupts():
    """Let SIGINT through to the calling thread."""
    cdef sigset_t mask
    sigemptyset(&mask)
    sigaddset(&mask, SIGINT)
    check(-pthread_sigmask(SIG_UNBLOCK, &mask, NULL))


cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()

NOTE_FORKED = FP_NOTE_FORKED
NOTE_FAILED = FP_NOTE_FAILED
NOTE_EXIT = FP_NOTE_EXIT

cdef enum:
    _ORDER_ROOM = 32768

ORDER_ROOM = _ORDER_ROOM  # bytes of the largest order


def fork_zygote(int parents_socket, int socket, int parent_pidfd):
    """Fork the process that forks workers.

    Returns (its process id, None) in the parent, and (0, order) in each worker: the interpreter is
    only told of the fork there. All signals must be blocked. In the zygote, this does not return.
    """
    cdef unsigned char order[_ORDER_ROOM]
    cdef long size
    cdef int pid
    cdef int error
    fp_os_before_fork()
    PyOS_BeforeFork()
    FP_CP("zygote.fork")
    pid = fork()
    if pid == 0:
        close(parents_socket)
        size = fp_zygote_serve(socket, parent_pidfd, order, _ORDER_ROOM)
        if size <= 0:
            _exit(0)
        FP_CP("zygote.worker")
        PyOS_AfterFork_Child()
        FP_CP("zygote.interpreter")
        return 0, PyBytes_FromStringAndSize(<char *> order, size)
    error = errno
    FP_CP("zygote.forked")
    PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid, None


# ---- crash points -----------------------------------------------------------------------------

def crash_point(str name):
    """A named instant of the Python part; nothing, but in a build with crash points."""
    FP_CP(name_of(name))


def crash_role(str role):
    """From now on this process counts as a worker."""
    fp_crash_role(name_of(role))


cdef extern from "Python.h":
    const char *name_of "PyUnicode_AsUTF8"(object text) except NULL


# ---- memory -----------------------------------------------------------------------------------

def memory_total():
    """Bytes that this process and its cgroup may use at most."""
    return fp_memory_total()


def memory_kills():
    """How many processes the system killed in this cgroup as memory ran out; None: it doesn't say."""
    cdef uint64_t count = fp_memory_kills(NULL)
    return None if count == <uint64_t> -1 else count


# ---- CPUs -------------------------------------------------------------------------------------

def usable_cpus():
    """The CPUs this process may run on, ascending."""
    cdef int n = check(fp_topo_mask(0, NULL, 0))
    cdef int *cpus = <int *> malloc(n * sizeof(int))
    if cpus == NULL:
        raise MemoryError
    try:
        n = min(n, check(fp_topo_mask(0, cpus, n)))
        return [cpus[i] for i in range(n)]
    finally:
        free(cpus)


cdef list _topology(int order):
    """fp_topo_cpu rows of the usable CPUs; order < 0: as read."""
    cdef list usable = usable_cpus()
    cdef int n = len(usable)
    cdef int *cpus = <int *> malloc(n * sizeof(int))
    cdef fp_topo_cpu *rows = <fp_topo_cpu *> malloc(n * sizeof(fp_topo_cpu))
    try:
        if cpus == NULL or rows == NULL:
            raise MemoryError
        for i in range(n):
            cpus[i] = usable[i]
        check(fp_topo_read(NULL, cpus, n, rows))
        if order >= 0:
            check(fp_topo_sort(rows, n, order))
        return [(rows[i].cpu, rows[i].package, rows[i].node, rows[i].core, rows[i].smt)
                for i in range(n)]
    finally:
        free(cpus)
        free(rows)


def cpu_order(int order):
    """The usable CPUs in the order to hand them out: 0 compact, 1 scatter."""
    return [row[0] for row in _topology(order)]


def cpu_quota():
    """CPU time that the cgroups leave this process, in CPUs; None without a limit."""
    cdef double cores = 0
    return cores if check(fp_topo_quota(NULL, &cores)) else None


def usable_cpu_count():
    """How many computing processes make sense here: affinity mask and cgroup quota."""
    return check(fp_topo_usable(NULL))


def bind_cpus(cpus):
    """Let the calling thread run on these CPUs only."""
    cdef list wanted = sorted(cpus)
    cdef int n = len(wanted)
    cdef int *array = <int *> malloc((n + 1) * sizeof(int))
    if array == NULL:
        raise MemoryError
    try:
        for i in range(n):
            array[i] = wanted[i]
        check(fp_topo_bind(0, array, n))
    finally:
        free(array)
