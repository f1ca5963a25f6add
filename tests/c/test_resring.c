/* test_resring.c: the result ring, one step at a time. */
#include "ds/fp_resring.h"

#include "check.h"
#include "fixture.h"

static const uint32_t sizes[] = {1, 2, 4, 8, 128};
#define EACH_SIZE(i) (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)

/* Both ends of one ring. */
static fp_resring producer;
static fp_resring consumer;

static void new_ring(uint32_t size) { producer = consumer = fx_resring(size); }

static void free_ring(void) { fx_resring_free(&producer); }

static void publish(uint64_t key, uint64_t len) {
    CHECK(fp_resring_room(&producer));
    fx_result(fp_resring_next(&producer), key, len);
    fp_resring_publish(&producer);
    CHECK_EQ(fp_resring_check(&producer), 0);
}

static void pop(uint64_t key, uint64_t len) {
    fp_result result;
    CHECK(fp_resring_pop(&consumer, &result));
    CHECK(fx_result_is(&result, key, len));
    CHECK_EQ(fp_resring_check(&consumer), 0);
}

static void an_empty_ring_gives_nothing(void) {
    for
        EACH_SIZE(i) {
            new_ring(sizes[i]);
            fp_result result;
            CHECK(fp_resring_empty(&consumer));
            CHECK(!fp_resring_pop(&consumer, &result));
            CHECK(fp_resring_room(&producer));
            CHECK_EQ(fp_resring_check(&consumer), 0);
            free_ring();
        }
}

static void a_record_comes_out_as_it_went_in(void) {
    const uint64_t lengths[] = {0,
                                1,
                                FP_RESULT_INLINE - 1,
                                FP_RESULT_INLINE,
                                FP_RESULT_INLINE + 1,
                                1ull << 31,
                                (1ull << 31) + 1,
                                1ull << 40};
    new_ring(2);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        publish(1000 + i, lengths[i]);
        pop(1000 + i, lengths[i]);
    }
    free_ring();
}

static void a_record_that_is_being_written_can_not_be_read(void) {
    new_ring(2);
    fp_result result;
    fx_result(fp_resring_next(&producer), 1, 8);
    CHECK(fp_resring_empty(&consumer));
    CHECK(!fp_resring_pop(&consumer, &result));
    fp_resring_publish(&producer);
    CHECK(!fp_resring_empty(&consumer));
    pop(1, 8);
    free_ring();
}

static void the_ring_takes_as_many_records_as_it_has_slots(void) {
    for
        EACH_SIZE(i) {
            new_ring(sizes[i]);
            for (uint32_t n = 0; n < sizes[i]; n++) {
                publish(n, 8);
            }
            CHECK(!fp_resring_room(&producer));
            pop(0, 8);
            CHECK(fp_resring_room(&producer));
            publish(sizes[i], 8);
            CHECK(!fp_resring_room(&producer));
            for (uint32_t n = 1; n <= sizes[i]; n++) {
                pop(n, 8);
            }
            CHECK(fp_resring_empty(&consumer));
            free_ring();
        }
}

static void records_come_out_in_order_lap_after_lap(void) {
    for
        EACH_SIZE(i) {
            new_ring(sizes[i]);
            uint64_t in = 0;
            uint64_t out = 0;
            for (uint32_t round = 0; round < 5 * sizes[i]; round++) {
                uint32_t batch = round % sizes[i] + 1;
                for (uint32_t n = 0; n < batch; n++, in++) {
                    publish(in, in % (FP_RESULT_INLINE + 2));
                }
                for (uint32_t n = 0; n < batch; n++, out++) {
                    pop(out, out % (FP_RESULT_INLINE + 2));
                }
            }
            free_ring();
        }
}

static void a_length_beyond_the_slot_is_not_followed(void) {
    new_ring(1); /* the slot ends at a guard */
    fp_result *out = fx_shared(sizeof *out);
    fp_result *slot = fp_resring_next(&producer);
    fx_result(slot, 1, FP_RESULT_INLINE);
    slot->len = UINT64_MAX;
    fp_resring_publish(&producer);
    CHECK(fp_resring_pop(&consumer, out));
    fx_release(out, sizeof *out);
    free_ring();
}

static void a_new_owner_finds_the_ring_empty(void) {
    for
        EACH_SIZE(i) {
            new_ring(sizes[i]);
            for (uint32_t n = 0; n < sizes[i]; n++) {
                publish(n, 1);
            }
            fp_resring_reset(&consumer);
            producer = (fp_resring){.shared = consumer.shared, consumer.slots, consumer.mask, 0, 0};
            fp_resring_open(&producer);
            CHECK(fp_resring_empty(&consumer));
            CHECK_EQ(fp_resring_check(&consumer), 0);
            for (uint32_t n = 0; n < sizes[i]; n++) {
                publish(100 + n, 1);
            }
            for (uint32_t n = 0; n < sizes[i]; n++) {
                pop(100 + n, 1);
            }
            free_ring();
        }
}

static void a_handle_from_before_the_new_owner_reads_on(void) {
    for
        EACH_SIZE(i) {
            new_ring(sizes[i]);
            for (uint32_t n = 0; n < 3; n++) {
                publish(n, 1);
                pop(n, 1);
            }
            fp_resring other = consumer; /* whoever prepares the ring for its new owner */
            fp_resring_reset(&other);
            fp_result result;
            CHECK(!fp_resring_pop(&consumer, &result));
            fp_resring_open(&producer);
            publish(7, 1);
            pop(7, 1);
            free_ring();
        }
}

/* A producer that found the ring full sleeps until it is told of room; the consumer tells only a
 * crowded ring's.  So reading a full ring to its end must say "crowded" at least once, wherever the
 * two stand and however many of the records the consumer had seen before. */
static void reading_a_full_ring_says_crowded_at_least_once(void) {
    for
        EACH_SIZE(i) {
            for (uint32_t shift = 0; shift < sizes[i]; shift += 1 + sizes[i] / 16) {
                for (uint32_t known = 0; known < sizes[i]; known++) {
                    new_ring(sizes[i]);
                    uint64_t n = 0;
                    for (; n < shift; n++) {
                        publish(n, 0);
                        pop(n, 0);
                    }
                    /* One pop sees known + 1 records and leaves `known` of them for later. */
                    for (uint32_t k = 0; k <= known; k++) {
                        publish(n + k, 0);
                    }
                    pop(n++, 0);
                    CHECK_EQ(fp__records(consumer.own, consumer.peer), known);
                    uint64_t end = n + known;
                    while (fp_resring_room(&producer)) {
                        publish(end++, 0);
                    }
                    bool crowded = false;
                    while (n < end) {
                        pop(n++, 0);
                        crowded |= fp_resring_crowded(&consumer);
                    }
                    CHECK(crowded);
                    free_ring();
                }
            }
        }
}

static void a_ring_read_as_it_fills_is_never_crowded(void) {
    new_ring(128);
    for (uint64_t n = 0; n < 1000; n++) {
        publish(n, 0);
        pop(n, 0);
        CHECK(!fp_resring_crowded(&consumer));
    }
    free_ring();
}

/* As if so many records had gone through; both handles are opened anew. */
static void set_index(uint64_t index) {
    atomic_store(&consumer.shared->tail, index);
    fp_resring_reset(&consumer);
    fp_resring_open(&producer);
}

static void indices_wrap_around(void) {
    for
        EACH_SIZE(i) {
            new_ring(sizes[i]);
            set_index(FP__INDEX_MASK - sizes[i] - 1);
            for (uint64_t n = 0; n < 3 * sizes[i] + 3ull; n++) {
                CHECK(fp_resring_empty(&consumer));
                publish(n, 8);
                CHECK(!fp_resring_empty(&consumer));
                CHECK_EQ(fp_resring_check(&consumer), 0);
                pop(n, 8);
            }
            set_index(FP__INDEX_MASK);
            for (uint64_t lap = 0; lap < 2; lap++) {
                for (uint64_t n = 0; n < sizes[i]; n++) {
                    publish(n, 8);
                    CHECK_EQ(fp_resring_check(&consumer), 0);
                }
                CHECK(!fp_resring_room(&producer));
                bool crowded = false;
                for (uint64_t n = 0; n < sizes[i]; n++) {
                    pop(n, 8);
                    crowded |= fp_resring_crowded(&consumer);
                }
                CHECK(crowded);
                CHECK(fp_resring_room(&producer));
            }
            free_ring();
        }
}

static void the_check_finds_broken_indices(void) {
    new_ring(4);
    producer.shared->tail = 5;
    CHECK_EQ(fp_resring_check(&producer), -EINVAL);
    producer.shared->tail = 4;
    CHECK_EQ(fp_resring_check(&producer), 0);
    producer.shared->head = 5;
    CHECK_EQ(fp_resring_check(&producer), -EINVAL);
    free_ring();
}

int main(void) {
    RUN(an_empty_ring_gives_nothing);
    RUN(a_record_comes_out_as_it_went_in);
    RUN(a_record_that_is_being_written_can_not_be_read);
    RUN(the_ring_takes_as_many_records_as_it_has_slots);
    RUN(records_come_out_in_order_lap_after_lap);
    RUN(a_length_beyond_the_slot_is_not_followed);
    RUN(a_new_owner_finds_the_ring_empty);
    RUN(a_handle_from_before_the_new_owner_reads_on);
    RUN(reading_a_full_ring_says_crowded_at_least_once);
    RUN(a_ring_read_as_it_fills_is_never_crowded);
    RUN(indices_wrap_around);
    RUN(the_check_finds_broken_indices);
    return check_done();
}
