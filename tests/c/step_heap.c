/* step_heap.c: a process that dies, or is overtaken, at every single instruction: of fp_block_return,
 * where at most the block in its hands is lost, and the stack of returned blocks is never torn; and of
 * all that an owner does, where what it sent before outlives it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define CHECK_SECONDS 60
#include "stepper.h"

#include "ds/fp_heap.h"

#define REGION 4096u
#define SIZE (4u << 20)
#define BLOCKS 6u
#define KEEP SIZE

static fx_segment segment;
static unsigned char *base;
static fp_heap heap;
static uint64_t blocks[BLOCKS];

static void set_up(void) {
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, SIZE, NULL);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i] = fp_heap_alloc(&heap, 300);
        CHECK(blocks[i] != 0);
    }
}

static void __attribute__((noinline)) return_the_first(void) {
    fp_block_return(base, blocks[0], KEEP);
}

/* Whether the first block is among what the owner can hand out again. */
static bool first_is_home(uint64_t free_blocks) {
    bool found = false;
    for (uint64_t n = 0; n < free_blocks; n++) {
        found |= fp_heap_alloc(&heap, 300) == blocks[0];
    }
    return found;
}

/* Returns `before` other blocks, steps k instructions, returns and collects some more; then the child
 * dies (or ends) and the rest comes home.  Whether there were k instructions. */
static bool interrupted_after(uint64_t k, uint32_t before, bool collect, bool dies) {
    uint32_t i = 1;
    uint64_t home = 0;
    set_up();
    for (; i <= before; i++) {
        fp_block_return(base, blocks[i], KEEP);
    }
    step_begin(return_the_first);
    bool whole = step_many(k);
    if (collect) {
        home += fp_heap_collect(&heap);
        CHECK_EQ(fp_heap_check(&heap), 0);
        fp_block_return(base, blocks[i++], KEEP);
    }
    if (dies) {
        step_kill();
    } else {
        step_finish();
    }
    for (; i < BLOCKS; i++) {
        fp_block_return(base, blocks[i], KEEP);
    }
    home += fp_heap_collect(&heap);
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK(home == BLOCKS || (dies && home == BLOCKS - 1));
    CHECK(whole || home == BLOCKS);
    CHECK_EQ(heap.blocks, BLOCKS - home);
    CHECK_EQ(first_is_home(home), home == BLOCKS);
    CHECK_EQ(fp_heap_check(&heap), 0);
    return whole;
}

static void killed_at_any_instruction_a_returner_costs_at_most_its_block(void) {
    uint64_t points = 0;
    for (uint32_t before = 0; before < 3; before++) {
        for (int collect = 0; collect < 2; collect++) {
            for (uint64_t k = 0; interrupted_after(k, before, collect, true); k++) {
                points++;
            }
        }
    }
    printf("  killed at %llu points\n", (unsigned long long)points);
}

static void overtaken_at_any_instruction_a_returner_loses_nothing(void) {
    for (uint32_t before = 0; before < 3; before++) {
        for (uint64_t k = 0; interrupted_after(k, before, true, false); k++) {
        }
    }
}

/* A block so large that its pages go back to the system, while its owner waits for it. */
static void __attribute__((noinline)) return_cold(void) { fp_block_return(base, blocks[0], 0); }

static void a_cold_block_is_overtaken_on_its_way_home(bool detached) {
    const uint64_t len = 100000;
    bool more = true;
    for (uint64_t k = 0; more; k++) {
        fp_heap_init(&heap, base, segment.fd, REGION, SIZE, SIZE, NULL);
        blocks[0] = fp_heap_alloc(&heap, len);
        memset(base + blocks[0], 1, len);
        if (detached) { /* then it is cold already */
            CHECK_EQ(fp_block_detach(base, segment.fd, blocks[0]), 0);
            CHECK_EQ(fp_block_attach(base, segment.fd, blocks[0]), 0);
        }
        step_begin(return_cold);
        more = step_many(k);
        uint64_t offset = 0;
        if (fp_heap_collect(&heap) == 1) {
            offset = fp_heap_alloc(&heap, len);
            CHECK_EQ(offset, blocks[0]);
            fx_fill(base + offset, len, k);
        }
        step_finish();
        CHECK(offset == 0 || fx_filled(base + offset, len, k));
        CHECK_EQ(fp_heap_collect(&heap), offset == 0);
        CHECK_EQ(heap.cold_bytes, offset == 0 ? 114688 : 0);
        CHECK_EQ(((const fp_region *)(base + REGION))->waiting, 0);
        CHECK_EQ(fp_heap_check(&heap), 0);
    }
}

static void overtaken_at_any_instruction_a_returner_gives_no_page_back_too_late(void) {
    a_cold_block_is_overtaken_on_its_way_home(false);
    a_cold_block_is_overtaken_on_its_way_home(true);
}

/* ---- owners ----------------------------------------------------------------------------------- */

#define LARGE 66000u
#define STRIDE 4096u
#define SENT 7u

static fx_segment copy; /* where each death is tried out */

/* What the owner has told others of; they are as long as it says. */
static struct sent {
    _Atomic uint64_t offset;
    uint64_t len;
} *sent;

static void send(uint32_t i, uint64_t len) {
    uint64_t offset = fp_heap_alloc(&heap, len);
    for (uint64_t n = 0; n < len; n += STRIDE) { /* not every byte, since each is a step */
        base[offset + n] = (unsigned char)(i + 1);
    }
    sent[i].len = len;
    atomic_store_explicit(&sent[i].offset, offset, memory_order_release);
}

/* Fresh, free, warm, cold, too much, returned by others: one of each. */
static void __attribute__((noinline)) live_a_life(void) {
    send(0, 300);
    send(1, LARGE);
    uint64_t a = fp_heap_alloc(&heap, LARGE);
    uint64_t b = fp_heap_alloc(&heap, 2 * LARGE);
    fp_heap_free(&heap, a);
    fp_heap_free(&heap, b);
    send(2, LARGE);
    send(3, 2 * LARGE);
    fp_heap_collect(&heap);
    send(4, 300);
    send(5, 3 * LARGE);
    a = fp_heap_alloc(&heap, 300);
    fp_heap_free(&heap, a);
    send(6, 1000);
}

static void sent_is_whole(const unsigned char *at, uint64_t *last) {
    for (uint32_t i = 0; i < SENT; i++) {
        uint64_t offset = atomic_load_explicit(&sent[i].offset, memory_order_acquire);
        for (uint64_t n = 0; offset != 0 && n < sent[i].len; n += STRIDE) {
            CHECK_EQ(at[offset + n], i + 1);
        }
        if (offset + sent[i].len > *last) {
            *last = offset + sent[i].len;
        }
    }
}

/* Behind all that the owner may have written to. */
static const unsigned char *heap_end(void) { return base + REGION + 16 * LARGE; }

/* The next owner begins behind all that is held. */
static void next_owner_spoils_nothing(void) {
    uint64_t last = 0;
    fp_heap next;
    sent_is_whole(copy.base, &last);
    fp_heap_init(&next, copy.base, copy.fd, REGION, SIZE, 0, NULL);
    uint64_t offset = fp_heap_alloc(&next, LARGE);
    CHECK(offset > last);
    memset(copy.base + offset, 0xFF, LARGE);
    sent_is_whole(copy.base, &last);
    CHECK_EQ(fp_heap_check(&next), 0);
}

static void copy_all(void) { memcpy(copy.base, base, (size_t)(heap_end() - base)); }

/* The parent has read of all that was sent. */
static void hold_what_was_sent(unsigned char *at) {
    for (uint32_t i = 0; i < SENT; i++) {
        if (sent[i].offset != 0) {
            fp_block_hold(at, sent[i].offset);
        }
    }
}

/* The owner dies where it stands: on a copy, so that it can go on afterwards. */
static void if_it_died_here(bool marks) {
    copy_all();
    if (marks) {
        hold_what_was_sent(copy.base);
    }
    fp_region_restart(copy.base, REGION, SIZE, true, 0);
    next_owner_spoils_nothing();
}

/* The same when nobody holds anything of it. */
static void if_it_died_unheard_of(void) {
    fp_heap next;
    copy_all();
    fp_region_restart(copy.base, REGION, SIZE, false, 0);
    fp_heap_init(&next, copy.base, copy.fd, REGION, SIZE, 0, NULL);
    CHECK_EQ(fp_heap_collect(&next), 0);
    CHECK(fp_heap_alloc(&next, 300) < REGION + 4096);
    CHECK(fp_heap_alloc(&next, LARGE) != 0);
    CHECK_EQ(fp_heap_check(&next), 0);
}

static void what_an_owner_sent_outlives_it_wherever_it_dies(void) {
    uint64_t points = 0, others[3], random = fx_seeded(fx_seed(), 0);
    copy = fx_segment_of(REGION + SIZE, REGION + SIZE);
    sent = fx_shared(SENT * sizeof *sent);
    memset(base, 0, REGION + SIZE);
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, 2 * LARGE, NULL);
    for (uint32_t i = 0; i < 3; i++) {
        others[i] = fp_heap_alloc(&heap, i * LARGE);
        fp_block_return(base, others[i], KEEP);
    }
    step_begin(live_a_life);
    bool more = true;
    while (more) {
        switch (
            fx_below(&random, 4)) { /* what of it happens at which instruction, the seed decides */
        case 0:
            if_it_died_unheard_of();
            break;
        case 1:
            if_it_died_here(true);
            break;
        default:
            if_it_died_here(false);
        }
        points++;
        more = step_once();
    }
    step_finish();
    if_it_died_here(false);
    for (uint32_t i = 0; i < SENT; i++) {
        CHECK(sent[i].offset != 0);
    }
    printf("  died at %llu points\n", (unsigned long long)points);
    fx_segment_close(&copy);
}

/* ---- restarts ---------------------------------------------------------------------------------- */

static void __attribute__((noinline)) restart(void) {
    fp_region_restart(base, REGION, SIZE, true, 0);
}

/* With the parent the pool ends, so nobody takes over; but threads may still be reading what it holds. */
static void a_restart_spoils_nothing_that_is_held_wherever_it_is_left(void) {
    uint64_t points = 0, last = 0;
    copy = fx_segment_of(REGION + SIZE, REGION + SIZE);
    sent = fx_shared(SENT * sizeof *sent);
    for (int marks = 0; marks < 2; marks++) {
        memset(base, 0, REGION + SIZE);
        memset(sent, 0, SENT * sizeof *sent);
        fp_heap_init(&heap, base, segment.fd, REGION, SIZE, 2 * LARGE, NULL);
        live_a_life();
        for (uint32_t i = 0; i < 4; i++) { /* on their way home when the owner died */
            uint64_t block = fp_heap_alloc(&heap, 300 + i * LARGE / 2);
            CHECK(block != 0);
            fp_block_return(base, block, KEEP);
        }
        if (marks) {
            hold_what_was_sent(base);
        }
        step_begin(restart);
        bool more = true;
        while (more) {
            sent_is_whole(base, &last);
            if_it_died_unheard_of();
            points++;
            more = step_once();
        }
        step_finish();
        copy_all();
        next_owner_spoils_nothing();
    }
    printf("  died at %llu points\n", (unsigned long long)points);
    fx_segment_close(&copy);
}

int main(void) {
    segment = fx_segment_of(REGION + SIZE, REGION + SIZE);
    base = segment.base;
    if (!step_possible()) {
        return 0;
    }
    RUN(killed_at_any_instruction_a_returner_costs_at_most_its_block);
    RUN(overtaken_at_any_instruction_a_returner_loses_nothing);
    RUN_IF(fx_gives_back(), overtaken_at_any_instruction_a_returner_gives_no_page_back_too_late);
    RUN(what_an_owner_sent_outlives_it_wherever_it_dies);
    RUN(a_restart_spoils_nothing_that_is_held_wherever_it_is_left);
    return check_done();
}
