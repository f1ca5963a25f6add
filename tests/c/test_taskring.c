/* test_taskring.c: the task ring, one step at a time. */
#include "ds/fp_taskring.h"

#include "check.h"
#include "fixture.h"

static const uint32_t sizes[] = {1, 2, 4, FX_NARROW ? 32 : 64};
#define EACH_SIZE(i) (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)

static void an_empty_ring_gives_nothing(void) {
    for
        EACH_SIZE(i) {
            fp_taskring ring = fx_taskring(sizes[i]);
            fp_task task;
            CHECK(fp_taskring_empty(&ring));
            CHECK_EQ(fp_taskring_claim(&ring, 0, &task), 0);
            CHECK_EQ(fp_taskring_queued(&ring), 0);
            CHECK_EQ(fp_taskring_room(&ring), sizes[i]);
            CHECK_EQ(fp_taskring_check(&ring), 0);
            fx_taskring_free(&ring);
        }
}

static void a_task_comes_out_as_it_went_in(void) {
    const uint64_t lengths[] = {0,
                                1,
                                7,
                                8,
                                9,
                                FP_TASK_INLINE - 1,
                                FP_TASK_INLINE,
                                FP_TASK_INLINE + 1,
                                1ull << 31,
                                (1ull << 31) + 1,
                                1ull << 40};
    fp_taskring ring = fx_taskring(2);
    fp_task *out = fx_shared(sizeof *out); /* ends at a guard */
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        fp_task task = fx_task(1000 + i, lengths[i]);
        uint64_t ticket = fp_taskring_push(&ring, &task);
        CHECK_EQ(fp_taskring_check(&ring), 0);
        memset(out, 0, sizeof *out);
        CHECK_EQ(fp_taskring_claim(&ring, 3, out), ticket);
        CHECK(fx_task_is(out, 1000 + i, lengths[i]));
        CHECK_EQ(fp_taskring_check(&ring), 0);
    }
    fx_release(out, sizeof *out);
    fx_taskring_free(&ring);
}

static void the_ring_takes_as_many_tasks_as_it_has_slots(void) {
    for
        EACH_SIZE(i) {
            fp_taskring ring = fx_taskring(sizes[i]);
            fp_task task = fx_task(1, 8);
            for (uint32_t n = 0; n < sizes[i]; n++) {
                CHECK_EQ(fp_taskring_room(&ring), sizes[i] - n);
                fp_taskring_push(&ring, &task);
                CHECK_EQ(fp_taskring_queued(&ring), n + 1);
                CHECK_EQ(fp_taskring_check(&ring), 0);
            }
            CHECK_EQ(fp_taskring_room(&ring), 0);
            fx_taskring_free(&ring);
        }
}

static void a_claimed_slot_can_be_written_again(void) {
    for
        EACH_SIZE(i) {
            fp_taskring ring = fx_taskring(sizes[i]);
            fp_taskring claimer = ring;
            fp_task task;
            for (uint32_t n = 0; n < sizes[i]; n++) {
                task = fx_task(n, 8);
                fp_taskring_push(&ring, &task);
            }
            CHECK_EQ(fp_taskring_room(&ring), 0);
            CHECK(fp_taskring_claim(&claimer, 0, &task) != 0);
            CHECK_EQ(fp_taskring_room(&ring), 1);
            task = fx_task(99, 8);
            fp_taskring_push(&ring, &task);
            CHECK_EQ(fp_taskring_room(&ring), 0);
            fx_taskring_free(&ring);
        }
}

static void tasks_come_out_in_order_lap_after_lap(void) {
    for
        EACH_SIZE(i) {
            fp_taskring ring = fx_taskring(sizes[i]);
            fp_taskring claimer = ring;
            uint64_t next_in = 0;
            uint64_t next_out = 0;
            fp_task task;
            /* 1, 2, ... tasks at a time, so that every slot is the first and the last of a batch. */
            for (uint32_t round = 0; round < 5 * sizes[i]; round++) {
                uint32_t batch = round % sizes[i] + 1;
                for (uint32_t n = 0; n < batch; n++) {
                    task = fx_task(next_in, next_in % (FP_TASK_INLINE + 2));
                    CHECK_EQ(fp_taskring_push(&ring, &task), fx_ticket(sizes[i], next_in));
                    next_in++;
                }
                CHECK_EQ(fp_taskring_check(&ring), 0);
                for (uint32_t n = 0; n < batch; n++) {
                    CHECK_EQ(fp_taskring_claim(&claimer, 1, &task), fx_ticket(sizes[i], next_out));
                    CHECK(fx_task_is(&task, next_out, next_out % (FP_TASK_INLINE + 2)));
                    CHECK_EQ(fp_taskring_check(&ring), 0);
                    next_out++;
                }
                CHECK_EQ(fp_taskring_claim(&claimer, 1, &task), 0);
                CHECK(fp_taskring_room(&ring) > 0);
                CHECK_EQ(fp_taskring_queued(&ring), 0);      /* which looks anew, */
                CHECK_EQ(fp_taskring_room(&ring), sizes[i]); /* so that this is exact */
            }
            fx_taskring_free(&ring);
        }
}

static void a_ticket_nobody_took_is_unclaimed(void) {
    fp_taskring ring = fx_taskring(4);
    fp_task task = fx_task(1, 0);
    uint64_t first = fp_taskring_push(&ring, &task);
    uint64_t second = fp_taskring_push(&ring, &task);
    CHECK_EQ(fp_taskring_owner(&ring, first), FP_UNCLAIMED);
    CHECK_EQ(fp_taskring_owner(&ring, second), FP_UNCLAIMED);
    CHECK_EQ(fp_taskring_claim(&ring, 5, &task), first);
    CHECK_EQ(fp_taskring_owner(&ring, second), FP_UNCLAIMED);
    fx_taskring_free(&ring);
}

static void every_ticket_of_the_last_lap_names_its_claimer(void) {
    for
        EACH_SIZE(i) {
            fp_taskring ring = fx_taskring(sizes[i]);
            fp_task task = fx_task(1, 0);
            uint64_t first = ring.tail;
            for (uint64_t n = 0; n < 4ull * sizes[i] + 3; n++) {
                uint64_t ticket = fp_taskring_push(&ring, &task);
                CHECK_EQ(ticket, fx_ticket(first, n));
                CHECK_EQ(fp_taskring_claim(&ring, (uint32_t)(n * 7 % 100), &task), ticket);
                for (uint64_t t = n < sizes[i] ? 0 : n - sizes[i] + 1; t <= n; t++) {
                    CHECK_EQ(fp_taskring_owner(&ring, fx_ticket(first, t)), t * 7 % 100);
                }
            }
            fx_taskring_free(&ring);
        }
}

static void a_ticket_is_forgotten_when_the_next_lap_overwrote_its_record(void) {
    fp_taskring ring = fx_taskring(2);
    fp_task task = fx_task(1, 0);
    uint64_t first = 0;
    for (int n = 0; n < 4; n++) {
        uint64_t ticket = fp_taskring_push(&ring, &task);
        first = first ? first : ticket;
        fp_taskring_claim(&ring, 1, &task);
    }
    CHECK_EQ(fp_taskring_owner(&ring, first), FP_FORGOTTEN);
    fx_taskring_free(&ring);
}

static void the_largest_claimer_number_is_not_nobody(void) {
    fp_taskring ring = fx_taskring(2);
    fp_task task = fx_task(1, 0);
    for (int n = 0; n < 3; n++) {
        uint64_t ticket = fp_taskring_push(&ring, &task);
        CHECK_EQ(fp_taskring_claim(&ring, FP_NOBODY - 1, &task), ticket);
        CHECK_EQ(fp_taskring_owner(&ring, ticket), FP_NOBODY - 1);
        CHECK_EQ(fp_taskring_check(&ring), 0);
    }
    fx_taskring_free(&ring);
}

static void tickets_pass_each_power_of_two_and_wrap_around(void) {
    for (unsigned at = 4; at <= FP_TICKET_BITS; at++) {
        fp_taskring ring = fx_taskring(4);
        fp_taskring claimer = ring;
        uint64_t first = (1ull << at) - 6;
        fp__taskring_begin(&ring, first); /* as if so many tasks had gone through */
        CHECK_EQ(fp_taskring_check(&ring), 0);
        fp_task task;
        for (uint64_t n = 0; n < 16; n++) {
            CHECK(fp_taskring_empty(&claimer));
            CHECK_EQ(fp_taskring_claim(&claimer, 9, &task), 0);
            CHECK(fp_taskring_room(&ring) > 0);
            task = fx_task(n, 8);
            CHECK_EQ(fp_taskring_push(&ring, &task), fx_ticket(first, n));
            CHECK_EQ(fp_taskring_owner(&ring, fx_ticket(first, n)), FP_UNCLAIMED);
            CHECK_EQ(fp_taskring_queued(&ring), 1);
            CHECK(!fp_taskring_empty(&claimer));
            CHECK_EQ(fp_taskring_claim(&claimer, (uint32_t)n, &task), fx_ticket(first, n));
            CHECK(fx_task_is(&task, n, 8));
            CHECK_EQ(fp_taskring_check(&ring), 0);
            for (uint64_t t = n < 4 ? 0 : n - 3; t <= n; t++) {
                CHECK_EQ(fp_taskring_owner(&ring, fx_ticket(first, t)), t);
            }
            if (n >= 5) {
                CHECK_EQ(fp_taskring_owner(&ring, fx_ticket(first, n - 5)), FP_FORGOTTEN);
            }
        }
        fx_taskring_free(&ring);
    }
}

static void a_full_ring_wraps_around(void) {
    fp_taskring ring = fx_taskring(4);
    fp_task task;
    uint64_t first = FP__TICKET_MASK - 5, given = 0, taken = 0;
    fp__taskring_begin(&ring, first);
    for (int lap = 0; lap < 5; lap++) {
        while (fp_taskring_room(&ring) > 0) {
            task = fx_task(given, 8);
            CHECK_EQ(fp_taskring_push(&ring, &task), fx_ticket(first, given++));
            CHECK_EQ(fp_taskring_check(&ring), 0);
        }
        CHECK_EQ(given - taken, 4);
        CHECK_EQ(fp_taskring_queued(&ring), 4);
        for (int n = 0; n < 3; n++) {
            CHECK_EQ(fp_taskring_claim(&ring, 1, &task), fx_ticket(first, taken));
            CHECK(fx_task_is(&task, taken++, 8));
        }
    }
    fx_taskring_free(&ring);
}

static void no_ticket_is_0(void) {
    fp_taskring ring = fx_taskring(2);
    fp_task task = {.len = 0};
    fp__taskring_begin(&ring, FP__TICKET_MASK);
    for (int n = 0; n < 3; n++) {
        CHECK(fp_taskring_push(&ring, &task) != 0);
        CHECK(fp_taskring_claim(&ring, 1, &task) != 0);
    }
    CHECK_EQ(ring.tail, 2);
    fx_taskring_free(&ring);
}

static void a_record_never_goes_back_to_an_older_ticket(void) {
    const uint64_t tickets[] = {10, FP__TICKET_MASK - 3, FP__TICKET_MASK, FP__TICKET_MASK / 2};
    for (unsigned i = 0; i < sizeof tickets / sizeof *tickets; i++) {
        uint64_t ticket = tickets[i];
        fp_a64 entry = fp__claim_word(ticket - 4, FP_NOBODY);
        fp__owner_record(&entry, ticket, 3);
        CHECK_EQ(entry, fp__claim_word(ticket, 3));
        fp__owner_record(&entry, ticket - 4, 5); /* a claimer that slept a lap of four */
        CHECK_EQ(entry, fp__claim_word(ticket, 3));
        fp__owner_record(&entry, ticket, 3);
        CHECK_EQ(entry, fp__claim_word(ticket, 3));
        fp__owner_record(&entry, ticket + 4, 0);
        CHECK_EQ(entry, fp__claim_word(ticket + 4, 0));
    }
}

/* A claimer may read a header of which the producer has written one half: whatever stands there, it
 * stays inside its own fp_task and inside the slot. */
static void a_torn_header_cant_lead_a_claimer_out_of_its_task(void) {
    const uint64_t lengths[] = {FP_TASK_INLINE + 1, 1ull << 32,     INT64_MAX,
                                UINT64_MAX - 7,     UINT64_MAX - 6, UINT64_MAX};
    fp_taskring ring = fx_taskring(1); /* slot and task both end at a guard */
    fp_task *out = fx_shared(sizeof *out);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        fp_task task = fx_task(i, FP_TASK_INLINE);
        fp_taskring_push(&ring, &task);
        atomic_store(&ring.slots[0].word[offsetof(fp_task, len) / 8], lengths[i]);
        CHECK(fp_taskring_claim(&ring, 0, out) != 0);
    }
    fx_release(out, sizeof *out);
    fx_taskring_free(&ring);
}

static void emptiness_is_seen_by_a_handle_that_never_pushed(void) {
    fp_taskring ring = fx_taskring(4);
    fp_taskring claimer = ring;
    fp_task task = fx_task(1, 0);
    CHECK(fp_taskring_empty(&claimer));
    fp_taskring_push(&ring, &task);
    CHECK(!fp_taskring_empty(&claimer));
    fp_taskring_claim(&claimer, 0, &task);
    CHECK(fp_taskring_empty(&claimer));
    fx_taskring_free(&ring);
}

static void the_check_finds_broken_indices_and_records(void) {
    fp_taskring ring = fx_taskring(4);
    fp_task task = fx_task(1, 0);
    for (int n = 0; n < 6; n++) {
        fp_taskring_push(&ring, &task);
        fp_taskring_claim(&ring, 0, &task);
    }
    CHECK_EQ(fp_taskring_check(&ring), 0);
    uint64_t tail = ring.shared->tail;
    ring.shared->tail = tail - 1; /* behind head */
    CHECK_EQ(fp_taskring_check(&ring), -EINVAL);
    ring.shared->tail = tail + 5; /* more than a lap ahead */
    CHECK_EQ(fp_taskring_check(&ring), -EINVAL);
    ring.shared->tail = tail;
    uint64_t record = ring.owner[1];
    ring.owner[1] = record + fp__claim_word(1, 0); /* in another ticket's place */
    CHECK_EQ(fp_taskring_check(&ring), -EINVAL);
    ring.owner[1] = record + fp__claim_word(8, 0); /* of a ticket that does not exist yet */
    CHECK_EQ(fp_taskring_check(&ring), -EINVAL);
    ring.owner[1] = record - fp__claim_word(4, 0); /* of one that was overwritten long ago */
    CHECK_EQ(fp_taskring_check(&ring), -EINVAL);
    ring.owner[1] = record;
    CHECK_EQ(fp_taskring_check(&ring), 0);
    fx_taskring_free(&ring);
}

int main(void) {
    RUN(an_empty_ring_gives_nothing);
    RUN(a_task_comes_out_as_it_went_in);
    RUN(the_ring_takes_as_many_tasks_as_it_has_slots);
    RUN(a_claimed_slot_can_be_written_again);
    RUN(tasks_come_out_in_order_lap_after_lap);
    RUN(a_ticket_nobody_took_is_unclaimed);
    RUN(every_ticket_of_the_last_lap_names_its_claimer);
    RUN(a_ticket_is_forgotten_when_the_next_lap_overwrote_its_record);
    RUN(the_largest_claimer_number_is_not_nobody);
    RUN(tickets_pass_each_power_of_two_and_wrap_around);
    RUN(a_full_ring_wraps_around);
    RUN(no_ticket_is_0);
    RUN(a_record_never_goes_back_to_an_older_ticket);
    RUN(a_torn_header_cant_lead_a_claimer_out_of_its_task);
    RUN(emptiness_is_seen_by_a_handle_that_never_pushed);
    RUN(the_check_finds_broken_indices_and_records);
    return check_done();
}
