/* fp_topo.c: see fp_topo.h. Files of Linux's /sys; what is missing says nothing. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/fp_topo.h"

#include "os/fp_os.h"
#include "sys/fp_cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- files ----------------------------------------------------------------------------------- */

/* Open root + a printf of the rest, to read; NULL when that is impossible for any reason. */
__attribute__((format(printf, 2, 3))) static FILE *open_at(const char *root, const char *fmt, ...) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s", root ? root : "");
    if (n < 0 || (size_t)n >= sizeof path)
        return NULL;
    va_list args;
    va_start(args, fmt);
    int m = vsnprintf(path + n, sizeof path - (size_t)n, fmt, args);
    va_end(args);
    if (m < 0 || (size_t)(n + m) >= sizeof path)
        return NULL;
    return fopen(path, "re");
}

/* The first number in a file, which for a CPU list is its lowest; `otherwise` when there is none.
 * Closes the file. */
static int first_number(FILE *file, int otherwise) {
    int value;
    if (!file)
        return otherwise;
    if (fscanf(file, "%d", &value) != 1 || value < 0) /* -1: the firmware doesn't know */
        value = otherwise;
    fclose(file);
    return value;
}

/* The next "3" or "3-7" of a CPU list; false at its end. */
static bool next_range(FILE *file, int *low, int *high) {
    if (fscanf(file, "%d", low) != 1)
        return false;
    *high = *low;
    int c = fgetc(file);
    if (c == '-') {
        if (fscanf(file, "%d", high) != 1)
            return false;
        c = fgetc(file);
    }
    if (c != ',' && c != EOF)
        ungetc(c, file);
    return true;
}

/* ---- topology -------------------------------------------------------------------------------- */

static int by_number(int a, int b) { return (a > b) - (a < b); }

/* Package, node, cache, core, CPU: the tree of the machine, and the order of equal sizes. */
static int by_place(const void *left, const void *right) {
    const struct fp_topo_cpu *a = left, *b = right;
    int c = by_number(a->package, b->package);
    c = c ? c : by_number(a->node, b->node);
    c = c ? c : by_number(a->cache, b->cache);
    c = c ? c : by_number(a->core, b->core);
    return c ? c : by_number(a->cpu, b->cpu);
}

static int by_compact(const void *left, const void *right) {
    const struct fp_topo_cpu *a = left, *b = right;
    int c = by_number(a->package, b->package);
    c = c ? c : by_number(a->node, b->node);
    c = c ? c : by_number(a->smt, b->smt);
    return c ? c : by_place(left, right);
}

static int by_scatter(const void *left, const void *right) {
    const struct fp_topo_cpu *a = left, *b = right;
    int c = by_number(a->smt, b->smt);
    c = c ? c : by_number(a->core_rank, b->core_rank);
    c = c ? c : by_number(a->cache_rank, b->cache_rank);
    c = c ? c : by_number(a->node_rank, b->node_rank);
    return c ? c : by_place(left, right);
}

static int by_cpu(const void *left, const void *right) {
    const struct fp_topo_cpu *a = left, *b = right;
    return by_number(a->cpu, b->cpu);
}

/* Set the node of each CPU; `cpus` ascends by CPU number. */
static void read_nodes(const char *root, struct fp_topo_cpu *cpus, int n) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/sys/devices/system/node", root ? root : "");
    if (length < 0 || (size_t)length >= sizeof path)
        return;
    DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        int node, end = 0;
        if (sscanf(entry->d_name, "node%d%n", &node, &end) != 1 || entry->d_name[end])
            continue;
        FILE *file = open_at(root, "/sys/devices/system/node/node%d/cpulist", node);
        if (!file)
            continue;
        int low, high, i = 0;
        while (next_range(file, &low, &high)) {
            while (i < n && cpus[i].cpu < low)
                i++;
            for (; i < n && cpus[i].cpu <= high; i++)
                cpus[i].node = node;
        }
        fclose(file);
    }
    closedir(dir);
}

/* The lowest CPU that shares this one's last cache; 0, one cache for all, when nobody says. */
static int read_cache(const char *root, int cpu) {
    for (int index = 4; index >= 0; index--) {
        FILE *file = open_at(root, "/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list",
                             cpu, index);
        if (file)
            return first_number(file, 0);
    }
    return 0;
}

static int read_core(const char *root, int cpu) {
    FILE *file = open_at(root, "/sys/devices/system/cpu/cpu%d/topology/core_cpus_list", cpu);
    if (!file) /* its name before Linux 5.3 */
        file = open_at(root, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    return first_number(file, cpu);
}

/* Count within each parent; `cpus` is in by_place order. */
static void rank(struct fp_topo_cpu *cpus, int n) {
    for (int i = 1; i < n; i++) {
        const struct fp_topo_cpu *was = &cpus[i - 1];
        struct fp_topo_cpu *is = &cpus[i];
        if (is->package != was->package)
            continue; /* all ranks are 0 */
        is->node_rank = was->node_rank + (is->node != was->node);
        if (is->node != was->node)
            continue;
        is->cache_rank = was->cache_rank + (is->cache != was->cache);
        if (is->cache != was->cache)
            continue;
        is->core_rank = was->core_rank + (is->core != was->core);
        if (is->core == was->core)
            is->smt = was->smt + 1;
    }
}

int fp_topo_read(const char *root, const int *cpus, int n, struct fp_topo_cpu *out) {
    if (n < 1)
        return -EINVAL;
    for (int i = 0; i < n; i++) {
        if (cpus[i] < 0)
            return -EINVAL;
        out[i] = (struct fp_topo_cpu){.cpu = cpus[i]};
    }
    qsort(out, (size_t)n, sizeof *out, by_cpu);
    for (int i = 1; i < n; i++)
        if (out[i].cpu == out[i - 1].cpu)
            return -EINVAL;
    for (int i = 0; i < n; i++) {
        int cpu = out[i].cpu;
        out[i].package = first_number(
            open_at(root, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu), 0);
        out[i].core = read_core(root, cpu);
        out[i].cache = read_cache(root, cpu);
    }
    read_nodes(root, out, n);
    qsort(out, (size_t)n, sizeof *out, by_place);
    rank(out, n);
    return 0;
}

int fp_topo_sort(struct fp_topo_cpu *cpus, int n, int order) {
    if (n < 0 || (order != FP_TOPO_COMPACT && order != FP_TOPO_SCATTER))
        return -EINVAL;
    qsort(cpus, (size_t)n, sizeof *cpus, order == FP_TOPO_COMPACT ? by_compact : by_scatter);
    return 0;
}

/* ---- cgroups --------------------------------------------------------------------------------- */

struct quota {
    const char *root;
    double tightest; /* in CPUs; 0: none */
};

/* The first number of a file, 0 when there is none. */
static long long number_in(const char *root, const char *folder, const char *name) {
    char text[64];
    long long value = 0;
    if (!fp__file_read(root, folder, name, text, sizeof text) || sscanf(text, "%lld", &value) != 1)
        return 0;
    return value;
}

static void tighten(void *arg, const char *folder, int version) {
    struct quota *found = arg;
    long long quota = 0, period = 0;
    char text[64];
    if (version == 2) { /* "max 100000" or "150000 100000" */
        if (!fp__file_read(found->root, folder, "cpu.max", text, sizeof text) ||
            sscanf(text, "%lld %lld", &quota, &period) != 2)
            return;
    } else { /* -1 is no limit */
        quota = number_in(found->root, folder, "cpu.cfs_quota_us");
        period = number_in(found->root, folder, "cpu.cfs_period_us");
    }
    if (quota <= 0 || period <= 0)
        return;
    double limit = (double)quota / (double)period;
    if (found->tightest == 0 || limit < found->tightest)
        found->tightest = limit;
}

int fp_topo_quota(const char *root, double *cores) {
    struct quota found = {root, 0};
    fp__cgroup_walk(root, "cpu", tighten, &found);
    if (found.tightest > 0)
        *cores = found.tightest;
    return found.tightest > 0;
}

int fp_topo_usable(const char *root) {
    double cores;
    int n = fp_os_cpus(0, NULL, 0);
    if (n < 0)
        return n;
    if (fp_topo_quota(root, &cores) == 1 && cores < n) {
        int whole = (int)cores;
        n = whole < cores ? whole + 1 : whole;
    }
    return n > 0 ? n : 1;
}
