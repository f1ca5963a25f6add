/* step_resring.c: a worker that dies at every single instruction of writing and publishing a result,
 * and of waking whoever asked for it.  The parent reads the whole record or none, and no thread of the
 * parent's sleeps through it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define CHECK_SECONDS 60
#include "stepper.h"

#include "pool/fp_pool.h"

#include <poll.h>

static fp_pool pool;
static int bell, heard;
static fp_resring producer;
static fp_resring consumer;

static void set_up(uint32_t res_size, uint32_t past) {
    fp_result result;
    CHECK_EQ(fp_pool_create(&pool, 2, 4, res_size), 0);
    bell = fp_os_bell_create(&heard);
    fp_os_bell_ring(bell); /* so that no child has to bind its symbols */
    fp_os_bell_clear(heard);
    fp_parent_wake(&pool);
    fp_pool_resring(&pool, 1, &producer);
    consumer = producer;
    for (uint32_t i = 0; i < past; i++) {
        CHECK(fp_resring_room(&producer));
        fx_result(fp_resring_next(&producer), 77, FP_RESULT_INLINE);
        fp_resring_publish(&producer);
        CHECK(fp_resring_pop(&consumer, &result));
    }
}

static void tear_down(void) {
    fp_pool_unmap(&pool);
    close(pool.fd);
    fx_close_bell(bell, heard);
}

static void __attribute__((noinline)) write_and_publish(void) {
    if (fp_resring_room(&producer)) {
        fx_result(fp_resring_next(&producer), 5, FP_RESULT_INLINE);
        fp_resring_publish(&producer);
    }
}

static void __attribute__((noinline)) publish_and_notify(void) {
    fx_result(fp_resring_next(&producer), 5, 0);
    fp_resring_publish(&producer);
    fp_worker_published(&pool, bell);
}

/* ---- the record ------------------------------------------------------------------------------- */

static void killed_at_any_instruction_a_record_is_whole_or_not_there(void) {
    const struct {
        uint32_t size, past;
    } rings[] = {{1, 0}, {2, 3}};
    uint64_t points = 0;
    for (unsigned i = 0; i < 2; i++) {
        bool whole = true;
        bool was_there = false;
        for (uint64_t k = 0; whole; k += k < 12 ? 1 : 3, points++) {
            set_up(rings[i].size, rings[i].past);
            step_begin(write_and_publish);
            whole = step_many(k);
            step_kill();
            fp_result result;
            CHECK_EQ(fp_resring_check(&consumer), 0);
            bool there = fp_resring_pop(&consumer, &result);
            CHECK(!there || fx_result_is(&result, 5, FP_RESULT_INLINE));
            CHECK(!was_there || there);
            CHECK(whole || there);
            was_there = there;
            CHECK(!fp_resring_pop(&consumer, &result));
            /* The next owner of the ring begins on sound ground. */
            fp_resring_reset(&consumer);
            fp_resring_open(&producer);
            write_and_publish();
            CHECK(fp_resring_pop(&consumer, &result));
            CHECK(fx_result_is(&result, 5, FP_RESULT_INLINE));
            tear_down();
        }
    }
    printf("  killed at %llu points\n", (unsigned long long)points);
}

/* ---- the wake-up ------------------------------------------------------------------------------ */

static fp_a32 woken;

static void *sleep_as_parent(void *arg) {
    fp_resring rings[2];
    (void)arg;
    for (uint32_t i = 0; i < 2; i++) {
        fp_pool_resring(&pool, i, &rings[i]);
    }
    int code = fp_parent_wait(&pool, rings, 2, NULL, fp_parent_bell(&pool), 0, 0, 1000000);
    atomic_store(&woken, code == 1 ? 1 : 2);
    return NULL;
}

/* Asleep, or about to be: a moment after it said so. */
static void until_asleep(void) {
    while (!(atomic_load(&pool.shared->park.attention) & FP_ATT_WAITER)) {
        fp_os_yield();
    }
    struct timespec pause = {0, 100000};
    nanosleep(&pause, NULL);
}

static bool bell_rang(void) {
    struct pollfd fd = {.fd = heard, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void killed_at_any_instruction_a_worker_leaves_no_thread_asleep(void) {
    bool whole = true;
    uint64_t points = 0;
    uint64_t slept_on = 0;
    for (uint64_t k = 0; whole; k++, points++) {
        set_up(4, 0);
        pthread_t parent;
        atomic_store(&woken, 0);
        CHECK_EQ(pthread_create(&parent, NULL, sleep_as_parent, NULL), 0);
        until_asleep();
        fp_pool_ask(&pool, FP_ATT_RESULTS);
        step_begin(publish_and_notify);
        whole = step_many(k);
        step_kill();
        /* What Dispatcher.settle_worker does first, with the death noticed. */
        uint64_t before = fp_os_now_ns();
        slept_on += !atomic_load(&woken);
        fp_park_forget(&pool, 1);
        pthread_join(parent, NULL);
        CHECK_EQ(woken, 1);
        CHECK(fp_os_now_ns() - before < 1500000000); /* woken, not timed out */
        CHECK(whole || bell_rang());
        tear_down();
    }
    CHECK(slept_on > 0);
    printf("  killed at %llu points, %llu times before it woke the parent\n",
           (unsigned long long)points, (unsigned long long)slept_on);
}

int main(void) {
    if (!step_possible()) {
        return 0;
    }
    RUN(killed_at_any_instruction_a_record_is_whole_or_not_there);
    RUN(killed_at_any_instruction_a_worker_leaves_no_thread_asleep);
    return check_done();
}
