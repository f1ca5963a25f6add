/* kill_taskring.c: a whole pool whose workers are killed at random instants.  Every task is accounted
 * for exactly once, done or lost with the worker that held it, and nothing hangs.
 *
 * The instants differ from run to run, with the same seed too; step_claim.c visits every one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "minipool.h"

#define NUMBERS 3000u
#define DEADLINE 30

static uint64_t seed;
static mini m;
static fp_a32 over;
static uint64_t kills, deaths, losses;

/* SIGKILL for some worker every now and then; some are stopped for a moment instead. */
static void *kill_workers(void *arg) {
    uint64_t random = fx_seeded(seed, 7);
    (void)arg;
    while (!atomic_load(&over)) {
        struct timespec pause = {0, (long)fx_below(&random, 2000000)};
        nanosleep(&pause, NULL);
        mini_worker *victim = &m.workers[fx_below(&random, m.slots)];
        bool stop = fx_below(&random, 4) == 0;
        pthread_mutex_lock(&m.pid_lock);
        if (victim->pid != 0) {
            CHECK_EQ(kill(victim->pid, stop ? SIGSTOP : SIGKILL), 0);
            kills += !stop;
        }
        pid_t stopped = stop ? victim->pid : 0;
        pthread_mutex_unlock(&m.pid_lock);
        if (stopped) {
            nanosleep(&pause, NULL);
            pthread_mutex_lock(&m.pid_lock);
            if (victim->pid == stopped) {
                kill(stopped, SIGCONT);
            }
            pthread_mutex_unlock(&m.pid_lock);
        }
    }
    return NULL;
}

static void one_life(uint64_t salt) {
    uint64_t random = fx_seeded(seed, salt);
    mini_open(&m, 1 + (uint32_t)fx_below(&random, 3), 1u << fx_below(&random, 4),
              1u << fx_below(&random, 3), NUMBERS, true, 0, fx_below(&random, 2) * 50000, salt);
    mini_deadline(&m, DEADLINE);
    pthread_t killer;
    over = 0;
    CHECK_EQ(pthread_create(&killer, NULL, kill_workers, NULL), 0);
    for (uint32_t at = 0; at < NUMBERS;) {
        mini_job job;
        uint32_t n = 1 + (uint32_t)fx_below(&random, 60);
        n = n < NUMBERS - at ? n : NUMBERS - at;
        mini_submit(&m, &job, at, n, fx_below(&random, 4) == 0);
        mini_wait(&m, &job);
        at += n;
        pthread_mutex_lock(&m.lock);
        mini_check(&m);
        pthread_mutex_unlock(&m.lock);
    }
    atomic_store(&over, 1);
    pthread_join(killer, NULL);
    CHECK_EQ(m.ledger.used, 0);
    CHECK_EQ(m.heap.blocks, 0);
    uint32_t lost = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        CHECK(m.fate[i] == MINI_DONE || m.fate[i] == MINI_LOST);
        CHECK(m.executed[i] <= 1);
        CHECK(m.executed[i] == 1 || m.fate[i] == MINI_LOST);
        lost += m.fate[i] == MINI_LOST;
    }
    CHECK_EQ(lost, m.losses);
    mini_end(&m, FP_POOL_STOP);
    CHECK(lost <= m.deaths); /* a worker holds one task at most */
    deaths += m.deaths;
    losses += m.losses;
    mini_free(&m);
}

static void every_task_is_done_or_lost_with_the_worker_that_held_it(void) {
    uint64_t rounds = 0;
    for (uint64_t until = fx_until(3); rounds < 2 || fp_os_now_ns() < until; rounds++) {
        one_life(rounds);
    }
    CHECK(kills > 0);
    printf("  %llu tasks, %llu workers killed, %llu tasks lost with them\n",
           (unsigned long long)rounds * NUMBERS, (unsigned long long)deaths,
           (unsigned long long)losses);
}

int main(void) {
    seed = fx_seed();
    RUN(every_task_is_done_or_lost_with_the_worker_that_held_it);
    return check_done();
}
