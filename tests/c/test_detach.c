/* test_detach.c: blocks that the parent makes its own in place: what it, its children and the owner see
 * of them, while others write, and when the system refuses.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ds/fp_heap.h"

#include "check.h"
#include "fixture.h"
#include "refuse.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define REGION 4096u
#define MIB (1024u * 1024u)
#define SIZE (64ull * MIB)
#define LARGE (300u * 1000)
#define PAGE fp_os_page_size()
#define KEEP UINT64_MAX / 2
#define THREADS 3

static fx_segment segment;
static unsigned char *base;   /* as the parent sees it */
static unsigned char *theirs; /* as the worker sees it */
static fp_heap heap;          /* the worker's */

static void open_heap(void) {
    void *at;
    segment = fx_segment_of(REGION + SIZE, REGION + SIZE);
    base = segment.base;
    CHECK_EQ(fp_os_memory_map(segment.fd, REGION + SIZE, &at), 0);
    theirs = at;
    fp_heap_init(&heap, theirs, segment.fd, REGION, SIZE, SIZE, NULL);
}

static void close_heap(void) {
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK_EQ(fp_os_memory_unmap(theirs, REGION + SIZE), 0);
    fx_segment_close(&segment);
}

/* A block of the worker's, filled by it. */
static uint64_t filled(uint64_t n, uint64_t key) {
    uint64_t offset = fp_heap_alloc(&heap, n);
    CHECK(offset != 0);
    fx_fill(theirs + offset, fp_block_size(theirs, offset), key);
    return offset;
}

static bool is_filled(const unsigned char *at, uint64_t offset, uint64_t key) {
    return fx_filled(at + offset, fp_block_size(at, offset), key);
}

static fp_block *header_of(uint64_t offset) {
    return (fp_block *)(base + offset - FP_BLOCK_HEADER);
}

static fp_region *shared(void) { return (fp_region *)(base + REGION); }

static int detach(uint64_t offset) { return fp_block_detach(base, segment.fd, offset); }
static int attach(uint64_t offset) { return fp_block_attach(base, segment.fd, offset); }

/* How many mappings of segments this process has. */
static uint64_t mappings(void) {
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    uint64_t n = 0;
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        n += strstr(line, "memfd:fastpool") != NULL;
    }
    fclose(file);
    return n;
}

/* ---- children ---------------------------------------------------------------------------------- */

static fp_a32 *turn; /* parent and child take turns */

static void wait_turn(uint32_t whose) {
    while (atomic_load_explicit(turn, memory_order_acquire) != whose) {
        fp_os_yield();
    }
}

static void pass_turn(uint32_t to) { atomic_store_explicit(turn, to, memory_order_release); }

static void join_child(pid_t child) {
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

/* What can't be taken back happens in a child. */
static void in_child(void (*test)(void)) {
    pid_t child = fx_fork();
    if (child == 0) {
        test();
        _exit(0);
    }
    join_child(child);
}

/* ---- what is seen ------------------------------------------------------------------------------ */

static void a_detached_block_has_its_content_and_the_segment_has_none(void) {
    open_heap();
    for (uint64_t n = FP_BLOCK_LARGE; n < 20 * MIB; n = n * 3 + 1) {
        uint64_t offset = filled(n, n);
        uint64_t size = fp_block_size(base, offset);
        uint64_t before = fx_resident(&segment);
        CHECK_EQ(detach(offset), 0);
        CHECK_EQ(fx_resident(&segment), before - size);
        CHECK(is_filled(base, offset, n));
        CHECK_EQ(header_of(offset)->detached, FP_DETACHED);
        CHECK_EQ(detach(offset), 0); /* it is already */
        CHECK(is_filled(base, offset, n));
        CHECK_EQ(fp_heap_check(&heap), 0);
    }
    close_heap();
}

static void the_parents_writes_and_the_segments_are_apart(void) {
    open_heap();
    uint64_t offset = filled(LARGE, 1);
    uint64_t size = fp_block_size(base, offset);
    base[offset] = 7;
    CHECK_EQ(theirs[offset], 7);
    fx_fill(base + offset, size, 2); /* shared until it is detached */
    CHECK(is_filled(theirs, offset, 2));
    CHECK_EQ(detach(offset), 0);
    CHECK(is_filled(base, offset, 2));
    fx_fill(base + offset, size, 3);
    for (uint64_t i = 0; i < size; i++) {
        CHECK_EQ(theirs[offset + i], 0);
    }
    fx_fill(theirs + offset, size, 4);
    CHECK(is_filled(base, offset, 3));
    close_heap();
}

static void neighbours_stay_as_they_are(void) {
    enum { N = 9, MIDDLE = 4 };
    const uint64_t lengths[N] = {LARGE, 1000, LARGE, 100, LARGE, 200, LARGE, 3000, LARGE};
    uint64_t offsets[N];
    open_heap();
    for (int i = 0; i < N; i++) {
        offsets[i] = filled(lengths[i], (uint64_t)i);
    }
    fp_heap_free(&heap, offsets[2]); /* free, on both sides */
    fp_heap_free(&heap, offsets[5]);
    CHECK_EQ(detach(offsets[MIDDLE]), 0);
    for (uint64_t round = 1; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            CHECK(is_filled(base, offsets[i], (uint64_t)i * round));
        }
        for (int i = 0; i < N; i++) {
            unsigned char *at = i == MIDDLE || i % 2 ? base : theirs;
            fx_fill(at + offsets[i], fp_block_size(base, offsets[i]), (uint64_t)i * (round + 1));
        }
        for (int i = 0; i < N; i++) {
            CHECK(i == MIDDLE || is_filled(theirs, offsets[i], (uint64_t)i * (round + 1)));
        }
    }
    CHECK_EQ(fp_heap_alloc(&heap, LARGE), offsets[2]);
    CHECK_EQ(fp_heap_alloc(&heap, 200), offsets[5]);
    fp_block_return(base, offsets[0], 0);
    fp_block_return(base, offsets[6], 0);
    CHECK_EQ(fp_heap_collect(&heap), 2);
    CHECK(is_filled(base, offsets[MIDDLE], MIDDLE * 3));
    close_heap();
}

static void neighbours_may_be_detached_too(void) {
    enum { N = 20 };
    uint64_t offsets[N], before = 0;
    open_heap();
    before = mappings();
    for (uint64_t i = 0; i < N; i++) {
        offsets[i] = filled(FP_BLOCK_LARGE, i);
        CHECK_EQ(detach(offsets[i]), 0);
    }
    CHECK_EQ(mappings(), before + 2 * N);
    for (uint64_t i = 0; i < N; i++) {
        CHECK(is_filled(base, offsets[i], i));
    }
    for (uint64_t i = 0; i < N; i++) {
        CHECK_EQ(attach(offsets[i * 7 % N]), 0);
    }
    CHECK_EQ(mappings(), before); /* one piece again */
    close_heap();
}

static void a_detached_block_comes_home_cold_and_is_used_again(void) {
    open_heap();
    uint64_t offset = filled(LARGE, 1);
    uint64_t size = fp_block_size(base, offset);
    CHECK_EQ(detach(offset), 0);
    uint64_t resident = fx_resident(&segment);
    base[offset]++;
    CHECK_EQ(attach(offset), 0);
    CHECK_EQ(header_of(offset)->detached, FP_ATTACHED);
    CHECK_EQ(header_of(offset)->cold, 1);
    fp_block_return(base, offset, KEEP);
    CHECK_EQ(shared()->waiting, 0);
    CHECK_EQ(fx_resident(&segment), resident);
    CHECK_EQ(fp_heap_collect(&heap), 1);
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK_EQ(shared()->waiting, 0);
    CHECK_EQ(heap.cold_bytes, size);
    CHECK_EQ(heap.warm_bytes, 0);
    CHECK_EQ(filled(LARGE, 9), offset);
    CHECK(is_filled(base, offset, 9));
    base[offset] = 5;
    CHECK_EQ(theirs[offset], 5);
    CHECK_EQ(fx_resident(&segment), resident + size);
    fp_block_return(base, offset, KEEP); /* attached: warm, as any */
    CHECK_EQ(shared()->waiting, size);
    close_heap();
}

static void what_is_small_or_attached_is_refused(void) {
    open_heap();
    uint64_t small = filled(FP_BLOCK_LARGE - 8192 - 1, 1);
    uint64_t large = filled(FP_BLOCK_LARGE, 2);
    CHECK_EQ(detach(small), -EINVAL);
    CHECK_EQ(attach(small), -EINVAL);
    CHECK_EQ(attach(large), -EINVAL);
    CHECK(is_filled(base, small, 1));
    CHECK(is_filled(base, large, 2));
    base[large] = 9;
    CHECK_EQ(theirs[large], 9);
    close_heap();
}

/* ---- forks ------------------------------------------------------------------------------------- */

static void a_child_and_its_parent_do_not_see_each_others_writes(void) {
    open_heap();
    uint64_t offset = filled(5 * MIB, 1);
    uint64_t size = fp_block_size(base, offset);
    CHECK_EQ(detach(offset), 0);
    pass_turn(0);
    pid_t child = fx_fork();
    if (child == 0) {
        wait_turn(1); /* the parent has written */
        CHECK(is_filled(base, offset, 1));
        fx_fill(base + offset, size / 2, 3);
        pass_turn(2);
        wait_turn(3); /* the worker has the block again, and has written */
        CHECK(fx_filled(base + offset, size / 2, 3));
        for (uint64_t i = size / 2; i < size; i += 4096) {
            CHECK_EQ(base[offset + i], (unsigned char)((1 + i) * 167 >> 3));
        }
        _exit(0);
    }
    fx_fill(base + offset, size, 2);
    pass_turn(1);
    wait_turn(2); /* the child has written */
    CHECK(is_filled(base, offset, 2));
    CHECK_EQ(attach(offset), 0);
    fp_block_return(base, offset, KEEP);
    CHECK_EQ(filled(5 * MIB, 4), offset);
    CHECK(is_filled(base, offset, 4));
    pass_turn(3);
    join_child(child);
    CHECK(is_filled(base, offset, 4));
    close_heap();
}

static void each_of_many_children_has_its_own_snapshot(void) {
    enum { N = 6 };
    pid_t children[N];
    open_heap();
    uint64_t offset = filled(LARGE, 0);
    uint64_t size = fp_block_size(base, offset);
    pass_turn(0);
    for (uint64_t i = 0; i < N; i++) {
        CHECK_EQ(detach(offset), 0);
        children[i] = fx_fork();
        if (children[i] == 0) {
            wait_turn(1);
            CHECK(is_filled(base, offset, i));
            fx_fill(base + offset, size, 100 + i);
            fp_os_yield();
            CHECK(is_filled(base, offset, 100 + i));
            _exit(0);
        }
        if (i == 2) { /* in between it is somebody else's */
            CHECK_EQ(attach(offset), 0);
            fp_block_return(base, offset, KEEP);
            CHECK_EQ(filled(LARGE, 3), offset);
        } else {
            fx_fill(base + offset, size, i + 1);
        }
    }
    pass_turn(1);
    for (int i = 0; i < N; i++) {
        join_child(children[i]);
    }
    CHECK(is_filled(base, offset, N));
    close_heap();
}

/* ---- a region outlives its owner --------------------------------------------------------------- */

static void a_restart_leaves_detached_blocks_alone(bool marks) {
    open_heap();
    filled(LARGE, 8);
    uint64_t mine = filled(LARGE, 1);
    uint64_t plain = filled(LARGE, 2);
    uint64_t home = filled(LARGE, 3);
    if (marks) {
        fp_block_hold(base, mine);
        fp_block_hold(base, plain);
        fp_block_hold(base, home);
    }
    CHECK_EQ(detach(mine), 0);
    CHECK_EQ(detach(home), 0);
    CHECK_EQ(attach(home), 0);
    fp_block_return(base, home, KEEP);
    fp_region_restart(base, REGION, SIZE, true, 0);
    fp_heap_init(&heap, theirs, segment.fd, REGION, SIZE, SIZE, NULL);
    CHECK(filled(LARGE, 4) > home);
    CHECK(is_filled(base, mine, 1));
    CHECK(is_filled(base, plain, 2));
    CHECK_EQ(detach(plain), 0); /* its owner is dead, but it is still the parent's */
    CHECK(is_filled(base, plain, 2));
    CHECK_EQ(attach(mine), 0);
    CHECK_EQ(attach(plain), 0);
    fp_block_drop(base, mine);
    fp_block_drop(base, plain);
    fp_region_restart(base, REGION, SIZE, false, 0);
    CHECK(fx_resident(&segment) <= 2 * 65536);
    fp_heap_init(&heap, theirs, segment.fd, REGION, SIZE, SIZE, NULL);
    uint64_t offset = filled(20 * MIB, 5);
    CHECK(offset < mine);
    CHECK(is_filled(base, offset, 5)); /* all of it is shared again */
    close_heap();
}

static void a_detached_block_outlives_its_owner(void) {
    a_restart_leaves_detached_blocks_alone(false);
    a_restart_leaves_detached_blocks_alone(true);
}

/* ---- while others write ------------------------------------------------------------------------ */

static uint64_t written; /* the block */
static fp_a32 stop;

/* One word in each page, counted up; each must be what this thread left there. */
static void *count_up(void *arg) {
    uint64_t me = (uint64_t)(uintptr_t)arg, size = fp_block_size(base, written), n = 0;
    for (; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
        for (uint64_t at = me * sizeof(fp_a64); at < size; at += 4096) {
            fp_a64 *word = (fp_a64 *)(base + written + at);
            uint64_t found = atomic_load_explicit(word, memory_order_relaxed);
            if (found != n) {
                CHECK_FAIL("page %llu has %llu, not %llu", (unsigned long long)at / 4096,
                           (unsigned long long)found, (unsigned long long)n);
            }
            atomic_store_explicit(word, n + 1, memory_order_relaxed);
        }
    }
    return (void *)(uintptr_t)n;
}

static void no_write_is_lost(void) {
    uint64_t rounds = 0, counted = 0;
    open_heap();
    for (uint64_t until = fx_until(1); rounds < 5 || fp_os_now_ns() < until; rounds++) {
        pthread_t threads[THREADS];
        alarm(CHECK_SECONDS);
        /* Larger than one step now and then. */
        uint64_t n = rounds % 4 == 0 ? 9 * MIB : LARGE;
        written = fp_heap_alloc(&heap, n);
        memset(theirs + written, 0, fp_block_size(base, written));
        atomic_store(&stop, 0);
        for (uintptr_t i = 0; i < THREADS; i++) {
            CHECK_EQ(pthread_create(&threads[i], NULL, count_up, (void *)i), 0);
        }
        for (uint64_t pause = fp_os_now_ns() + rounds % 7 * 100000; fp_os_now_ns() < pause;) {
            fp_os_yield();
        }
        CHECK_EQ(detach(written), 0);
        fp_os_yield();
        atomic_store(&stop, 1);
        for (uint64_t i = 0; i < THREADS; i++) {
            void *times;
            pthread_join(threads[i], &times);
            counted += (uintptr_t)times;
            for (uint64_t at = i * 8; at < fp_block_size(base, written); at += 4096) {
                CHECK_EQ(*(fp_a64 *)(base + written + at), (uintptr_t)times);
            }
        }
        CHECK_EQ(attach(written), 0);
        fp_block_return(base, written, KEEP);
    }
    printf("  %llu rounds, %llu passes over the block\n", (unsigned long long)rounds,
           (unsigned long long)counted);
    close_heap();
}

/* Other threads detach, attach and return blocks of the same neighbourhood at once. */
static void *come_and_go(void *arg) {
    uint64_t offset = *(uint64_t *)arg;
    for (uint64_t n = 0; n < 300; n++) {
        fx_fill(base + offset, 100, n);
        CHECK_EQ(detach(offset), 0);
        CHECK(fx_filled(base + offset, 100, n));
        CHECK_EQ(attach(offset), 0);
    }
    return NULL;
}

static void threads_detach_different_blocks_at_once(void) {
    uint64_t offsets[THREADS];
    pthread_t threads[THREADS];
    open_heap();
    uint64_t before = 0;
    for (uint64_t i = 0; i < THREADS; i++) {
        offsets[i] = filled(LARGE, i);
    }
    before = mappings();
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, come_and_go, &offsets[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        fp_block_return(base, offsets[i], KEEP);
    }
    CHECK_EQ(mappings(), before);
    CHECK_EQ(fp_heap_collect(&heap), THREADS);
    close_heap();
}

/* ---- a system that refuses --------------------------------------------------------------------- */

/* Neither its content nor that it is shared has changed. */
static void it_is_still_attached(uint64_t offset, uint64_t key) {
    CHECK_EQ(header_of(offset)->detached, FP_ATTACHED);
    CHECK(is_filled(base, offset, key));
    fx_fill(theirs + offset, fp_block_size(base, offset), key + 1);
    CHECK(is_filled(base, offset, key + 1));
    fx_fill(base + offset, fp_block_size(base, offset), key);
    CHECK(is_filled(theirs, offset, key));
    CHECK_EQ(fp_heap_check(&heap), 0);
}

static void too_many_mappings(void) {
    uint64_t offset = filled(LARGE, 1), full = 0, failed = 0;
    unsigned char *at;
    static char buffer[4096]; /* there is no memory for one later: musl's malloc() needs mappings */
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    setvbuf(maps, buffer, _IOFBF, sizeof buffer);
    /* Neighbours of different kinds are not joined. */
    while ((at = mmap(NULL, PAGE, full++ % 2 ? PROT_READ : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) != MAP_FAILED) {
        if (full > 300000) {
            printf("  skipped: no limit on mappings\n");
            fflush(stdout);
            return;
        }
        CHECK(at != NULL);
    }
    CHECK_EQ(detach(offset), -ENOMEM);
    it_is_still_attached(offset, 1);
    /* One by one fewer, until there are few enough: all or nothing every time. */
    unsigned long from[64], to[64];
    int n = 0;
    char line[512];
    while (n < 64 && fgets(line, sizeof line, maps) != NULL) {
        char rights[5];
        unsigned long inode;
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &from[n], &to[n], rights, &inode) == 4 &&
            inode == 0 && strcmp(rights, "---p") == 0 && to[n] - from[n] == PAGE) {
            n++;
        }
    }
    fclose(maps);
    CHECK_EQ(n, 64);
    for (n = 0; n < 64; n++) {
        int err = detach(offset);
        if (err == 0) {
            break;
        }
        CHECK_EQ(err, -ENOMEM);
        it_is_still_attached(offset, 1);
        failed++;
        CHECK_EQ(munmap((void *)from[n], to[n] - from[n]), 0);
    }
    CHECK(n < 64);
    CHECK_EQ(header_of(offset)->detached, FP_DETACHED);
    CHECK(is_filled(base, offset, 1));
    CHECK_EQ(attach(offset), 0);
    printf("  refused %llu times\n", (unsigned long long)failed + 1);
    fflush(stdout);
}

static void little_private_memory(void) {
    unsigned long pages;
    uint64_t offset = filled(9 * MIB, 1);
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%*u %*u %*u %*u %*u %lu", &pages), 1);
    fclose(file);
    struct rlimit limit = {pages * PAGE + 4 * MIB, pages * PAGE + 4 * MIB};
    CHECK_EQ(setrlimit(RLIMIT_DATA, &limit), 0);
    CHECK_EQ(detach(offset), -ENOMEM);
    it_is_still_attached(offset, 1);
    uint64_t less = filled(MIB, 2);
    CHECK_EQ(detach(less), 0);
    CHECK(is_filled(base, less, 2));
}

static void no_moving_into_place(void) {
    uint64_t offset = filled(LARGE, 1), before = mappings();
    if (refuse(SYS_mremap, 3, MREMAP_MAYMOVE | MREMAP_FIXED, ENOMEM)) {
        CHECK_EQ(detach(offset), -ENOMEM);
        it_is_still_attached(offset, 1);
        CHECK_EQ(mappings(), before);
    }
}

static void no_mapping_shared_again(void) {
    uint64_t offset = filled(LARGE, 1);
    if (refuse(SYS_mmap, 3, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, ENOMEM)) {
        CHECK_EQ(detach(offset), 0);
        CHECK_EQ(attach(offset), -ENOMEM);
        CHECK_EQ(header_of(offset)->detached, FP_DETACHED);
        CHECK(is_filled(base, offset, 1));
        fp_region_restart(base, REGION, SIZE, true, 0); /* somebody has it for ever */
        CHECK(is_filled(base, offset, 1));
    }
}

static void no_giving_back(void) {
    uint64_t offset = filled(LARGE, 1), before = fx_resident(&segment);
    if (refuse(SYS_fallocate, 1, 3, EOPNOTSUPP)) {
        CHECK_EQ(detach(offset), 0);
        CHECK_EQ(header_of(offset)->detached, FP_DETACHED);
        CHECK_EQ(fx_resident(&segment), before);
        base[offset]++;
        CHECK(is_filled(theirs, offset, 1));
        base[offset]--;
        pass_turn(0);
        pid_t child = fx_fork();
        if (child == 0) {
            wait_turn(1);
            CHECK(is_filled(base, offset, 1));
            _exit(0);
        }
        CHECK_EQ(attach(offset), 0);
        fp_block_return(base, offset, KEEP);
        CHECK_EQ(filled(LARGE, 2), offset);
        CHECK(is_filled(base, offset, 2));
        pass_turn(1);
        join_child(child);
    }
}

/* Memory runs out at the second of three steps: what is private already stays so, and nothing that any
 * process may still look at is given back or handed out again. */
static void no_memory_half_way(void) {
    const uint64_t step = 4 * MIB;
    uint64_t offset = filled(3 * step, 1);
    uint64_t size = fp_block_size(base, offset), before = fx_resident(&segment);
    if (!refuse(SYS_madvise, 0, (uint32_t)(uintptr_t)(base + offset + step), ENOMEM)) {
        return;
    }
    CHECK_EQ(detach(offset), 0);
    CHECK_EQ(header_of(offset)->detached, FP_PINNED);
    CHECK_EQ(fx_resident(&segment), before - step);
    CHECK(is_filled(base, offset, 1));
    CHECK_EQ(detach(offset), 0);
    CHECK_EQ(fx_resident(&segment), before - step);
    base[offset + step] = 77;
    pass_turn(0);
    pid_t child = fx_fork();
    if (child == 0) {
        wait_turn(1); /* the parent has written all over it, and let go of it */
        CHECK_EQ(base[offset + step], 77);
        base[offset + step] = (unsigned char)((1 + step) * 167 >> 3);
        CHECK(is_filled(base, offset, 1));
        fx_fill(base + offset, size, 3);
        pass_turn(2);
        wait_turn(3);
        CHECK(is_filled(base, offset, 3));
        _exit(0);
    }
    fx_fill(base + offset, size, 2);
    CHECK_EQ(attach(offset), -EBUSY);
    CHECK_EQ(attach(offset), -EBUSY);
    fp_region_restart(base, REGION, SIZE, true, 0);
    pass_turn(1);
    wait_turn(2);
    CHECK(fx_filled(theirs + offset + step, 2 * step, 1 + step)); /* nobody has written to these */
    fp_heap_init(&heap, theirs, segment.fd, REGION, SIZE, SIZE, NULL);
    CHECK(filled(3 * step, 4) > offset);
    pass_turn(3);
    join_child(child);
}

static void each_in_a_child(void (*test)(void)) {
    open_heap();
    in_child(test);
    CHECK_EQ(fp_os_memory_unmap(theirs, REGION + SIZE), 0);
    fx_segment_close(&segment);
}

static void with_too_many_mappings_a_block_stays_attached(void) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return; /* its runtime needs some of its own */
#endif
    each_in_a_child(too_many_mappings);
}

static void under_a_limit_on_private_memory_a_block_stays_attached(void) {
#if defined(__SANITIZE_THREAD__)
    return; /* it needs more private memory for each mapping than the mapping is large */
#endif
    each_in_a_child(little_private_memory);
}

static void what_cannot_be_moved_into_place_stays_attached(void) {
    each_in_a_child(no_moving_into_place);
}

static void what_cannot_be_attached_stays_detached(void) {
    each_in_a_child(no_mapping_shared_again);
}

static void what_cannot_be_given_back_is_no_harm(void) { each_in_a_child(no_giving_back); }

static void when_memory_runs_out_half_way_the_block_is_never_used_again(void) {
    each_in_a_child(no_memory_half_way);
}

static void on_an_older_kernel(void) {
    if (refuse(SYS_madvise, 2, 23, EINVAL)) { /* MADV_POPULATE_WRITE */
        a_detached_block_has_its_content_and_the_segment_has_none();
        the_parents_writes_and_the_segments_are_apart();
        a_detached_block_comes_home_cold_and_is_used_again();
        a_child_and_its_parent_do_not_see_each_others_writes();
        no_write_is_lost();
    }
}

static void an_older_kernel_does_the_same_by_other_means(void) { in_child(on_an_older_kernel); }

int main(void) {
    turn = fx_shared(sizeof *turn);
    RUN_IF(fx_gives_back(), a_detached_block_has_its_content_and_the_segment_has_none);
    RUN_IF(fx_gives_back(), the_parents_writes_and_the_segments_are_apart);
    RUN(neighbours_stay_as_they_are);
    RUN_IF(fx_gives_back(), neighbours_may_be_detached_too);
    RUN_IF(fx_gives_back(), a_detached_block_comes_home_cold_and_is_used_again);
    RUN(what_is_small_or_attached_is_refused);
    RUN(a_child_and_its_parent_do_not_see_each_others_writes);
    RUN(each_of_many_children_has_its_own_snapshot);
    RUN_IF(fx_gives_back(), a_detached_block_outlives_its_owner);
    RUN(no_write_is_lost);
    RUN(threads_detach_different_blocks_at_once);
    RUN_IF(fx_gives_back(), with_too_many_mappings_a_block_stays_attached);
    RUN_IF(fx_gives_back(), under_a_limit_on_private_memory_a_block_stays_attached);
    RUN_IF(fx_gives_back(), what_cannot_be_moved_into_place_stays_attached);
    RUN(what_cannot_be_attached_stays_detached);
    RUN(what_cannot_be_given_back_is_no_harm);
    RUN_IF(fx_gives_back(), when_memory_runs_out_half_way_the_block_is_never_used_again);
    RUN_IF(fx_gives_back(), an_older_kernel_does_the_same_by_other_means);
    return check_done();
}
