/* linux.c: what Linux 4.14 and later, with glibc or musl, does in its own way.  Its sleeping and waking
 * are in park_futex.c, or in park_portable.c: the build takes one of them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

/* The most that one fallocate() is asked for. */
#define FP__STEP (4ull << 20)

/* So says a kernel that does not know a call, or a filter that does not allow it.  Where a call has
 * reasons of its own to say EPERM or EACCES, they don't occur here. */
static bool fp__is_refused(int error) {
    return error == ENOSYS || error == EPERM || error == EACCES;
}

static int fp__memfd(void) {
    /* Kernels before 6.3 don't know NOEXEC_SEAL; newer ones log a warning without it. */
    int fd = (int)syscall(SYS_memfd_create, "fastpool", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = (int)syscall(SYS_memfd_create, "fastpool", MFD_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

int fp_os_memory_create(uint64_t size) {
    int fd = fp__memfd();
    if (fp__is_refused(-fd)) {
        return fp__memory_of(fp__nameless_file("/dev/shm"), size); /* where shm_open() makes them */
    }
    return fd < 0 ? fd : fp__memory_of(fd, size);
}

int fp_os_memory_map(int fd, uint64_t size, void **base) {
    void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (addr == MAP_FAILED) {
        return -errno;
    }
    /* Failure is harmless: the mapping would only show up in a core dump. */
    (void)madvise(addr, size, MADV_DONTDUMP);
    *base = addr;
    return 0;
}

static int fp__populate(uintptr_t start, uintptr_t end) {
    /* qemu's emulation of processes says yes to any advice and does nothing; so to one that nobody
     * can know. */
    if (madvise(NULL, 0, -1) == 0) {
        return -EINVAL;
    }
    while (madvise((void *)start, end - start, MADV_POPULATE_WRITE) < 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return errno == EINVAL || fp__is_refused(errno) ? -EINVAL : -ENOMEM;
        }
    }
    return 0;
}

/* A page is the object's own once it has been written to through the descriptor, which says so when
 * there is none left.  The byte that is written for itself lies in the range, so it is the caller's. */
static int fp__write_object(int fd, uint64_t offset, uint64_t len) {
    uint64_t page = fp_os_page_size();
    for (uint64_t at = offset; at < offset + len;) {
        unsigned char byte;
        ssize_t n = pread(fd, &byte, 1, (off_t)at);
        if (n == 1) {
            n = pwrite(fd, &byte, 1, (off_t)at);
        }
        if (n == 1) {
            at = (at | (page - 1)) + 1;
        } else if (n == 0 || errno != EINTR) {
            return -ENOMEM;
        }
    }
    return 0;
}

int fp_os_memory_reserve(int fd, uint64_t offset, uint64_t len) {
    /* A signal undoes what one call has done so far, so small steps: a program with a timer would
     * never get through a large one. */
    for (uint64_t end = offset + len; offset < end;) {
        uint64_t step = end - offset < FP__STEP ? end - offset : FP__STEP;
        if (fallocate(fd, 0, (off_t)offset, (off_t)step) == 0) {
            offset += step;
        } else if (fp__is_refused(errno) || errno == EOPNOTSUPP) {
            return fp__write_object(fd, offset, end - offset);
        } else if (errno != EINTR) {
            return -ENOMEM;
        }
    }
    return 0;
}

int fp_os_memory_populate(void *addr, int fd, uint64_t offset, uint64_t len) {
    uintptr_t start, end;
    fp__pages(addr, len, &start, &end);
    int err = fp__populate(start, end);
    /* Kernels before 5.14 don't know the advice. */
    return err == -EINVAL ? fp_os_memory_reserve(fd, offset, len) : err;
}

int fp_os_memory_release(void *addr, uint64_t len) {
    uint64_t page = fp_os_page_size();
    uintptr_t start = FP_ALIGN_UP((uintptr_t)addr, page);
    uintptr_t end = ((uintptr_t)addr + len) & ~(uintptr_t)(page - 1);
    if (end <= start) {
        return 0;
    }
    return madvise((void *)start, end - start, MADV_REMOVE) < 0 ? -errno : 0;
}

int fp_os_memory_punch(int fd, uint64_t offset, uint64_t len) {
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (fallocate(fd, mode, (off_t)offset, (off_t)len) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int fp__map_private(int fd, uint64_t offset, uint64_t len, void **at) {
    int flags = MAP_PRIVATE | MAP_NORESERVE;
    void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
    if (addr == MAP_FAILED) {
        return -errno;
    }
    (void)madvise(addr, len, MADV_DONTDUMP);
    *at = addr;
    return 0;
}

int fp_os_memory_map_private(int fd, uint64_t offset, uint64_t len, void **at) {
    uint64_t into = offset & (fp_os_page_size() - 1);
    void *addr = NULL;
    int err = fp__map_private(fd, offset - into, into + len, &addr);
    if (err == 0) {
        *at = (unsigned char *)addr + into;
    }
    return err;
}

int fp_os_memory_own(void *at, uint64_t len) {
    uintptr_t start, end;
    fp__pages(at, len, &start, &end);
    int err = fp__populate(start, end);
    if (err != -EINVAL) {
        return err;
    }
    fp__write_pages(start, end);
    return 0;
}

int fp_os_memory_is_written(const void *at, uint64_t len) {
    /* A word for each page; a copy is no page of a file any more. */
    const uint64_t present = 1ull << 63, of_file = 1ull << 61;
    enum { SAMPLES = 8 };
    uint64_t page = fp_os_page_size(), word;
    int written = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    for (uint64_t i = 0; i < SAMPLES; i++) {
        uint64_t index = ((uintptr_t)at + len * (2 * i + 1) / (2 * SAMPLES)) / page;
        if (pread(fd, &word, sizeof word, (off_t)(index * sizeof word)) != sizeof word) {
            close(fd);
            return -EIO;
        }
        written += (word & present) != 0 && (word & of_file) == 0;
    }
    close(fd);
    return 2 * written > SAMPLES;
}

/* The kernel takes the old mapping away and puts the new one there under one lock, which every page
 * fault takes too: another thread's access goes to the one or to the other, never to nothing.  Once
 * the old page table entries are gone, so are their copies in all processors; what was written
 * through them is in the object's pages, and a page is copied from these at the first write after.
 *
 * Mapped elsewhere and then moved here: before Linux 6.12, mmap() with MAP_FIXED could take the old
 * mapping away and only then find that the new one is more than the system commits to.  Before 5.2,
 * mremap() could do so when there are too many mappings; so what is lost is mapped anew. */
int fp_os_memory_remap_private(void *addr, int fd, uint64_t offset, uint64_t len) {
    void *at = NULL;
    int err = fp__map_private(fd, offset, len, &at);
    if (err < 0) {
        return err;
    }
    if (mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr) == MAP_FAILED) {
        err = -errno;
        (void)munmap(at, len);
        if (fp__is_refused(-err)) {
            int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED; /* there was just room for it */
            void *got = mmap(addr, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
            err = got == MAP_FAILED ? -errno : 0;
        }
    }
    if (err < 0) {
        (void)fp_os_memory_remap_shared(addr, fd, offset, len);
    }
    return err;
}

int fp_os_memory_remap_shared(void *addr, int fd, uint64_t offset, uint64_t len) {
    int flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED;
    if (mmap(addr, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset) == MAP_FAILED) {
        return -errno;
    }
    (void)madvise(addr, len, MADV_DONTDUMP); /* also makes it one with its neighbours again */
    return 0;
}

int fp__pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0; }

/* An eventfd, or a pipe: whoever rings or hears need not know which.  A ring is what an eventfd takes;
 * of a pipe more than one is heard at once. */
int fp_os_bell_create(int *heard) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 && fp__is_refused(errno)) {
        return fp__pipe_bell(heard);
    }
    *heard = fd;
    return fd < 0 ? -errno : fd;
}

/* ---- processes and their ends ------------------------------------------------------------------ */

int fp_os_watch_id(int pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int fp_os_watch_kind(void) {
    int fd = fp_os_watch_id(getpid());
    if (fd >= 0) {
        close(fd);
    }
    /* Kernels before 5.3, and sandboxes, each with an error of its own; no descriptor is another matter. */
    return fd >= 0 || fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM ? FP_BY_ID : FP_BY_PIPE;
}

int fp_os_watch_self(int kind, int *line) {
    if (kind == FP_BY_PIPE) {
        return fp__pipe_self(line);
    }
    *line = -1;
    return fp_os_watch_id(getpid());
}

int fp_os_fork(int kind, int *watch) {
    if (kind == FP_BY_PIPE) {
        return fp__pipe_fork(watch);
    }
    pid_t pid = fork();
    *watch = -1;
    if (pid <= 0) {
        return pid < 0 ? -errno : 0;
    }
    /* Our child, and not reaped: the number can't be anyone else's. */
    *watch = fp_os_watch_id(pid);
    if (*watch < 0) {
        int status;
        uint64_t peak;
        kill(pid, SIGKILL);
        FP_CP("fork.undone");
        (void)fp_os_reap(pid, true, &status, &peak);
        return *watch;
    }
    return pid;
}

int fp_os_signal(int watch, int pid, int signum) {
    if (syscall(SYS_pidfd_send_signal, watch, signum, NULL, 0) == 0) {
        return 0;
    }
    /* Not a pidfd, or a system that has none, or refuses this. */
    return errno == ESRCH ? -ESRCH : fp__pipe_signal(watch, pid, signum);
}

int fp_os_die_with_parent(int parent_pid, int watch) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        int parents = watch >= 0 ? watch : fp_os_watch_id(parent_pid);
        int err = parents < 0 ? parents : fp_os_die_with(parents);
        if (err < 0) {
            if (parents >= 0 && parents != watch) {
                close(parents);
            }
            return err;
        }
    }
    /* The parent may have ended between the fork and the line above. */
    return getppid() == parent_pid ? 0 : -ESRCH;
}

/* ---- messages and files ------------------------------------------------------------------------ */

int fp_os_pair(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0) {
        return 0;
    }
    bool unknown = errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT || errno == EINVAL;
    return unknown || fp__is_refused(errno) ? fp__datagram_pair(ends) : -errno;
}

int fp_os_await_room(int end, int timeout_ms) { return fp__poll_room(end, timeout_ms); }

int fp_os_file_create(void) { return fp_os_memory_create(0); }

int fp_os_file_reopen(int fd) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    return own < 0 ? -ENOTSUP : own;
}

/* ---- the machine ------------------------------------------------------------------------------- */

#define FP__MAX_CPUS (1 << 20) /* no mask is larger; a bound for what goes wrong */

int fp_os_cpus(int tid, int *cpus, int room) {
    /* The kernel answers EINVAL while the mask has fewer bits than it has itself. */
    for (int bits = 1024; bits <= FP__MAX_CPUS; bits *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)bits);
        if (set == NULL) {
            return -ENOMEM;
        }
        size_t size = CPU_ALLOC_SIZE((size_t)bits);
        CPU_ZERO_S(size, set);
        int err = sched_getaffinity(tid, size, set) < 0 ? -errno : 0;
        int n = 0;
        for (int cpu = 0; err == 0 && cpu < bits; cpu++) {
            if (CPU_ISSET_S((size_t)cpu, size, set)) {
                if (n < room) {
                    cpus[n] = cpu;
                }
                n++;
            }
        }
        CPU_FREE(set);
        if (fp__is_refused(-err)) {
            return fp__first_cpus(sysconf(_SC_NPROCESSORS_ONLN), cpus, room);
        }
        if (err != -EINVAL) {
            return err < 0 ? err : n;
        }
    }
    return -EINVAL;
}

int fp_os_bind(int tid, const int *cpus, int n) {
    int highest = -1;
    for (int i = 0; i < n; i++) {
        if (cpus[i] < 0 || cpus[i] >= FP__MAX_CPUS) {
            return -EINVAL;
        }
        highest = cpus[i] > highest ? cpus[i] : highest;
    }
    if (highest < 0) {
        return -EINVAL;
    }
    cpu_set_t *set = CPU_ALLOC((size_t)highest + 1);
    if (set == NULL) {
        return -ENOMEM;
    }
    size_t size = CPU_ALLOC_SIZE((size_t)highest + 1);
    CPU_ZERO_S(size, set);
    for (int i = 0; i < n; i++) {
        CPU_SET_S((size_t)cpus[i], size, set);
    }
    int err = sched_setaffinity(tid, size, set) < 0 ? -errno : 0;
    CPU_FREE(set);
    return err;
}

bool fp_os_can_bind(void) {
    const int first = 0;
    return fp_os_bind(INT_MAX, &first, 1) == -ESRCH; /* no thread has that id */
}

uint64_t fp__peak_unit(void) { return 1024; }
bool fp__pair_is_full(int error) {
    (void)error;
    return false;
}

/* Files of /proc say it better. */
void fp_os_memory_of_machine(uint64_t *left, uint64_t *total) { *left = *total = UINT64_MAX; }
uint64_t fp_os_memory_of_self(void) { return 0; }
