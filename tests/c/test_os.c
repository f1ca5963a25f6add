/* test_os.c: what the system does for shared memory: pages on demand, and private views of it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/fp_os.h"

#include "check.h"
#include "fixture.h"
#include "refuse.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
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

/* In a child whose /dev/shm has that size, as containers may have it. */
static void in_a_dev_shm(const char *size, unsigned long flags, void (*test)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("none", "/dev/shm", "tmpfs", flags, size) < 0) {
            printf("  skipped: no mounts here\n");
            fflush(stdout);
            _exit(0);
        }
        test();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void what_does_not_fit_is_an_error(void) {
    open_segment(1024 * MIB, 1024 * MIB);
    int err = populate(0, 64 * MIB);
    CHECK(fx_gives_back() ? err == 0 : err == -ENOMEM);
    CHECK_EQ(fp_os_memory_reserve(segment.fd, 0, MIB), 0); /* what is there can be used */
    memset(segment.base, 1, MIB);
}

/* A shared memory object lies in /dev/shm where linux.c isn't used, and there may be little room. */
static void a_full_dev_shm_is_an_error(void) {
    in_a_dev_shm("size=8m", 0, what_does_not_fit_is_an_error);
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

/* ---- systems that refuse some of it --------------------------------------------------------------- */

static volatile sig_atomic_t ticks;
static void on_tick(int signum) {
    (void)signum;
    ticks++;
}

static bool no_populate(uint32_t error) { return refuse(SYS_madvise, 2, 23, error); }
static bool no_fallocate(uint32_t error) {
    return no_populate(error) && refuse(SYS_fallocate, 1, 0, error);
}
static bool no_mremap(uint32_t error) { return refuse_all(SYS_mremap, error); }
static bool no_memfd(uint32_t error) { return refuse_all(SYS_memfd_create, error); }

static void populate_under_a_timer(void) {
    open_segment(256 * MIB, 256 * MIB);
    signal(SIGALRM, on_tick);
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    CHECK_EQ(populate(5, 200 * MIB), 0);
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK(ticks > 0);
    CHECK_EQ(fx_resident(&segment), 200 * MIB + PAGE);
    close_segment();
}

static void pages_are_made_present(void) {
    populated_pages_are_present_and_no_others();
    populating_keeps_what_is_there();
    reserved_pages_are_the_objects_and_read_as_zero();
    an_owned_view_depends_on_the_object_no_more();
    populate_under_a_timer();
}

/* Kernels before 5.14 don't know MADV_POPULATE_WRITE. */
static void an_older_kernel_does_the_same_by_other_means(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (no_populate(EINVAL)) {
            CHECK_EQ(madvise(NULL, 0, 23), -1);
            pages_are_made_present();
        }
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    where_refused(no_populate, pages_are_made_present);
}

static void pages_are_made_present_and_no_memory_is_an_error(void) {
    pages_are_made_present();
    open_segment(16 * MIB, MIB);
    CHECK_EQ(populate(2 * MIB, PAGE), -ENOMEM);
    CHECK_EQ(populate(MIB - PAGE + 1, 2 * PAGE), -ENOMEM);
    CHECK_EQ(populate(0, MIB), 0);
    close_segment();
}

static void without_fallocate_pages_are_written_to(void) {
    where_refused(no_fallocate, pages_are_made_present_and_no_memory_is_an_error);
}

static void mappings_change_in_place(void) {
    a_mapping_can_become_private_in_place();
    a_private_mapping_can_become_shared_again();
    what_cannot_be_mapped_is_an_error();
}

static void without_mremap_mappings_change_in_place_all_the_same(void) {
    where_refused(no_mremap, mappings_change_in_place);
}

static void check_object(int fd) {
    struct stat st;
    void *at;
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_nlink, 0); /* no name leads to it */
    CHECK_EQ(st.st_size, 4096ll * MIB);
    CHECK_EQ(st.st_blocks, 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK_EQ(fp_os_memory_map(fd, MIB, &at), 0);
    memset(at, 1, MIB);
    fp_os_memory_unmap(at, MIB);
    close(fd);
}

static void an_object_is_a_file_in_memory(void) {
    check_object(fp_os_memory_create(4096ull * MIB));
    populated_pages_are_present_and_no_others();
    only_whole_pages_are_given_back();
    a_punched_hole_reads_as_zero_and_leaves_the_size_alone();
}

static void without_memfd_memory_is_a_file_without_a_name(void) {
    where_refused(no_memfd, an_object_is_a_file_in_memory);
}

/* To open anything with these flags, by whichever call the C library does it. */
static bool no_open(uint32_t flags, uint32_t error) {
#ifdef SYS_open
    if (!refuse_masked(SYS_open, 1, flags, flags, error)) {
        return false;
    }
#endif
    return refuse_masked(SYS_openat, 2, flags, flags, error);
}

/* Not every file system has nameless files. */
static bool no_nameless_files(uint32_t error) {
    return no_memfd(error) && no_open(O_TMPFILE & ~O_DIRECTORY, EOPNOTSUPP);
}

static void a_file_that_has_to_have_a_name_loses_it_at_once(void) {
    where_refused(no_nameless_files, an_object_is_a_file_in_memory);
}

static void an_object_lies_elsewhere(void) {
    uint64_t left, total;
    if (no_memfd(EPERM)) {
        int fd = fp_os_memory_create(64 * MIB);
        CHECK(fd >= 0);
        fp_os_memory_bounds(fd, &left, &total);
        CHECK(left <= total && total > MIB);
        CHECK_EQ(fp_os_memory_reserve(fd, 0, MIB), 0);
    }
}

static void a_dev_shm_without_room_is_passed_over(void) {
    in_a_dev_shm("size=64k", 0, an_object_lies_elsewhere);
    in_a_dev_shm("size=64m", MS_RDONLY, an_object_lies_elsewhere);
}

/* Neither in memory nor elsewhere. */
static bool no_files(uint32_t error) { return no_memfd(error) && no_open(O_RDWR, EACCES); }

static void no_memory_is_made(void) { CHECK_EQ(fp_os_memory_create(MIB), -EOPNOTSUPP); }

static void where_no_file_may_be_made_there_is_no_memory(void) {
    where_refused(no_files, no_memory_is_made);
}

/* ---- bells, messages, processes ------------------------------------------------------------------- */

static bool is_readable(int fd) {
    struct pollfd found = {.fd = fd, .events = POLLIN};
    return poll(&found, 1, 0) == 1;
}

static void a_bell_rings_until_it_is_heard(void) {
    int heard, bell = fp_os_bell_create(&heard);
    CHECK(bell >= 0);
    CHECK_EQ(fcntl(bell, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(heard, F_GETFD), FD_CLOEXEC);
    for (int rings = 1; rings < 300000; rings *= 8) {
        CHECK(!is_readable(heard));
        for (int i = 0; i < rings; i++) {
            CHECK_EQ(fp_os_bell_ring(bell), 0);
        }
        CHECK(is_readable(heard));
        CHECK_EQ(fp_os_bell_clear(heard), 0);
    }
    CHECK_EQ(fp_os_bell_clear(heard), 0);
    fx_close_bell(bell, heard);
}

static bool no_eventfd(uint32_t error) { return refuse_all(SYS_eventfd2, error); }

static void without_eventfd_a_bell_is_a_pipe(void) {
    where_refused(no_eventfd, a_bell_rings_until_it_is_heard);
}

static void messages_come_whole_and_with_descriptors(void) {
    int ends[2], fd;
    char got[16];
    CHECK_EQ(fp_os_pair(ends), 0);
    CHECK_EQ(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fp_os_receive(ends[1], got, sizeof got, &fd), -EAGAIN);
    CHECK_EQ(fp_os_send(ends[0], "one", 3, ends[0]), 0);
    CHECK_EQ(fp_os_send(ends[0], "three", 5, -1), 0);
    CHECK_EQ(fp_os_receive(ends[1], got, sizeof got, &fd), 3);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    CHECK_EQ(fp_os_receive(ends[1], got, sizeof got, &fd), 5);
    CHECK_EQ(memcmp(got, "three", 5), 0);
    CHECK_EQ(fd, -1);
    close(ends[0]);
    close(ends[1]);
}

static bool no_packets(uint32_t error) {
    return refuse_masked(SYS_socketpair, 1, 0xf, SOCK_SEQPACKET, error);
}

static void without_sequenced_packets_messages_are_datagrams(void) {
    messages_come_whole_and_with_descriptors();
    where_refused(no_packets, messages_come_whole_and_with_descriptors);
}

static bool no_signal_at_death(uint32_t error) { return refuse(SYS_prctl, 0, 1, error); }

/* A grandchild holds the writing end of a pipe for as long as it lives. */
static void a_child_dies_with_its_parent(void) {
    int ends[2], status;
    char byte;
    CHECK_EQ(pipe(ends), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pid_t parent = getpid();
        int watch, line, kind = fp_os_watch_kind(), own = fp_os_watch_self(kind, &line);
        if (fp_os_fork(kind, &watch) == 0) {
            CHECK_EQ(fp_os_die_with_parent(parent, kind == FP_BY_PIPE ? own : -1), 0);
            CHECK_EQ(write(ends[1], "", 1), 1);
            for (;;) {
                pause();
            }
        }
        CHECK_EQ(read(ends[0], &byte, 1), 1);
        _exit(0);
    }
    close(ends[1]);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(read(ends[0], &byte, 1), 0);
    close(ends[0]);
}

static void without_a_signal_at_its_death_a_parent_is_watched(void) {
    a_child_dies_with_its_parent();
    where_refused(no_signal_at_death, a_child_dies_with_its_parent);
}

int main(void) {
    RUN(populated_pages_are_present_and_no_others);
    RUN(populating_keeps_what_is_there);
    RUN(reserved_pages_are_the_objects_and_read_as_zero);
    RUN_IF(fx_gives_back(), only_whole_pages_are_given_back);
    RUN_IF(fx_gives_back(), a_punched_hole_reads_as_zero_and_leaves_the_size_alone);
    RUN_IF(fx_gives_back(), no_memory_is_an_error);
    RUN(a_full_dev_shm_is_an_error);
    RUN(a_dev_shm_without_room_is_passed_over);
    RUN(a_private_view_shows_any_range_of_bytes);
    RUN(what_is_written_to_a_private_view_stays_there);
    RUN_IF(fx_gives_back(), an_owned_view_depends_on_the_object_no_more);
    RUN_IF(fx_gives_back(), a_view_that_was_written_all_over_shows);
    RUN_IF(fx_gives_back(), copied_pages_outlive_the_objects);
    RUN(a_mapping_can_become_private_in_place);
    RUN(a_private_mapping_can_become_shared_again);
    RUN(what_cannot_be_mapped_is_an_error);
    RUN_IF(fx_gives_back(), an_older_kernel_does_the_same_by_other_means);
    RUN_IF(fx_gives_back(), without_fallocate_pages_are_written_to);
    RUN_IF(fx_gives_back(), without_memfd_memory_is_a_file_without_a_name);
    RUN_IF(fx_gives_back(), a_file_that_has_to_have_a_name_loses_it_at_once);
    RUN_IF(fx_gives_back(), where_no_file_may_be_made_there_is_no_memory);
    RUN(without_mremap_mappings_change_in_place_all_the_same);
    RUN(a_bell_rings_until_it_is_heard);
    RUN(without_eventfd_a_bell_is_a_pipe);
    RUN(without_sequenced_packets_messages_are_datagrams);
    RUN(without_a_signal_at_its_death_a_parent_is_watched);
    return check_done();
}
