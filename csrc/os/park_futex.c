/* park_futex.c: fp_os_park() and fp_os_unpark() by Linux's futex: a sleeper takes no CPU at all.
 *
 * Where the system refuses the futex to this process, a sleeper naps.  That is found out by each sleep
 * anew, which costs little beside a nap, and no memory of it has to be kept: a filter of system calls
 * may hold for one thread and not for another.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fp_os_park(fp_a32 *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec ts;
    struct timespec *timeout = NULL;
    if (timeout_ns >= 0) {
        ts.tv_sec = timeout_ns / 1000000000;
        ts.tv_nsec = timeout_ns % 1000000000;
        timeout = &ts;
    }
    FP_CP("park.begin");
    long err = syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout, NULL, 0);
    FP_CP("park.end");
    if (err == 0 || errno == EAGAIN) {
        return 0;
    }
    if (errno == ETIMEDOUT || errno == EINTR) {
        return -errno;
    }
    return fp_os_nap(word, expected, timeout_ns);
}

int fp_os_unpark(fp_a32 *word, int n) {
    FP_CP("unpark.begin");
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
    FP_CP("unpark.end");
    return woken < 0 ? -errno : (int)woken;
}

bool fp_os_can_wake(void) {
    fp_a32 nobodys = 0;
    return fp_os_unpark(&nobodys, 1) >= 0;
}
