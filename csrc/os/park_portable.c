/* park_portable.c: fp_os_park() and fp_os_unpark() without a futex: a sleeper naps. */
#include "os/fp_os.h"

int fp_os_park(fp_a32 *word, uint32_t expected, int64_t timeout_ns) {
    return fp_os_nap(word, expected, timeout_ns);
}

int fp_os_unpark(fp_a32 *word, int n) {
    (void)word;
    (void)n;
    return 0; /* they look for themselves */
}

bool fp_os_can_wake(void) { return true; }
