/* nap.c: fp_os_nap(), which is nothing but sleeping for a while, again and again.
 *
 * For systems without a futex between processes, or that refuse it to a process (park_futex.c), and to
 * test that nothing above this floor needs one (park_portable.c).
 * It keeps nothing anywhere: no list of sleepers that a killed process could leave half-written, no
 * lock, no descriptor for each word.  A killed sleeper is simply gone; a waker only stores the word,
 * which its caller has done before.
 *
 * Who has slept for a time t naps for t/8 more before the next look, at least SHORTEST, at most LONGEST.
 * So a wake-up comes late by an eighth of the wait, and by LONGEST at most, where a futex needs some 50
 * us; and each sleeper costs some CPU for as long as it sleeps, where a futex costs none.  What that
 * came to on one machine is in docs/memory-model.md.
 *
 * Signals are blocked but for the naps, which unblock them in the same instant: one that comes between
 * two naps ends the next.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"

#include <pthread.h>
#include <signal.h>
#include <sys/select.h>
#include <time.h>

#define SHORTEST 20000  /* ns; the system adds its own, some 50 us on Linux */
#define LONGEST 4000000 /* ns */

static bool fp__is(fp_a32 *word, uint32_t expected) {
    /* seq_cst, as the look of a futex is: the sleeper has announced itself before. */
    return atomic_load_explicit(word, memory_order_seq_cst) == expected;
}

static uint64_t fp__nap_after(uint64_t slept) {
    uint64_t nap = slept / 8;
    return nap < SHORTEST ? SHORTEST : nap > LONGEST ? LONGEST : nap;
}

int fp_os_nap(fp_a32 *word, uint32_t expected, int64_t timeout_ns) {
    sigset_t all, before;
    uint64_t start = fp_os_now_ns();
    uint64_t slept = 0;
    int err = 0;
    FP_CP("nap.begin");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (err == 0 && fp__is(word, expected)) {
        uint64_t nap = fp__nap_after(slept);
        if (timeout_ns >= 0) {
            uint64_t left = (uint64_t)timeout_ns > slept ? (uint64_t)timeout_ns - slept : 0;
            if (left == 0) {
                err = -ETIMEDOUT;
                break;
            }
            nap = nap < left ? nap : left;
        }
        struct timespec ts = {.tv_sec = 0, .tv_nsec = (long)nap};
        if (pselect(0, NULL, NULL, NULL, &ts, &before) < 0) {
            err = -errno;
        }
        slept = fp_os_now_ns() - start;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    FP_CP("nap.end");
    return err;
}
