#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
/* fp_crash.c: see fp_crash.h. */
#include "base/fp_crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

fp_crash_hooks fp_crash;
/* One for all that are loaded, also with RTLD_LOCAL as Python does; a linker that does not know the
 * type leaves each extension its own, and then a role is only known to the one that set it. */
__asm__(".type fp_crash, %gnu_unique_object");

static struct {
    char role[16];
    char point[64];
    unsigned long k;
    bool meant; /* the role of this process is the one asked for */
    atomic_ulong passes;
} fp__asked;

static void fp__pass(const char *point) {
    if (!fp__asked.meant || strcmp(point, fp__asked.point) != 0) {
        return;
    }
    /* Relaxed: any one thread is the k-th. */
    if (atomic_fetch_add_explicit(&fp__asked.passes, 1, memory_order_relaxed) + 1 == fp__asked.k) {
        for (;;) {
            kill(getpid(), SIGKILL);
        }
    }
}

static void fp__role(const char *role) {
    fp__asked.meant = strcmp(fp__asked.role, "any") == 0 || strcmp(fp__asked.role, role) == 0;
    atomic_store_explicit(&fp__asked.passes, 0, memory_order_relaxed);
}

__attribute__((constructor)) static void fp__read(void) {
    const char *asked = getenv("FASTPOOL_CRASH");
    if (asked == NULL || *asked == '\0' || fp_crash.pass != NULL) {
        return;
    }
    int end = 0;
    int n =
        sscanf(asked, "%15[^:]:%63[^:]:%lu%n", fp__asked.role, fp__asked.point, &fp__asked.k, &end);
    if (n != 3 || asked[end] != '\0' || fp__asked.k == 0) {
        fprintf(stderr, "fastpool: FASTPOOL_CRASH=%s is not role:point:k\n", asked);
        abort();
    }
    fp_crash.role = fp__role;
    fp__role("parent");
    fp_crash.pass = fp__pass;
}
