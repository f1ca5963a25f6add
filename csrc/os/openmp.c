/* openmp.c: fp_os_before_fork(), for GNU's OpenMP. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"

#include <dlfcn.h>
#include <limits.h>

/* GNU's OpenMP, as it is installed; wheels bring copies under longer names. */
#define FP__OPENMP "libgomp"
#define FP__OPENMP_COPIES 4
#define FP__OMP_PAUSE_SOFT 1 /* of OpenMP 5.0: keep what the program can see */

struct fp__libraries {
    char path[FP__OPENMP_COPIES][PATH_MAX];
    int count;
};

static int fp__note_openmp(const char *path, void *arg) {
    struct fp__libraries *found = arg;
    const char *slash = strrchr(path, '/');
    if (slash != NULL && strncmp(slash + 1, FP__OPENMP, sizeof FP__OPENMP - 1) == 0 &&
        strlen(path) < PATH_MAX) {
        strcpy(found->path[found->count++], path);
    }
    return found->count == FP__OPENMP_COPIES;
}

void fp_os_before_fork(void) {
    struct fp__libraries found = {.count = 0};
    fp_os_each_library(fp__note_openmp, &found);
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
