/* unix.c: what every system that we know does alike.  See fp_os.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_TMPFILE */
#endif

#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL /* where the socket has an option for it */
#define MSG_NOSIGNAL 0
#endif
#ifndef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0
#endif
#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0
#endif

uint64_t fp_os_page_size(void) {
    long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (uint64_t)size : 4096;
}

void fp__pages(const void *addr, uint64_t len, uintptr_t *start, uintptr_t *end) {
    uint64_t page = fp_os_page_size();
    *start = (uintptr_t)addr & ~(uintptr_t)(page - 1);
    *end = FP_ALIGN_UP((uintptr_t)addr + len, page);
}

void fp__write_pages(uintptr_t start, uintptr_t end) {
    /* Swapping a byte for itself is a write; adding nothing is one only if the compiler lets it be.
     * Atomic and relaxed: another thread may write there. */
    for (uint64_t page = fp_os_page_size(); start < end; start += page) {
        _Atomic unsigned char *byte = (_Atomic unsigned char *)start;
        unsigned char same = atomic_load_explicit(byte, memory_order_relaxed);
        atomic_compare_exchange_strong_explicit(byte, &same, same, memory_order_relaxed,
                                                memory_order_relaxed);
    }
}

int64_t fp_os_memory_size(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? -errno : (int64_t)st.st_size;
}

void fp_os_memory_bounds(int fd, uint64_t *left, uint64_t *total) {
    struct statvfs found;
    *left = *total = UINT64_MAX;
    if (fstatvfs(fd, &found) == 0 && found.f_blocks > 0) { /* memory without a limit tells none */
        *left = (uint64_t)found.f_bavail * found.f_frsize;
        *total = (uint64_t)found.f_blocks * found.f_frsize;
    }
}

int fp_os_memory_unmap(void *base, uint64_t size) { return munmap(base, size) < 0 ? -errno : 0; }

int fp_os_memory_unmap_private(void *at, uint64_t len) {
    uintptr_t start, end;
    fp__pages(at, len, &start, &end);
    return munmap((void *)start, end - start) < 0 ? -errno : 0;
}

void fp_os_yield(void) { (void)sched_yield(); }

/* The clock of Python's time.monotonic(), which is compared with this one. */
#ifdef CLOCK_UPTIME_RAW /* macOS; its CLOCK_MONOTONIC goes on while the machine sleeps */
#define FP__CLOCK CLOCK_UPTIME_RAW
#else
#define FP__CLOCK CLOCK_MONOTONIC
#endif

uint64_t fp_os_now_ns(void) {
    struct timespec ts;
    clock_gettime(FP__CLOCK, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int fp_os_reap(int pid, bool wait, int *status, uint64_t *peak) {
    struct rusage usage = {0};
    pid_t got;
    do {
        got = wait4(pid, status, wait ? 0 : WNOHANG, &usage);
    } while (got < 0 && errno == EINTR);
    *peak = (uint64_t)usage.ru_maxrss * fp__peak_unit();
    return got < 0 ? -errno : got;
}

int fp_os_spare_signal(void) {
#ifdef SIGRTMIN
    return SIGRTMIN + 9;
#else
    return SIGEMT;
#endif
}

int fp__first_cpus(long n, int *cpus, int room) {
    n = n < 1 ? 1 : n;
    for (int cpu = 0; cpu < n && cpu < room; cpu++) {
        cpus[cpu] = cpu;
    }
    return (int)n;
}

/* ---- messages ---------------------------------------------------------------------------------- */

int fp_os_send(int end, const void *data, size_t size, int fd) {
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    ssize_t n;
    do {
        n = sendmsg(end, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? 0 : fp__pair_is_full(errno) ? -EAGAIN : -errno;
}

long fp_os_receive(int end, void *data, size_t room, int *fd) {
    struct iovec part = {.iov_base = data, .iov_len = room};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    ssize_t n;
    *fd = -1;
    do {
        n = recvmsg(end, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(fd, CMSG_DATA(header), sizeof *fd);
        if (MSG_CMSG_CLOEXEC == 0) {
            fcntl(*fd, F_SETFD, FD_CLOEXEC);
        }
    } else if (message.msg_flags & MSG_CTRUNC) {
        *fd = -EMFILE;
    }
    return n;
}

void fp_os_hang_up(int end) { (void)shutdown(end, SHUT_RDWR); }

int fp__poll_room(int end, int timeout_ms) {
    struct pollfd fd = {.fd = end, .events = POLLOUT};
    int n = poll(&fd, 1, timeout_ms);
    return n > 0 ? 0 : n == 0 ? -EAGAIN : -errno;
}

/* Room for some orders: the least that systems give is 2 KiB. */
#define FP__PAIR_ROOM (256 << 10)

int fp__datagram_pair(int ends[2]) {
    int room = FP__PAIR_ROOM;
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) < 0) {
        return -errno;
    }
    for (int i = 0; i < 2; i++) {
        if (SOCK_CLOEXEC == 0) {
            fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        }
        (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        (void)setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
#ifdef SO_NOSIGPIPE
        int yes = 1;
        (void)setsockopt(ends[i], SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
#endif
    }
    return 0;
}

int fp__pipe_bell(int *heard) {
    int ends[2];
    int err = fp__pipe(ends);
    if (err < 0) {
        *heard = -1;
        return err;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    *heard = ends[0];
    return ends[1];
}

/* An eventfd, or a pipe: both take eight bytes, whole or not at all. */
int fp_os_bell_ring(int fd) {
    uint64_t one = 1;
    ssize_t n;
    FP_CP("bell_fd.ring");
    do {
        n = write(fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
    FP_CP("bell_fd.rung");
    /* EAGAIN: there is no room for more, so the bell is ringing already. */
    return n < 0 && errno != EAGAIN ? -errno : 0;
}

int fp_os_bell_clear(int heard) {
    uint64_t rings[64];
    ssize_t n;
    FP_CP("bell_fd.clear");
    do {
        n = read(heard, rings, sizeof rings);
    } while (n == sizeof rings || (n < 0 && errno == EINTR));
    FP_CP("bell_fd.cleared");
    return n < 0 && errno != EAGAIN ? -errno : 0;
}

/* ---- files ------------------------------------------------------------------------------------- */

/* With twenty workers a pool begins with less. */
#define FP__ROOM (1ull << 20)

int fp__with_room(int fd) {
    uint64_t left, total;
    fp_os_memory_bounds(fd, &left, &total);
    if (left >= FP__ROOM) {
        return fd;
    }
    close(fd);
    return -ENOSPC;
}

int fp__nameless_file(const char *folder) {
    int fd = -1;
#ifdef O_TMPFILE
    fd = open(folder, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
#endif
    /* Not every file system has nameless files; then it has a name until the line after the next.  Who
     * is killed between the two leaves an empty file. */
    for (int tries = 0; fd < 0 && tries < 100; tries++) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/fastpool-%ld-%llx", folder, (long)getpid(),
                         (unsigned long long)fp_os_now_ns());
        if (n < 0 || (size_t)n >= sizeof path) {
            return -ENAMETOOLONG;
        }
        fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            (void)unlink(path);
        } else if (errno != EEXIST && errno != EINTR) {
            return -errno;
        }
    }
    return fd < 0 ? -EEXIST : fp__with_room(fd);
}

/* In the order of Python's tempfile. */
int fp__temporary_file(void) {
    const char *folders[] = {
        getenv("TMPDIR"), getenv("TEMP"), getenv("TMP"), "/tmp", "/var/tmp", "/usr/tmp", ".",
    };
    int fd = -ENOENT;
    for (size_t i = 0; i < sizeof folders / sizeof *folders && fd < 0; i++) {
        if (folders[i] != NULL) {
            fd = fp__nameless_file(folders[i]);
        }
    }
    return fd;
}

static bool fp__is_exhausted(int err) { return err == -EMFILE || err == -ENFILE || err == -ENOMEM; }

int fp__memory_of(int fd, uint64_t size) {
    if (fd < 0 && !fp__is_exhausted(fd)) {
        fd = fp__temporary_file();
    }
    if (fd < 0) {
        return fp__is_exhausted(fd) ? fd : -EOPNOTSUPP;
    }
    while (ftruncate(fd, (off_t)size) < 0) {
        int err = errno;
        if (err != EINTR) {
            close(fd);
            return -err;
        }
    }
    return fd;
}
