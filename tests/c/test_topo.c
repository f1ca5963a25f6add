/* test_topo.c: fp_topo on made-up machines, each a folder that looks like /sys and /proc. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/fp_os.h"
#include "sys/fp_topo.h"

#include "check.h"
#include "machine.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>

static void put_cpu(int cpu, int package, const char *siblings, const char *cache) {
    char path[128];
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
    put(path, "%d", package);
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/topology/core_cpus_list", cpu);
    put(path, "%s", siblings);
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/cache/index2/shared_cpu_list", cpu);
    put(path, "%s", siblings);
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/cache/index3/shared_cpu_list", cpu);
    put(path, "%s", cache);
}

/* Two packages, a node each, two cores each, two threads each, numbered as Linux does it:
 * CPUs 0-3 are the first threads of the four cores, 4-7 the second ones. */
static void two_packages(void) {
    new_machine();
    for (int cpu = 0; cpu < 8; cpu++) {
        char siblings[32];
        snprintf(siblings, sizeof siblings, "%d,%d", cpu % 4, cpu % 4 + 4);
        put_cpu(cpu, cpu % 4 / 2, siblings, cpu % 4 < 2 ? "0-1,4-5" : "2-3,6-7");
    }
    put("sys/devices/system/node/node0/cpulist", "0-1,4-5");
    put("sys/devices/system/node/node1/cpulist", "2-3,6-7");
    put("sys/devices/system/node/has_cpu", "0-1");
}

static const int ALL[] = {7, 6, 5, 4, 3, 2, 1, 0};

static void check_order(const int *cpus, int n, int order, const int *wanted) {
    struct fp_topo_cpu got[16];
    CHECK_EQ(fp_topo_read(root, cpus, n, got), 0);
    CHECK_EQ(fp_topo_sort(got, n, order), 0);
    for (int i = 0; i < n; i++)
        CHECK_EQ(got[i].cpu, wanted[i]);
}

static void check_quota(double wanted) {
    double cores = -1;
    CHECK_EQ(fp_topo_quota(root, &cores), wanted > 0);
    CHECK_EQ(cores * 1000, wanted > 0 ? wanted * 1000 : -1000);
}

/* ---- topology -------------------------------------------------------------------------------- */

static void places_are_read_from_sysfs(void) {
    struct fp_topo_cpu got[8];
    two_packages();
    CHECK_EQ(fp_topo_read(root, ALL, 8, got), 0);
    for (int i = 0; i < 8; i++) {
        int cpu = got[i].cpu;
        CHECK_EQ(cpu, ((const int[]){0, 4, 1, 5, 2, 6, 3, 7})[i]);
        CHECK_EQ(got[i].package, cpu % 4 / 2);
        CHECK_EQ(got[i].node, cpu % 4 / 2);
        CHECK_EQ(got[i].core, cpu % 4);
        CHECK_EQ(got[i].cache, cpu % 4 / 2 * 2);
        CHECK_EQ(got[i].smt, cpu / 4);
    }
}

static void compact_fills_a_node_cores_first(void) {
    two_packages();
    check_order(ALL, 8, FP_TOPO_COMPACT, (const int[]){0, 1, 4, 5, 2, 3, 6, 7});
}

static void scatter_takes_packages_in_turn_and_siblings_last(void) {
    two_packages();
    check_order(ALL, 8, FP_TOPO_SCATTER, (const int[]){0, 2, 1, 3, 4, 6, 5, 7});
}

static void a_sibling_left_alone_by_the_mask_counts_as_a_core(void) {
    struct fp_topo_cpu got[3];
    two_packages();
    CHECK_EQ(fp_topo_read(root, (const int[]){4, 1, 5}, 3, got), 0);
    CHECK_EQ(got[0].cpu, 4);
    CHECK_EQ(got[0].smt, 0);
    check_order((const int[]){4, 1, 5}, 3, FP_TOPO_COMPACT, (const int[]){4, 1, 5});
}

/* One package, two nodes, two caches in each, two cores in each, no SMT. */
static void scatter_takes_nodes_then_caches_then_cores(void) {
    new_machine();
    for (int cpu = 0; cpu < 8; cpu++) {
        char self[16], cache[32];
        snprintf(self, sizeof self, "%d", cpu);
        snprintf(cache, sizeof cache, "%d-%d", cpu / 2 * 2, cpu / 2 * 2 + 1);
        put_cpu(cpu, 0, self, cache);
    }
    put("sys/devices/system/node/node0/cpulist", "0-3");
    put("sys/devices/system/node/node1/cpulist", "4-7");
    check_order(ALL, 8, FP_TOPO_SCATTER, (const int[]){0, 4, 2, 6, 1, 5, 3, 7});
    check_order(ALL, 8, FP_TOPO_COMPACT, (const int[]){0, 1, 2, 3, 4, 5, 6, 7});
}

static void without_sysfs_all_cpus_are_equal(void) {
    struct fp_topo_cpu got[8];
    new_machine();
    CHECK_EQ(fp_topo_read(root, ALL, 8, got), 0);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(got[i].cpu, i);
        CHECK_EQ(got[i].package, 0);
        CHECK_EQ(got[i].node, 0);
        CHECK_EQ(got[i].core, i);
        CHECK_EQ(got[i].smt, 0);
    }
    check_order(ALL, 8, FP_TOPO_SCATTER, (const int[]){0, 1, 2, 3, 4, 5, 6, 7});
}

static void an_unknown_package_is_the_first_one(void) {
    struct fp_topo_cpu got[1];
    new_machine();
    put_cpu(0, -1, "0", "0");
    put("sys/devices/system/node/node0/cpulist", "%s", ""); /* a node of memory only */
    CHECK_EQ(fp_topo_read(root, (const int[]){0}, 1, got), 0);
    CHECK_EQ(got[0].package, 0);
    CHECK_EQ(got[0].node, 0);
}

static void the_old_name_of_the_siblings_file_is_read_too(void) {
    struct fp_topo_cpu got[2];
    new_machine();
    put("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1");
    put("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1");
    CHECK_EQ(fp_topo_read(root, (const int[]){1, 0}, 2, got), 0);
    CHECK_EQ(got[1].cpu, 1);
    CHECK_EQ(got[1].core, 0);
    CHECK_EQ(got[1].smt, 1);
}

static void bad_cpus_are_refused(void) {
    struct fp_topo_cpu got[2];
    new_machine();
    CHECK_EQ(fp_topo_read(root, NULL, 0, got), -EINVAL);
    CHECK_EQ(fp_topo_read(root, (const int[]){-1}, 1, got), -EINVAL);
    CHECK_EQ(fp_topo_read(root, (const int[]){3, 3}, 2, got), -EINVAL);
    CHECK_EQ(fp_topo_sort(got, 0, 2), -EINVAL);
    CHECK_EQ(fp_os_bind(0, NULL, 0), -EINVAL);
    CHECK_EQ(fp_os_bind(0, (const int[]){-1}, 1), -EINVAL);
    CHECK_EQ(fp_os_bind(0, (const int[]){INT_MAX}, 1), -EINVAL);
}

/* ---- quotas ---------------------------------------------------------------------------------- */

#define V2_MOUNT "30 24 0:26 %s /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
#define V1_MOUNT "33 25 0:29 %s /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"

static void no_files_are_no_limit(void) {
    new_machine();
    check_quota(0);
    put("proc/self/mountinfo", V2_MOUNT, "/");
    check_quota(0);
    put("proc/self/cgroup", "0::/somewhere");
    check_quota(0);
}

static void v2_takes_the_tightest_on_the_way_up(void) {
    new_machine();
    put("proc/self/mountinfo", V2_MOUNT, "/");
    put("proc/self/cgroup", "0::/machine/box/job");
    put("sys/fs/cgroup/machine/box/job/cpu.max", "max 100000");
    check_quota(0);
    put("sys/fs/cgroup/machine/cpu.max", "400000 100000");
    check_quota(4);
    put("sys/fs/cgroup/machine/box/cpu.max", "150000 100000");
    check_quota(1.5);
    put("sys/fs/cgroup/machine/box/job/cpu.max", "200000 50000");
    check_quota(1.5);
    put("sys/fs/cgroup/machine/box/job/cpu.max", "25000 50000");
    check_quota(0.5);
    put("sys/fs/cgroup/machine/other/cpu.max", "1000 100000");
    check_quota(0.5);
}

static void v2_in_a_namespace_reads_the_top_it_sees(void) {
    new_machine();
    put("proc/self/mountinfo", V2_MOUNT, "/");
    put("proc/self/cgroup", "0::/");
    put("sys/fs/cgroup/cpu.max", "300000 100000");
    check_quota(3);
    put("proc/self/cgroup", "0::/../elsewhere"); /* moved out of its namespace */
    check_quota(3);
    put("proc/self/cgroup", "0::/nested");
    put("sys/fs/cgroup/nested/cpu.max", "200000 100000");
    check_quota(2);
}

static void a_mount_of_a_folder_hides_what_is_above(void) {
    new_machine();
    put("proc/self/mountinfo", V2_MOUNT, "/docker/abc");
    put("proc/self/cgroup", "0::/docker/abc/task");
    put("sys/fs/cgroup/cpu.max", "500000 100000");
    check_quota(5);
    put("sys/fs/cgroup/task/cpu.max", "100000 100000");
    check_quota(1);
    put("proc/self/cgroup", "0::/docker/abcdef/task"); /* alike, and not the same */
    check_quota(5);
}

static void v1_takes_the_tightest_on_the_way_up(void) {
    new_machine();
    put("proc/self/mountinfo", V1_MOUNT, "/");
    put("proc/self/cgroup", "12:memory:/m\n7:cpuset:/s\n4:cpu,cpuacct:/box/job\n1:name=systemd:/x");
    put("sys/fs/cgroup/cpu,cpuacct/box/job/cpu.cfs_quota_us", "-1");
    put("sys/fs/cgroup/cpu,cpuacct/box/job/cpu.cfs_period_us", "100000");
    check_quota(0);
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "250000");
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000");
    check_quota(2.5);
    put("sys/fs/cgroup/cpu,cpuacct/box/job/cpu.cfs_quota_us", "50000");
    check_quota(0.5);
}

static void v1_and_v2_together_are_both_read(void) {
    new_machine();
    put("proc/self/mountinfo", V1_MOUNT "\n%s", "/docker/abc",
        "31 25 0:27 /docker/abc /sys/fs/cgroup/unified rw - cgroup2 none rw");
    put("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n0::/docker/abc");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
    check_quota(3);
    put("sys/fs/cgroup/unified/cpu.max", "100000 100000");
    check_quota(1);
}

static void a_mount_point_with_a_space_is_found(void) {
    new_machine();
    put("proc/self/mountinfo", "30 24 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw");
    put("proc/self/cgroup", "0::/a b");
    put("my groups/a b/cpu.max", "700000 100000");
    check_quota(7);
}

static void nonsense_is_no_limit(void) {
    new_machine();
    put("proc/self/mountinfo", "x\n - \n1 2 3 - cgroup2 a b\n1 2 3 4 5 - cgroup2\n" V2_MOUNT, "/");
    put("proc/self/cgroup", "nothing\n:\n0::/j");
    put("sys/fs/cgroup/j/cpu.max", "100000 0");
    check_quota(0);
    put("sys/fs/cgroup/j/cpu.max", "-5 100000");
    check_quota(0);
    put("sys/fs/cgroup/j/cpu.max", "many");
    check_quota(0);
}

/* ---- this machine ---------------------------------------------------------------------------- */

static void usable_is_the_mask_or_the_quota_rounded_up(void) {
    int n = fp_os_cpus(0, NULL, 0);
    CHECK(n >= 1);
    new_machine();
    CHECK_EQ(fp_topo_usable(root), n);
    put("proc/self/mountinfo", V2_MOUNT, "/");
    put("proc/self/cgroup", "0::/j");
    put("sys/fs/cgroup/j/cpu.max", "10000 100000");
    CHECK_EQ(fp_topo_usable(root), 1);
    put("sys/fs/cgroup/j/cpu.max", "%d 100000", n * 100000 - 99000);
    CHECK_EQ(fp_topo_usable(root), n);
    put("sys/fs/cgroup/j/cpu.max", "%d 100000", n * 100000 + 500000);
    CHECK_EQ(fp_topo_usable(root), n);
    CHECK(fp_topo_usable(NULL) >= 1);
}

static void a_bound_thread_sees_only_its_cpus(void) {
    int before[4096], after[4096];
    int n = fp_os_cpus(0, before, 4096);
    CHECK(n >= 1 && n <= 4096);
    CHECK_EQ(fp_os_bind(0, &before[n - 1], 1), 0);
    CHECK_EQ(fp_os_cpus(0, after, 4096), 1);
    CHECK_EQ(after[0], before[n - 1]);
    CHECK_EQ(fp_os_bind(0, before, n), 0);
    CHECK_EQ(fp_os_cpus(0, after, 4096), n);
    CHECK_EQ(fp_os_bind(0, (const int[]){100000}, 1), -EINVAL);
    CHECK_EQ(fp_os_cpus(INT_MAX, NULL, 0), -ESRCH);
}

static void this_machine_can_be_read(void) {
    int cpus[4096];
    static struct fp_topo_cpu got[4096];
    int n = fp_os_cpus(0, cpus, 4096);
    CHECK_EQ(fp_topo_read(NULL, cpus, n, got), 0);
    CHECK_EQ(fp_topo_sort(got, n, FP_TOPO_COMPACT), 0);
    CHECK_EQ(fp_topo_sort(got, n, FP_TOPO_SCATTER), 0);
}

int main(void) {
    RUN(places_are_read_from_sysfs);
    RUN(compact_fills_a_node_cores_first);
    RUN(scatter_takes_packages_in_turn_and_siblings_last);
    RUN(a_sibling_left_alone_by_the_mask_counts_as_a_core);
    RUN(scatter_takes_nodes_then_caches_then_cores);
    RUN(without_sysfs_all_cpus_are_equal);
    RUN(an_unknown_package_is_the_first_one);
    RUN(the_old_name_of_the_siblings_file_is_read_too);
    RUN_IF(fp_os_bind(0, NULL, 0) != -ENOTSUP, bad_cpus_are_refused);
    RUN(no_files_are_no_limit);
    RUN(v2_takes_the_tightest_on_the_way_up);
    RUN(v2_in_a_namespace_reads_the_top_it_sees);
    RUN(a_mount_of_a_folder_hides_what_is_above);
    RUN(v1_takes_the_tightest_on_the_way_up);
    RUN(v1_and_v2_together_are_both_read);
    RUN(a_mount_point_with_a_space_is_found);
    RUN(nonsense_is_no_limit);
    RUN(usable_is_the_mask_or_the_quota_rounded_up);
    RUN_IF(fp_os_bind(0, NULL, 0) != -ENOTSUP, a_bound_thread_sees_only_its_cpus);
    RUN(this_machine_can_be_read);
    remove_machine();
    return check_done();
}
