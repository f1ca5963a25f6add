/* stress_park.c: lost wake-ups.  Publishers, workers and waiting threads that sleep at every chance,
 * over the smallest rings; whoever sleeps through something hangs, and the deadline tells.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "minipool.h"

#ifndef DEADLINE
#define DEADLINE 30
#endif

static uint64_t seed;

typedef struct caller {
    mini *m;
    uint32_t first;
    uint32_t count;
    uint64_t random;
} caller;

/* Sends its numbers in jobs of 1 to 12, each waited for in one way or the other. */
static void *call(void *arg) {
    caller *self = arg;
    for (uint32_t at = 0; at < self->count;) {
        uint32_t n = 1 + (uint32_t)fx_below(&self->random, 12);
        mini_job job;
        n = n < self->count - at ? n : self->count - at;
        mini_submit(self->m, &job, self->first + at, n, fx_below(&self->random, 4) == 0);
        mini_wait(self->m, &job);
        at += n;
    }
    return NULL;
}

/* One pool of random geometry, two threads that call it, workers that end after some tasks. */
static void round_of(uint64_t salt) {
    static mini m;
    uint64_t random = fx_seeded(seed, salt);
    uint32_t workers = 1 + (uint32_t)fx_below(&random, 3);
    uint32_t ring_size = 1u << fx_below(&random, 4);
    uint32_t res_size = 1u << fx_below(&random, 3);
    uint32_t maxtasks = fx_below(&random, 3) ? 0 : 1 + (uint32_t)fx_below(&random, 40);
    uint32_t numbers = 100 + (uint32_t)fx_below(&random, 400);
    uint64_t block = fx_below(&random, 3) ? 0 : fx_below(&random, 30000);
    mini_open(&m, workers, ring_size, res_size, numbers, false, maxtasks, block, salt);
    mini_deadline(&m, DEADLINE);
    caller callers[2] = {{&m, 0, numbers / 3, fx_random(&random)},
                         {&m, numbers / 3, numbers - numbers / 3, fx_random(&random)}};
    pthread_t other;
    CHECK_EQ(pthread_create(&other, NULL, call, &callers[0]), 0);
    call(&callers[1]);
    pthread_join(other, NULL);
    CHECK_EQ(m.ledger.used, 0);
    for (uint32_t i = 0; i < numbers; i++) {
        CHECK_EQ(m.fate[i], MINI_DONE);
        CHECK_EQ(m.executed[i], 1);
    }
    mini_end(&m, fx_below(&random, 2) ? FP_POOL_DRAIN : FP_POOL_STOP);
    mini_free(&m);
}

static void nobody_sleeps_through_what_he_waits_for(void) {
    uint64_t rounds = 0;
    for (uint64_t until = fx_until(2); fp_os_now_ns() < until; rounds++) {
        round_of(rounds);
    }
    printf("  %llu pools\n", (unsigned long long)rounds);
}

/* DRAIN in the same moment as the last tasks: workers must not leave before them. */
static void a_draining_pool_leaves_no_task_behind(void) {
    uint64_t rounds = 0;
    for (uint64_t until = fx_until(1); fp_os_now_ns() < until; rounds++) {
        static mini m;
        mini_job job;
        uint64_t random = fx_seeded(seed, rounds);
        uint32_t n = 1 + (uint32_t)fx_below(&random, 8);
        mini_open(&m, 1 + rounds % 3, 8, 4, 8, false, 0, rounds % 2 ? 1000000 : 0, rounds);
        mini_deadline(&m, DEADLINE);
        uint64_t pause = fp_os_now_ns() + fx_below(&random, 200000);
        while (fp_os_now_ns() < pause) {
            fp_os_yield();
        }
        mini_submit(&m, &job, 0, n, false);
        mini_end(&m, FP_POOL_DRAIN);
        for (uint32_t i = 0; i < n; i++) {
            CHECK_EQ(m.fate[i], MINI_DONE);
        }
        mini_free(&m);
    }
    printf("  %llu pools\n", (unsigned long long)rounds);
}

int main(void) {
    seed = fx_seed();
    RUN(nobody_sleeps_through_what_he_waits_for);
    RUN(a_draining_pool_leaves_no_task_behind);
    return check_done();
}
