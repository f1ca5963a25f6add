/* test_pool.c: one pool's segment: what lies where, who may attach, and what limits do to it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool/fp_pool.h"

#include "check.h"
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MIB (1024ull * 1024)

static void close_pool(fp_pool *pool) {
    fp_pool_unmap(pool);
    close(pool->fd);
}

/* ---- the map ---------------------------------------------------------------------------------- */

static const struct geometry {
    uint32_t slots, ring_size, res_size;
} geometries[] = {{1, 1, 1},    {1, 2, 2},         {2, 1024, 256},
                  {63, 4, 4},   {64, 4, 4},        {65, 1024, 64},
                  {200, 64, 2}, {1000, 4096, 256}, {FP_NOBODY - 1, 1024, 256}};
#define EACH_GEOMETRY(i) (unsigned i = 0; i < sizeof geometries / sizeof *geometries; i++)

static fp_pool make(const struct geometry *g) {
    fp_pool pool;
    CHECK_EQ(fp_pool_create(&pool, g->slots, g->ring_size, g->res_size), 0);
    return pool;
}

static void parts_follow_each_other_without_overlap(void) {
    for
        EACH_GEOMETRY(i) {
            const struct geometry *g = &geometries[i];
            fp_pool pool = make(g);
            const unsigned char *sleepers = (const unsigned char *)pool.sleepers;
            const unsigned char *ctl = (const unsigned char *)pool.ctl;
            const unsigned char *owner = (const unsigned char *)pool.ring.owner;
            const unsigned char *tasks = (const unsigned char *)pool.ring.slots;
            CHECK((const unsigned char *)(pool.shared + 1) <= sleepers);
            CHECK(sleepers + (g->slots + 63) / 64 * 8 <= ctl);
            CHECK(ctl + g->slots * sizeof(fp_ctl) <= owner);
            CHECK(owner + g->ring_size * sizeof(fp_a64) <= tasks);
            CHECK(tasks + g->ring_size * sizeof(fp_slot) <= pool.rings);
            CHECK(pool.rings + g->slots * pool.ring_bytes <= pool.base + pool.regions);
            CHECK(pool.regions + pool.parent_region_size + g->slots * pool.worker_region_size <=
                  pool.total);
            close_pool(&pool);
        }
}

static void parts_that_different_processes_write_share_no_line(void) {
    for
        EACH_GEOMETRY(i) {
            fp_pool pool = make(&geometries[i]);
            CHECK_EQ((uintptr_t)pool.sleepers % FP_LINE, 0);
            CHECK_EQ((uintptr_t)pool.ctl % FP_LINE, 0);
            CHECK_EQ((uintptr_t)pool.ring.slots % FP_LINE, 0);
            CHECK_EQ((uintptr_t)pool.rings % FP_LINE, 0);
            CHECK_EQ(pool.ring_bytes % FP_LINE, 0);
            CHECK_EQ(pool.regions % 65536, 0); /* the largest page that Linux runs with */
            CHECK_EQ(pool.parent_region_size % 65536, 0);
            CHECK_EQ(pool.worker_region_size % 65536, 0);
            close_pool(&pool);
        }
    CHECK(offsetof(fp_taskring_shared, head) - offsetof(fp_taskring_shared, tail) >= FP_LINE);
    CHECK(offsetof(fp_resring_shared, head) - offsetof(fp_resring_shared, tail) >= FP_LINE);
    CHECK(offsetof(fp_park_shared, bell) - offsetof(fp_park_shared, attention) >= FP_LINE);
    CHECK(offsetof(fp_ctl, state) - offsetof(fp_ctl, park) >= FP_LINE);
}

static void every_slot_has_a_ring_and_a_region_of_its_own(void) {
    for
        EACH_GEOMETRY(i) {
            const struct geometry *g = &geometries[i];
            fp_pool pool = make(g);
            uint64_t end = pool.regions;
            for (uint32_t region = 0; region <= g->slots; region += 1 + g->slots / 7) {
                fp_heap heap;
                fp_pool_heap(&pool, region, 0, &heap);
                CHECK(heap.region >= end);
                CHECK(heap.end <= pool.total);
                CHECK(fp_heap_alloc(&heap, 1000) != 0);
                CHECK_EQ(fp_heap_check(&heap), 0);
                end = heap.end;
            }
            unsigned char *before = pool.rings;
            for (uint32_t slot = 0; slot < g->slots; slot += 1 + g->slots / 7) {
                fp_resring ring;
                fp_pool_resring(&pool, slot, &ring);
                CHECK((unsigned char *)ring.shared >= before);
                before = (unsigned char *)(ring.slots + g->res_size);
                CHECK(before <= pool.base + pool.regions);
            }
            close_pool(&pool);
        }
}

static void a_new_segment_is_at_rest(void) {
    fp_pool pool = make(&geometries[2]);
    fp_task task;
    CHECK_EQ(fp_taskring_check(&pool.ring), 0);
    CHECK_EQ(fp_taskring_claim(&pool.ring, 0, &task), 0);
    CHECK_EQ(fp_pool_state(&pool), FP_POOL_RUN);
    CHECK_EQ(fp_pool_sleeping(&pool, pool.slots), 0);
    CHECK_EQ(pool.shared->parent_pid, getpid());
    for (uint32_t i = 0; i < pool.slots; i++) {
        fp_resring ring;
        CHECK_EQ(pool.ctl[i].state, FP_FREE);
        fp_pool_resring(&pool, i, &ring);
        CHECK(fp_resring_empty(&ring));
    }
    close_pool(&pool);
}

static void a_strange_geometry_is_refused(void) {
    fp_pool pool;
    CHECK_EQ(fp_pool_create(&pool, 0, 4, 4), -EINVAL);
    CHECK_EQ(fp_pool_create(&pool, FP_NOBODY, 4, 4), -EINVAL);
    CHECK_EQ(fp_pool_create(&pool, UINT32_MAX, 4, 4), -EINVAL);
    CHECK_EQ(fp_pool_create(&pool, 1, 0, 4), -EINVAL);
    CHECK_EQ(fp_pool_create(&pool, 1, 3, 4), -EINVAL);
    CHECK_EQ(fp_pool_create(&pool, 1, 4, 0), -EINVAL);
    CHECK_EQ(fp_pool_create(&pool, 1, 4, 255), -EINVAL);
}

static void the_descriptor_does_not_survive_exec(void) {
    fp_pool pool = make(&geometries[0]);
    CHECK(fcntl(pool.fd, F_GETFD) & FD_CLOEXEC);
    close_pool(&pool);
}

static void a_new_segment_touches_little_memory(void) {
    fp_pool pool = make(&geometries[7]);
    struct stat st;
    CHECK_EQ(fstat(pool.fd, &st), 0);
    CHECK_EQ(st.st_size, pool.total);
    CHECK((uint64_t)st.st_blocks * 512 < 2 * MIB);
    close_pool(&pool);
}

static uint64_t resident(const fp_pool *pool) {
    struct stat st;
    CHECK_EQ(fstat(pool->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Whether all pages of [offset, offset + len) are the file's: no store there can be SIGBUS. */
static bool is_present(const fp_pool *pool, uint64_t offset, uint64_t len) {
    uint64_t before = resident(pool);
    for (uint64_t at = offset & ~4095ull; at < offset + len; at += 4096) {
        volatile unsigned char *byte = pool->base + at;
        *byte = *byte;
    }
    return resident(pool) == before;
}

static void what_everybody_touches_is_present_from_the_start(void) {
    for
        EACH_GEOMETRY(i) {
            fp_pool pool = make(&geometries[i]);
            CHECK(is_present(&pool, 0, (uint64_t)(pool.rings - pool.base)));
            CHECK(is_present(&pool, pool.regions, sizeof(fp_region)));
            uint32_t slot = pool.slots - 1;
            uint64_t ring = (uint64_t)(pool.rings - pool.base) + slot * pool.ring_bytes;
            uint64_t region =
                pool.regions + pool.parent_region_size + slot * pool.worker_region_size;
            uint64_t before = resident(&pool);
            CHECK_EQ(fp_pool_populate_slot(&pool, slot), 0);
            CHECK(resident(&pool) > before);
            CHECK(is_present(&pool, ring, pool.ring_bytes));
            CHECK(is_present(&pool, region, sizeof(fp_region)));
            CHECK_EQ(fp_pool_populate_slot(&pool, slot), 0);
            close_pool(&pool);
        }
}

/* ---- regions ---------------------------------------------------------------------------------- */

static void a_block_tells_the_region_it_lies_in(void) {
    for
        EACH_GEOMETRY(i) {
            fp_pool pool = make(&geometries[i]);
            for (uint32_t region = 0; region <= pool.slots; region += 1 + pool.slots / 7) {
                fp_heap heap;
                fp_pool_heap(&pool, region, 0, &heap);
                uint64_t offset = fp_heap_alloc(&heap, 1);
                CHECK_EQ(fp_pool_region_of(&pool, offset), region);
                CHECK_EQ(fp_pool_region_of(&pool, heap.end - 1), region);
                CHECK_EQ(fp_block_region(pool.base, offset), heap.region);
                CHECK(!fp_pool_is_behind(&pool, offset));
            }
            close_pool(&pool);
        }
}

static void after_a_restart_old_blocks_are_behind_and_new_ones_are_not(void) {
    fp_pool pool = make(&geometries[2]);
    fp_heap heap, next, other;
    CHECK_EQ(fp_pool_populate_slot(&pool, 0), 0);
    CHECK_EQ(fp_pool_populate_slot(&pool, 1), 0);
    fp_pool_restart_region(&pool, 2, false, MIB);
    fp_pool_heap(&pool, 2, MIB, &heap);
    fp_pool_heap(&pool, 1, MIB, &other);
    uint64_t old = fp_heap_alloc(&heap, 100000);
    uint64_t elsewhere = fp_heap_alloc(&other, 100000);
    CHECK(!fp_pool_is_behind(&pool, old));
    fp_pool_restart_region(&pool, 2, true, MIB);
    CHECK(fp_pool_is_behind(&pool, old));
    fp_pool_heap(&pool, 2, MIB, &next);
    uint64_t new = fp_heap_alloc(&next, 100000);
    CHECK(fp_pool_is_behind(&pool, old));
    CHECK(!fp_pool_is_behind(&pool, new));
    CHECK(!fp_pool_is_behind(&pool, elsewhere));
    fp_block_drop(pool.base, old);
    fp_block_return(pool.base, new, MIB);
    CHECK_EQ(fp_heap_collect(&next), 1);
    CHECK_EQ(fp_heap_check(&next), 0);
    fp_pool_restart_region(&pool, 2, false, MIB);
    CHECK(!fp_pool_is_behind(&pool, old));
    close_pool(&pool);
}

/* ---- attaching -------------------------------------------------------------------------------- */

static void an_attached_segment_is_the_same_one(void) {
    for
        EACH_GEOMETRY(i) {
            fp_pool ours = make(&geometries[i]);
            fp_pool theirs;
            CHECK_EQ(fp_pool_attach(&theirs, ours.fd), 0);
            CHECK(theirs.base != ours.base);
            CHECK_EQ(theirs.slots, ours.slots);
            CHECK_EQ(theirs.total, ours.total);
            CHECK_EQ(theirs.ring.mask, ours.ring.mask);
            CHECK_EQ(theirs.res_size, ours.res_size);
            CHECK_EQ(theirs.regions, ours.regions);
            CHECK_EQ(theirs.worker_region_size, ours.worker_region_size);
            fp_task task = fx_task(42, FP_TASK_INLINE);
            uint64_t ticket = fp_taskring_push(&ours.ring, &task);
            CHECK_EQ(fp_taskring_claim(&theirs.ring, theirs.slots - 1, &task), ticket);
            CHECK(fx_task_is(&task, 42, FP_TASK_INLINE));
            CHECK_EQ(fp_taskring_owner(&ours.ring, ticket), ours.slots - 1);
            fp_resring out, in;
            fp_pool_resring(&theirs, theirs.slots - 1, &out);
            fp_pool_resring(&ours, ours.slots - 1, &in);
            fx_result(fp_resring_next(&out), 7, FP_RESULT_INLINE);
            fp_resring_publish(&out);
            fp_result result;
            CHECK(fp_resring_pop(&in, &result));
            CHECK(fx_result_is(&result, 7, FP_RESULT_INLINE));
            fp_pool_unmap(&theirs);
            close_pool(&ours);
        }
}

static void what_is_not_a_segment_of_ours_is_refused(void) {
    fp_pool pool;
    CHECK_EQ(fp_pool_attach(&pool, -1), -EBADF);
    const uint64_t sizes[] = {0, 1, 4095, 4096, MIB, 256 * MIB};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int fd = fp_os_memory_create(sizes[i]);
        CHECK(fd >= 0);
        CHECK_EQ(fp_pool_attach(&pool, fd), -EPROTO);
        close(fd);
    }
}

static void another_version_is_refused(void) {
    fp_pool ours = make(&geometries[0]);
    fp_pool theirs;
    ours.shared->version++;
    CHECK_EQ(fp_pool_attach(&theirs, ours.fd), -EPROTO);
    ours.shared->version--;
    ours.shared->magic++;
    CHECK_EQ(fp_pool_attach(&theirs, ours.fd), -EPROTO);
    ours.shared->magic--;
    ours.shared->total *= 2; /* longer than the file: its end would be SIGBUS */
    CHECK_EQ(fp_pool_attach(&theirs, ours.fd), -EPROTO);
    ours.shared->total /= 2;
    CHECK_EQ(fp_pool_attach(&theirs, ours.fd), 0);
    fp_pool_unmap(&theirs);
    close_pool(&ours);
}

/* ---- limits ----------------------------------------------------------------------------------- */

/* Runs a test in a child, since limits can't be taken back. */
static void in_child(void (*test)(void)) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        test();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static uint64_t address_space_in_use(void) {
    unsigned long pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void limit(int what, uint64_t to) {
    struct rlimit limits = {to, to};
    CHECK_EQ(setrlimit(what, &limits), 0);
}

static void create_under_two_gib_of_address_space(void) {
    fp_pool pool;
    limit(RLIMIT_AS, address_space_in_use() + 2048 * MIB);
    CHECK_EQ(fp_pool_create(&pool, 8, 1024, 256), 0);
    CHECK(pool.total >= 256 * MIB);
    CHECK(pool.total < 2048 * MIB);
    fp_heap heap;
    fp_pool_heap(&pool, 8, 0, &heap);
    CHECK(fp_heap_alloc(&heap, MIB) != 0);
    fp_pool theirs;
    CHECK_EQ(fp_pool_attach(&theirs, pool.fd), 0);
}

static void create_under_too_little_address_space(void) {
    fp_pool pool;
    limit(RLIMIT_AS, address_space_in_use() + 128 * MIB);
    CHECK_EQ(fp_pool_create(&pool, 8, 1024, 256), -ENOMEM);
}

static void create_without_descriptors(void) {
    fp_pool pool;
    limit(RLIMIT_NOFILE, 0);
    CHECK_EQ(fp_pool_create(&pool, 8, 1024, 256), -EMFILE);
}

static void create_under_a_file_size_limit(void) {
    fp_pool pool;
    signal(SIGXFSZ, SIG_IGN); /* as Python does */
    limit(RLIMIT_FSIZE, 1024 * MIB);
    CHECK_EQ(fp_pool_create(&pool, 8, 1024, 256), 0);
    CHECK_EQ(pool.total, 512 * MIB); /* half of what it might have */
    close_pool(&pool);
    limit(RLIMIT_FSIZE, 4 * MIB);
    CHECK_EQ(fp_pool_create(&pool, 8, 1024, 256), -EFBIG);
}

static void an_address_space_limit_makes_the_segment_smaller(void) {
    in_child(create_under_two_gib_of_address_space);
}
static void too_little_address_space_is_no_memory(void) {
    in_child(create_under_too_little_address_space);
}
static void without_descriptors_the_error_says_so(void) { in_child(create_without_descriptors); }
static void a_file_size_limit_makes_the_segment_smaller(void) {
    in_child(create_under_a_file_size_limit);
}

static void fail_and_count_descriptors(void) {
    fp_pool pool;
    int before = open("/dev/null", O_RDONLY);
    close(before);
    create_under_too_little_address_space();
    CHECK_EQ(fp_pool_attach(&pool, before), -EBADF);
    int after = open("/dev/null", O_RDONLY);
    CHECK_EQ(after, before);
}

static void a_failed_attempt_leaves_no_descriptor_open(void) {
    in_child(fail_and_count_descriptors);
}

int main(void) {
    RUN(parts_follow_each_other_without_overlap);
    RUN(parts_that_different_processes_write_share_no_line);
    RUN(every_slot_has_a_ring_and_a_region_of_its_own);
    RUN(a_new_segment_is_at_rest);
    RUN(a_strange_geometry_is_refused);
    RUN(the_descriptor_does_not_survive_exec);
    RUN(a_new_segment_touches_little_memory);
    RUN(what_everybody_touches_is_present_from_the_start);
    RUN(a_block_tells_the_region_it_lies_in);
    RUN(after_a_restart_old_blocks_are_behind_and_new_ones_are_not);
    RUN(an_attached_segment_is_the_same_one);
    RUN(what_is_not_a_segment_of_ours_is_refused);
    RUN(another_version_is_refused);
    RUN(an_address_space_limit_makes_the_segment_smaller);
    RUN(too_little_address_space_is_no_memory);
    RUN(without_descriptors_the_error_says_so);
    RUN(a_file_size_limit_makes_the_segment_smaller);
    RUN(a_failed_attempt_leaves_no_descriptor_open);
    return check_done();
}
