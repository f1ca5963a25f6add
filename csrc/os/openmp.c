/* openmp.c: fp_os_before_fork() and fp_os_after_fork(), for GNU's OpenMP. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <dlfcn.h>
#include <limits.h>

/* GNU's OpenMP, as it is installed; wheels bring copies under longer names. */
#define FP__OPENMP "libgomp"
#define FP__OMP_PAUSE_SOFT 1 /* of OpenMP 5.0: keep what the program can see */

struct fp__libraries {
    char path[FP_OPENMP_COPIES][PATH_MAX];
    int count;
};

static int fp__note_openmp(const char *path, void *arg) {
    struct fp__libraries *found = arg;
    const char *slash = strrchr(path, '/');
    if (slash != NULL && strncmp(slash + 1, FP__OPENMP, sizeof FP__OPENMP - 1) == 0 &&
        strlen(path) < PATH_MAX) {
        strcpy(found->path[found->count++], path);
    }
    return found->count == FP_OPENMP_COPIES;
}

/* A function of a library, as one of the type of *function. */
static bool fp__find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* With no level of parallel regions allowed, each region has the one thread that comes to it, whatever
 * number it asks for. */
static void fp__stop_openmp(void *library, struct fp_os_openmp *openmp) {
    int (*levels)(void);
    void (*set_levels)(int);
    if (fp__find(library, "omp_get_max_active_levels", &levels) &&
        fp__find(library, "omp_set_max_active_levels", &set_levels)) {
        openmp->stopped[openmp->count].set_levels = set_levels;
        openmp->stopped[openmp->count++].levels = levels();
        set_levels(0);
    }
}

void fp_os_before_fork(struct fp_os_openmp *openmp) {
    struct fp__libraries found = {.count = 0};
    openmp->count = 0;
    fp_os_each_library(fp__note_openmp, &found);
    for (int i = 0; i < found.count; i++) {
        void *library = dlopen(found.path[i], RTLD_LAZY | RTLD_NOLOAD);
        int (*pause_all)(int);
        if (library == NULL) {
            continue;
        }
        if (fp__find(library, "omp_pause_resource_all", &pause_all)) {
            pause_all(FP__OMP_PAUSE_SOFT); /* refused inside of a parallel region: then so be it */
        } else if (fp__library_was_used(found.path[i])) {
            fp__stop_openmp(library, openmp);
        }
        dlclose(library);
    }
}

void fp_os_after_fork(const struct fp_os_openmp *openmp) {
    for (int i = 0; i < openmp->count; i++) {
        openmp->stopped[i].set_levels(openmp->stopped[i].levels);
    }
}
