/* linux.c: the contract of fp_os.h on Linux 4.14 and later, glibc and musl.  Its sleeping and waking are
 * in park_futex.c, or in park_portable.c: the build takes one of them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
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

/* The most that one fallocate() is asked for. */
#define FP__STEP (4ull << 20)

uint64_t fp_os_page_size(void) {
    long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (uint64_t)size : 4096;
}

int fp_os_memory_create(uint64_t size) {
    /* Kernels before 6.3 don't know NOEXEC_SEAL; newer ones log a warning without it. */
    int fd = (int)syscall(SYS_memfd_create, "fastpool", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = (int)syscall(SYS_memfd_create, "fastpool", MFD_CLOEXEC);
    }
    if (fd < 0) {
        return -errno;
    }
    while (ftruncate(fd, (off_t)size) < 0) {
        int err = errno;
        if (err == EINTR) {
            continue;
        }
        close(fd);
        return -err;
    }
    return fd;
}

int64_t fp_os_memory_size(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? -errno : (int64_t)st.st_size;
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

int fp_os_memory_unmap(void *base, uint64_t size) { return munmap(base, size) < 0 ? -errno : 0; }

/* The whole pages around [addr, addr+len). */
static void fp__pages(const void *addr, uint64_t len, uintptr_t *start, uintptr_t *end) {
    uint64_t page = fp_os_page_size();
    *start = (uintptr_t)addr & ~(uintptr_t)(page - 1);
    *end = FP_ALIGN_UP((uintptr_t)addr + len, page);
}

static int fp__populate(uintptr_t start, uintptr_t end) {
    while (madvise((void *)start, end - start, MADV_POPULATE_WRITE) < 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return errno == EINVAL ? -EINVAL : -ENOMEM;
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
        } else if (errno == ENOSYS || errno == EOPNOTSUPP) {
            return 0; /* not Linux's own: there the store itself is the first touch */
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

int fp_os_memory_unmap_private(void *at, uint64_t len) {
    uintptr_t start, end;
    fp__pages(at, len, &start, &end);
    return munmap((void *)start, end - start) < 0 ? -errno : 0;
}

int fp_os_memory_own(void *at, uint64_t len) {
    uintptr_t start, end;
    fp__pages(at, len, &start, &end);
    int err = fp__populate(start, end);
    if (err != -EINVAL) {
        return err;
    }
    /* Swapping a byte for itself is a write; adding nothing is one only if the compiler lets it be.
     * Atomic and relaxed: another thread may write there, and then the page is a copy already. */
    for (uint64_t page = fp_os_page_size(); start < end; start += page) {
        _Atomic unsigned char *byte = (_Atomic unsigned char *)start;
        unsigned char same = atomic_load_explicit(byte, memory_order_relaxed);
        atomic_compare_exchange_strong_explicit(byte, &same, same, memory_order_relaxed,
                                                memory_order_relaxed);
    }
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

void fp_os_yield(void) { (void)sched_yield(); }

uint64_t fp_os_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int fp_os_bell_create(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int fp_os_bell_ring(int fd) {
    uint64_t one = 1;
    ssize_t n;
    FP_CP("eventfd.ring");
    do {
        n = write(fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
    FP_CP("eventfd.rung");
    /* EAGAIN: the counter is full, so the bell is ringing already. */
    return n < 0 && errno != EAGAIN ? -errno : 0;
}

int fp_os_bell_clear(int fd) {
    uint64_t count;
    ssize_t n;
    FP_CP("eventfd.clear");
    do {
        n = read(fd, &count, sizeof count);
    } while (n < 0 && errno == EINTR);
    FP_CP("eventfd.cleared");
    return n < 0 && errno != EAGAIN ? -errno : 0;
}

int fp_os_pidfd_open(int pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int fp_os_die_with_parent(int parent_pid) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return -errno;
    }
    /* The parent may have ended between the fork and the line above. */
    return getppid() == parent_pid ? 0 : -ESRCH;
}

static void *fp__watch(void *arg) {
    struct pollfd watched = {.fd = (int)(intptr_t)arg, .events = POLLIN};
    for (;;) {
        int n = poll(&watched, 1, -1);
        if (n > 0 || (n < 0 && errno != EINTR)) {
            /* No exit handlers: nothing of the dead process's work may go on. */
            kill(getpid(), SIGKILL);
        }
    }
    return NULL;
}

int fp_os_die_with(int pidfd) {
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    int err = pthread_attr_init(&attr);
    if (err != 0) {
        return -err;
    }
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN > 65536 ? PTHREAD_STACK_MIN : 65536);
    /* Signals belong to the program's threads, never to this one. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&thread, &attr, fp__watch, (void *)(intptr_t)pidfd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}

/* GNU's OpenMP, as it is installed; wheels bring copies under longer names. */
#define FP__OPENMP "libgomp"
#define FP__OPENMP_COPIES 4
#define FP__OMP_PAUSE_SOFT 1 /* of OpenMP 5.0: keep what the program can see */

struct fp__libraries {
    char path[FP__OPENMP_COPIES][PATH_MAX];
    int count;
};

static int fp__note_openmp(struct dl_phdr_info *info, size_t size, void *arg) {
    struct fp__libraries *found = arg;
    const char *slash = strrchr(info->dlpi_name, '/');
    (void)size;
    if (slash != NULL && strncmp(slash + 1, FP__OPENMP, sizeof FP__OPENMP - 1) == 0 &&
        strlen(info->dlpi_name) < PATH_MAX) {
        strcpy(found->path[found->count++], info->dlpi_name);
    }
    return found->count == FP__OPENMP_COPIES;
}

void fp_os_before_fork(void) {
    struct fp__libraries found = {.count = 0};
    dl_iterate_phdr(fp__note_openmp, &found); /* its lock is held there: no dlopen() inside */
    for (int i = 0; i < found.count; i++) {
        void *library = dlopen(found.path[i], RTLD_LAZY | RTLD_NOLOAD);
        if (library == NULL) {
            continue;
        }
        void *symbol = dlsym(library, "omp_pause_resource_all");
        if (symbol != NULL) {
            int (*pause_all)(int);
            memcpy(&pause_all, &symbol, sizeof pause_all);
            pause_all(FP__OMP_PAUSE_SOFT); /* refused inside of a parallel region: then so be it */
        }
        dlclose(library);
    }
}
