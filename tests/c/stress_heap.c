/* stress_heap.c: one owner allocates and frees, others read its blocks, write into them and give them
 * back, some of them after they were detached; the bytes are plain memory, so that ThreadSanitizer sees whether R1-R2 order them.
 */
#include "ds/fp_heap.h"

#include "check.h"
#include "fixture.h"

#define OTHERS 3u
#define REGION 4096u
#define SIZE (96ull << 20)
#define BLOCKS 6000u
#define KEEP (256u << 10)

static uint64_t seed;
static fx_segment segment;
static unsigned char *base;
static fp_resring ways[OTHERS],
    ends[OTHERS]; /* to each of the others: key, offset and length of a block */

static void *give_back(void *arg) {
    uint32_t me = (uint32_t)(uintptr_t)arg;
    fp_resring mine = ends[me];
    fp_result message;
    for (;;) {
        if (!fp_resring_pop(&mine, &message)) {
            fp_os_yield();
            continue;
        }
        if (message.ticket == 0) {
            return NULL;
        }
        unsigned char *bytes = base + message.payload.ref;
        bool detaches =
            message.ticket % 2 && fp_block_size(base, message.payload.ref) >= FP_BLOCK_LARGE;
        if (detaches) {
            CHECK_EQ(fp_block_detach(base, segment.fd, message.payload.ref), 0);
        }
        CHECK(fx_filled(bytes, message.len, message.ticket));
        memset(bytes, (int)me, message.len);
        if (detaches) {
            CHECK_EQ(fp_block_attach(base, segment.fd, message.payload.ref), 0);
        }
        fp_block_return(base, message.payload.ref, (message.ticket % 3) * KEEP);
    }
}

static void send(uint32_t to, uint64_t key, uint64_t offset, uint64_t len) {
    while (!fp_resring_room(&ways[to])) {
        fp_os_yield();
    }
    fp_result *message = fp_resring_next(&ways[to]);
    message->ticket = key;
    message->in_block = 1;
    message->payload.ref = offset;
    message->len = len;
    fp_resring_publish(&ways[to]);
}

static uint64_t some_length(uint64_t *random) {
    switch (fx_below(random, 16)) {
    case 0:
        return fx_below(random, 300000);
    case 1:
    case 2:
        return fx_below(random, 20000);
    default:
        return fx_below(random, 1500);
    }
}

static void one_life(uint64_t keep, uint64_t salt) {
    segment = fx_segment_of(REGION + SIZE, REGION + SIZE);
    base = segment.base;
    fp_heap heap;
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, keep, NULL);
    pthread_t threads[OTHERS];
    for (uintptr_t i = 0; i < OTHERS; i++) {
        ways[i] = ends[i] = fx_resring(16);
        CHECK_EQ(pthread_create(&threads[i], NULL, give_back, (void *)i), 0);
    }
    uint64_t random = fx_seeded(seed, salt);
    for (uint64_t n = 1; n <= BLOCKS; n++) {
        uint64_t len = some_length(&random);
        uint64_t offset = fp_heap_alloc(&heap, len);
        CHECK(offset != 0);
        fx_fill(base + offset, len, n);
        uint32_t whom = (uint32_t)fx_below(&random, OTHERS + 1);
        if (whom < OTHERS) {
            send(whom, n, offset, len);
        } else {
            fp_heap_free(&heap, offset);
        }
        if (n % 64 == 0) {
            fp_heap_collect(&heap);
            CHECK_EQ(fp_heap_check(&heap), 0);
        }
    }
    for (uint32_t i = 0; i < OTHERS; i++) {
        send(i, 0, 0, 0);
    }
    for (uint32_t i = 0; i < OTHERS; i++) {
        pthread_join(threads[i], NULL);
        fx_resring_free(&ways[i]);
    }
    fp_heap_collect(&heap);
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK_EQ(heap.blocks, 0);
    CHECK_EQ(heap.used_bytes, 0);
    fx_segment_close(&segment);
}

static void every_block_comes_home_and_nobody_writes_into_anothers(void) {
    uint64_t rounds = 0;
    for (uint64_t until = fx_until(2); rounds < 2 || fp_os_now_ns() < until; rounds++) {
        alarm(CHECK_SECONDS);
        one_life(rounds % 2 ? 1 << 20 : 0, rounds);
    }
    printf("  %llu blocks\n", (unsigned long long)rounds * BLOCKS);
}

int main(void) {
    seed = fx_seed();
    RUN(every_block_comes_home_and_nobody_writes_into_anothers);
    return check_done();
}
