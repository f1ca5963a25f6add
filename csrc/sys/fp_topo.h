/* fp_topo.h: how near CPUs are to each other, and how much of them this process may use.
 *
 * Everything is read anew from the system at each call; there is no state. Files are looked up
 * below `root`, so that a test can build a machine out of a folder; NULL means "/".
 * A file that is missing or unreadable is not an error: it means "one package", "one node",
 * "no siblings", "no limit", which is what small containers and some virtual machines show.
 *
 * Results     a count or 0; -errno for what the caller can act upon.
 * Threads     any; nothing is shared.
 * Not for     CPUs that come and go: the answer is the one of the moment.
 * Check       tests/c/test_topo.c, on made-up machines and on this one.
 */
#ifndef FP_TOPO_H
#define FP_TOPO_H

/* Where one CPU sits. All ids are comparable across the machine.
 *   core   the lowest CPU number among its SMT siblings (the kernel's core_id repeats)
 *   cache  the lowest CPU number among those that share its last cache
 *   smt    0 for the first CPU of a core that was asked for, 1 for the next, ...
 * and the ranks that scattering goes by, each among what was asked for:
 *   core_rank in its cache, cache_rank in its node, node_rank in its package */
struct fp_topo_cpu {
    int cpu, package, node, cache, core, smt;
    int core_rank, cache_rank, node_rank;
};

enum fp_topo_order {
    /* Neighbours share as much as they can: one node is filled before the next, in it first one
     * CPU of each core, then the siblings. */
    FP_TOPO_COMPACT = 0,
    /* Neighbours share as little as they can: packages in turn, then nodes, caches and cores;
     * siblings only when every core has one. */
    FP_TOPO_SCATTER = 1,
};

/* Describe the n CPUs in `cpus` into out[0..n), in the order of package, node, cache, core, smt.
 * Returns 0, or -EINVAL for n < 1 or a negative or repeated CPU. */
int fp_topo_read(const char *root, const int *cpus, int n, struct fp_topo_cpu *out);

/* Put cpus[0..n), as fp_topo_read() wrote them, into an order to hand CPUs out in.
 * Returns 0, or -EINVAL for an order that is none. */
int fp_topo_sort(struct fp_topo_cpu *cpus, int n, int order);

/* The CPU time that this process's cgroup and all those above it leave it, in CPUs: 1 and *cores
 * when there is a limit, 0 when there is none. cgroup v1, v2, and both at once. */
int fp_topo_quota(const char *root, double *cores);

/* How many processes of computation make sense: the CPUs in the caller's mask, or the quota,
 * rounded up, where that is less; never below 1. -errno when the mask can't be read. */
int fp_topo_usable(const char *root);

#endif
