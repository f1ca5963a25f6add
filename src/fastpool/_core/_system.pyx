"""What is asked of the system: processes and their ends, signals, memory, CPUs."""

import os

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cython cimport critical_section
from libc.errno cimport EAGAIN, EINTR
from libc.stdlib cimport free, malloc
from libc.stdint cimport uint64_t
from posix.unistd cimport _exit, close, getpid

from fastpool._core._c cimport *
from fastpool._core._segment cimport LOCK, check

# ---- what is open -----------------------------------------------------------------------------

@cython.final
cdef class Descriptor:
    """An open descriptor of the system's, closed with the last reference to it or before, once.

    What the system opens is in one of these from the first instant: no exception loses it, wherever a
    signal handler raises it. Without a number, it is one that is closed.
    """
    cdef readonly int fd  # -1: closed

    def __init__(self, int fd=-1):
        self.fd = fd

    cpdef Descriptor take(self):
        """What this one has, for the caller alone; this one is closed then."""
        cdef Descriptor taken = Descriptor()  # before: that there is no memory for it loses nothing
        taken.fd = self.take_fd()
        return taken

    def close(self):
        """Close it, unless that has happened."""
        # Forgotten before: a child that is forked meanwhile would close what has the number by then.
        cdef int fd = self.take_fd()
        if fd >= 0:
            os.close(fd)

    cdef int take_fd(self) noexcept:
        cdef int fd
        with critical_section(LOCK):
            fd, self.fd = self.fd, -1
        return fd

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)


@cython.final
cdef class Line:
    """What a watch by pipe depends on, and only the watched process may have; or nothing at all.

    Let go of with the last reference to it or before. A fork has closed the child's copy already, and
    what has the number there is another's: so nothing happens to it then.
    """
    cdef readonly int fd  # -1: nothing
    cdef int owner

    def __cinit__(self):
        self.fd = -1
        self.owner = getpid()

    def let_go(self):
        """Have it closed, unless that has happened."""
        cdef int fd
        with critical_section(LOCK):
            fd, self.fd = self.fd, -1
        if self.owner == getpid():
            fp_os_let_go(fd)

    def __dealloc__(self):
        if self.owner == getpid():
            fp_os_let_go(self.fd)


# ---- processes --------------------------------------------------------------------------------

BY_PIPE = FP_BY_PIPE


def watch_kind():
    """How the ends of processes can be watched here, today: BY_PIPE, or by their ids."""
    return fp_os_watch_kind()


def watch_self(int kind):
    """(watch, line): what becomes readable when this process ends, and what to keep for it."""
    cdef Descriptor watch = Descriptor()
    cdef Line line = Line()
    watch.fd = check(fp_os_watch_self(kind, &line.fd))
    return watch, line


def watch_id(int pid):
    """A watch of any process; ProcessLookupError when it has ended. Not with BY_PIPE."""
    cdef Descriptor watch = Descriptor()
    watch.fd = check(fp_os_watch_id(pid))
    return watch


def lend_line():
    """(watch, line) of the process that this thread starts next, by exec; then let go of the line."""
    cdef Descriptor watch = Descriptor()
    cdef Line line = Line()
    watch.fd = check(fp_os_lend_line(&line.fd))
    return watch, line


def take_line(int line):
    """In the process that was started: this line is its own."""
    check(fp_os_take_line(line))


def send_signal(int watch, int pid, int number):
    """Send a signal to the process behind a watch; ProcessLookupError when it has ended."""
    check(fp_os_signal(watch, pid, number))


def die_with(int watch):
    """SIGKILL for this process when the one behind `watch` ends, seen by a thread."""
    check(fp_os_die_with(watch))


def reap(int pid):
    """(status, peak memory in bytes) of a child that has ended; None while it has not."""
    cdef int status = 0
    cdef uint64_t peak = 0
    if check(fp_os_reap(pid, False, &status, &peak)) == 0:
        return None
    return status, peak


SPARE_SIGNAL = fp_os_spare_signal()


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int SIG_UNBLOCK
    int SIGINT, SIGSEGV, SIGBUS, SIGFPE, SIGILL
    int sigfillset(sigset_t *mask)
    int sigemptyset(sigset_t *mask)
    int sigaddset(sigset_t *mask, int number)
    int sigdelset(sigset_t *mask, int number)
    int pthread_sigmask(int how, const sigset_t *mask, sigset_t *before)


cdef class SignalMask:
    """The calling thread's signal mask, all signals blocked until `restore` but those of a fault.

    A fault is not put off by blocking its signal: it only ends the process without a word.

    ``signal.pthread_sigmask`` makes an enum member of each of the 64 signals, twice, which takes
    longer than forking does.
    """
    cdef sigset_t before
    cdef bint holds

    def __cinit__(self):
        cdef sigset_t everything
        sigfillset(&everything)
        for fault in (SIGSEGV, SIGBUS, SIGFPE, SIGILL):
            sigdelset(&everything, fault)
        check(-pthread_sigmask(SIG_SETMASK, &everything, &self.before))
        self.holds = True

    def restore(self):
        """Have the mask that was before; also right for a child that was forked meanwhile."""
        self.holds = False
        check(-pthread_sigmask(SIG_SETMASK, &self.before, NULL))

    def __dealloc__(self):
        if self.holds:  # a signal handler raised before anybody had this
            pthread_sigmask(SIG_SETMASK, &self.before, NULL)


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


def fork_zygote(zygote, Descriptor ours, Descriptor theirs, int kind, int parent):
    """Fork the process that forks workers; `parent` is a watch of this one.

    Returns None in the parent, and its order in each worker, where both ends are closed: the interpreter
    is only told of the fork there. All signals must be blocked. In the zygote, this does not return.

    Its process id and a watch of it are put into ``zygote.pid`` and ``zygote.watch``: a signal handler
    that raises when this returns must not make them unknown.
    """
    cdef unsigned char order[_ORDER_ROOM]
    cdef long size
    cdef int pid
    cdef Descriptor watch = Descriptor()
    cdef fp_os_openmp openmp
    fp_os_before_fork(&openmp)
    PyOS_BeforeFork()
    FP_CP("zygote.fork")
    pid = fp_os_fork(kind, &watch.fd)
    if pid == 0:
        close(ours.fd)
        size = fp_zygote_serve(theirs.fd, parent, kind, watch.fd, order, _ORDER_ROOM)
        if size <= 0:
            _exit(0)
        # Closed by now, so that the numbers may be others' soon; but for the watch, which the core keeps.
        ours.fd = theirs.fd = watch.fd = -1
        FP_CP("zygote.worker")
        PyOS_AfterFork_Child()
        FP_CP("zygote.interpreter")
        return PyBytes_FromStringAndSize(<char *> order, size)
    FP_CP("zygote.forked")
    if pid > 0:
        zygote.pid, zygote.watch = pid, watch
    PyOS_AfterFork_Parent()
    fp_os_after_fork(&openmp)
    check(pid)
    return None


# ---- messages and files -----------------------------------------------------------------------

def message_pair():
    """Two ends between which messages go whole and in their order, or not at all."""
    cdef Descriptor one = Descriptor()
    cdef Descriptor other = Descriptor()
    cdef int ends[2]
    check(fp_os_pair(ends), "a socketpair")
    one.fd, other.fd = ends[0], ends[1]
    return one, other


def send_message(int end, bytes data, int fd=-1):
    """Send a message, and with it a copy of a descriptor; False: there is no room now."""
    cdef int code = fp_os_send(end, <const char *> data, len(data), fd)
    if code == -EAGAIN:
        return False
    check(code)
    return True


def receive_message(int end, int room):
    """(message, the descriptor that came with it); None: there is no message now.

    The descriptor's number is -1 where none came, and -EMFILE where none was left for it. An empty
    message: nobody is left to send one, where the system tells.
    """
    cdef bytes data = PyBytes_FromStringAndSize(NULL, room)
    cdef Descriptor came = Descriptor()
    cdef long size = fp_os_receive(end, <char *> data, room, &came.fd)
    if size == -EAGAIN:
        return None
    check(<int> size)
    return data[:size], came


def await_room(int end, int timeout_ms):
    """Wait until there may be room for a message, or a signal comes."""
    cdef int code
    with nogil:
        code = fp_os_await_room(end, timeout_ms)
    if code != -EAGAIN and code != -EINTR:
        check(code)


def hang_up(int end):
    """Nothing more is sent, either way, where the system knows of that."""
    fp_os_hang_up(end)


def create_file():
    """A nameless file to read and write."""
    cdef Descriptor file = Descriptor()
    file.fd = check(fp_os_file_create(), "a nameless file (memfd_create)")
    return file


def reopen_file(int fd):
    """Another descriptor of such a file, with a position of its own; OSError where there is no way.

    It stays open as long as the process runs.
    """
    return check(fp_os_file_reopen(fd))


def loaded_libraries():
    """The paths of all libraries that this process has loaded."""
    cdef list paths = []
    fp_os_each_library(_note_library, <void *> paths)
    return [os.fsdecode(path) for path in paths]


cdef int _note_library(const char *path, void *paths) noexcept with gil:
    (<list> paths).append(<bytes> path)
    return 0


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
    cdef int n = check(fp_os_cpus(0, NULL, 0), "its CPUs (sched_getaffinity)")
    cdef int *cpus = <int *> malloc(n * sizeof(int))
    if cpus == NULL:
        raise MemoryError
    try:
        n = min(n, check(fp_os_cpus(0, cpus, n)))
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
    return check(fp_topo_usable(NULL), "its CPUs (sched_getaffinity)")


def can_pin():
    """Whether threads can be told on which CPUs to run."""
    return fp_os_can_bind()


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
        check(fp_os_bind(0, array, n))
    finally:
        free(array)
