/* machine.h: a made-up machine: a folder that looks like /sys and /proc.  Include it with _GNU_SOURCE.
 *
 *     new_machine();                                  an empty one, in place of the one before
 *     put("proc/meminfo", "MemTotal: %d kB", 42);     a file and its folders
 *     ... fp_something(root, ...) ...
 *     remove_machine();
 */
#ifndef MACHINE_H
#define MACHINE_H

#include "check.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static char root[64];

/* Write `text` and a newline into root/path, with the folders on the way. */
__attribute__((format(printf, 2, 3), unused)) static void put(const char *path, const char *text,
                                                              ...) {
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        CHECK(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    CHECK(file != NULL);
    va_list args;
    va_start(args, text);
    vfprintf(file, text, args);
    va_end(args);
    fputc('\n', file);
    fclose(file);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void remove_machine(void) {
    if (*root)
        nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    *root = '\0';
}

static inline void new_machine(void) {
    const char *tmp = getenv("TMPDIR");
    remove_machine();
    CHECK(snprintf(root, sizeof root, "%.40s/fp_test.XXXXXX", tmp ? tmp : "/tmp") > 0);
    CHECK(mkdtemp(root) != NULL);
}

#endif
