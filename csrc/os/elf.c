/* elf.c: the libraries that are loaded, where the loader is one of ELF files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_os.h"

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
