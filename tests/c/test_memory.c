/* test_memory.c: fp_memory on made-up machines, each a folder that looks like /sys and /proc. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/fp_memory.h"

#include "check.h"
#include "machine.h"
#include "os/fp_os.h"

#define MIB (1024ull * 1024)
#define GIB (1024ull * MIB)
#define V2 "sys/fs/cgroup"
#define V1 "sys/fs/cgroup/memory"

static uint64_t left, total;

static void look(void) { fp_memory_read(root, &left, &total); }

static void put_number(const char *folder, const char *name, uint64_t value) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    put(path, "%llu", (unsigned long long)value);
}

/* A machine with `all` MiB, of which `available` are. */
static void machine(uint64_t all, uint64_t available, uint64_t swap) {
    new_machine();
    put("proc/meminfo",
        "MemTotal: %14llu kB\nMemFree: 1234 kB\nMemAvailable: %9llu kB\nSwapTotal: 99999999 kB\n"
        "SwapFree: %llu kB",
        (unsigned long long)all * 1024, (unsigned long long)available * 1024,
        (unsigned long long)swap * 1024);
}

static void in_v2(const char *path) {
    put("proc/self/mountinfo",
        "22 1 0:21 / /proc rw - proc proc rw\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
    put("proc/self/cgroup", "0::%s", path);
}

static void in_v1(const char *path) {
    put("proc/self/mountinfo", "31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
    put("proc/self/cgroup", "5:cpu:/elsewhere\n4:memory:%s", path);
}

static void group_v2(const char *folder, uint64_t max, uint64_t current, uint64_t inactive,
                     uint64_t active) {
    char path[256];
    put_number(folder, "memory.max", max);
    put_number(folder, "memory.current", current);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    put(path, "anon 1\nfile 2\nshmem 77777777777\ninactive_file %llu\nactive_file %llu\nslab 1",
        (unsigned long long)inactive, (unsigned long long)active);
}

/* ---- the machine ------------------------------------------------------------------------------ */

static void a_machine_without_files_sets_no_limit(void) {
    new_machine();
    look();
    CHECK(left == UINT64_MAX);
    CHECK(total == UINT64_MAX);
    put("proc/meminfo", "nonsense\nMemTotal: many");
    look();
    CHECK(left == UINT64_MAX);
    CHECK(total == UINT64_MAX);
}

static void what_is_available_is_left_but_for_a_reserve(void) {
    machine(16384, 8000, 0);
    look();
    CHECK_EQ(total, 16384 * MIB);
    CHECK_EQ(left, (8000 - 64) * MIB);
    machine(320, 200, 0);
    look();
    CHECK_EQ(left, (200 - 10) * MIB);
    machine(320, 7, 0);
    look();
    CHECK_EQ(left, 0);
}

static void free_swap_is_left_too(void) {
    machine(16384, 8000, 500);
    look();
    CHECK_EQ(left, (8000 - 64 + 500) * MIB);
    CHECK_EQ(total, 16384 * MIB);
}

/* ---- groups ----------------------------------------------------------------------------------- */

static void v2_takes_the_tightest_on_the_way_up(void) {
    machine(16384, 8000, 0);
    in_v2("/a/b/c");
    group_v2(V2 "/a", 2 * GIB, GIB, 0, 0);
    group_v2(V2 "/a/b", 4 * GIB, 3900 * MIB, 0, 0);
    put(V2 "/a/b/c/memory.max", "max");
    put_number(V2 "/a/b/c", "memory.current", 900 * MIB);
    look();
    CHECK_EQ(total, 2 * GIB);
    CHECK_EQ(left, (4096 - 3900 - 64) * MIB);
}

static void a_limit_far_away_changes_nothing(void) {
    machine(16384, 8000, 0);
    in_v2("/a");
    group_v2(V2 "/a", 64 * GIB, GIB, 0, 0);
    look();
    CHECK_EQ(total, 16384 * MIB);
    CHECK_EQ(left, (8000 - 64) * MIB);
}

static void page_cache_that_can_be_dropped_is_left(void) {
    machine(16384, 8000, 0);
    in_v2("/");
    group_v2(V2, GIB, 1000 * MIB, 300 * MIB, 0);
    look();
    CHECK_EQ(left, (1024 - 1000 + 300 - 32) * MIB);
    group_v2(V2, GIB, 1000 * MIB, 300 * MIB, 400 * MIB); /* of what is in use, not quite all */
    look();
    CHECK_EQ(left, (1024 - 1000 + 300 + 400 - 32 - 32) * MIB);
    group_v2(V2, GIB, 1000 * MIB, 300 * MIB, 20 * MIB);
    look();
    CHECK_EQ(left, (1024 - 1000 + 300 + 10 - 32) * MIB);
    group_v2(V2, GIB, 1100 * MIB, 0, 0); /* the limit was lowered */
    look();
    CHECK_EQ(left, 0);
}

static void a_group_may_swap_as_much_as_it_is_allowed(void) {
    machine(16384, 8000, 500);
    in_v2("/a");
    group_v2(V2 "/a", GIB, 1000 * MIB, 0, 0);
    look();
    CHECK_EQ(left, (1024 - 1000 - 32 + 500) * MIB);
    put_number(V2 "/a", "memory.swap.max", 300 * MIB);
    put_number(V2 "/a", "memory.swap.current", 100 * MIB);
    look();
    CHECK_EQ(left, (1024 - 1000 - 32 + 200) * MIB);
    put_number(V2 "/a", "memory.swap.max", 0);
    look();
    CHECK_EQ(left, 0);
}

static void v1_takes_the_tightest_on_the_way_up(void) {
    machine(16384, 8000, 0);
    in_v1("/a/b");
    put_number(V1, "memory.limit_in_bytes", 9223372036854771712ull);
    put_number(V1, "memory.usage_in_bytes", 123);
    put_number(V1 "/a", "memory.limit_in_bytes", GIB);
    put_number(V1 "/a", "memory.usage_in_bytes", 1000 * MIB);
    put(V1 "/a/memory.stat", "inactive_file 5\nactive_file 7\ntotal_inactive_file %llu", 300 * MIB);
    put_number(V1 "/a/b", "memory.limit_in_bytes", 2 * GIB);
    put_number(V1 "/a/b", "memory.usage_in_bytes", 100 * MIB);
    look();
    CHECK_EQ(total, GIB);
    CHECK_EQ(left, (1024 - 1000 + 300 - 32) * MIB);
}

static void v1_limits_memory_and_swap_together(void) {
    machine(16384, 8000, 500);
    in_v1("/a");
    put_number(V1 "/a", "memory.limit_in_bytes", GIB);
    put_number(V1 "/a", "memory.usage_in_bytes", 1000 * MIB);
    look();
    CHECK_EQ(left, (1024 - 1000 + 500 - 32) * MIB);
    put_number(V1 "/a", "memory.memsw.limit_in_bytes", GIB + 100 * MIB);
    put_number(V1 "/a", "memory.memsw.usage_in_bytes", 1050 * MIB);
    look();
    CHECK_EQ(left, (1124 - 1050 - (1124 / 32.)) * MIB);
}

static void nonsense_is_no_limit(void) {
    machine(16384, 8000, 0);
    in_v2("/a");
    put(V2 "/a/memory.max", "-1");
    look();
    CHECK_EQ(left, (8000 - 64) * MIB);
    put(V2 "/a/memory.max", "%llu", GIB); /* but nobody says how much is used */
    look();
    CHECK_EQ(left, (8000 - 64) * MIB);
    CHECK_EQ(total, GIB);
    put("proc/self/cgroup", "a line without colons");
    look();
    CHECK_EQ(total, 16384 * MIB);
}

/* Container engines mount overlays whose options are longer than any buffer. */
static void a_line_without_end_hides_no_other(void) {
    enum { N = 30000 };
    static char text[N + 200];
    machine(16384, 8000, 0);
    in_v2("/a");
    group_v2(V2 "/a", GIB, 0, 0, 0);
    for (int n = 4000; n < 4200; n += 3) {
        memset(text, 'x', sizeof text);
        memcpy(text, "20 1 0:3 / / rw - overlay overlay ", 34);
        strcpy(text + n, "\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
        put("proc/self/mountinfo", "%s", text);
        look();
        CHECK_EQ(total, GIB);
    }
    memset(text, 'x', sizeof text);
    strcpy(text + N, "\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
    put("proc/self/mountinfo", "%s", text);
    look();
    CHECK_EQ(total, GIB);
}

static void this_machine_can_be_read(void) {
    CHECK(fp_memory_total() > 64 * MIB);
    CHECK(fp_memory_total() < UINT64_MAX);
    CHECK(fp_memory_left() > 0);
    CHECK(fp_memory_left() < UINT64_MAX);
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 20; i++) {
        uint64_t begin = fp_os_now_ns();
        fp_memory_left();
        uint64_t took = fp_os_now_ns() - begin;
        best = took < best ? took : best;
    }
    printf("  %llu MiB of %llu left, asked in %llu us\n",
           (unsigned long long)(fp_memory_left() / MIB),
           (unsigned long long)(fp_memory_total() / MIB), (unsigned long long)best / 1000);
}

static void a_file_without_a_name_is_found_by_its_folder(void) {
    char path[PATH_MAX], full[PATH_MAX], folder[PATH_MAX], small[8];
    new_machine();
    CHECK(realpath(root, full) != NULL);
    put("file", "a name");
    snprintf(path, sizeof path, "%s/file", root);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL && unlink(path) == 0);
    CHECK(fp_memory_folder(fileno(file), folder, sizeof folder));
    CHECK(strcmp(folder, full) == 0);
    CHECK(!fp_memory_folder(fileno(file), small, sizeof small));
    fclose(file);
    CHECK(!fp_memory_folder(-1, folder, sizeof folder));
}

int main(void) {
    RUN(a_machine_without_files_sets_no_limit);
    RUN(what_is_available_is_left_but_for_a_reserve);
    RUN(free_swap_is_left_too);
    RUN(v2_takes_the_tightest_on_the_way_up);
    RUN(a_limit_far_away_changes_nothing);
    RUN(page_cache_that_can_be_dropped_is_left);
    RUN(a_group_may_swap_as_much_as_it_is_allowed);
    RUN(v1_takes_the_tightest_on_the_way_up);
    RUN(v1_limits_memory_and_swap_together);
    RUN(nonsense_is_no_limit);
    RUN(a_line_without_end_hides_no_other);
    RUN(this_machine_can_be_read);
    RUN(a_file_without_a_name_is_found_by_its_folder);
    remove_machine();
    return check_done();
}
