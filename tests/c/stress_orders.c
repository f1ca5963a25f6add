/* stress_orders.c: the two sides of each sleeper's protocol, thrown at each other a million times
 * without any sleep between them.  Both write, then read; never may both read the old value.
 *
 * On x86 only a store that waits in its buffer can break this, so what is tested here are the
 * seq_cst orders of fp_park.h; stress_park.c tests what is built on them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fixture.h"
#include "pool/fp_pool.h"

static uint64_t seed;
static fp_pool pool;
static int bell, heard;
static fp_resring producer;
static fp_resring consumer;

/* ---- two threads in step ---------------------------------------------------------------------- */

typedef struct duel {
    bool (*right)(void);
    uint64_t until;
    uint64_t moment;
    _Alignas(FP_LINE) fp_a64 arrived;
    _Alignas(FP_LINE) fp_a64 released;
    _Alignas(FP_LINE) fp_a32 seen_by_right;
} duel;

static void wait_for(fp_a64 *counter, uint64_t value) {
    for (int i = 0; atomic_load_explicit(counter, memory_order_acquire) < value; i++) {
        if (i > 5000) {
            fp_os_yield();
        }
        fp_relax();
    }
}

/* Both sides start at the same moment by the clock, give or take some nanoseconds. */
static void start_at(uint64_t moment, uint64_t *random) {
    while (fp_os_now_ns() < moment) {
    }
    for (uint64_t n = fx_below(random, 150); n > 0; n--) {
        __asm__ __volatile__("");
    }
}

static void *right_side(void *arg) {
    duel *d = arg;
    uint64_t random = fx_seeded(seed, 2);
    for (uint64_t round = 1;; round++) {
        wait_for(&d->released, 2 * round - 1);
        if (d->until == 0) {
            return NULL;
        }
        start_at(d->moment, &random);
        atomic_store_explicit(&d->seen_by_right, d->right(), memory_order_relaxed);
        atomic_store_explicit(&d->arrived, round, memory_order_release);
    }
}

/* Each side returns whether it noticed the other one. */
static void fight(void (*prepare)(void), bool (*left)(void), bool (*right)(void)) {
    static duel d;
    memset(&d, 0, sizeof d);
    d.right = right;
    d.until = fx_until(0.6);
    CHECK_EQ(fp_pool_create(&pool, 1, 4, 4), 0);
    bell = fp_os_bell_create(&heard);
    fp_pool_resring(&pool, 0, &producer);
    consumer = producer;
    uint64_t random = fx_seeded(seed, 1);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, right_side, &d), 0);
    uint64_t round = 1;
    uint64_t met[2] = {0, 0};
    for (; fp_os_now_ns() < d.until; round++) {
        prepare();
        d.moment = fp_os_now_ns() + 500;
        atomic_store_explicit(&d.released, 2 * round - 1, memory_order_release);
        start_at(d.moment, &random);
        bool by_left = left();
        wait_for(&d.arrived, round);
        bool by_right = atomic_load_explicit(&d.seen_by_right, memory_order_relaxed);
        CHECK(by_left || by_right);
        met[0] += by_left;
        met[1] += by_right;
        atomic_store_explicit(&d.released, 2 * round, memory_order_relaxed);
    }
    d.until = 0;
    atomic_store_explicit(&d.released, 2 * round - 1, memory_order_release);
    pthread_join(thread, NULL);
    fp_pool_unmap(&pool);
    close(pool.fd);
    fx_close_bell(bell, heard);
    printf("  %llu rounds, seen from the left %llu, from the right %llu\n",
           (unsigned long long)round - 1, (unsigned long long)met[0], (unsigned long long)met[1]);
}

/* ---- a task is published, a worker falls asleep ------------------------------------------------ */

static void no_task_no_sleeper(void) {
    fp_task task;
    fp_taskring_claim(&pool.ring, 0, &task);
    fp_sleepers_take(pool.sleepers, 0);
}
static bool publish_task(void) {
    fp_task task = {.len = 0};
    fp_taskring_push(&pool.ring, &task);
    return fp_pool_kick(&pool, 1, 1, 1) == 1;
}
static bool announce_sleep(void) {
    fp_sleepers_set(pool.sleepers, 0);
    /* As fp__task_waits. */
    uint64_t tail = atomic_load_explicit(&pool.shared->tasks.tail, memory_order_seq_cst);
    uint64_t head = atomic_load_explicit(&pool.shared->tasks.head, memory_order_relaxed);
    return fp__ticket_before(fp__ticket_of(head), tail);
}
static void a_task_and_a_falling_sleeper_meet(void) {
    fight(no_task_no_sleeper, publish_task, announce_sleep);
}

/* ---- a result is published, the parent falls asleep -------------------------------------------- */

static void no_result_no_request(void) {
    fp_result result;
    fp_resring_pop(&consumer, &result);
    atomic_store(&pool.shared->park.attention, 0);
    fp_os_bell_clear(heard);
}
static bool publish_result(void) {
    fp_resring_room(&producer);
    fp_resring_next(&producer)->len = 0;
    fp_resring_next(&producer)->in_block = 0;
    fp_resring_publish(&producer);
    uint32_t rung = atomic_load(&pool.shared->park.bell);
    fp_worker_published(&pool, bell);
    return atomic_load(&pool.shared->park.bell) != rung;
}
static bool ask_for_results(void) {
    fp_pool_ask(&pool, FP_ATT_WAITER);
    return !fp_resring_empty(&consumer);
}
static void a_result_and_a_falling_sleeper_meet(void) {
    fight(no_result_no_request, publish_result, ask_for_results);
}

/* ---- a ring is read, its full producer falls asleep --------------------------------------------- */

static void full_and_no_wish(void) {
    atomic_store(&pool.ctl[0].want_room, 0);
    atomic_store(&pool.ctl[0].park, 0);
    while (fp_resring_room(&producer)) {
        fp_resring_next(&producer)->len = 0;
        fp_resring_next(&producer)->in_block = 0;
        fp_resring_publish(&producer);
    }
}
static bool read_and_tell(void) {
    fp_result result;
    fp_resring_pop(&consumer, &result);
    fp_pool_made_room(&pool, 0);
    return atomic_load(&pool.ctl[0].park) == 1;
}
static bool wish_for_room(void) {
    atomic_store_explicit(&pool.ctl[0].want_room, 1, memory_order_seq_cst);
    return fp_resring_room(&producer);
}
static void room_and_a_falling_sleeper_meet(void) {
    fight(full_and_no_wish, read_and_tell, wish_for_room);
}

/* ---- a queue runs low, the background thread goes ----------------------------------------------- */

static void one_task_no_request(void) {
    fp_task task = {.len = 0};
    while (fp_taskring_claim(&pool.ring, 0, &task) != 0) {
    }
    fp_taskring_push(&pool.ring, &task);
    atomic_store(&pool.shared->park.attention, 0);
    fp_os_bell_clear(heard);
}
static bool ask_for_low(void) {
    fp_pool_ask(&pool, FP_ATT_LOW);
    return fp_taskring_queued(&pool.ring) == 0;
}
/* The claimer takes the request off if it sees it; if it came too late, it is still there. */
static bool claim_and_look(void) {
    fp_task task;
    fp_a32 *attention = &pool.shared->park.attention;
    uint64_t ticket = fp_taskring_claim(&pool.ring, 0, &task);
    uint32_t seen = atomic_load_explicit(attention, memory_order_seq_cst);
    if (seen & FP_ATT_LOW) {
        fp_worker_claimed(&pool, ticket, bell);
        CHECK(!(atomic_load(attention) & FP_ATT_LOW));
    }
    return seen & FP_ATT_LOW;
}
static void a_low_queue_and_its_asker_meet(void) {
    fight(one_task_no_request, ask_for_low, claim_and_look);
}

/* ---- a pool drains ------------------------------------------------------------------------------ */

static void running_and_empty(void) {
    fp_task task;
    fp_taskring_claim(&pool.ring, 0, &task);
    fp_pool_set_state(&pool, FP_POOL_RUN);
}
static bool publish_and_drain(void) {
    static uint64_t random = 1;
    fp_task task = {.len = 0};
    start_at(fp_os_now_ns() + 4000,
             &random); /* the other one yields by now, and looks at the state */
    fp_taskring_push(&pool.ring, &task);
    fp_pool_set_state(&pool, FP_POOL_DRAIN);
    return false;
}
static bool wait_for_the_task(void) {
    fp_patience patience = {0, 1000000, 1000000, 1000000};
    uint64_t since = 0;
    int got;
    while ((got = fp_worker_wait(&pool, 0, &patience, &since)) < 0) {
        atomic_store(&pool.ctl[0].park, 1); /* should it sleep, then only for a moment */
    }
    return got == FP_GOT_TASK;
}
static void a_task_before_the_drain_is_seen_before_leaving(void) {
    fight(running_and_empty, publish_and_drain, wait_for_the_task);
}

int main(void) {
    seed = fx_seed();
    RUN(a_task_and_a_falling_sleeper_meet);
    RUN(a_result_and_a_falling_sleeper_meet);
    RUN(room_and_a_falling_sleeper_meet);
    RUN(a_low_queue_and_its_asker_meet);
    RUN(a_task_before_the_drain_is_seen_before_leaving);
    return check_done();
}
