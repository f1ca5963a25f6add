/* step_taskring.c: a claimer that dies, or sleeps a lap, at every single instruction of
 * fp_taskring_claim; and claimers stepped in turn.  The parent always names the holder rightly.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define CHECK_SECONDS 60
#include "stepper.h"

#include "ds/fp_ledger.h"

#define VICTIM 7u
#define OTHER 3u
#define SIZE 4u

static uint64_t seed;
static fp_taskring ring;
static fp_ledger ledger;

typedef struct claim_result {
    volatile uint64_t ticket; /* what the claim returned, once it has */
    fp_task task;
} claim_result;

static claim_result *results; /* shared, one for each child */

/* ---- what the parent does --------------------------------------------------------------------- */

static uint32_t send(uint64_t len) {
    uint32_t cookie = fp_ledger_take(&ledger);
    fp_task task = fx_task(cookie, len);
    CHECK(fp_taskring_room(&ring) > 0);
    fp_ledger_sent(&ledger, &ring, cookie);
    fp_taskring_push(&ring, &task);
    return cookie;
}

static uint32_t claim_as_other(uint64_t len) {
    fp_task task;
    if (fp_taskring_claim(&ring, OTHER, &task) == 0) {
        return FP_NO_COOKIE;
    }
    CHECK(fx_task_is(&task, task.cookie, len));
    return task.cookie;
}

static uint32_t holder(uint32_t cookie) { return fp_ledger_holder(&ledger, &ring, cookie); }

/* A ring with a past of `laps` tasks, the last one claimed by `last`, and two tasks queued. */
static void set_up(uint32_t past, uint32_t last, uint64_t len) {
    ring = fx_taskring(SIZE);
    CHECK_EQ(fp_ledger_init(&ledger, ring.mask), 0);
    memset(results, 0, STEP_CHILDREN * sizeof *results);
    for (uint32_t i = 0; i < past; i++) {
        fp_task task;
        uint32_t cookie = send(len);
        CHECK(fp_taskring_claim(&ring, i + 1 < past ? i % 2 : last, &task) != 0);
        fp_ledger_release(&ledger, cookie);
    }
    CHECK_EQ(send(len), 0);
    CHECK_EQ(send(len), 1);
}

static void tear_down(void) {
    CHECK_EQ(fp_taskring_check(&ring), 0);
    fp_ledger_close(&ledger);
    fx_taskring_free(&ring);
}

static void __attribute__((noinline)) claim_as_victim(void) {
    claim_result *mine = &results[step_now - step_children];
    mine->ticket =
        fp_taskring_claim(&ring, VICTIM + (uint32_t)(step_now - step_children), &mine->task);
}

static const struct past {
    uint32_t tasks, last;
} pasts[] = {{0, FP_NOBODY}, {1, OTHER}, {3, VICTIM}, {5, VICTIM}, {SIZE * 5, OTHER}};
static const uint64_t lengths[] = {0, FP_TASK_INLINE, FP_TASK_INLINE + 1};

/* ---- killed ----------------------------------------------------------------------------------- */

/* Dies after k instructions of a claim; whether there were as many. */
static bool die_after(uint64_t k, const struct past *past, uint64_t len) {
    set_up(past->tasks, past->last, len);
    step_begin(claim_as_victim);
    bool whole = step_many(k);
    step_kill();
    CHECK_EQ(fp_taskring_check(&ring), 0);
    uint32_t held = fp_ledger_held(&ledger, &ring, VICTIM, 0);
    CHECK(held == 0 || held == FP_NO_COOKIE);
    CHECK(results[0].ticket == 0 || held == 0); /* it knew of its claim, so must we */
    CHECK_EQ(holder(1), FP_UNCLAIMED);
    /* The survivors get all that the dead one did not, and no more. */
    if (held == FP_NO_COOKIE) {
        CHECK_EQ(holder(0), FP_UNCLAIMED);
        CHECK_EQ(claim_as_other(len), 0);
        CHECK_EQ(holder(0), OTHER);
    }
    CHECK_EQ(claim_as_other(len), 1);
    CHECK_EQ(claim_as_other(len), FP_NO_COOKIE);
    CHECK_EQ(holder(1), OTHER);
    /* Laps later it is still the dead one's. */
    for (uint32_t i = 0; i < 2 * SIZE; i++) {
        uint32_t cookie = send(len);
        CHECK_EQ(claim_as_other(len), cookie);
        CHECK_EQ(holder(cookie), OTHER);
        CHECK_EQ(holder(0), held == 0 ? VICTIM : OTHER);
        CHECK_EQ(holder(1), OTHER);
        fp_ledger_release(&ledger, cookie);
    }
    CHECK_EQ(fp_ledger_held(&ledger, &ring, VICTIM, 0), held);
    tear_down();
    return whole;
}

static void killed_at_any_instruction_a_claimer_is_named_or_holds_nothing(void) {
    uint64_t points = 0;
    for (unsigned p = 0; p < sizeof pasts / sizeof *pasts; p++) {
        for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            if (p != 3 && l != p % 3) {
                continue; /* one past with every length, the others with one */
            }
            uint64_t k = 0;
            while (die_after(k, &pasts[p], lengths[l])) {
                k++;
            }
            CHECK(k > 20);
            points += k + 1;
        }
    }
    printf("  killed at %llu points\n", (unsigned long long)points);
}

static void __attribute__((noinline)) claim_what_is_not_there(void) {
    claim_as_victim();
    CHECK_EQ(results[0].ticket, 0);
}

static void killed_at_any_instruction_on_an_empty_ring_nobody_notices(void) {
    for (uint64_t k = 0;; k++) {
        set_up(3, OTHER, 8);
        CHECK_EQ(claim_as_other(8), 0);
        CHECK_EQ(claim_as_other(8), 1);
        step_begin(claim_what_is_not_there);
        bool whole = step_many(k);
        step_kill();
        CHECK_EQ(fp_ledger_held(&ledger, &ring, VICTIM, 0), FP_NO_COOKIE);
        uint32_t cookie = send(8);
        CHECK_EQ(claim_as_other(8), cookie);
        CHECK_EQ(holder(cookie), OTHER);
        tear_down();
        if (!whole) {
            break;
        }
    }
}

/* ---- overtaken -------------------------------------------------------------------------------- */

/* Sleeps after k instructions while others take `taken` tasks of `sent` new ones, then goes on: to the
 * end, or until it dies after j more.  Whether there were k instructions. */
static bool sleep_after(uint64_t k, uint32_t sent, uint32_t taken, uint64_t j, uint64_t len) {
    uint32_t by_other[2 + 3 * SIZE];
    uint32_t n = 0;
    set_up(3, OTHER, len);
    step_begin(claim_as_victim);
    bool whole = step_many(k);
    bool had = fp_ledger_held(&ledger, &ring, VICTIM, 0) == 0;
    for (uint32_t i = 0; i < sent; i++) {
        while (fp_taskring_queued(&ring) >= SIZE) {
            by_other[n++] = claim_as_other(len);
        }
        send(len);
    }
    while (n < taken) {
        uint32_t cookie = claim_as_other(len);
        if (cookie == FP_NO_COOKIE) {
            break;
        }
        by_other[n++] = cookie;
    }
    uint32_t queued = (uint32_t)fp_taskring_queued(&ring);
    if (whole && step_many(j)) {
        step_kill();
    } else if (*step_now->phase == 2) {
        step_finish();
    } else {
        step_kill();
    }
    CHECK_EQ(fp_taskring_check(&ring), 0);
    uint32_t held = fp_ledger_held(&ledger, &ring, VICTIM, 0);
    if (had) {
        CHECK_EQ(held, 0);
    } else if (held != FP_NO_COOKIE) {
        CHECK_EQ(fp_taskring_queued(&ring), queued - 1);
    }
    if (results[0].ticket != 0) {
        CHECK(held != FP_NO_COOKIE);
        CHECK_EQ(ledger.entries[held].ticket, results[0].ticket);
        CHECK(fx_task_is(&results[0].task, held, len));
    }
    if (held != FP_NO_COOKIE) {
        CHECK_EQ(fp_ledger_held(&ledger, &ring, VICTIM, held + 1), FP_NO_COOKIE);
    }
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(holder(by_other[i]), OTHER);
    }
    uint32_t rest = 0;
    while (claim_as_other(len) != FP_NO_COOKIE) {
        rest++;
    }
    CHECK_EQ(n + rest + (held != FP_NO_COOKIE), 2 + sent);
    tear_down();
    return whole;
}

static void a_claimer_that_slept_laps_at_any_instruction_spoils_nothing(void) {
    uint64_t random = fx_seeded(seed, 1);
    uint64_t points = 0;
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        for (uint32_t sent = 0; sent <= 3 * SIZE; sent += 1 + fx_below(&random, 3)) {
            for (uint64_t k = 0;; k += 1 + fx_below(&random, 4)) {
                uint32_t taken = (uint32_t)fx_below(&random, sent + 3);
                uint64_t j = fx_below(&random, 4) ? UINT64_MAX : fx_below(&random, 100);
                points++;
                if (!sleep_after(k, sent, taken, j, lengths[l])) {
                    break;
                }
            }
        }
    }
    printf("  overtaken at %llu points\n", (unsigned long long)points);
}

/* ---- in turn ---------------------------------------------------------------------------------- */

/* Three claimers, a few instructions each in turn, for two tasks and later more; each may be killed. */
static void one_schedule(uint64_t salt) {
    uint64_t random = fx_seeded(seed, salt);
    uint64_t len = lengths[fx_below(&random, 3)];
    bool going[3] = {true, true, true};
    uint32_t sent = 2;
    set_up((uint32_t)fx_below(&random, 6), OTHER, len);
    for (int i = 0; i < 3; i++) {
        step_choose(i);
        step_begin(claim_as_victim);
    }
    while (going[0] || going[1] || going[2]) {
        int i = (int)fx_below(&random, 3);
        if (!going[i]) {
            continue;
        }
        step_choose(i);
        if (fx_below(&random, 60) == 0) {
            step_kill();
            going[i] = false;
        } else if (!step_many(1 + fx_below(&random, 12))) {
            step_finish();
            going[i] = false;
        }
        if (fx_below(&random, 10) == 0 && sent < 8 && fp_taskring_room(&ring) > 0) {
            send(len);
            sent++;
        }
        if (fx_below(&random, 12) == 0) {
            claim_as_other(len);
        }
        CHECK_EQ(fp_taskring_check(&ring), 0);
    }
    uint32_t accounted = 0;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t held = fp_ledger_held(&ledger, &ring, VICTIM + i, 0);
        if (results[i].ticket != 0) {
            CHECK(held != FP_NO_COOKIE);
            CHECK_EQ(ledger.entries[held].ticket, results[i].ticket);
            CHECK(fx_task_is(&results[i].task, held, len));
        }
        if (held != FP_NO_COOKIE) {
            CHECK_EQ(fp_ledger_held(&ledger, &ring, VICTIM + i, held + 1), FP_NO_COOKIE);
            accounted++;
        }
    }
    while (claim_as_other(len) != FP_NO_COOKIE) {
    }
    for (uint32_t cookie = 0; cookie < sent; cookie++) {
        accounted += holder(cookie) == OTHER;
    }
    CHECK_EQ(accounted, sent);
    tear_down();
    step_choose(0);
}

static void claimers_stepped_in_turn_and_killed_share_the_tasks_exactly(void) {
    uint64_t schedules = 0;
    for (uint64_t until = fx_until(2); schedules < 20 || fp_os_now_ns() < until; schedules++) {
        alarm(CHECK_SECONDS);
        one_schedule(schedules);
    }
    printf("  %llu schedules\n", (unsigned long long)schedules);
}

int main(void) {
    seed = fx_seed();
    if (!step_possible()) {
        return 0;
    }
    results = fx_shared(STEP_CHILDREN * sizeof *results);
    RUN(killed_at_any_instruction_a_claimer_is_named_or_holds_nothing);
    RUN(killed_at_any_instruction_on_an_empty_ring_nobody_notices);
    RUN(a_claimer_that_slept_laps_at_any_instruction_spoils_nothing);
    RUN(claimers_stepped_in_turn_and_killed_share_the_tasks_exactly);
    return check_done();
}
