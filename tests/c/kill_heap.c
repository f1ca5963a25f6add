/* kill_heap.c: processes killed while they give blocks back, and while they allocate them.  A returner
 * that dies costs at most the one block in its hands; an owner that dies leaves nothing half-written
 * that its successor could trip over.  Meanwhile the parent detaches blocks and forks children, whose
 * snapshots neither owners nor the parent may change.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ds/fp_heap.h"

#include "check.h"
#include "fixture.h"

#include <signal.h>
#include <sys/wait.h>

#define REGION 4096u
#define SIZE (64ull << 20)
#define RETURNERS 3u
#define BLOCKS 120u
#define KEEP (1u << 20)

static uint64_t seed;
static fx_segment segment;
static unsigned char *base;
static uint64_t lives, killed, lost;

static void map_segment(void) {
    segment = fx_segment_of(REGION + SIZE, REGION + SIZE);
    base = segment.base;
}

static pid_t start(void (*body)(fp_resring *, uint64_t), fp_resring *ring, uint64_t random) {
    pid_t child = fx_fork();
    if (child == 0) {
        body(ring, random);
        _exit(0);
    }
    return child;
}

static void end(pid_t child) {
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(status == 0 || WIFSIGNALED(status));
    killed += status != 0;
}

static void sleep_below(uint64_t *random, uint64_t ns) {
    struct timespec pause = {0, (long)fx_below(random, ns)};
    nanosleep(&pause, NULL);
}

/* ---- returners -------------------------------------------------------------------------------- */

static void return_all(fp_resring *way, uint64_t random) {
    fp_result message;
    (void)random;
    while (fp_resring_pop(way, &message)) {
        CHECK(fx_filled(base + message.payload.ref, message.len, message.ticket));
        fp_block_return(base, message.payload.ref, KEEP);
    }
}

static void a_life_of_returners(uint64_t salt) {
    uint64_t random = fx_seeded(seed, salt);
    fp_heap heap;
    fp_resring ways[RETURNERS];
    pid_t children[RETURNERS];
    uint64_t offsets[BLOCKS];
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, 1 << 20, NULL);
    for (uint32_t i = 0; i < RETURNERS; i++) {
        ways[i] = fx_resring(128);
    }
    for (uint32_t n = 0; n < BLOCKS; n++) {
        uint64_t len = fx_below(&random, 3000);
        fp_resring *way = &ways[fx_below(&random, RETURNERS)];
        offsets[n] = fp_heap_alloc(&heap, len);
        CHECK(offsets[n] != 0);
        fx_fill(base + offsets[n], len, n);
        CHECK(fp_resring_room(way));
        *fp_resring_next(way) =
            (fp_result){.ticket = n, .len = len, .in_block = 1, .payload = {.ref = offsets[n]}};
        fp_resring_publish(way);
    }
    uint64_t home = 0;
    for (uint32_t i = 0; i < RETURNERS; i++) {
        fp_resring reader = ways[i];
        reader.own = reader.peer = 0;
        children[i] = start(return_all, &reader, 0);
    }
    for (uint32_t i = 0; i < RETURNERS; i++) {
        sleep_below(&random, 120000);
        home += fp_heap_collect(&heap);
        CHECK_EQ(fp_heap_check(&heap), 0);
        kill(children[i], SIGKILL);
    }
    uint64_t unread = 0;
    for (uint32_t i = 0; i < RETURNERS; i++) {
        end(children[i]);
        CHECK_EQ(fp_resring_check(&ways[i]), 0);
        unread += ways[i].shared->tail - ways[i].shared->head;
        fx_resring_free(&ways[i]);
    }
    home += fp_heap_collect(&heap);
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK(home + unread <= BLOCKS);
    CHECK(home + unread >= BLOCKS - RETURNERS);
    CHECK_EQ(heap.blocks, BLOCKS - home);
    lost += BLOCKS - home - unread;
    /* Each block that came home did so once: no two of those handed out now overlap. */
    uint64_t begin[2 * BLOCKS], after[2 * BLOCKS];
    for (uint32_t n = 0; n < 2 * BLOCKS; n++) {
        begin[n] = fp_heap_alloc(&heap, n * 13 % 3000);
        CHECK(begin[n] != 0);
        after[n] = begin[n] + ((const fp_block *)(base + begin[n] - FP_BLOCK_HEADER))->size;
        for (uint32_t i = 0; i < n; i++) {
            CHECK(after[n] <= begin[i] || after[i] <= begin[n]);
        }
    }
    CHECK_EQ(fp_heap_check(&heap), 0);
}

static void a_killed_returner_costs_at_most_the_block_in_its_hands(void) {
    map_segment();
    lives = killed = lost = 0;
    for (uint64_t until = fx_until(1.5); lives < 10 || fp_os_now_ns() < until; lives++) {
        alarm(CHECK_SECONDS);
        a_life_of_returners(lives);
    }
    printf("  %llu returners, %llu killed, %llu blocks lost\n",
           (unsigned long long)lives * RETURNERS, (unsigned long long)killed,
           (unsigned long long)lost);
    fx_segment_close(&segment);
}

/* ---- owners ----------------------------------------------------------------------------------- */

static void own(fp_resring *way, uint64_t random) {
    fp_heap heap;
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, 1 << 16, NULL);
    for (uint64_t n = 1;; n++) {
        uint64_t len = fx_below(&random, 8) ? fx_below(&random, 2000) : fx_below(&random, 200000);
        uint64_t offset = fp_heap_alloc(&heap, len);
        CHECK(offset != 0);
        fx_fill(base + offset, len, n);
        if (fx_below(&random, 4) == 0) {
            fp_heap_free(&heap, offset);
            continue;
        }
        while (!fp_resring_room(way)) {
            fp_os_yield();
        }
        *fp_resring_next(way) =
            (fp_result){.ticket = n, .len = len, .in_block = 1, .payload = {.ref = offset}};
        fp_resring_publish(way);
    }
}

static uint64_t read_and_return(fp_resring *way) {
    fp_result result;
    uint64_t n = 0;
    for (; fp_resring_pop(way, &result); n++) {
        CHECK(fx_filled(base + result.payload.ref, result.len, result.ticket));
        fp_block_return(base, result.payload.ref, KEEP);
    }
    return n;
}

static void what_a_killed_owner_sent_is_whole_and_its_successor_begins_anew(void) {
    uint64_t random = fx_seeded(seed, 1);
    fp_resring way = fx_resring(16);
    uint64_t blocks = 0;
    map_segment();
    lives = killed = 0;
    for (uint64_t until = fx_until(1.5); lives < 10 || fp_os_now_ns() < until; lives++) {
        alarm(CHECK_SECONDS);
        fp_resring writer = way;
        fp_resring_open(&writer);
        pid_t owner = start(own, &writer, fx_random(&random));
        uint64_t when = fp_os_now_ns() + fx_below(&random, 2000000);
        while (fp_os_now_ns() < when) {
            blocks += read_and_return(&way);
            fp_os_yield();
        }
        kill(owner, SIGKILL);
        end(owner);
        blocks += read_and_return(&way);
        CHECK_EQ(fp_resring_check(&way), 0);
        fp_resring_reset(&way);
    }
    CHECK_EQ(killed, lives);
    printf("  %llu owners killed, %llu blocks read\n", (unsigned long long)killed,
           (unsigned long long)blocks);
    fx_segment_close(&segment);
    fx_resring_free(&way);
}

/* ---- regions that outlive their owners -------------------------------------------------------- */

#define HELD 40u

static struct held {
    uint64_t offset, len, key;
    bool behind; /* its owner is dead, and the next one began behind it */
    bool detached;
} held[HELD];
static uint64_t held_now, held_bytes, restarts, drops, detached, snapshots;
static pid_t onlooker; /* a child that looks at its snapshot, or 0 */
static uint64_t edges; /* of dropped blocks, since the region began at its beginning */

static uint64_t some_length(uint64_t *random) {
    switch (fx_below(random, 12)) {
    case 0:
        return fx_below(random, 1500000);
    case 1:
    case 2:
        return fx_below(random, 200000);
    default:
        return fx_below(random, 3000);
    }
}

/* Allocates for ever; keys tell the life apart. */
static void own_and_send(fp_resring *way, uint64_t random) {
    fp_heap heap;
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, KEEP, NULL);
    for (uint64_t n = random << 20;; n++) {
        uint64_t len = some_length(&random);
        uint64_t offset = fp_heap_alloc(&heap, len);
        if (offset == 0) {
            fp_os_yield(); /* until some come home */
            continue;
        }
        fx_fill(base + offset, len, n);
        if (fx_below(&random, 4) == 0) {
            fp_heap_free(&heap, offset);
            continue;
        }
        while (!fp_resring_room(way)) {
            fp_os_yield();
        }
        *fp_resring_next(way) =
            (fp_result){.ticket = n, .len = len, .in_block = 1, .payload = {.ref = offset}};
        fp_resring_publish(way);
    }
}

static void let_go(struct held *block) {
    CHECK(fx_filled(base + block->offset, block->len, block->key));
    held_now--;
    held_bytes -= fp_block_size(base, block->offset);
    if (block->detached) {
        CHECK_EQ(fp_block_attach(base, segment.fd, block->offset), 0);
        block->detached = false;
    }
    if (block->behind) {
        fp_block_drop(base, block->offset);
        drops++;
        edges++;
    } else {
        fp_block_return(base, block->offset, KEEP);
    }
    block->offset = 0;
}

/* Reads what came; keeps some of it, and gives back some of what it kept before. */
static void read_and_hold(fp_resring *way, uint64_t *random, bool marks) {
    fp_result result;
    while (fp_resring_pop(way, &result)) {
        struct held block = {result.payload.ref, result.len, result.ticket, false, false};
        if (marks) {
            fp_block_hold(base, block.offset);
        }
        held_now++;
        held_bytes += fp_block_size(base, block.offset);
        struct held *place = &held[fx_below(random, HELD)];
        if (fx_below(random, 5) != 0) {
            let_go(&block);
        } else {
            if (place->offset != 0) {
                let_go(place);
            }
            *place = block;
        }
    }
}

/* Makes some of what it holds its own, and writes into it. */
static void detach_some(uint64_t *random, bool all) {
    for (uint32_t i = 0; i < HELD; i++) {
        struct held *block = &held[i];
        if (block->offset == 0 || fp_block_size(base, block->offset) < FP_BLOCK_LARGE) {
            continue;
        }
        if (!block->detached && (all || fx_below(random, 4) == 0)) {
            CHECK_EQ(fp_block_detach(base, segment.fd, block->offset), 0);
            CHECK(fx_filled(base + block->offset, block->len, block->key));
            block->detached = true;
            detached++;
        }
        if (fx_below(random, 4) == 0) {
            fx_fill(base + block->offset, block->len, ++block->key);
        }
    }
}

static void see_detached(void) {
    for (uint32_t i = 0; i < HELD; i++) {
        if (held[i].detached) {
            CHECK(fx_filled(base + held[i].offset, held[i].len, held[i].key));
        }
    }
}

/* Looks at what was detached when it was forked, which others use for something else meanwhile. */
static void look_on(fp_resring *way, uint64_t random) {
    (void)way;
    for (int times = 0; times < 3; times++) {
        sleep_below(&random, 1500000);
        see_detached();
        for (uint32_t i = 0; i < HELD; i++) {
            if (held[i].detached && fx_below(&random, 2) == 0) {
                fx_fill(base + held[i].offset, held[i].len, ++held[i].key);
            }
        }
    }
    see_detached();
}

static void join_onlooker(void) {
    int status;
    if (onlooker != 0) {
        CHECK_EQ(waitpid(onlooker, &status, 0), onlooker);
        CHECK_EQ(status, 0);
        onlooker = 0;
    }
}

static void take_a_snapshot(uint64_t *random) {
    join_onlooker();
    detach_some(random, true);
    onlooker = start(look_on, NULL, fx_random(random));
    snapshots++;
}

static void let_go_of_all(void) {
    for (uint32_t i = 0; i < HELD; i++) {
        if (held[i].offset != 0) {
            let_go(&held[i]);
        }
    }
    CHECK_EQ(held_now, 0);
    CHECK_EQ(held_bytes, 0);
}

static void restart(void) {
    fp_region_restart(base, REGION, SIZE, held_now > 0, KEEP);
    uint64_t start = ((const fp_region *)(base + REGION))->start;
    CHECK((start != 0) == (held_now > 0));
    for (uint32_t i = 0; i < HELD; i++) {
        held[i].behind = true;
        CHECK(held[i].offset == 0 || (held[i].offset < start &&
                                      fx_filled(base + held[i].offset, held[i].len, held[i].key)));
    }
    restarts++;
    edges = held_now > 0 ? edges : 0;
}

static void a_life_of_an_owner(fp_resring *way, uint64_t *random, bool marks) {
    fp_resring writer = *way;
    fp_resring_open(&writer);
    pid_t owner = start(own_and_send, &writer, fx_random(random));
    uint64_t when = fp_os_now_ns() + fx_below(random, 3000000);
    while (fp_os_now_ns() < when) {
        read_and_hold(way, random, marks);
        if (fx_below(random, 64) == 0) {
            detach_some(random, false);
        }
        if (fx_below(random, 512) == 0) {
            take_a_snapshot(random);
        }
        fp_os_yield();
    }
    kill(owner, SIGKILL);
    end(owner);
    read_and_hold(way, random, marks);
    fp_resring_reset(way);
    restart();
    if (marks) {
        /* What the dead one had free, in hand or on its way is given back.  Each block that is, or
         * was, held shares at most two pages with others. */
        uint64_t most = (held_now > 0 ? 0 : KEEP) + REGION + 4096 + held_bytes;
        CHECK(fx_resident(&segment) <= most + (held_now + edges) * 2 * 4096);
    }
    if (((const fp_region *)(base + REGION))->start > REGION + SIZE / 2 ||
        fx_below(random, 16) == 0) {
        let_go_of_all();
        restart();
    }
}

static void many_owners_of_one_region(bool marks) {
    uint64_t random = fx_seeded(seed, 2 + marks);
    fp_resring way = fx_resring(16);
    map_segment();
    memset(held, 0, sizeof held);
    lives = killed = restarts = drops = detached = snapshots = 0;
    for (uint64_t until = fx_until(1.5); lives < 10 || fp_os_now_ns() < until; lives++) {
        alarm(CHECK_SECONDS);
        a_life_of_an_owner(&way, &random, marks);
    }
    CHECK_EQ(killed, lives);
    join_onlooker();
    let_go_of_all();
    restart();
    CHECK(fx_resident(&segment) <= REGION + KEEP);
    fp_heap heap;
    fp_heap_init(&heap, base, segment.fd, REGION, SIZE, 0, NULL);
    CHECK_EQ(fp_heap_collect(&heap), 0);
    uint64_t offset = fp_heap_alloc(&heap, SIZE / 2);
    CHECK(offset != 0);
    fp_heap_free(&heap, offset);
    CHECK_EQ(fp_heap_check(&heap), 0);
    printf("  %llu owners killed, %llu restarts, %llu blocks outlived their owner\n"
           "  %llu blocks detached, %llu snapshots\n",
           (unsigned long long)killed, (unsigned long long)restarts, (unsigned long long)drops,
           (unsigned long long)detached, (unsigned long long)snapshots);
    fx_segment_close(&segment);
    fx_resring_free(&way);
}

static void blocks_that_are_held_outlive_their_owner(void) { many_owners_of_one_region(false); }

static void with_marks_nothing_else_does(void) { many_owners_of_one_region(true); }

int main(void) {
    seed = fx_seed();
    RUN(a_killed_returner_costs_at_most_the_block_in_its_hands);
    RUN(what_a_killed_owner_sent_is_whole_and_its_successor_begins_anew);
    RUN_IF(fx_gives_back(), blocks_that_are_held_outlive_their_owner);
    RUN_IF(fx_gives_back(), with_marks_nothing_else_does);
    return check_done();
}
