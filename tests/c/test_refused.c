/* test_refused.c: a pool some of whose threads the system refuses to wake others, from the start or later.
 *
 * A filter of system calls holds for the thread that sets it up and for those that it starts.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool/fp_pool.h"

#include "check.h"
#include "fixture.h"
#include "refuse.h"

#include <poll.h>
#include <signal.h>

#define SLOTS 2u

static fp_pool pool;
static fp_resring ring;
static int heard;        /* of the bell */
static uint32_t refusal; /* the errno with which this process's wakes fail */

static bool note(uint32_t error) {
    refusal = error;
    return true;
}
static bool no_wakes(void) { return refuse(SYS_futex, 1, 1, refusal); }

static void open_pool(void) {
    CHECK_EQ(fp_pool_create(&pool, SLOTS, 4, 4), 0);
    pool.bell_fd = fp_os_bell_create(&heard);
    CHECK(pool.bell_fd >= 0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        pool.ctl[i].state = FP_IDLE;
    }
    fp_pool_resring(&pool, 1, &ring);
}

static bool bell_rang(void) {
    struct pollfd fd = {.fd = heard, .events = POLLIN};
    bool rang = poll(&fd, 1, 0) == 1;
    fp_os_bell_clear(heard);
    return rang;
}

static void close_pool(void) {
    fp_pool_unmap(&pool);
    close(pool.fd);
    fx_close_bell(pool.bell_fd, heard);
}

/* ---- threads that wait, as their processes would ------------------------------------------------ */

static void *as_worker(void *result) {
    fp_patience patience = {0, 0, 0, 0};
    uint64_t since = 0;
    int *got = result;
    while ((*got = fp_worker_wait(&pool, 1, &patience, &since)) == -EINTR) {
    }
    return NULL;
}

static void *as_parent(void *result) {
    *(int *)result = fp_parent_wait(&pool, &ring, 1, NULL, fp_parent_bell(&pool), 0, 0, 1000000);
    return NULL;
}

static bool is_announced(void) {
    return fp_pool_sleeping(&pool, SLOTS) == 1 || pool.shared->park.attention != 0;
}

static pthread_t begin(void *(*wait)(void *), int *result) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wait, result), 0);
    while (!is_announced()) {
        fp_os_yield();
    }
    return thread;
}

static void publish_task(void) {
    fp_task task = fx_task(1, 0);
    CHECK(fp_taskring_room(&pool.ring) > 0);
    fp_taskring_push(&pool.ring, &task);
    CHECK_EQ(fp_pool_kick(&pool, SLOTS, 1, 1), 1);
}

static void publish_result(void) {
    fp_resring producer = ring;
    fx_result(fp_resring_next(&producer), 1, 0);
    fp_resring_publish(&producer);
    fp_worker_published(&pool, pool.bell_fd);
}

/* ---- from the start ------------------------------------------------------------------------------ */

static void all_nap(void) {
    int result;
    if (!no_wakes()) {
        return;
    }
    open_pool();
    pthread_t worker = begin(as_worker, &result);
    publish_task();
    pthread_join(worker, NULL);
    CHECK_EQ(result, FP_GOT_TASK);
    CHECK(!bell_rang()); /* nobody needs help */
    pthread_t parent = begin(as_parent, &result);
    publish_result();
    pthread_join(parent, NULL);
    CHECK_EQ(result, 1);
    CHECK(!bell_rang());
    CHECK(!fp_pool_answer(&pool));
    close_pool();
}

static void where_the_parent_can_wake_nobody_all_nap(void) { where_refused(note, all_nap); }

/* ---- later --------------------------------------------------------------------------------------- */

static void on_signal(int number) { (void)number; }

static void the_parent_calls_for_help(void) {
    int result;
    struct sigaction action = {.sa_handler = on_signal};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    open_pool();
    CHECK_EQ(pool.shared->naps, 0);
    pthread_t worker = begin(as_worker, &result);
    if (!no_wakes()) {
        _exit(0);
    }
    publish_task();
    if (!fp_os_can_wake()) {
        CHECK(bell_rang());
        CHECK(fp_pool_answer(&pool));
        pthread_kill(worker, SIGUSR1); /* what the background thread does then */
    }
    CHECK(!fp_pool_answer(&pool));
    CHECK(!bell_rang());
    pthread_join(worker, NULL);
    CHECK_EQ(result, FP_GOT_TASK);
    close_pool();
}

static void a_parent_that_is_refused_it_has_workers_woken_by_a_signal(void) {
    where_refused(note, the_parent_calls_for_help);
}

static void *publish_without_wakes(void *arg) {
    if (!no_wakes()) {
        return NULL;
    }
    publish_result();
    return arg;
}

static void a_worker_calls_for_help(void) {
    int result;
    pthread_t other;
    open_pool();
    pthread_t parent = begin(as_parent, &result);
    uint64_t before = fp_os_now_ns();
    void *published;
    CHECK_EQ(pthread_create(&other, NULL, publish_without_wakes, &ring), 0);
    pthread_join(other, &published);
    if (!published) {
        _exit(0);
    }
    if (!fp_resring_empty(&ring) && bell_rang()) {
        CHECK(fp_pool_answer(&pool)); /* this thread may wake the other one */
    }
    pthread_join(parent, NULL);
    CHECK(fp_os_now_ns() - before < 1500000000u); /* by itself it would have looked later */
    CHECK(result == 1 || result == -EAGAIN);
    close_pool();
}

static void a_worker_that_is_refused_it_has_the_parent_woken_by_its_own_thread(void) {
    where_refused(note, a_worker_calls_for_help);
}

int main(void) {
    RUN(where_the_parent_can_wake_nobody_all_nap);
    RUN(a_parent_that_is_refused_it_has_workers_woken_by_a_signal);
    RUN(a_worker_that_is_refused_it_has_the_parent_woken_by_its_own_thread);
    return check_done();
}
