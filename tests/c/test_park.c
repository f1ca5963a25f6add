/* test_park.c: who sleeps, who is woken, and why a wait ends; fp_park.h and the waits of fp_pool.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool/fp_pool.h"

#include "check.h"
#include "fixture.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#define MS 1000000ull
#define SLOTS 4u
#define NEVER_SPIN ((fp_patience){0, 0, 0, 0})

static fp_pool pool;
static int bell, heard;

static void open_pool(uint32_t ring_size, uint32_t res_size) {
    CHECK_EQ(fp_pool_create(&pool, SLOTS, ring_size, res_size), 0);
    bell = fp_os_bell_create(&heard);
    CHECK(bell >= 0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        pool.ctl[i].state = FP_IDLE;
    }
}

static void close_pool(void) {
    fp_pool_unmap(&pool);
    close(pool.fd);
    fx_close_bell(bell, heard);
}

static bool bell_rang(void) {
    struct pollfd fd = {.fd = heard, .events = POLLIN};
    bool rang = poll(&fd, 1, 0) == 1;
    fp_os_bell_clear(heard);
    return rang;
}

static void push(uint32_t n) {
    while (n-- > 0) {
        fp_task task = fx_task(n, 0);
        CHECK(fp_taskring_room(&pool.ring) > 0);
        fp_taskring_push(&pool.ring, &task);
    }
}

static uint64_t claim(uint32_t who) {
    fp_task task;
    return fp_taskring_claim(&pool.ring, who, &task);
}

/* ---- another thread that sleeps --------------------------------------------------------------- */

typedef struct sleeper {
    pthread_t thread;
    int (*wait)(void);
    fp_a32 done;
    int result;
} sleeper;

static void *sleeper_main(void *arg) {
    sleeper *self = arg;
    self->result = self->wait();
    atomic_store(&self->done, 1);
    return NULL;
}

static void sleeper_start(sleeper *self, int (*wait)(void)) {
    self->wait = wait;
    self->done = 0;
    CHECK_EQ(pthread_create(&self->thread, NULL, sleeper_main, self), 0);
}

/* What the wait returned; nothing but what was done before may end it. */
static int sleeper_end(sleeper *self) {
    pthread_join(self->thread, NULL);
    return self->result;
}

static void until(bool (*holds)(void)) {
    for (uint64_t end = fp_os_now_ns() + 20000 * MS; !holds();) {
        CHECK(fp_os_now_ns() < end);
        fp_os_yield();
    }
}

static void nap(void) {
    struct timespec ms = {0, 2000000};
    nanosleep(&ms, NULL);
}

static int wait_as_worker_1(void) {
    fp_patience patience = NEVER_SPIN;
    uint64_t since = 0;
    return fp_worker_wait(&pool, 1, &patience, &since);
}
static bool worker_1_announced(void) { return fp_pool_sleeping(&pool, 2) == 1; }

static fp_resring full_ring;
static int wait_for_room(void) { return fp_worker_wait_room(&pool, 1, &full_ring, bell); }
static bool room_is_wanted(void) { return pool.ctl[1].want_room != 0; }

static fp_resring rings[SLOTS];
static fp_a32 ready;
static int wait_as_parent(void) {
    return fp_parent_wait(&pool, rings, SLOTS, &ready, fp_parent_bell(&pool), 0, 0, MS);
}
static bool parent_announced(void) { return pool.shared->park.attention & FP_ATT_WAITER; }

static void open_rings(void) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        fp_pool_resring(&pool, i, &rings[i]);
    }
    ready = 0;
}

static void fill_ring_of_1(void) {
    fp_pool_resring(&pool, 1, &full_ring);
    fp_pool_resring(&pool, 1, &rings[1]);
    while (fp_resring_room(&full_ring)) {
        fx_result(fp_resring_next(&full_ring), 1, 0);
        fp_resring_publish(&full_ring);
    }
}

static void on_signal(int number) { (void)number; }

/* Signals a thread until its wait ends. */
static void interrupt(sleeper *self) {
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
    while (!atomic_load(&self->done)) {
        pthread_kill(self->thread, SIGUSR1);
        nap();
    }
}

/* ---- patience --------------------------------------------------------------------------------- */

static void a_fixed_patience_learns_nothing(void) {
    fp_patience p = {.block_ns = 500, .min_ns = 500, .max_ns = 500};
    fp_patience_learn(&p, 1);
    fp_patience_learn(&p, 499);
    fp_patience_learn(&p, 1000000);
    CHECK_EQ(p.block_ns, 500);
}

static void patience_grows_to_twice_a_wait_that_was_worth_it(void) {
    fp_patience p = {.block_ns = 100, .min_ns = 100, .max_ns = 1000};
    fp_patience_learn(&p, 200);
    CHECK_EQ(p.block_ns, 400);
    fp_patience_learn(&p, 100); /* short waits don't shrink it */
    CHECK_EQ(p.block_ns, 400);
    fp_patience_learn(&p, 1000);
    CHECK_EQ(p.block_ns, 1000);
}

static void patience_shrinks_after_a_wait_that_was_too_long(void) {
    fp_patience p = {.block_ns = 1000, .min_ns = 300, .max_ns = 1000};
    fp_patience_learn(&p, 1001);
    CHECK_EQ(p.block_ns, 500);
    fp_patience_learn(&p, UINT64_MAX);
    CHECK_EQ(p.block_ns, 300);
    fp_patience_learn(&p, UINT64_MAX);
    CHECK_EQ(p.block_ns, 300);
}

/* ---- the bits --------------------------------------------------------------------------------- */

static void only_one_takes_a_sleepers_bit(void) {
    const uint32_t numbers[] = {0, 1, 63, 64, 127, 128, 199};
    fp_a64 bits[4] = {0};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK(!fp_sleepers_take(bits, numbers[i]));
        CHECK(!fp_sleepers_set(bits, numbers[i]));
        CHECK(fp_sleepers_set(bits, numbers[i]));
        CHECK(fp_sleepers_take(bits, numbers[i]));
        CHECK(!fp_sleepers_take(bits, numbers[i]));
        CHECK_EQ(bits[0] | bits[1] | bits[2] | bits[3], 0);
    }
}

static void sleepers_of_many_slots_are_counted(void) {
    CHECK_EQ(fp_pool_create(&pool, 200, 4, 4), 0);
    for (uint32_t i = 0; i < 200; i += 3) {
        fp_sleepers_set(pool.sleepers, i);
    }
    CHECK_EQ(fp_pool_sleeping(&pool, 200), 67);
    fp_park_forget(&pool, 198);
    fp_park_forget(&pool, 197);
    CHECK_EQ(fp_pool_sleeping(&pool, 200), 66);
    fp_pool_unmap(&pool);
    close(pool.fd);
}

/* ---- the kick --------------------------------------------------------------------------------- */

/* Kicks with `tasks` queued and workers as the string says: s sleeps, i idle and awake, b busy with
 * one task, S starts, L leaves.  Returns how many were woken. */
static uint32_t kicked(const char *workers, uint32_t tasks) {
    uint32_t alive = (uint32_t)strlen(workers);
    uint32_t busy = 0;
    open_pool(8, 4);
    for (uint32_t i = 0; i < alive; i++) {
        char w = workers[i];
        if (w == 's') {
            fp_sleepers_set(pool.sleepers, i);
        }
        busy += w == 'b';
        pool.ctl[i].state = w == 'b'   ? FP_BUSY
                            : w == 'S' ? FP_STARTING
                            : w == 'L' ? FP_LEAVING
                                       : FP_IDLE;
    }
    push(busy);
    for (uint32_t i = 0; i < busy; i++) {
        claim(0);
    }
    push(tasks);
    uint32_t before = fp_pool_sleeping(&pool, SLOTS);
    uint32_t woken = fp_pool_kick(&pool, alive, alive, busy + tasks);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), before - woken);
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        tokens += pool.ctl[i].park;
    }
    CHECK_EQ(tokens, woken);
    close_pool();
    return woken;
}

static void a_kick_wakes_one_sleeper_for_each_task_without_an_awake_worker(void) {
    CHECK_EQ(kicked("ssss", 0), 0);
    CHECK_EQ(kicked("ssss", 1), 1);
    CHECK_EQ(kicked("ssss", 3), 3);
    CHECK_EQ(kicked("ssss", 8), 4);
    CHECK_EQ(kicked("sssi", 1), 0);
    CHECK_EQ(kicked("sssi", 2), 1);
    CHECK_EQ(kicked("bsss", 1), 1);
    CHECK_EQ(kicked("bbsi", 1), 0);
    CHECK_EQ(kicked("bbsi", 2), 1);
    CHECK_EQ(kicked("bbbb", 2), 0);
    CHECK_EQ(kicked("bbbs", 0), 0);
}

static void a_worker_that_starts_or_leaves_does_not_count_as_awake(void) {
    CHECK_EQ(kicked("Ss", 1), 1);
    CHECK_EQ(kicked("Ls", 1), 1);
    CHECK_EQ(kicked("SLs", 2), 1);
    CHECK_EQ(kicked("SSss", 1), 1);
    CHECK_EQ(kicked("Sis", 1), 0);
}

static void a_dead_worker_that_left_costs_at_most_a_wake_up(void) {
    open_pool(8, 4);
    pool.ctl[0].state = FP_LEAVING; /* dead and settled: alive is 2 */
    fp_sleepers_set(pool.sleepers, 2);
    push(1);
    CHECK_EQ(fp_pool_kick(&pool, 3, 2, 1), 1);
    close_pool();
}

/* A worker that is awake, and gets to the tasks while the parent is in the kick. */
static void take_all(int signum) {
    (void)signum;
    claim(0);
    claim(0);
}

static void trivial_tasks_are_left_to_who_is_awake(void) {
    open_pool(8, 4);
    fp_sleepers_set(pool.sleepers, 1);
    push(2);
    pool.pauses = UINT32_MAX; /* a glance for minutes: until the tasks are gone */
    struct sigaction act = {.sa_handler = take_all}, before;
    CHECK_EQ(sigaction(SIGVTALRM, &act, &before), 0);
    struct itimerval soon = {.it_value = {.tv_usec = 10000}};
    CHECK_EQ(setitimer(ITIMER_VIRTUAL, &soon, NULL), 0);
    CHECK_EQ(fp_pool_kick(&pool, 2, 2, 2), 0);
    CHECK_EQ(fp_taskring_queued(&pool.ring), 0);
    CHECK_EQ(sigaction(SIGVTALRM, &before, NULL), 0);
    close_pool();
}

/* ---- a worker waits --------------------------------------------------------------------------- */

static void a_worker_does_not_sleep_while_a_task_waits(void) {
    open_pool(4, 4);
    push(1);
    CHECK_EQ(wait_as_worker_1(), FP_GOT_TASK);
    CHECK_EQ(pool.ctl[1].parks, 0);
    close_pool();
}

static void a_sleeping_worker_is_woken_by_a_task(void) {
    open_pool(4, 4);
    sleeper worker;
    sleeper_start(&worker, wait_as_worker_1);
    until(worker_1_announced);
    push(1);
    CHECK_EQ(fp_pool_kick(&pool, SLOTS, 1, 1), 1);
    CHECK_EQ(sleeper_end(&worker), FP_GOT_TASK);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
    close_pool();
}

static void a_sleeping_worker_is_woken_to_leave(void) {
    for (int way = 0; way < 3; way++) {
        open_pool(4, 4);
        sleeper worker;
        sleeper_start(&worker, wait_as_worker_1);
        until(worker_1_announced);
        if (way == 0) {
            atomic_store(&pool.ctl[1].stop, 1);
        } else {
            fp_pool_set_state(&pool, way == 1 ? FP_POOL_DRAIN : FP_POOL_STOP);
        }
        fp_pool_wake_all(&pool, SLOTS);
        CHECK_EQ(sleeper_end(&worker), FP_GOT_STOP);
        CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
        close_pool();
    }
}

static void a_draining_worker_takes_what_is_queued_first(void) {
    open_pool(4, 4);
    push(1);
    fp_pool_set_state(&pool, FP_POOL_DRAIN);
    CHECK_EQ(wait_as_worker_1(), FP_GOT_TASK);
    claim(1);
    CHECK_EQ(wait_as_worker_1(), FP_GOT_STOP);
    close_pool();
}

static void a_late_token_ends_one_sleep_early_and_no_more(void) {
    open_pool(4, 4);
    pool.ctl[1].park = 1;
    CHECK_EQ(wait_as_worker_1(), -EINTR);
    CHECK_EQ(pool.ctl[1].park, 0);
    CHECK_EQ(pool.ctl[1].parks, 1);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
    close_pool();
}

static void a_signal_ends_a_workers_sleep(void) {
    open_pool(4, 4);
    sleeper worker;
    sleeper_start(&worker, wait_as_worker_1);
    until(worker_1_announced);
    interrupt(&worker);
    CHECK_EQ(sleeper_end(&worker), -EINTR);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
    close_pool();
}

static void a_worker_looks_for_signals_between_spinning_and_sleeping(void) {
    open_pool(4, 4);
    fp_patience patience = {0, MS / 10, MS / 10, MS / 10};
    uint64_t since = 0;
    CHECK_EQ(fp_worker_wait(&pool, 1, &patience, &since), -EINTR);
    CHECK_EQ(pool.ctl[1].parks, 0);
    CHECK(since != 0);
    pool.ctl[1].park = 1;
    while (pool.ctl[1].parks == 0) { /* the second call sleeps, if the time is over */
        CHECK_EQ(fp_worker_wait(&pool, 1, &patience, &since), -EINTR);
    }
    close_pool();
}

/* ---- a worker waits for room ------------------------------------------------------------------ */

static void a_worker_with_room_does_not_wait(void) {
    open_pool(4, 4);
    fp_pool_resring(&pool, 1, &full_ring);
    CHECK_EQ(wait_for_room(), 0);
    CHECK(!bell_rang());
    close_pool();
}

static void a_worker_without_room_rings_and_is_woken_when_there_is_some(void) {
    const uint32_t sizes[] = {1, 2, 4, 64};
    for (unsigned i = 0; i < 4; i++) {
        open_pool(4, sizes[i]);
        fill_ring_of_1();
        sleeper worker;
        sleeper_start(&worker, wait_for_room);
        until(room_is_wanted);
        fp_result result;
        bool crowded = false;
        while (fp_resring_pop(&rings[1], &result)) {
            crowded |= fp_resring_crowded(&rings[1]);
        }
        CHECK(crowded);
        fp_pool_made_room(&pool, 1);
        CHECK_EQ(sleeper_end(&worker), 0);
        CHECK_EQ(pool.ctl[1].want_room, 0);
        CHECK(bell_rang());
        close_pool();
    }
}

static void the_wish_for_room_is_there_when_the_bell_rings(void) {
    open_pool(4, 4);
    fill_ring_of_1();
    sleeper worker;
    sleeper_start(&worker, wait_for_room);
    struct pollfd fd = {.fd = heard, .events = POLLIN};
    CHECK_EQ(poll(&fd, 1, 20000), 1);
    CHECK(room_is_wanted());
    fp_pool_set_state(&pool, FP_POOL_STOP);
    fp_pool_made_room(&pool, 1);
    CHECK_EQ(sleeper_end(&worker), FP_GOT_STOP);
    close_pool();
}

static void a_worker_that_waits_for_room_stops_with_the_pool(void) {
    open_pool(4, 4);
    fill_ring_of_1();
    fp_pool_set_state(&pool, FP_POOL_STOP);
    CHECK_EQ(wait_for_room(), FP_GOT_STOP);
    CHECK_EQ(pool.ctl[1].want_room, 0);
    close_pool();
}

static void a_draining_pool_still_takes_results(void) {
    open_pool(4, 4);
    fill_ring_of_1();
    fp_pool_set_state(&pool, FP_POOL_DRAIN);
    pool.ctl[1].park = 1; /* or it would sleep for ever */
    CHECK_EQ(wait_for_room(), -EINTR);
    close_pool();
}

static void a_signal_ends_the_wait_for_room(void) {
    open_pool(4, 4);
    fill_ring_of_1();
    sleeper worker;
    sleeper_start(&worker, wait_for_room);
    until(room_is_wanted);
    interrupt(&worker);
    CHECK_EQ(sleeper_end(&worker), -EINTR);
    CHECK_EQ(pool.ctl[1].want_room, 0);
    close_pool();
}

/* ---- the parent waits ------------------------------------------------------------------------- */

static void publish_as_worker_2(void) {
    fp_resring ring;
    fp_pool_resring(&pool, 2, &ring);
    fx_result(fp_resring_next(&ring), 1, 0);
    fp_resring_publish(&ring);
    fp_worker_published(&pool, bell);
}

static void the_parent_does_not_wait_for_what_is_there(void) {
    open_pool(4, 4);
    open_rings();
    publish_as_worker_2();
    CHECK_EQ(wait_as_parent(), 1);
    open_rings(); /* read */
    fp_resring_reset(&rings[2]);
    ready = 1;
    CHECK_EQ(wait_as_parent(), 1);
    CHECK_EQ(pool.shared->park.attention, 0); /* it never thought of sleeping */
    close_pool();
}

static void a_sleeping_parent_is_woken_by_a_result(void) {
    open_pool(4, 4);
    open_rings();
    sleeper parent;
    sleeper_start(&parent, wait_as_parent);
    until(parent_announced);
    publish_as_worker_2();
    CHECK_EQ(sleeper_end(&parent), 1);
    CHECK_EQ(pool.shared->park.attention, 0);
    CHECK(!bell_rang()); /* that is for the background thread */
    close_pool();
}

static void all_sleeping_threads_are_woken_together(void) {
    open_pool(4, 4);
    open_rings();
    sleeper threads[3];
    for (int i = 0; i < 3; i++) {
        sleeper_start(&threads[i], wait_as_parent);
    }
    until(parent_announced);
    nap();
    fp_parent_wake(&pool);
    for (int i = 0; i < 3; i++) {
        while (!atomic_load(&threads[i].done)) { /* it may have come too late for the first one */
            fp_parent_wake(&pool);
            nap();
        }
        CHECK_EQ(sleeper_end(&threads[i]), 1);
    }
    close_pool();
}

static void a_signal_ends_the_parents_sleep(void) {
    open_pool(4, 4);
    open_rings();
    sleeper parent;
    sleeper_start(&parent, wait_as_parent);
    until(parent_announced);
    interrupt(&parent);
    CHECK_EQ(sleeper_end(&parent), -EINTR);
    close_pool();
}

static void the_parent_waits_no_longer_than_its_deadline(void) {
    open_pool(4, 4);
    open_rings();
    for (int spinning = 0; spinning < 2; spinning++) {
        uint64_t now = fp_os_now_ns();
        uint64_t spin = spinning ? now + 10000 * MS : 0;
        CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, &ready, fp_parent_bell(&pool), spin,
                                now + 5 * MS, 10000 * MS),
                 -ETIMEDOUT);
        uint64_t waited = fp_os_now_ns() - now;
        CHECK(waited >= 5 * MS);
        CHECK(waited < 5000 * MS);
        CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, &ready, fp_parent_bell(&pool), 0, now, MS),
                 -ETIMEDOUT);
    }
    close_pool();
}

static void a_spinning_parent_comes_back_to_look_for_signals(void) {
    open_pool(4, 4);
    open_rings();
    uint64_t now = fp_os_now_ns();
    CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, NULL, fp_parent_bell(&pool), now + 60000 * MS, 0,
                            2 * MS),
             -EAGAIN);
    CHECK(fp_os_now_ns() - now < 30000 * MS);
    /* And once more when the time to spin is over, before it sleeps. */
    now = fp_os_now_ns();
    CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, NULL, fp_parent_bell(&pool), now + 2 * MS, 0,
                            60000 * MS),
             -EAGAIN);
    CHECK_EQ(pool.shared->park.attention, 0);
    close_pool();
}

static void a_sleeping_parent_looks_for_signals_now_and_then(void) {
    open_pool(4, 4);
    open_rings();
    uint64_t now = fp_os_now_ns();
    CHECK_EQ(wait_as_parent(), -EAGAIN);
    uint64_t slept = fp_os_now_ns() - now;
    CHECK(slept > 500 * MS);
    CHECK(slept < 20000 * MS);
    close_pool();
}

/* The worker that was counted on is stopped, or kept off its CPU. */
static void a_parent_that_goes_to_sleep_wakes_one_worker_for_a_task_nobody_took(void) {
    open_pool(4, 4);
    open_rings();
    fp_sleepers_set(pool.sleepers, 2);
    fp_sleepers_set(pool.sleepers, 3);
    uint64_t soon = fp_os_now_ns() + MS;
    CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, NULL, fp_parent_bell(&pool), 0, soon, MS),
             -ETIMEDOUT);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 2); /* no task, no wake-up */
    push(1);
    soon = fp_os_now_ns() + MS;
    CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, NULL, fp_parent_bell(&pool), 0, soon, MS),
             -ETIMEDOUT);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 1);
    CHECK_EQ(pool.ctl[2].park, 1);
    close_pool();
}

static void a_result_nobody_asked_for_makes_no_noise(void) {
    open_pool(4, 4);
    open_rings();
    uint32_t before = pool.shared->park.bell;
    publish_as_worker_2();
    CHECK_EQ(pool.shared->park.bell, before);
    CHECK(!bell_rang());
    close_pool();
}

static void the_background_thread_hears_of_one_result_for_each_time_it_asks(void) {
    open_pool(4, 4);
    fp_pool_ask(&pool, FP_ATT_RESULTS);
    publish_as_worker_2();
    CHECK(bell_rang());
    publish_as_worker_2();
    CHECK(!bell_rang());
    fp_pool_ask(&pool, FP_ATT_RESULTS);
    publish_as_worker_2();
    CHECK(bell_rang());
    close_pool();
}

/* A worker takes the parent's request off and is killed before it wakes anyone. */
static void a_death_with_the_parents_wake_up_in_hand_leaves_no_thread_asleep(void) {
    open_pool(4, 4);
    open_rings();
    sleeper parent;
    sleeper_start(&parent, wait_as_parent);
    until(parent_announced);
    nap();
    atomic_fetch_and(&pool.shared->park.attention, ~FP_ATT_WAITER);
    fp_park_forget(&pool, 2);
    CHECK_EQ(sleeper_end(&parent), 1);
    close_pool();
}

/* ---- a queue that runs low -------------------------------------------------------------------- */

static void an_emptying_queue_rings_the_bell_in_rings_of_every_size(void) {
    for (uint32_t size = 1; size <= (FX_NARROW ? 32 : 256); size *= 2) {
        open_pool(size, 4);
        push(size);
        fp_pool_ask(&pool, FP_ATT_LOW);
        uint32_t left = size;
        for (;;) {
            uint64_t ticket = claim(1);
            CHECK(ticket != 0);
            left--;
            fp_worker_claimed(&pool, ticket, bell);
            if (bell_rang()) {
                break;
            }
            CHECK(left > 0);
        }
        CHECK(left <= size / 4);
        CHECK(left + 1 >= size / 4);
        CHECK_EQ(pool.shared->park.attention, 0);
        close_pool();
    }
}

static void a_claim_tells_nobody_who_did_not_ask(void) {
    open_pool(4, 4);
    push(1);
    fp_pool_ask(&pool, FP_ATT_RESULTS);
    fp_worker_claimed(&pool, claim(1), bell);
    CHECK(!bell_rang());
    CHECK_EQ(pool.shared->park.attention, FP_ATT_RESULTS);
    close_pool();
}

/* ---- where tickets wrap around ------------------------------------------------------------------ */

/* A worker that leaves on DRAIN only when the queue is empty, a thread of the parent that wakes a
 * sleeper for a task nobody took, a claim that leaves a low queue: all of them compare tickets. */
static void who_waits_and_who_tells_sees_tickets_wrap_around(void) {
    fp_resring rings[SLOTS];
    for (uint64_t first = FP__TICKET_MASK - 5; first != 2; first = (first + 1) & FP__TICKET_MASK) {
        open_pool(8, 4);
        fp__taskring_begin(&pool.ring, first);
        for (uint32_t i = 0; i < SLOTS; i++) {
            fp_pool_resring(&pool, i, &rings[i]);
        }
        push(4);
        fp_sleepers_set(pool.sleepers, 2);
        uint64_t soon = fp_os_now_ns() + MS;
        CHECK_EQ(fp_parent_wait(&pool, rings, SLOTS, NULL, fp_parent_bell(&pool), 0, soon, 10 * MS),
                 -ETIMEDOUT);
        CHECK_EQ(pool.ctl[2].park, 1);
        fp_pool_ask(&pool, FP_ATT_LOW);
        for (int left = 3; left >= 0; left--) {
            uint64_t ticket = claim(1);
            CHECK(ticket != 0);
            fp_worker_claimed(&pool, ticket, bell);
            CHECK_EQ(bell_rang(), left == 1);
        }
        fp_patience patience = NEVER_SPIN;
        uint64_t since = 0;
        pool.ctl[3].park = 1; /* should it sleep, then only for a moment */
        fp_pool_set_state(&pool, FP_POOL_DRAIN);
        CHECK_EQ(fp_worker_wait(&pool, 3, &patience, &since), FP_GOT_STOP);
        push(1);
        CHECK_EQ(fp_worker_wait(&pool, 3, &patience, &since), FP_GOT_TASK);
        close_pool();
    }
}

int main(void) {
    RUN(a_fixed_patience_learns_nothing);
    RUN(patience_grows_to_twice_a_wait_that_was_worth_it);
    RUN(patience_shrinks_after_a_wait_that_was_too_long);
    RUN(only_one_takes_a_sleepers_bit);
    RUN(sleepers_of_many_slots_are_counted);
    RUN(a_kick_wakes_one_sleeper_for_each_task_without_an_awake_worker);
    RUN(trivial_tasks_are_left_to_who_is_awake);
    RUN(a_worker_that_starts_or_leaves_does_not_count_as_awake);
    RUN(a_dead_worker_that_left_costs_at_most_a_wake_up);
    RUN(a_worker_does_not_sleep_while_a_task_waits);
    RUN(a_sleeping_worker_is_woken_by_a_task);
    RUN(a_sleeping_worker_is_woken_to_leave);
    RUN(a_draining_worker_takes_what_is_queued_first);
    RUN(a_late_token_ends_one_sleep_early_and_no_more);
    RUN(a_signal_ends_a_workers_sleep);
    RUN(a_worker_looks_for_signals_between_spinning_and_sleeping);
    RUN(a_worker_with_room_does_not_wait);
    RUN(a_worker_without_room_rings_and_is_woken_when_there_is_some);
    RUN(the_wish_for_room_is_there_when_the_bell_rings);
    RUN(a_worker_that_waits_for_room_stops_with_the_pool);
    RUN(a_draining_pool_still_takes_results);
    RUN(a_signal_ends_the_wait_for_room);
    RUN(the_parent_does_not_wait_for_what_is_there);
    RUN(a_sleeping_parent_is_woken_by_a_result);
    RUN(all_sleeping_threads_are_woken_together);
    RUN(a_signal_ends_the_parents_sleep);
    RUN(the_parent_waits_no_longer_than_its_deadline);
    RUN(a_spinning_parent_comes_back_to_look_for_signals);
    RUN(a_sleeping_parent_looks_for_signals_now_and_then);
    RUN(a_parent_that_goes_to_sleep_wakes_one_worker_for_a_task_nobody_took);
    RUN(a_result_nobody_asked_for_makes_no_noise);
    RUN(the_background_thread_hears_of_one_result_for_each_time_it_asks);
    RUN(a_death_with_the_parents_wake_up_in_hand_leaves_no_thread_asleep);
    RUN(an_emptying_queue_rings_the_bell_in_rings_of_every_size);
    RUN(a_claim_tells_nobody_who_did_not_ask);
    RUN(who_waits_and_who_tells_sees_tickets_wrap_around);
    return check_done();
}
