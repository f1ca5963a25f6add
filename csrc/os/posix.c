/* posix.c: the contract of fp_os.h with no more than POSIX has, for systems that have nothing better.
 * What each of these can do in its own way is in a file of its own: darwin.c, generic.c.
 *
 *   memory     nothing is given back before the segment ends: POSIX knows no holes
 *   bell       a pipe
 *   watches    death pipes; a worker watches the process that forked it by a thread
 *   messages   datagrams: nobody is told that the other end is gone, so ends are watched
 *   files      a temporary file
 *   CPUs       nobody is bound
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* ---- memory ------------------------------------------------------------------------------------ */

int fp_os_memory_map(int fd, uint64_t size, void **base) {
    int flags = MAP_SHARED | MAP_NORESERVE;
    void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (addr == MAP_FAILED) {
        return -errno;
    }
    *base = addr;
    return 0;
}

int fp_os_memory_populate(void *addr, int fd, uint64_t offset, uint64_t len) {
    (void)addr;
    return fp_os_memory_reserve(fd, offset, len);
}

int fp_os_memory_release(void *addr, uint64_t len) {
    (void)addr;
    (void)len;
    return -ENOTSUP;
}

int fp_os_memory_punch(int fd, uint64_t offset, uint64_t len) {
    (void)offset;
    (void)len;
    return fcntl(fd, F_GETFD) < 0 ? -errno : -ENOTSUP;
}

int fp_os_memory_map_private(int fd, uint64_t offset, uint64_t len, void **at) {
    uint64_t into = offset & (fp_os_page_size() - 1);
    int flags = MAP_PRIVATE | MAP_NORESERVE;
    void *addr = mmap(NULL, into + len, PROT_READ | PROT_WRITE, flags, fd, (off_t)(offset - into));
    if (addr == MAP_FAILED) {
        return -errno;
    }
    *at = (unsigned char *)addr + into;
    return 0;
}

int fp_os_memory_own(void *at, uint64_t len) {
    uintptr_t start, end;
    fp__pages(at, len, &start, &end);
    fp__write_pages(start, end);
    return 0;
}

int fp_os_memory_is_written(const void *at, uint64_t len) {
    (void)at;
    (void)len;
    return -ENOTSUP;
}

/* mmap() with MAP_FIXED replaces what is there in one step, as others see it. */
static int fp__remap(void *addr, int fd, uint64_t offset, uint64_t len, int flags) {
    flags |= MAP_NORESERVE | MAP_FIXED;
    void *at = mmap(addr, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
    return at == MAP_FAILED ? -errno : 0;
}

int fp_os_memory_remap_private(void *addr, int fd, uint64_t offset, uint64_t len) {
    int err = fp__remap(addr, fd, offset, len, MAP_PRIVATE);
    if (err < 0 && err != -EBADF) { /* some take the old mapping away before they fail */
        (void)fp__remap(addr, fd, offset, len, MAP_SHARED);
    }
    return err;
}

int fp_os_memory_remap_shared(void *addr, int fd, uint64_t offset, uint64_t len) {
    return fp__remap(addr, fd, offset, len, MAP_SHARED);
}

/* ---- a bell ------------------------------------------------------------------------------------ */

int fp_os_bell_create(int *heard) { return fp__pipe_bell(heard); }

/* ---- processes and their ends ------------------------------------------------------------------ */

int fp_os_watch_kind(void) { return FP_BY_PIPE; }

int fp_os_watch_id(int pid) {
    (void)pid;
    return -ENOTSUP;
}

int fp_os_watch_self(int kind, int *line) {
    (void)kind;
    return fp__pipe_self(line);
}

int fp_os_fork(int kind, int *watch) {
    (void)kind;
    return fp__pipe_fork(watch);
}

int fp_os_signal(int watch, int pid, int signum) { return fp__pipe_signal(watch, pid, signum); }

int fp_os_die_with_parent(int parent_pid, int watch) {
    int err = fp_os_die_with(watch);
    if (err < 0) {
        return err;
    }
    return getppid() == parent_pid ? 0 : -ESRCH;
}

/* ---- messages and files ------------------------------------------------------------------------ */

int fp_os_pair(int ends[2]) { return fp__datagram_pair(ends); }

int fp_os_file_create(void) { return fp__temporary_file(); }

int fp_os_file_reopen(int fd) {
    (void)fd;
    return -ENOTSUP;
}

/* ---- the machine ------------------------------------------------------------------------------- */

int fp_os_bind(int tid, const int *cpus, int n) {
    (void)tid;
    for (int i = 0; i < n; i++) {
        if (cpus[i] < 0) {
            return -EINVAL;
        }
    }
    return -ENOTSUP;
}

bool fp_os_can_bind(void) { return false; }
