/* step_heap.c: a process that dies, or is overtaken, at every single instruction of fp_block_return.
 * At most the block in its hands is lost, and the stack of returned blocks is never torn.
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

static unsigned char *base;
static fp_heap heap;
static uint64_t blocks[BLOCKS];

static void set_up(void) {
    fp_heap_init(&heap, base, REGION, SIZE, SIZE);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i] = fp_heap_alloc(&heap, 300);
        CHECK(blocks[i] != 0);
    }
}

static void __attribute__((noinline)) return_the_first(void) { fp_block_return(base, blocks[0]); }

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
        fp_block_return(base, blocks[i]);
    }
    step_begin(return_the_first);
    bool whole = step_many(k);
    if (collect) {
        home += fp_heap_collect(&heap);
        CHECK_EQ(fp_heap_check(&heap), 0);
        fp_block_return(base, blocks[i++]);
    }
    if (dies) {
        step_kill();
    } else {
        step_finish();
    }
    for (; i < BLOCKS; i++) {
        fp_block_return(base, blocks[i]);
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

int main(void) {
    void *at;
    int fd = fp_os_memory_create(REGION + SIZE);
    CHECK(fd >= 0);
    CHECK_EQ(fp_os_memory_map(fd, REGION + SIZE, &at), 0);
    close(fd);
    base = at;
    if (!step_possible()) {
        return 0;
    }
    RUN(killed_at_any_instruction_a_returner_costs_at_most_its_block);
    RUN(overtaken_at_any_instruction_a_returner_loses_nothing);
    return check_done();
}
