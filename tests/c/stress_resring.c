/* stress_resring.c: both ends of a result ring at once, over the smallest rings; the records are plain
 * memory, so that ThreadSanitizer sees whether P1-C1 and C2-P2 order them.
 */
#include "ds/fp_resring.h"

#include "check.h"
#include "fixture.h"

#define RECORDS 30000u

static uint64_t seed;
static fp_resring shared;

static uint64_t length_of(uint64_t i) { return i * 31 % (FP_RESULT_INLINE + 2); }

static void pause_at_times(uint64_t *random) {
    uint64_t dice = fx_below(random, 200);
    if (dice == 0) {
        fp_os_yield();
    } else if (dice < 10) {
        for (uint64_t n = fx_below(random, 300); n > 0; n--) {
            fp_relax();
        }
    }
}

static void *produce(void *arg) {
    fp_resring mine = shared;
    uint64_t random = fx_seeded(seed, 1);
    (void)arg;
    for (uint64_t i = 0; i < RECORDS; i++) {
        while (!fp_resring_room(&mine)) {
            fp_os_yield();
        }
        fx_result(fp_resring_next(&mine), i, length_of(i));
        fp_resring_publish(&mine);
        CHECK_EQ(fp_resring_check(&mine), 0);
        pause_at_times(&random);
    }
    return NULL;
}

static void all_of(uint32_t size, uint64_t salt) {
    shared = fx_resring(size);
    fp_resring mine = shared;
    fp_result result;
    uint64_t random = fx_seeded(seed, salt);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, produce, NULL), 0);
    for (uint64_t i = 0; i < RECORDS;) {
        if (fp_resring_pop(&mine, &result)) {
            CHECK(fx_result_is(&result, i, length_of(i)));
            CHECK_EQ(fp_resring_check(&mine), 0);
            i++;
            pause_at_times(&random);
        } else {
            fp_os_yield();
        }
    }
    pthread_join(thread, NULL);
    CHECK(fp_resring_empty(&mine));
    fx_resring_free(&shared);
}

static void every_record_arrives_once_whole_and_in_order(void) {
    uint64_t rounds = 0;
    const uint32_t sizes[] = {1, 2, 4, 128};
    for (uint64_t until = fx_until(2); rounds < 4 || fp_os_now_ns() < until; rounds++) {
        alarm(CHECK_SECONDS);
        all_of(sizes[rounds % 4], rounds);
    }
    printf("  %llu records\n", (unsigned long long)rounds * RECORDS);
}

int main(void) {
    seed = fx_seed();
    RUN(every_record_arrives_once_whole_and_in_order);
    return check_done();
}
