/* test_taskring.c: the task ring, one step at a time. */
#include "ds/fp_taskring.h"

#include "check.h"
#include "fixture.h"

static const uint32_t sizes[] = {1, 2, 4, 64};
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
                    CHECK_EQ(fp_taskring_push(&ring, &task), next_in + sizes[i]);
                    next_in++;
                }
                CHECK_EQ(fp_taskring_check(&ring), 0);
                for (uint32_t n = 0; n < batch; n++) {
                    CHECK_EQ(fp_taskring_claim(&claimer, 1, &task), next_out + sizes[i]);
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
            for (uint64_t n = 0; n < 4ull * sizes[i] + 3; n++) {
                uint64_t ticket = fp_taskring_push(&ring, &task);
                CHECK_EQ(fp_taskring_claim(&ring, (uint32_t)(ticket * 7 % 100), &task), ticket);
                uint64_t oldest =
                    ticket - n > ticket - sizes[i] + 1 ? ticket - n : ticket - sizes[i] + 1;
                for (uint64_t t = oldest; t <= ticket; t++) {
                    CHECK_EQ(fp_taskring_owner(&ring, t), t * 7 % 100);
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

static void tickets_beyond_32_bits_stay_apart(void) {
    for (unsigned at = 31; at < 47; at++) {
        fp_taskring ring = fx_taskring(4);
        /* As if so many tasks had gone through. */
        ring.tail = ring.head_seen = (1ull << at) - 2;
        atomic_store(&ring.shared->tail, ring.tail);
        atomic_store(&ring.shared->head, ring.tail << 16 | 1);
        fp_task task;
        for (uint64_t n = 0; n < 8; n++) {
            task = fx_task(n, 8);
            CHECK_EQ(fp_taskring_push(&ring, &task), (1ull << at) - 2 + n);
            CHECK_EQ(fp_taskring_claim(&ring, (uint32_t)n, &task), (1ull << at) - 2 + n);
            CHECK(fx_task_is(&task, n, 8));
            CHECK_EQ(fp_taskring_check(&ring), 0);
            CHECK_EQ(fp_taskring_owner(&ring, (1ull << at) - 2 + n), n);
        }
        fx_taskring_free(&ring);
    }
}

static void a_record_never_goes_back_to_an_older_ticket(void) {
    fp_a64 entry = 0;
    fp__owner_record(&entry, 10, 3);
    CHECK_EQ(entry, 10 << 16 | 3);
    fp__owner_record(&entry, 6, 5); /* a claimer that slept a lap of four */
    CHECK_EQ(entry, 10 << 16 | 3);
    fp__owner_record(&entry, 10, 3);
    CHECK_EQ(entry, 10 << 16 | 3);
    fp__owner_record(&entry, 14, 0);
    CHECK_EQ(entry, 14 << 16 | 0);
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
    ring.owner[1] = record + (1 << 16); /* in another ticket's place */
    CHECK_EQ(fp_taskring_check(&ring), -EINVAL);
    ring.owner[1] = record + (8 << 16); /* of a ticket that does not exist yet */
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
    RUN(tickets_beyond_32_bits_stay_apart);
    RUN(a_record_never_goes_back_to_an_older_ticket);
    RUN(a_torn_header_cant_lead_a_claimer_out_of_its_task);
    RUN(emptiness_is_seen_by_a_handle_that_never_pushed);
    RUN(the_check_finds_broken_indices_and_records);
    return check_done();
}
