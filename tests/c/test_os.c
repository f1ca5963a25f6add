/* test_os.c: what the system does for shared memory: pages on demand, and private views of it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/fp_os.h"

#include "check.h"
#include "fixture.h"
#include "refuse.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/time.h>
#include <sys/wait.h>

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))
#define MIB (1024u * 1024u)

static fx_segment segment;

static void open_segment(uint64_t map, uint64_t file) { segment = fx_segment_of(map, file); }
static void close_segment(void) { fx_segment_close(&segment); }

static int populate(uint64_t at, uint64_t len) {
    return fp_os_memory_populate(segment.base + at, segment.fd, at, len);
}

/* ---- pages ------------------------------------------------------------------------------------ */

static void populated_pages_are_present_and_no_others(void) {
    open_segment(16 * MIB, 16 * MIB);
    CHECK_EQ(fx_resident(&segment), 0);
    CHECK_EQ(populate(PAGE + 17, 1), 0);
    CHECK_EQ(fx_resident(&segment), PAGE);
    CHECK_EQ(populate(2 * PAGE - 1, 2), 0);
    CHECK_EQ(fx_resident(&segment), 2 * PAGE);
    CHECK_EQ(populate(MIB, 9 * MIB + 1), 0);
    CHECK_EQ(fx_resident(&segment), 3 * PAGE + 9 * MIB);
    close_segment();
}

static void populating_keeps_what_is_there(void) {
    open_segment(MIB, MIB);
    fx_fill(segment.base, 10000, 5);
    CHECK_EQ(populate(100, MIB - 100), 0);
    CHECK(fx_filled(segment.base, 10000, 5));
    close_segment();
}

static void reserved_pages_are_the_objects_and_read_as_zero(void) {
    open_segment(16 * MIB, 16 * MIB);
    CHECK_EQ(fp_os_memory_reserve(segment.fd, PAGE + 5, 9 * MIB), 0);
    CHECK_EQ(fx_resident(&segment), 9 * MIB + PAGE);
    CHECK_EQ(segment.base[5 * MIB], 0);
    close_segment();
}

static void only_whole_pages_are_given_back(void) {
    open_segment(MIB, MIB);
    memset(segment.base, 7, MIB);
    CHECK_EQ(fp_os_memory_release(segment.base + 1, 2 * PAGE - 2), 0); /* no whole page */
    CHECK_EQ(fx_resident(&segment), MIB);
    CHECK_EQ(fp_os_memory_release(segment.base + PAGE - 1, 3 * PAGE), 0);
    CHECK_EQ(fx_resident(&segment), MIB - 2 * PAGE);
    CHECK_EQ(segment.base[PAGE - 1], 7);
    CHECK_EQ(segment.base[PAGE], 0);
    CHECK_EQ(segment.base[3 * PAGE - 1], 0);
    CHECK_EQ(segment.base[3 * PAGE], 7);
    close_segment();
}

static void a_punched_hole_reads_as_zero_and_leaves_the_size_alone(void) {
    void *view;
    open_segment(MIB, MIB);
    memset(segment.base, 7, MIB);
    CHECK_EQ(fp_os_memory_map_private(segment.fd, 0, MIB, &view), 0);
    ((unsigned char *)view)[2 * PAGE] = 8;
    CHECK_EQ(fp_os_memory_punch(segment.fd, PAGE, 2 * PAGE), 0);
    CHECK_EQ(fx_resident(&segment), MIB - 2 * PAGE);
    CHECK_EQ(segment.base[PAGE - 1], 7);
    CHECK_EQ(segment.base[PAGE], 0);
    CHECK_EQ(segment.base[3 * PAGE - 1], 0);
    CHECK_EQ(segment.base[3 * PAGE], 7);
    CHECK_EQ(((unsigned char *)view)[2 * PAGE], 8); /* a copy stays */
    CHECK_EQ(fp_os_memory_punch(segment.fd, MIB - PAGE, PAGE), 0);
    CHECK_EQ(fp_os_memory_size(segment.fd), MIB);
    CHECK_EQ(fp_os_memory_punch(-1, 0, PAGE), -EBADF);
    fp_os_memory_unmap_private(view, MIB);
    close_segment();
}

/* A segment that ends early stands for a system without memory: a store there would be SIGBUS. */
static void no_memory_is_an_error(void) {
    open_segment(16 * MIB, MIB);
    CHECK_EQ(populate(2 * MIB, PAGE), -ENOMEM);
    CHECK_EQ(populate(MIB - PAGE, 2 * PAGE), -ENOMEM);
    CHECK_EQ(populate(0, MIB), 0);
    close_segment();
}

/* A shared memory object lies in /dev/shm where linux.c isn't used, and there may be little room. */
static void a_full_dev_shm_is_an_error(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("none", "/dev/shm", "tmpfs", 0, "size=8m") < 0) {
            printf("  skipped: no mounts here\n");
            fflush(stdout);
            _exit(0);
        }
        open_segment(1024 * MIB, 1024 * MIB);
        int err = populate(0, 64 * MIB);
        CHECK(fx_gives_back() ? err == 0 : err == -ENOMEM);
        CHECK_EQ(fp_os_memory_reserve(segment.fd, 0, MIB), 0); /* what is there can be used */
        memset(segment.base, 1, MIB);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

/* ---- private views ---------------------------------------------------------------------------- */

static void a_private_view_shows_any_range_of_bytes(void) {
    open_segment(MIB, MIB);
    fx_fill(segment.base, MIB, 3);
    for (uint64_t at = 0; at < 3 * PAGE; at += PAGE / 3 + 1) {
        for (uint64_t len = 1; len < 3 * PAGE; len += PAGE / 2 + 1) {
            void *view;
            CHECK_EQ(fp_os_memory_map_private(segment.fd, at, len, &view), 0);
            CHECK((unsigned char *)view != segment.base + at);
            CHECK_EQ(memcmp(view, segment.base + at, len), 0);
            CHECK_EQ(fp_os_memory_unmap_private(view, len), 0);
        }
    }
    close_segment();
}

static void what_is_written_to_a_private_view_stays_there(void) {
    unsigned char *view, *other;
    open_segment(MIB, MIB);
    fx_fill(segment.base, MIB, 3);
    CHECK_EQ(fp_os_memory_map_private(segment.fd, 100, 50000, (void **)&view), 0);
    CHECK_EQ(fp_os_memory_map_private(segment.fd, 100, 50000, (void **)&other), 0);
    memset(view, 0, 50000);
    CHECK(fx_filled(segment.base, MIB, 3));
    CHECK_EQ(memcmp(other, segment.base + 100, 50000), 0);
    CHECK_EQ(view[0], 0);
    fp_os_memory_unmap_private(view, 50000);
    fp_os_memory_unmap_private(other, 50000);
    close_segment();
}

static void an_owned_view_depends_on_the_object_no_more(void) {
    enum { LEN = 300001 };
    unsigned char *view;
    open_segment(MIB, MIB);
    fx_fill(segment.base + 777, LEN, 4);
    CHECK_EQ(fp_os_memory_map_private(segment.fd, 777, LEN, (void **)&view), 0);
    view[5]++; /* a page that is a copy already */
    CHECK_EQ(fp_os_memory_own(view, LEN), 0);
    memset(segment.base, 9, MIB);
    view[5]--;
    CHECK(fx_filled(view, LEN, 4));
    CHECK_EQ(fp_os_memory_release(segment.base, MIB), 0);
    CHECK(fx_filled(view, LEN, 4));
    close_segment(); /* nor on its being there */
    CHECK(fx_filled(view, LEN, 4));
    fp_os_memory_unmap_private(view, LEN);
}

static void a_view_that_was_written_all_over_shows(void) {
    unsigned char *view;
    open_segment(MIB, MIB);
    fx_fill(segment.base, MIB, 3);
    CHECK_EQ(fp_os_memory_map_private(segment.fd, 100, MIB - 100, (void **)&view), 0);
    CHECK_EQ(fp_os_memory_is_written(view, MIB - 100), 0); /* untouched */
    unsigned sum = 0;
    for (uint64_t i = 0; i < MIB - 100; i += PAGE) {
        sum += view[i];
    }
    CHECK(sum > 0);
    CHECK_EQ(fp_os_memory_is_written(view, MIB - 100), 0); /* read */
    memset(view, 0, PAGE);
    CHECK_EQ(fp_os_memory_is_written(view, MIB - 100), 0); /* written here and there */
    memset(view, 0, MIB - 100);
    CHECK_EQ(fp_os_memory_is_written(view, MIB - 100), 1);
    fp_os_memory_unmap_private(view, MIB - 100);
    close_segment();
}

/* Written to and then left to itself, a view keeps the copied pages when the object's go away. */
static void copied_pages_outlive_the_objects(void) {
    unsigned char *view;
    open_segment(MIB, MIB);
    memset(segment.base, 1, MIB);
    CHECK_EQ(fp_os_memory_map_private(segment.fd, 0, MIB, (void **)&view), 0);
    view[PAGE] = 2;
    CHECK_EQ(fp_os_memory_release(segment.base, MIB), 0);
    CHECK_EQ(view[PAGE], 2);
    CHECK_EQ(view[PAGE + 1], 1);
    fp_os_memory_unmap_private(view, MIB);
    close_segment();
}

static void a_mapping_can_become_private_in_place(void) {
    open_segment(16 * PAGE, 16 * PAGE);
    memset(segment.base, 1, 16 * PAGE);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(
            fp_os_memory_remap_private(segment.base + 4 * PAGE, segment.fd, 4 * PAGE, 8 * PAGE), 0);
        CHECK_EQ(segment.base[4 * PAGE], 1);
        memset(segment.base, 2, 16 * PAGE);
        CHECK_EQ(segment.base[4 * PAGE], 2);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(segment.base[4 * PAGE - 1], 2);
    CHECK_EQ(segment.base[4 * PAGE], 1);
    CHECK_EQ(segment.base[12 * PAGE - 1], 1);
    CHECK_EQ(segment.base[12 * PAGE], 2);
    close_segment();
}

static void a_private_mapping_can_become_shared_again(void) {
    void *other;
    open_segment(16 * PAGE, 16 * PAGE);
    memset(segment.base, 1, 16 * PAGE);
    CHECK_EQ(fp_os_memory_map(segment.fd, 16 * PAGE, &other), 0);
    CHECK_EQ(fp_os_memory_remap_private(segment.base + 4 * PAGE, segment.fd, 4 * PAGE, 8 * PAGE),
             0);
    memset(segment.base, 2, 16 * PAGE);
    CHECK_EQ(fp_os_memory_remap_shared(segment.base + 4 * PAGE, segment.fd, 4 * PAGE, 8 * PAGE), 0);
    CHECK_EQ(segment.base[4 * PAGE - 1], 2);
    CHECK_EQ(segment.base[4 * PAGE], 1);
    memset(segment.base, 3, 16 * PAGE);
    CHECK_EQ(memcmp(other, segment.base, 16 * PAGE), 0);
    fp_os_memory_unmap(other, 16 * PAGE);
    close_segment();
}

static void what_cannot_be_mapped_is_an_error(void) {
    void *view, *other;
    CHECK_EQ(fp_os_memory_map_private(-1, 0, 100, &view), -EBADF);
    open_segment(PAGE, PAGE);
    CHECK_EQ(fp_os_memory_map(segment.fd, PAGE, &other), 0);
    CHECK_EQ(fp_os_memory_remap_private(segment.base, -1, 0, PAGE), -EBADF);
    CHECK_EQ(fp_os_memory_remap_shared(segment.base, -1, 0, PAGE), -EBADF);
    segment.base[0] = 1; /* still there, and shared */
    CHECK_EQ(*(unsigned char *)other, 1);
    fp_os_memory_unmap(other, PAGE);
    close_segment();
}

/* ---- kernels that don't know MADV_POPULATE_WRITE ------------------------------------------------- */

static volatile sig_atomic_t ticks;
static void on_tick(int signum) {
    (void)signum;
    ticks++;
}

static void an_older_kernel_does_the_same_by_other_means(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!refuse(SYS_madvise, 2, 23, EINVAL)) {
            _exit(0);
        }
        CHECK_EQ(madvise(NULL, 0, 23), -1);
        populated_pages_are_present_and_no_others();
        populating_keeps_what_is_there();
        an_owned_view_depends_on_the_object_no_more();
        open_segment(256 * MIB, 256 * MIB);
        signal(SIGALRM, on_tick);
        struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
        setitimer(ITIMER_REAL, &often, NULL);
        CHECK_EQ(populate(5, 200 * MIB), 0);
        setitimer(ITIMER_REAL, &never, NULL);
        CHECK(ticks > 0);
        CHECK_EQ(fx_resident(&segment), 200 * MIB + PAGE);
        close_segment();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

int main(void) {
    RUN(populated_pages_are_present_and_no_others);
    RUN(populating_keeps_what_is_there);
    RUN(reserved_pages_are_the_objects_and_read_as_zero);
    RUN_IF(fx_gives_back(), only_whole_pages_are_given_back);
    RUN_IF(fx_gives_back(), a_punched_hole_reads_as_zero_and_leaves_the_size_alone);
    RUN_IF(fx_gives_back(), no_memory_is_an_error);
    RUN(a_full_dev_shm_is_an_error);
    RUN(a_private_view_shows_any_range_of_bytes);
    RUN(what_is_written_to_a_private_view_stays_there);
    RUN_IF(fx_gives_back(), an_owned_view_depends_on_the_object_no_more);
    RUN_IF(fx_gives_back(), a_view_that_was_written_all_over_shows);
    RUN_IF(fx_gives_back(), copied_pages_outlive_the_objects);
    RUN(a_mapping_can_become_private_in_place);
    RUN(a_private_mapping_can_become_shared_again);
    RUN(what_cannot_be_mapped_is_an_error);
    RUN_IF(fx_gives_back(), an_older_kernel_does_the_same_by_other_means);
    return check_done();
}
