/* fp_topo.c: see fp_topo.h. Linux: sysfs, procfs, sched_{get,set}affinity. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* CPU_ALLOC, sched_getaffinity */
#endif
#include "sys/fp_topo.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CPUS (1 << 20) /* no mask is larger; a bound for what goes wrong */

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

/* ---- masks ----------------------------------------------------------------------------------- */

int fp_topo_mask(int tid, int *cpus, int room) {
    /* The kernel answers EINVAL while the mask has fewer bits than it has itself. */
    for (int bits = 1024; bits <= MAX_CPUS; bits *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)bits);
        if (!set)
            return -ENOMEM;
        size_t size = CPU_ALLOC_SIZE((size_t)bits);
        CPU_ZERO_S(size, set);
        if (sched_getaffinity(tid, size, set) == 0) {
            int n = 0;
            for (int cpu = 0; cpu < bits; cpu++)
                if (CPU_ISSET_S((size_t)cpu, size, set)) {
                    if (n < room)
                        cpus[n] = cpu;
                    n++;
                }
            CPU_FREE(set);
            return n;
        }
        int error = errno;
        CPU_FREE(set);
        if (error != EINVAL)
            return -error;
    }
    return -EINVAL;
}

int fp_topo_bind(int tid, const int *cpus, int n) {
    int highest = -1;
    for (int i = 0; i < n; i++) {
        if (cpus[i] < 0 || cpus[i] >= MAX_CPUS)
            return -EINVAL;
        if (cpus[i] > highest)
            highest = cpus[i];
    }
    if (highest < 0)
        return -EINVAL;
    cpu_set_t *set = CPU_ALLOC((size_t)highest + 1);
    if (!set)
        return -ENOMEM;
    size_t size = CPU_ALLOC_SIZE((size_t)highest + 1);
    CPU_ZERO_S(size, set);
    for (int i = 0; i < n; i++)
        CPU_SET_S((size_t)cpus[i], size, set);
    int result = sched_setaffinity(tid, size, set) ? -errno : 0;
    CPU_FREE(set);
    return result;
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

/* Is `word` in a comma-separated list? */
static bool listed(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

/* mountinfo writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* The limit that one cgroup folder states, in CPUs; 0 when it states none. */
static double limit_of(const char *root, const char *folder, int version) {
    long long quota = 0, period = 0;
    if (version == 2) { /* "max 100000" or "150000 100000" */
        FILE *file = open_at(root, "%s/cpu.max", folder);
        if (!file)
            return 0;
        if (fscanf(file, "%lld %lld", &quota, &period) != 2)
            quota = 0;
        fclose(file);
    } else { /* -1 is no limit */
        FILE *file = open_at(root, "%s/cpu.cfs_quota_us", folder);
        quota = first_number(file, 0);
        file = open_at(root, "%s/cpu.cfs_period_us", folder);
        period = first_number(file, 0);
    }
    return quota > 0 && period > 0 ? (double)quota / (double)period : 0;
}

/* This process's path in a hierarchy, from /proc/self/cgroup: lines "number:controllers:path", and
 * version 2 is the one without controllers. False when it isn't in that hierarchy. */
static bool own_path(const char *root, int version, char *path, size_t size) {
    FILE *file = open_at(root, "/proc/self/cgroup");
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    if (!file)
        return false;
    while (!found && getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *name = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!name)
            continue;
        controllers++;
        *name++ = '\0';
        if (version == 2 ? *controllers == '\0' : listed(controllers, "cpu"))
            found = snprintf(path, size, "%s", name) < (int)size;
    }
    free(line);
    fclose(file);
    return found;
}

/* The tightest limit from the folder mount + rest up to mount itself. */
static double limit_up(const char *root, const char *mount, const char *rest, int version) {
    char folder[PATH_MAX];
    size_t top = strlen(mount);
    double tightest = 0;
    if (strcmp(rest, "/") == 0)
        rest = "";
    if (snprintf(folder, sizeof folder, "%s%s", mount, rest) >= (int)sizeof folder)
        return 0;
    for (;;) {
        double limit = limit_of(root, folder, version);
        if (limit > 0 && (tightest == 0 || limit < tightest))
            tightest = limit;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < top)
            return tightest;
        *slash = '\0';
    }
}

/* `path` as seen from a mount whose top is the folder `top` of the hierarchy. A path outside of it
 * belongs to another cgroup namespace: then the mount's top is the nearest thing to see. */
static const char *below(const char *path, const char *top) {
    size_t length = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(path, top, length) != 0 || strncmp(path, "/..", 3) == 0)
        return "";
    return path[length] == '/' || path[length] == '\0' ? path + length : "";
}

/* One line of mountinfo: "36 35 98:0 TOP MOUNT options [more...] - TYPE source SUPEROPTIONS".
 * Returns the limit found through it, 0 for none. */
static double limit_of_mount(const char *root, char *line) {
    char *rest = strstr(line, " - ");
    char *field[5], *save = NULL, path[PATH_MAX];
    if (!rest)
        return 0;
    *rest = '\0';
    rest += 3;
    for (int i = 0; i < 5; i++)
        if (!(field[i] = strtok_r(i ? NULL : line, " ", &save)))
            return 0;
    const char *type = strtok_r(rest, " ", &save);
    strtok_r(NULL, " ", &save);
    const char *options = strtok_r(NULL, " \n", &save);
    int version = !type || !options                                       ? 0
                  : strcmp(type, "cgroup2") == 0                          ? 2
                  : strcmp(type, "cgroup") == 0 && listed(options, "cpu") ? 1
                                                                          : 0;
    if (!version || !own_path(root, version, path, sizeof path))
        return 0;
    unescape(field[3]);
    unescape(field[4]);
    return limit_up(root, field[4], below(path, field[3]), version);
}

int fp_topo_quota(const char *root, double *cores) {
    FILE *file = open_at(root, "/proc/self/mountinfo");
    char *line = NULL;
    size_t room = 0;
    double tightest = 0;
    if (!file)
        return 0;
    while (getline(&line, &room, file) > 0) {
        double limit = limit_of_mount(root, line);
        if (limit > 0 && (tightest == 0 || limit < tightest))
            tightest = limit;
    }
    free(line);
    fclose(file);
    if (tightest > 0)
        *cores = tightest;
    return tightest > 0;
}

int fp_topo_usable(const char *root) {
    double cores;
    int n = fp_topo_mask(0, NULL, 0);
    if (n < 0)
        return n;
    if (fp_topo_quota(root, &cores) == 1 && cores < n) {
        int whole = (int)cores;
        n = whole < cores ? whole + 1 : whole;
    }
    return n > 0 ? n : 1;
}
