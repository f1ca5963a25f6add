/* step_park.c: a process that dies at every single instruction of waiting, waking and asking, asleep
 * too.  Of a worker: what it leaves is mended by what the parent does at its death, and the slot's next
 * owner begins on sound ground.  Of the parent: the structures hold, and the end of the pool, which
 * another one then brings about, reaches everybody.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define CHECK_SECONDS 60
#include "stepper.h"

#include "pool/fp_pool.h"

#include <poll.h>

#define SLOTS 2u
#define OTHER 0u
#define VICTIM 1u
#define RING 4u
#define RESULTS 2u

static fp_pool pool;
static int bell, heard;
static fp_resring producer, consumer; /* of the victim's ring */
static fp_patience impatient;

static void set_up(void) {
    CHECK_EQ(fp_pool_create(&pool, SLOTS, RING, RESULTS), 0);
    bell = fp_os_bell_create(&heard);
    CHECK(bell >= 0);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        CHECK_EQ(fp_pool_populate_slot(&pool, slot), 0);
    }
    fp_pool_resring(&pool, VICTIM, &producer);
    consumer = producer;
    /* Called once, so that no child has to bind the symbols. */
    uint64_t since = 0;
    fp_os_bell_ring(bell);
    fp_os_bell_clear(heard);
    fp_os_yield();
    fp_parent_wake(&pool);
    pool.ctl[VICTIM].park = 1;
    fp_worker_wait(&pool, VICTIM, &impatient, &since);
}

static void tear_down(void) {
    fp_pool_unmap(&pool);
    close(pool.fd);
    fx_close_bell(bell, heard);
}

static void push(uint64_t key) {
    fp_task task = fx_task(key, 8);
    CHECK(fp_taskring_room(&pool.ring) > 0);
    fp_taskring_push(&pool.ring, &task);
}

static void claim(uint64_t key) {
    fp_task task;
    CHECK(fp_taskring_claim(&pool.ring, OTHER, &task) != 0);
    CHECK(fx_task_is(&task, key, 8));
}

static void publish(uint64_t key) {
    CHECK(fp_resring_room(&producer));
    fx_result(fp_resring_next(&producer), key, 8);
    fp_resring_publish(&producer);
}

static bool bell_rang(void) {
    struct pollfd fd = {.fd = heard, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void check(void) {
    CHECK_EQ(fp_taskring_check(&pool.ring), 0);
    CHECK_EQ(fp_resring_check(&consumer), 0);
}

/* ---- at every instruction ---------------------------------------------------------------------- */

/* What a recovery may change, so that the one who only seemed to be dead can go on. */
#define REGION_BYTES (256u << 10)
static struct saved {
    fp_pool pool;
    fp_resring producer, consumer;
    bool rang;
    unsigned char *head;
    unsigned char region[REGION_BYTES];
} saved;

static unsigned char *region_of_victim(void) {
    return pool.base + pool.regions + pool.parent_region_size + VICTIM * pool.worker_region_size;
}

static void save(void) {
    saved.pool = pool;
    saved.producer = producer;
    saved.consumer = consumer;
    saved.rang = bell_rang();
    saved.head = realloc(saved.head, pool.regions);
    CHECK(saved.head != NULL);
    memcpy(saved.head, pool.base, pool.regions);
    memcpy(saved.region, region_of_victim(), REGION_BYTES);
}

static void restore(void) {
    pool = saved.pool;
    producer = saved.producer;
    consumer = saved.consumer;
    memcpy(pool.base, saved.head, pool.regions);
    memcpy(region_of_victim(), saved.region, REGION_BYTES);
    if (saved.rang) {
        fp_os_bell_ring(bell);
    } else {
        fp_os_bell_clear(heard);
    }
}

/* Has the body stop for ever after 0, 1, 2 ... instructions, until it gets to its end or falls asleep;
 * there it is killed.  For those who recover from that, it is the same: nothing of it is known but what
 * it did to the segment and to the bell. */
static void at_every_instruction(void (*body)(void), void (*prepare)(void),
                                 void (*recover)(int how), int last) {
    uint64_t points = 1;
    int how;
    set_up();
    prepare();
    step_begin(body);
    for (; (how = step_until(1)) == STEP_GOES; points++) {
        save();
        check();
        recover(how);
        check();
        restore();
    }
    step_kill();
    check();
    recover(how);
    check();
    tear_down();
    CHECK_EQ(how, last);
    CHECK(points > 10);
    printf("  died at %llu points\n", (unsigned long long)points);
}

/* ---- a worker that waits for tasks -------------------------------------------------------------- */

static void __attribute__((noinline)) wait_for_a_task(void) {
    uint64_t since = 0;
    fp_worker_wait(&pool, VICTIM, &impatient, &since);
}

static void nothing(void) {}
static void a_token_lies_there(void) { pool.ctl[VICTIM].park = 1; }
static void the_pool_drains(void) {
    a_token_lies_there();
    fp_pool_set_state(&pool, FP_POOL_DRAIN);
}
static void a_task_lies_there(void) { push(3); }

/* As Dispatcher.settle_worker and what follows it do. */
static void settle(void) {
    fp_park_forget(&pool, VICTIM);
    CHECK(!(pool.sleepers[0] >> VICTIM & 1));
    fp_result result;
    while (fp_resring_pop(&consumer, &result)) {
    }
    fp_ctl_reset(&pool.ctl[VICTIM]);
    fp_resring_reset(&consumer);
    fp_pool_restart_region(&pool, 1 + VICTIM, false, 1 << 20);
}

/* A task comes before the death is noticed; the other worker sleeps.  It is woken, by then at last. */
static void the_other_one_is_woken(int how) {
    (void)how;
    fp_sleepers_set(pool.sleepers, OTHER);
    uint32_t before = (uint32_t)fp_taskring_queued(&pool.ring);
    if (before == 0) {
        push(3);
    }
    fp_pool_kick(&pool, SLOTS, 2, 1); /* this one the dead may get */
    settle();
    fp_pool_kick(&pool, SLOTS, 1, 1);
    CHECK_EQ(pool.ctl[OTHER].park, 1);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
    /* And the slot's next owner finds what it looks for. */
    uint64_t since = 0;
    CHECK_EQ(pool.ctl[VICTIM].park, 0);
    fp_pool_set_state(&pool, FP_POOL_RUN);
    CHECK_EQ(fp_worker_wait(&pool, VICTIM, &impatient, &since), FP_GOT_TASK);
    claim(3);
}

static void killed_at_any_instruction_of_its_sleep_a_worker_keeps_nobody_from_a_task(void) {
    at_every_instruction(wait_for_a_task, nothing, the_other_one_is_woken, STEP_SLEEPS);
    at_every_instruction(wait_for_a_task, a_token_lies_there, the_other_one_is_woken, STEP_OVER);
    at_every_instruction(wait_for_a_task, the_pool_drains, the_other_one_is_woken, STEP_OVER);
    at_every_instruction(wait_for_a_task, a_task_lies_there, the_other_one_is_woken, STEP_OVER);
}

/* ---- a worker that waits for room --------------------------------------------------------------- */

static void __attribute__((noinline)) wait_for_room(void) {
    fp_worker_wait_room(&pool, VICTIM, &producer, bell);
}

static void the_ring_is_full(void) {
    publish(1);
    publish(2);
    CHECK(!fp_resring_room(&producer));
}
static void full_and_a_token(void) {
    the_ring_is_full();
    a_token_lies_there();
}

static void the_ring_goes_on(int how) {
    fp_result result;
    CHECK(how == STEP_GOES || bell_rang());
    for (uint64_t key = 1; key <= 2; key++) {
        CHECK(fp_resring_pop(&consumer, &result));
        CHECK(fx_result_is(&result, key, 8));
        if (fp_resring_crowded(&consumer)) {
            fp_pool_made_room(&pool, VICTIM);
        }
    }
    CHECK_EQ(pool.ctl[VICTIM].want_room, 0);
    settle();
    fp_resring_open(&producer);
    the_ring_is_full();
    CHECK_EQ(pool.ctl[VICTIM].park, 0);
    CHECK(fp_resring_pop(&consumer, &result));
    CHECK_EQ(fp_worker_wait_room(&pool, VICTIM, &producer, bell), 0);
}

static void killed_at_any_instruction_of_its_wait_for_room_a_worker_leaves_a_sound_ring(void) {
    at_every_instruction(wait_for_room, the_ring_is_full, the_ring_goes_on, STEP_SLEEPS);
    at_every_instruction(wait_for_room, full_and_a_token, the_ring_goes_on, STEP_OVER);
}

/* ---- a worker that answers a request ------------------------------------------------------------ */

static void __attribute__((noinline)) claim_and_tell(void) {
    fp_task task;
    uint64_t ticket = fp_taskring_claim(&pool.ring, VICTIM, &task);
    fp_worker_claimed(&pool, ticket, bell);
}

static void a_task_and_a_request(void) {
    push(1);
    fp_pool_ask(&pool, FP_ATT_LOW);
}

/* Either the bell rang, or the request is still there, or it died with the dead, whose end is noticed:
 * asked anew, the next claimer answers. */
static void the_low_queue_is_told_of(int how) {
    CHECK(how == STEP_GOES || bell_rang());
    fp_os_bell_clear(heard);
    settle();
    fp_pool_ask(&pool, FP_ATT_LOW);
    if (fp_taskring_queued(&pool.ring) == 0) {
        push(5); /* who asked sees that it is empty */
    }
    fp_task task;
    fp_worker_claimed(&pool, fp_taskring_claim(&pool.ring, OTHER, &task), bell);
    CHECK(bell_rang());
}

static void killed_at_any_instruction_a_claimer_costs_no_request(void) {
    at_every_instruction(claim_and_tell, a_task_and_a_request, the_low_queue_is_told_of, STEP_OVER);
}

/* ---- the parent: what it publishes and whom it wakes --------------------------------------------- */

static void __attribute__((noinline)) push_and_kick(void) {
    push(7);
    fp_pool_kick(&pool, SLOTS, SLOTS, 2);
}

static void both_sleep(void) {
    push(6);
    fp_sleepers_set(pool.sleepers, OTHER);
    fp_sleepers_set(pool.sleepers, VICTIM);
}

/* The end of the pool, whoever brings it about. */
static void everybody_hears_of_the_end(void) {
    fp_pool_set_state(&pool, FP_POOL_STOP);
    fp_pool_wake_all(&pool, SLOTS);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint64_t since = 0;
        CHECK_EQ(pool.ctl[slot].park, 1);
        int got = fp_worker_wait(&pool, slot, &impatient, &since);
        CHECK(got == FP_GOT_STOP || (got == FP_GOT_TASK && !fp_taskring_empty(&pool.ring)));
    }
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
}

static void tasks_are_whole(int how) {
    fp_task task;
    claim(6);
    uint64_t ticket = fp_taskring_claim(&pool.ring, OTHER, &task);
    CHECK(ticket == 0 || fx_task_is(&task, 7, 8));
    CHECK(how == STEP_GOES || ticket != 0);
    CHECK_EQ(fp_taskring_claim(&pool.ring, OTHER, &task), 0);
    everybody_hears_of_the_end();
}

static void killed_at_any_instruction_of_a_push_or_a_kick_the_parent_leaves_whole_tasks(void) {
    at_every_instruction(push_and_kick, both_sleep, tasks_are_whole, STEP_OVER);
}

/* ---- the parent: what it reads ------------------------------------------------------------------- */

static void __attribute__((noinline)) pop_and_make_room(void) {
    fp_result result;
    fp_resring_pop(&consumer, &result);
    fp_pool_made_room(&pool, VICTIM);
}

static void full_and_a_wish(void) {
    the_ring_is_full();
    pool.ctl[VICTIM].want_room = 1;
}

static void records_are_whole(int how) {
    fp_result result;
    fp_resring reader = consumer; /* another reader takes over where the ring says */
    reader.own = reader.peer = reader.shared->head;
    CHECK(fp_resring_pop(&reader, &result));
    if (fx_result_is(&result, 1, 8)) {
        CHECK_EQ(how, STEP_GOES);
        CHECK(fp_resring_pop(&reader, &result));
    }
    CHECK(fx_result_is(&result, 2, 8));
    CHECK(!fp_resring_pop(&reader, &result));
    CHECK(fp_resring_room(&producer));
    everybody_hears_of_the_end();
}

static void killed_at_any_instruction_of_a_pop_the_parent_leaves_a_sound_ring(void) {
    at_every_instruction(pop_and_make_room, full_and_a_wish, records_are_whole, STEP_OVER);
}

/* ---- the parent: a thread that waits --------------------------------------------------------------- */

static fp_resring all_rings[SLOTS];

static void __attribute__((noinline)) wait_for_a_result(void) {
    fp_parent_wait(&pool, all_rings, SLOTS, NULL, fp_parent_bell(&pool), 0, 0, 1000000);
}

static void a_task_waits_and_one_sleeps(void) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        fp_pool_resring(&pool, slot, &all_rings[slot]);
    }
    push(6);
    fp_sleepers_set(pool.sleepers, OTHER);
}

/* A worker answers a request of the dead: it costs it a system call, and that is all. */
static void results_go_on(int how) {
    uint32_t rung = pool.shared->park.bell;
    bool asked = pool.shared->park.attention & FP_ATT_WAITER;
    CHECK(how == STEP_GOES || asked);
    publish(1);
    fp_worker_published(&pool, bell);
    CHECK_EQ(pool.shared->park.bell != rung, asked);
    CHECK_EQ(pool.shared->park.attention, 0);
    claim(6);
    everybody_hears_of_the_end();
}

static void killed_at_any_instruction_of_its_wait_a_thread_of_the_parent_costs_one_wake_up(void) {
    at_every_instruction(wait_for_a_result, a_task_waits_and_one_sleeps, results_go_on,
                         STEP_SLEEPS);
}

/* ---- the parent: what it does at a death ------------------------------------------------------------ */

static void __attribute__((noinline)) bury_and_start_anew(void) {
    settle();
    fp_pool_populate_slot(&pool, VICTIM);
    fp_pool_wake_all(&pool, SLOTS);
}

static void a_dead_worker(void) {
    fp_heap heap;
    fp_pool_heap(&pool, 1 + VICTIM, 1 << 20, &heap);
    uint64_t block = fp_heap_alloc(&heap, 100000);
    CHECK(block != 0);
    fp_block_return(pool.base, block, 0);
    CHECK(fp_heap_alloc(&heap, 1000) != 0);
    fp_pool_ask(&pool, FP_ATT_WAITER);
    fp_sleepers_set(pool.sleepers, VICTIM);
    pool.ctl[VICTIM].want_room = 1;
    publish(1);
}

/* Done once more, from the beginning, it comes to the same. */
static void the_slot_is_as_new(int how) {
    (void)how;
    uint32_t rung = pool.shared->park.bell;
    fp_resring_open(&consumer);
    consumer.own = consumer.peer = consumer.shared->head;
    bury_and_start_anew();
    CHECK(pool.shared->park.bell != rung);
    CHECK_EQ(fp_pool_sleeping(&pool, SLOTS), 0);
    CHECK_EQ(pool.ctl[VICTIM].want_room, 0);
    CHECK(fp_resring_empty(&consumer));
    fp_resring_open(&producer);
    fp_resring_open(&consumer);
    publish(4);
    fp_result result;
    CHECK(fp_resring_pop(&consumer, &result));
    CHECK(fx_result_is(&result, 4, 8));
    fp_heap heap;
    fp_pool_heap(&pool, 1 + VICTIM, 1 << 20, &heap);
    CHECK_EQ(fp_heap_collect(&heap), 0);
    uint64_t block = fp_heap_alloc(&heap, 100000);
    CHECK(block != 0);
    fx_fill(pool.base + block, 100000, 1);
    CHECK_EQ(fp_heap_check(&heap), 0);
    everybody_hears_of_the_end();
}

static void killed_at_any_instruction_of_a_burial_it_can_be_held_again(void) {
    at_every_instruction(bury_and_start_anew, a_dead_worker, the_slot_is_as_new, STEP_OVER);
}

int main(void) {
    if (!step_possible()) {
        return 0;
    }
    RUN(killed_at_any_instruction_of_its_sleep_a_worker_keeps_nobody_from_a_task);
    RUN(killed_at_any_instruction_of_its_wait_for_room_a_worker_leaves_a_sound_ring);
    RUN(killed_at_any_instruction_a_claimer_costs_no_request);
    RUN(killed_at_any_instruction_of_a_push_or_a_kick_the_parent_leaves_whole_tasks);
    RUN(killed_at_any_instruction_of_a_pop_the_parent_leaves_a_sound_ring);
    RUN(killed_at_any_instruction_of_its_wait_a_thread_of_the_parent_costs_one_wake_up);
    RUN(killed_at_any_instruction_of_a_burial_it_can_be_held_again);
    return check_done();
}
