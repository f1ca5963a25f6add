/* fp_memory.c: see fp_memory.h. Files of Linux's /proc and cgroups; elsewhere what the os floor says. */
#include "sys/fp_memory.h"

#include "os/fp_os.h"
#include "sys/fp_cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNKNOWN UINT64_MAX
#define MOST_RESERVED (64ull << 20)
#define NO_LIMIT (1ull << 62) /* version 1 writes "none" as a number near 2^63 */

struct memory {
    const char *root;
    uint64_t left, total, swap_free;
};

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Errors are made in time, and others take memory too. */
static uint64_t reserve(uint64_t total) { return least(MOST_RESERVED, total / 32); }

static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* Of the page cache in use not all can be dropped at no cost; the kernel's own estimate of what is
 * available for the whole machine takes off as much. */
static uint64_t droppable(uint64_t inactive, uint64_t active, uint64_t total) {
    return inactive + active - least(active / 2, reserve(total));
}

/* The number behind a name at the start of a line; `otherwise` when there is none. */
static uint64_t named(const char *text, const char *name, uint64_t otherwise) {
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0)
            return strtoull(line + length, NULL, 10);
    }
    return otherwise;
}

/* The number in a file; UNKNOWN when there is none, or none that is a limit. */
static uint64_t number(const char *root, const char *folder, const char *name) {
    char text[32];
    if (!fp__file_read(root, folder, name, text, sizeof text) || *text < '0' || *text > '9')
        return UNKNOWN;
    uint64_t value = strtoull(text, NULL, 10);
    return value < NO_LIMIT ? value : UNKNOWN;
}

/* How much of the free swap a group may use beside its memory. */
static uint64_t swap_of(const struct memory *memory, const char *folder) {
    if (!memory->swap_free)
        return 0;
    uint64_t limit = number(memory->root, folder, "memory.swap.max");
    uint64_t used = number(memory->root, folder, "memory.swap.current");
    if (limit == UNKNOWN || used == UNKNOWN)
        return memory->swap_free;
    return least(memory->swap_free, minus(limit, used));
}

static void visit(void *arg, const char *folder, int version) {
    struct memory *memory = arg;
    const char *root = memory->root;
    bool v2 = version == 2;
    char stat[4096];
    uint64_t limit = number(root, folder, v2 ? "memory.max" : "memory.limit_in_bytes");
    if (limit == UNKNOWN)
        return;
    memory->total = least(memory->total, limit);
    uint64_t used = number(root, folder, v2 ? "memory.current" : "memory.usage_in_bytes");
    if (used == UNKNOWN)
        return;
    uint64_t cache = 0;
    if (fp__file_read(root, folder, "memory.stat", stat, sizeof stat))
        cache = droppable(named(stat, v2 ? "inactive_file " : "total_inactive_file ", 0),
                          named(stat, v2 ? "active_file " : "total_active_file ", 0), limit);
    used = minus(used, cache) + reserve(limit);
    uint64_t swap = v2 ? swap_of(memory, folder) : memory->swap_free;
    memory->left = least(memory->left, minus(limit + swap, used));
    if (v2 || !swap)
        return;
    limit = number(root, folder, "memory.memsw.limit_in_bytes"); /* memory and swap together */
    used = number(root, folder, "memory.memsw.usage_in_bytes");
    if (limit != UNKNOWN && used != UNKNOWN)
        memory->left = least(memory->left, minus(limit, minus(used, cache) + reserve(limit)));
}

void fp_memory_read(const char *root, uint64_t *left, uint64_t *total) {
    struct memory memory = {root, UNKNOWN, UNKNOWN, 0};
    char text[1024]; /* what we look for is in the first lines */
    if (fp__file_read(root, "/proc", "meminfo", text, sizeof text)) {
        uint64_t all = named(text, "MemTotal:", 0), free = named(text, "MemAvailable:", UNKNOWN);
        memory.swap_free = named(text, "SwapFree:", 0) * 1024;
        if (all)
            memory.total = all * 1024;
        if (all && free != UNKNOWN)
            memory.left = minus(free * 1024 + memory.swap_free, reserve(memory.total));
    }
    if (root == NULL && memory.total == UNKNOWN) {
        uint64_t free;
        fp_os_memory_of_machine(&free, &memory.total);
        if (free != UNKNOWN)
            memory.left = minus(free, reserve(memory.total));
    }
    fp__cgroup_walk(root, "memory", visit, &memory);
    *left = memory.left;
    *total = memory.total;
}

uint64_t fp_memory_left(void) {
    uint64_t left, total;
    fp_memory_read(NULL, &left, &total);
    return left;
}

uint64_t fp_memory_total(void) {
    uint64_t left, total;
    fp_memory_read(NULL, &left, &total);
    return total;
}

bool fp_memory_folder(int fd, char *path, size_t size) {
    char link[32], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name - 1);
    name[n < 0 ? 0 : n] = '\0';
    char *slash = strrchr(name, '/');
    if (slash == NULL || slash == name || (size_t)(slash - name) >= size)
        return false;
    *slash = '\0';
    memcpy(path, name, (size_t)(slash - name) + 1);
    return true;
}

uint64_t fp_memory_of_self(void) {
    char text[128]; /* pages: all, resident, of these shared ... */
    if (!fp__file_read(NULL, "/proc/self", "statm", text, sizeof text))
        return fp_os_memory_of_self();
    char *at = text;
    strtoull(at, &at, 10);
    uint64_t resident = strtoull(at, &at, 10);
    return minus(resident, strtoull(at, &at, 10)) * fp_os_page_size();
}

struct kills {
    const char *root;
    uint64_t count;
};

/* The first group that says it is this process's own; its count includes those below. */
static void count_kills(void *arg, const char *folder, int version) {
    struct kills *kills = arg;
    char text[512];
    const char *name = version == 2 ? "memory.events" : "memory.oom_control";
    if (kills->count == UNKNOWN && fp__file_read(kills->root, folder, name, text, sizeof text))
        kills->count = named(text, "oom_kill ", UNKNOWN);
}

uint64_t fp_memory_kills(const char *root) {
    struct kills kills = {root, UNKNOWN};
    fp__cgroup_walk(root, "memory", count_kills, &kills);
    return kills.count;
}
