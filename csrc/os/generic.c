/* generic.c: what POSIX alone can say, beside posix.c, of a system that has no file of its own. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* A name that nobody has: short, since some systems take no more than 31 characters. */
static void fp__name(char *name, size_t size, unsigned attempt) {
    unsigned long long instant = fp_os_now_ns() + attempt;
    snprintf(name, size, "/fastpool-%x-%llx", (unsigned)getpid(), instant & 0xffffffffff);
}

/* A shared memory object, whose name is gone at once; who is killed between the two calls leaves an empty
 * one under it. */
int fp_os_memory_create(uint64_t size) {
    int fd = -EEXIST;
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        char name[31];
        fp__name(name, sizeof name, attempt);
        fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600); /* close-on-exec by itself */
        if (fd >= 0) {
            shm_unlink(name);
            fd = fp__with_room(fd);
            break;
        }
        fd = -errno;
        if (fd != -EEXIST && fd != -EINTR) {
            break;
        }
    }
    return fp__memory_of(fd, size);
}

/* The most that one posix_fallocate() is asked for: a signal undoes what one call has done so far. */
#define FP__STEP (4ull << 20)

int fp_os_memory_reserve(int fd, uint64_t offset, uint64_t len) {
    for (uint64_t end = offset + len; offset < end;) {
        uint64_t step = end - offset < FP__STEP ? end - offset : FP__STEP;
        int err = posix_fallocate(fd, (off_t)offset, (off_t)step);
        if (err == 0) {
            offset += step;
        } else if (err == EOPNOTSUPP || err == ENOSYS) {
            return 0; /* there the store itself is the first touch */
        } else if (err != EINTR) {
            return -ENOMEM;
        }
    }
    return 0;
}

/* In POSIX since 2024, on most systems for long. */
int fp__pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0; }

bool fp__pair_is_full(int error) {
    (void)error;
    return false;
}

int fp_os_await_room(int end, int timeout_ms) { return fp__poll_room(end, timeout_ms); }

int fp_os_cpus(int tid, int *cpus, int room) {
    return tid != 0 ? -ENOTSUP : fp__first_cpus(sysconf(_SC_NPROCESSORS_ONLN), cpus, room);
}

uint64_t fp__peak_unit(void) { return 1024; }

void fp_os_memory_of_machine(uint64_t *left, uint64_t *total) {
    long pages = sysconf(_SC_PHYS_PAGES);
    *left = UINT64_MAX;
    *total = pages > 0 ? (uint64_t)pages * fp_os_page_size() : UINT64_MAX;
}

uint64_t fp_os_memory_of_self(void) { return 0; }
