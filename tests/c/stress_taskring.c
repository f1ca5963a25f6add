/* stress_taskring.c: one producer and several claimers over the smallest rings, so that claimers are
 * overtaken by whole laps in the middle of a claim.  Every ticket is claimed once, with the payload
 * that was pushed for it, and whenever the producer asks who holds a task, the answer is true.
 */
#include "ds/fp_ledger.h"

#include "check.h"
#include "fixture.h"

#define CLAIMERS 3u
#define TICKETS 20000u
#define OPEN 16u /* tasks that the producer follows at a time */
#define NOBODY_YET UINT32_MAX

static uint64_t seed;
static fp_taskring ring;
static fp_ledger ledger;
static uint64_t first; /* index of the first task */
static fx_pace pace;
static uint64_t plain[TICKETS]; /* written by the producer before the push; not atomic, so that
                                     ThreadSanitizer sees whether P1 and C1 order it */
static fp_a32 claimed[TICKETS]; /* by whom, as the claimer says itself */
static fp_a32 finished[TICKETS];
static uint32_t named[TICKETS]; /* by whom, as the producer was told */

static uint64_t length_of(uint64_t i) { return i * 31 % (FP_TASK_INLINE + 2); }

static void *claim_all(void *arg) {
    uint32_t me = (uint32_t)(uintptr_t)arg;
    fp_taskring mine = {.shared = ring.shared, ring.slots, ring.owner, ring.mask, 0, 0};
    uint64_t random = fx_seeded(seed, me);
    uint64_t held[4];
    uint32_t holding = 0;
    fp_task task;
    for (;;) {
        fx_claim_begins(&pace, me);
        uint64_t ticket = fp_taskring_claim(&mine, me, &task);
        fx_claim_ends(&pace, me);
        if (ticket == 0) {
            if (holding > 0) {
                atomic_store_explicit(&finished[held[--holding]], 1, memory_order_release);
            }
            fp_os_yield();
            continue;
        }
        uint64_t i = task.cookie;
        if (task.func == 0) { /* the end, one for each claimer */
            break;
        }
        CHECK(i < TICKETS);
        CHECK_EQ(ticket, fx_ticket(first, i));
        CHECK(fx_task_is(&task, plain[i], length_of(i)));
        CHECK_EQ(atomic_exchange(&claimed[i], me), NOBODY_YET);
        held[holding++] = i;
        if (holding == 4 || fx_below(&random, 3) == 0) {
            for (; holding > 0; holding--) {
                atomic_store_explicit(&finished[held[holding - 1]], 1, memory_order_release);
            }
        }
    }
    while (holding > 0) {
        atomic_store_explicit(&finished[held[--holding]], 1, memory_order_release);
    }
    return NULL;
}

/* What the parent believes of a task now, against what it believed before. */
static uint32_t ask(uint32_t cookie) {
    uint64_t i = ledger.entries[cookie].index;
    uint32_t holder = fp_ledger_holder(&ledger, &ring, cookie);
    CHECK(holder != FP_FORGOTTEN);
    CHECK(holder == FP_UNCLAIMED || holder < CLAIMERS);
    if (named[i] != NOBODY_YET) {
        CHECK_EQ(holder, named[i]);
    } else if (holder != FP_UNCLAIMED) {
        named[i] = holder;
    }
    return holder;
}

static uint32_t send(const fp_task *task, uint64_t i) {
    uint32_t cookie = fp_ledger_take(&ledger);
    CHECK(cookie != FP_NO_COOKIE);
    while (fp_taskring_room(&ring) == 0 || fx_too_slow(&pace, ring.mask) < FX_CLAIMERS) {
        fp_os_yield();
    }
    fx_will_push(&pace);
    ledger.entries[cookie].index = i;
    fp_ledger_sent(&ledger, &ring, cookie);
    CHECK_EQ(fp_taskring_push(&ring, task), fx_ticket(first, i));
    CHECK_EQ(fp_taskring_check(&ring), 0);
    return cookie;
}

static void all_of(uint32_t size, uint64_t salt) {
    uint64_t random = fx_seeded(seed, 100 + salt);
    uint32_t open[OPEN];
    uint32_t n = 0;
    pthread_t threads[CLAIMERS];
    ring = fx_taskring(size);
    CHECK_EQ(fp_ledger_init(&ledger, ring.mask), 0);
    first = ring.tail;
    memset(named, 0xFF, sizeof named);
    for (uint32_t i = 0; i < TICKETS; i++) {
        claimed[i] = NOBODY_YET;
        finished[i] = 0;
    }
    for (uintptr_t who = 0; who < CLAIMERS; who++) {
        CHECK_EQ(pthread_create(&threads[who], NULL, claim_all, (void *)who), 0);
    }
    for (uint64_t i = 0; i < TICKETS || n > 0;) {
        if (n < OPEN && i < TICKETS) {
            plain[i] = (fx_random(&random) << 32) + i;
            fp_task task = fx_task(plain[i], length_of(i));
            open[n++] = send(&task, i++);
        }
        uint32_t k = (uint32_t)fx_below(&random, n);
        uint64_t asked = ledger.entries[open[k]].index;
        bool over = atomic_load_explicit(&finished[asked], memory_order_acquire);
        uint32_t holder = ask(open[k]);
        if (over) {
            CHECK_EQ(holder, claimed[asked]);
            fp_ledger_release(&ledger, open[k]);
            open[k] = open[--n];
        } else if (n == OPEN) {
            fp_os_yield();
        }
    }
    CHECK_EQ(ledger.used, 0);
    for (uint32_t who = 0; who < CLAIMERS; who++) {
        fp_task end = {.func = 0};
        send(&end, TICKETS + who);
    }
    for (uint32_t who = 0; who < CLAIMERS; who++) {
        pthread_join(threads[who], NULL);
    }
    for (uint32_t i = 0; i < TICKETS; i++) {
        CHECK(claimed[i] != NOBODY_YET);
        CHECK(named[i] == claimed[i]);
    }
    CHECK_EQ(fp_taskring_check(&ring), 0);
    fp_ledger_close(&ledger);
    fx_taskring_free(&ring);
}

static void each_ticket_is_claimed_once_and_its_holder_is_known(void) {
    uint64_t rounds = 0;
    for (uint64_t until = fx_until(2); rounds < 4 || fp_os_now_ns() < until; rounds++) {
        alarm(CHECK_SECONDS);
        all_of(1u << rounds % 4, rounds);
    }
    printf("  %llu tickets\n", (unsigned long long)rounds * TICKETS);
}

int main(void) {
    seed = fx_seed();
    RUN(each_ticket_is_claimed_once_and_its_holder_is_known);
    return check_done();
}
