/* elf.c: the libraries that are loaded, where the loader is one of ELF files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <link.h>

struct fp__visitor {
    int (*visit)(const char *path, void *arg);
    void *arg;
};

static int fp__each(struct dl_phdr_info *info, size_t size, void *arg) {
    struct fp__visitor *visitor = arg;
    (void)size;
    return info->dlpi_name[0] == '\0' ? 0 : visitor->visit(info->dlpi_name, visitor->arg);
}

void fp_os_each_library(int (*visit)(const char *path, void *arg), void *arg) {
    struct fp__visitor visitor = {visit, arg};
    dl_iterate_phdr(fp__each, &visitor);
}

#if defined(__x86_64__) || defined(__aarch64__)

/* Known to each loader of ELF files, and to no header. */
struct fp__variable {
    unsigned long library, offset;
};
extern void *__tls_get_addr(struct fp__variable *variable);

struct fp__asked {
    const char *path;
    struct fp__variable first;
    size_t size;
};

static int fp__look(struct dl_phdr_info *info, size_t size, void *arg) {
    struct fp__asked *asked = arg;
    (void)size;
    if (strcmp(info->dlpi_name, asked->path) != 0) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            asked->first.library = info->dlpi_tls_modid;
            asked->size = info->dlpi_phdr[i].p_memsz;
        }
    }
    return 1;
}

bool fp__library_was_used(const char *path) {
    struct fp__asked asked = {.path = path};
    dl_iterate_phdr(fp__look, &asked);
    if (asked.size == 0) {
        return true;
    }
    /* dlpi_tls_data is no help: it is NULL as long as nobody has asked in this way. */
    const char *own = __tls_get_addr(&asked.first);
    for (size_t i = 0; i < asked.size; i++) {
        if (own[i] != 0) {
            return true;
        }
    }
    return false;
}

#else /* elsewhere the offset isn't plain */

bool fp__library_was_used(const char *path) {
    (void)path;
    return true;
}

#endif
