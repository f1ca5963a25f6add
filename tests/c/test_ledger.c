/* test_ledger.c: the parent's book of unfinished tasks, over a real ring. */
#include "ds/fp_ledger.h"

#include "check.h"
#include "fixture.h"

static fp_taskring ring;
static fp_ledger ledger;

static void open_book(uint32_t size) {
    ring = fx_taskring(size);
    CHECK_EQ(fp_ledger_init(&ledger, ring.mask), 0);
}

static void close_book(void) {
    fp_ledger_close(&ledger);
    fx_taskring_free(&ring);
}

static uint32_t send(void) {
    uint32_t cookie = fp_ledger_take(&ledger);
    fp_task task = fx_task(cookie, 0);
    CHECK(cookie != FP_NO_COOKIE);
    CHECK(fp_taskring_room(&ring) > 0);
    fp_ledger_sent(&ledger, &ring, cookie);
    CHECK_EQ(fp_taskring_push(&ring, &task), ledger.entries[cookie].ticket);
    return cookie;
}

static uint32_t claim(uint32_t who) {
    fp_task task;
    CHECK(fp_taskring_claim(&ring, who, &task) != 0);
    return task.cookie;
}

static uint32_t holder(uint32_t cookie) { return fp_ledger_holder(&ledger, &ring, cookie); }

static void a_new_book_is_empty(void) {
    open_book(4);
    CHECK_EQ(ledger.used, 0);
    CHECK_EQ(fp_ledger_held(&ledger, &ring, 0, 0), FP_NO_COOKIE);
    close_book();
}

static void entries_are_numbered_from_zero_and_grow(void) {
    open_book(4);
    for (uint32_t n = 0; n < 1000; n++) {
        CHECK_EQ(fp_ledger_take(&ledger), n);
        CHECK_EQ(ledger.entries[n].state, FP_ENTRY_WAITING);
        CHECK_EQ(ledger.used, n + 1);
    }
    for (uint32_t n = 0; n < 1000; n++) {
        fp_ledger_release(&ledger, n);
        CHECK_EQ(ledger.entries[n].state, FP_ENTRY_FREE);
    }
    CHECK_EQ(ledger.used, 0);
    close_book();
}

static void what_an_entry_holds_survives_the_growth(void) {
    open_book(4);
    int job;
    for (uint32_t n = 0; n < 300; n++) {
        uint32_t cookie = fp_ledger_take(&ledger);
        ledger.entries[cookie].job = &job;
        ledger.entries[cookie].index = n * 3;
    }
    for (uint32_t n = 0; n < 300; n++) {
        CHECK(ledger.entries[n].job == &job);
        CHECK_EQ(ledger.entries[n].index, n * 3);
    }
    close_book();
}

static void a_released_entry_is_used_again_first(void) {
    open_book(4);
    fp_ledger_take(&ledger);
    uint32_t second = fp_ledger_take(&ledger);
    fp_ledger_release(&ledger, second);
    CHECK_EQ(fp_ledger_take(&ledger), second);
    close_book();
}

static void a_waiting_entry_is_held_by_nobody(void) {
    open_book(4);
    fp_ledger_take(&ledger);
    for (uint32_t who = 0; who < 3; who++) {
        CHECK_EQ(fp_ledger_held(&ledger, &ring, who, 0), FP_NO_COOKIE);
    }
    close_book();
}

static void a_sent_task_is_held_by_its_claimer(void) {
    open_book(4);
    uint32_t a = send();
    uint32_t b = send();
    uint32_t c = send();
    CHECK_EQ(holder(a), FP_UNCLAIMED);
    CHECK_EQ(claim(7), a);
    CHECK_EQ(claim(8), b);
    CHECK_EQ(holder(a), 7);
    CHECK_EQ(holder(b), 8);
    CHECK_EQ(holder(c), FP_UNCLAIMED);
    CHECK_EQ(fp_ledger_held(&ledger, &ring, 7, 0), a);
    CHECK_EQ(fp_ledger_held(&ledger, &ring, 7, a + 1), FP_NO_COOKIE);
    CHECK_EQ(fp_ledger_held(&ledger, &ring, 9, 0), FP_NO_COOKIE);
    close_book();
}

static void all_tasks_of_one_worker_are_found_in_turn(void) {
    open_book(8);
    for (int n = 0; n < 8; n++) {
        send();
    }
    for (uint32_t n = 0; n < 8; n++) {
        CHECK_EQ(claim(n % 2), n);
    }
    uint32_t found = 0;
    for (uint32_t cookie = 0;; found++) {
        cookie = fp_ledger_held(&ledger, &ring, 1, cookie);
        if (cookie == FP_NO_COOKIE) {
            break;
        }
        CHECK_EQ(cookie % 2, 1);
        fp_ledger_release(&ledger, cookie);
    }
    CHECK_EQ(found, 4);
    CHECK_EQ(ledger.used, 4);
    close_book();
}

static void a_holder_is_remembered_after_the_ring_forgot_it(void) {
    const uint32_t sizes[] = {1, 2, 4};
    for (unsigned i = 0; i < 3; i++) {
        open_book(sizes[i]);
        uint32_t slow = send();
        CHECK_EQ(claim(5), slow);
        for (uint32_t n = 0; n < 5 * sizes[i]; n++) {
            uint32_t quick = send();
            CHECK_EQ(claim(n % 3), quick);
            CHECK_EQ(holder(quick), n % 3);
            CHECK_EQ(holder(slow), 5);
            fp_ledger_release(&ledger, quick);
        }
        CHECK_EQ(fp_taskring_owner(&ring, ledger.entries[slow].ticket), FP_FORGOTTEN);
        CHECK_EQ(fp_ledger_held(&ledger, &ring, 5, 0), slow);
        CHECK_EQ(fp_ledger_held(&ledger, &ring, 5, slow + 1), FP_NO_COOKIE);
        close_book();
    }
}

static void many_slow_tasks_are_all_remembered(void) {
    open_book(4);
    for (uint32_t n = 0; n < 100; n++) {
        CHECK_EQ(send(), n);
        CHECK_EQ(claim(n * 7 % 11), n);
    }
    for (uint32_t n = 0; n < 100; n++) {
        CHECK_EQ(holder(n), n * 7 % 11);
    }
    close_book();
}

static void an_entry_that_is_used_again_is_not_taken_for_the_old_one(void) {
    open_book(2);
    uint32_t first = send();
    claim(5);
    fp_ledger_release(&ledger, first);
    uint32_t other = send();
    CHECK_EQ(other, first); /* the same entry, now of ticket 3 */
    claim(6);
    for (int n = 0; n < 4; n++) {
        uint32_t more = send();
        claim(1);
        fp_ledger_release(&ledger, more);
    }
    CHECK_EQ(holder(other), 6);
    close_book();
}

static void a_task_sent_again_has_a_new_holder(void) {
    open_book(2);
    uint32_t task = send();
    claim(5);
    for (int n = 0; n < 4; n++) { /* worker 5 is written down */
        uint32_t more = send();
        claim(1);
        fp_ledger_release(&ledger, more);
    }
    CHECK_EQ(holder(task), 5);
    /* Worker 5 died; the task runs once more. */
    fp_task again = fx_task(task, 0);
    fp_ledger_sent(&ledger, &ring, task);
    fp_taskring_push(&ring, &again);
    CHECK_EQ(holder(task), FP_UNCLAIMED);
    CHECK_EQ(claim(6), task);
    CHECK_EQ(holder(task), 6);
    CHECK_EQ(fp_ledger_held(&ledger, &ring, 5, 0), FP_NO_COOKIE);
    close_book();
}

int main(void) {
    RUN(a_new_book_is_empty);
    RUN(entries_are_numbered_from_zero_and_grow);
    RUN(what_an_entry_holds_survives_the_growth);
    RUN(a_released_entry_is_used_again_first);
    RUN(a_waiting_entry_is_held_by_nobody);
    RUN(a_sent_task_is_held_by_its_claimer);
    RUN(all_tasks_of_one_worker_are_found_in_turn);
    RUN(a_holder_is_remembered_after_the_ring_forgot_it);
    RUN(many_slow_tasks_are_all_remembered);
    RUN(an_entry_that_is_used_again_is_not_taken_for_the_old_one);
    RUN(a_task_sent_again_has_a_new_holder);
    return check_done();
}
