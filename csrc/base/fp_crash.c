#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
/* fp_crash.c: see fp_crash.h. */
#include "base/fp_crash.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

fp_crash_hooks fp_crash;
/* One for all that are loaded, also with RTLD_LOCAL as Python does; a linker that does not know of
 * that leaves each extension its own, and then a role is only known to the one that set it. */
#if defined(__ELF__) && !defined(__clang__) /* whose assembler has it one way only */
__asm__(".type fp_crash, %gnu_unique_object");
#endif

static struct {
    char role[16];
    char point[64];
    unsigned long k;
    bool meant; /* the role of this process is the one asked for */
    atomic_ulong passes;
    const char *once; /* a file, or NULL */
} fp__asked;

/* What this process has passed in its role, for the log. */
#define FP__LOGGED 8
#define FP__POINTS 1024
static struct {
    const char *path;
    char role[16];
    struct {
        _Atomic(const char *) name; /* as the first that passed has it: names stay */
        atomic_ulong passes;
    } points[FP__POINTS];
} fp__log;

static void fp__die(void) {
    for (;;) {
        kill(getpid(), SIGKILL);
    }
}

static void fp__pass(const char *point) {
    if (!fp__asked.meant || strcmp(point, fp__asked.point) != 0) {
        return;
    }
    /* Relaxed: any one thread is the k-th. */
    if (atomic_fetch_add_explicit(&fp__asked.passes, 1, memory_order_relaxed) + 1 != fp__asked.k) {
        return;
    }
    if (fp__asked.once != NULL) {
        int fd = open(fp__asked.once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) {
            return; /* another one has died */
        }
        close(fd);
    }
    fp__die();
}

static void fp__write(const char *point, unsigned long k) {
    char line[128];
    int n = snprintf(line, sizeof line, "%s:%s:%lu\n", fp__log.role, point, k);
    int fd = open(fp__log.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)n) != n) {
        abort();
    }
    close(fd);
}

static void fp__note(const char *point) {
    size_t i = 0;
    for (const char *c = point; *c != '\0'; c++) {
        i = i * 31 + (unsigned char)*c;
    }
    for (;; i++) {
        const char *none = NULL;
        i %= FP__POINTS;
        if (atomic_compare_exchange_strong(&fp__log.points[i].name, &none, point) ||
            strcmp(none, point) == 0) {
            break;
        }
    }
    unsigned long k = atomic_fetch_add(&fp__log.points[i].passes, 1) + 1;
    if (k <= FP__LOGGED) {
        fp__write(point, k);
    }
}

static void fp__log_role(const char *role) {
    snprintf(fp__log.role, sizeof fp__log.role, "%s", role);
    for (size_t i = 0; i < FP__POINTS; i++) {
        atomic_store(&fp__log.points[i].passes, 0);
    }
}

static void fp__role(const char *role) {
    fp__asked.meant = strcmp(fp__asked.role, "any") == 0 || strcmp(fp__asked.role, role) == 0;
    atomic_store_explicit(&fp__asked.passes, 0, memory_order_relaxed);
}

__attribute__((constructor)) static void fp__read(void) {
    const char *asked = getenv("FASTPOOL_CRASH");
    if (fp_crash.pass != NULL) {
        return;
    }
    fp__log.path = getenv("FASTPOOL_CRASH_LOG");
    if (fp__log.path != NULL && *fp__log.path != '\0') {
        fp_crash.role = fp__log_role;
        fp__log_role("parent");
        fp_crash.pass = fp__note;
        return;
    }
    if (asked == NULL || *asked == '\0') {
        return;
    }
    int end = 0;
    int n =
        sscanf(asked, "%15[^:]:%63[^:]:%lu%n", fp__asked.role, fp__asked.point, &fp__asked.k, &end);
    if (n != 3 || asked[end] != '\0' || fp__asked.k == 0) {
        fprintf(stderr, "fastpool: FASTPOOL_CRASH=%s is not role:point:k\n", asked);
        abort();
    }
    fp__asked.once = getenv("FASTPOOL_CRASH_ONCE");
    fp_crash.role = fp__role;
    fp__role("parent");
    fp_crash.pass = fp__pass;
}
