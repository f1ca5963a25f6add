/* test_heap.c: the block heap over real shared memory: sizes, reuse, cold blocks, blocks from others. */
#include "ds/fp_heap.h"

#include "check.h"
#include "fixture.h"

#include <math.h>

#define REGION 4096u
#define MIB (1024u * 1024u)

#define KEEP UINT64_MAX / 2

static fx_segment segment;
static unsigned char *base;
static fp_heap heap;

/* A region of `size` bytes in a segment that is `file` bytes long. */
static void open_sized(uint64_t size, uint64_t keep, uint64_t file) {
    segment = fx_segment_of(REGION + size, file);
    base = segment.base;
    fp_heap_init(&heap, base, segment.fd, REGION, size, keep, NULL);
}

static void open_heap(uint64_t size, uint64_t keep) { open_sized(size, keep, REGION + size); }

static void close_heap(void) {
    CHECK_EQ(fp_heap_check(&heap), 0);
    fx_segment_close(&segment);
}

static uint64_t alloc(uint64_t n) {
    uint64_t offset = fp_heap_alloc(&heap, n);
    CHECK_EQ(fp_heap_check(&heap), 0);
    return offset;
}

static void give(uint64_t offset) {
    fp_heap_free(&heap, offset);
    CHECK_EQ(fp_heap_check(&heap), 0);
}

static uint64_t size_of(uint64_t offset) {
    return ((const fp_block *)(base + offset - FP_BLOCK_HEADER))->size;
}

/* The owner dies, while the parent holds these blocks. */
static void restart_marked(const uint64_t *offsets, int n) {
    for (int i = 0; i < n; i++) {
        if (offsets[i] != 0) {
            fp_block_hold(base, offsets[i]);
        }
    }
    fp_region_restart(base, REGION, segment.size - REGION, true, heap.keep);
}

static void a_block_holds_what_was_asked_and_at_most_a_quarter_more(void) {
    open_heap(64 * MIB, 0);
    for (uint64_t n = 0; n <= 4 * MIB; n = n < 3000 ? n + 1 : n + n / 7) {
        uint64_t offset = fp_heap_alloc(&heap, n);
        CHECK(offset != 0);
        CHECK_EQ(offset % FP_BLOCK_HEADER, 0);
        CHECK(size_of(offset) >= n);
        CHECK(n <= FP_CLASS_MIN || size_of(offset) <= n + n / 4 + 64);
        CHECK(offset + size_of(offset) <= heap.end);
        fp_heap_free(&heap, offset);
    }
    close_heap();
}

static void every_size_around_a_class_boundary_fits(void) {
    open_heap(64 * MIB, 64 * MIB);
    for (uint64_t edge = 256; edge <= MIB; edge += edge / 4) {
        for (uint64_t n = edge - 1; n <= edge + 1; n++) {
            uint64_t offset = alloc(n);
            CHECK(size_of(offset) >= n);
            memset(base + offset, 0xFF, n);
            give(offset);
        }
    }
    close_heap();
}

static void blocks_do_not_overlap(void) {
    enum { N = 400 };
    uint64_t offsets[N];
    open_heap(64 * MIB, 64 * MIB);
    for (int i = 0; i < N; i++) {
        offsets[i] = fp_heap_alloc(&heap, (uint64_t)i * 37);
        CHECK(offsets[i] != 0);
        fx_fill(base + offsets[i], size_of(offsets[i]), offsets[i]);
    }
    for (int i = 0; i < N; i++) {
        CHECK(fx_filled(base + offsets[i], size_of(offsets[i]), offsets[i]));
        give(offsets[i]);
    }
    close_heap();
}

/* Small ones and large ones in turn, written to the last byte. */
static void large_blocks_have_pages_of_their_own(uint64_t page) {
    enum { N = 120 };
    uint64_t offsets[N], random = fx_seeded(42, page);
    open_heap(256 * MIB, 0);
    heap.page = page;
    for (int i = 0; i < N; i++) {
        uint64_t n =
            fx_below(&random, 3) == 0 ? fx_below(&random, 2 * MIB) : fx_below(&random, 9000);
        offsets[i] = alloc(n);
        uint64_t size = size_of(offsets[i]);
        CHECK(size >= n);
        CHECK(size < FP_BLOCK_LARGE || (offsets[i] % page == 0 && size % page == 0));
        CHECK(size < FP_BLOCK_LARGE || size <= n + n / 4 + page);
        fx_fill(base + offsets[i], size, offsets[i]);
    }
    for (int i = 0; i < N; i += 2) {
        give(offsets[i]);
        offsets[i] = 0;
    }
    CHECK(heap.cold_bytes > 0);
    restart_marked(offsets, N);
    for (int i = 1; i < N; i += 2) {
        CHECK(fx_filled(base + offsets[i], size_of(offsets[i]), offsets[i]));
    }
    fx_segment_close(&segment);
}

static void pages_of_large_blocks_are_their_own(void) {
    large_blocks_have_pages_of_their_own(fp_os_page_size());
    large_blocks_have_pages_of_their_own(64 * 1024); /* as some ARM has them */
}

static void a_gap_before_a_large_block_costs_less_than_a_page(void) {
    const uint64_t page = fp_os_page_size();
    open_heap(64 * MIB, 64 * MIB);
    uint64_t a = alloc(MIB);
    uint64_t b = alloc(MIB);
    CHECK_EQ(b, a + MIB + page);
    uint64_t c = alloc(1000);
    CHECK_EQ(c, b + MIB + FP_BLOCK_HEADER);
    uint64_t d = alloc(2 * MIB);
    CHECK_EQ(d, b + MIB + page);                /* the small one lies in the page of its header */
    for (uint64_t n = 256; n < page; n += 64) { /* gaps of every length, none among them */
        uint64_t last = alloc(n);
        uint64_t end = last + size_of(last);
        CHECK_EQ(alloc(FP_BLOCK_LARGE), FP_ALIGN_UP(end + FP_BLOCK_HEADER, page));
    }
    close_heap();
}

static void what_does_not_fit_with_its_gap_is_refused(void) {
    const uint64_t page = fp_os_page_size();
    for (uint64_t less = 0; less <= 3 * page; less += 64) {
        open_heap(FP_BLOCK_LARGE + 3 * page - less, 0); /* the region's header takes one */
        CHECK_EQ(alloc(FP_BLOCK_LARGE) != 0, less <= 2 * page);
        close_heap();
    }
}

static void the_last_block_given_back_is_the_next_handed_out(void) {
    open_heap(MIB, MIB);
    uint64_t a = alloc(1000);
    uint64_t b = alloc(1000);
    CHECK(a != b);
    give(a);
    give(b);
    CHECK_EQ(alloc(1000), b);
    CHECK_EQ(alloc(1000), a);
    close_heap();
}

static void the_books_count_blocks_and_bytes(void) {
    open_heap(MIB, MIB);
    CHECK_EQ(heap.blocks, 0);
    uint64_t a = alloc(256);
    uint64_t b = alloc(1024);
    CHECK_EQ(heap.blocks, 2);
    CHECK_EQ(heap.used_bytes, 256 + 1024);
    give(a);
    CHECK_EQ(heap.blocks, 1);
    CHECK_EQ(heap.used_bytes, 1024);
    CHECK_EQ(heap.warm_bytes, 256);
    give(b);
    CHECK_EQ(heap.used_bytes, 0);
    CHECK_EQ(heap.warm_bytes, 256 + 1024);
    CHECK_EQ(heap.peak_bytes, 256 + 1024);
    close_heap();
}

static void too_much_is_refused_and_changes_nothing(void) {
    open_heap(MIB, MIB);
    CHECK_EQ(alloc(MIB), 0);
    CHECK_EQ(alloc(MIB + 1), 0);
    CHECK_EQ(alloc(1ull << 40), 0);
    CHECK_EQ(alloc(UINT64_MAX), 0);
    CHECK_EQ(alloc(UINT64_MAX - 63), 0);
    CHECK_EQ(heap.blocks, 0);
    CHECK(alloc(MIB / 2) != 0);
    close_heap();
}

static void a_full_region_refuses_until_a_block_comes_back(void) {
    open_heap(MIB, MIB);
    uint64_t last = 0;
    uint64_t n = 0;
    for (uint64_t offset; (offset = fp_heap_alloc(&heap, 4096)) != 0; n++) {
        last = offset;
    }
    CHECK(n > 200);
    CHECK_EQ(alloc(4096), 0);
    give(last);
    CHECK_EQ(alloc(4096), last);
    CHECK_EQ(alloc(4096), 0);
    fp_block_return(base, last, KEEP); /* by somebody else */
    CHECK_EQ(alloc(4096), last);
    CHECK_EQ(heap.blocks, n);
    close_heap();
}

static void blocks_from_others_come_home_all_at_once(void) {
    enum { N = 50 };
    uint64_t offsets[N];
    open_heap(MIB, MIB);
    for (int i = 0; i < N; i++) {
        offsets[i] = alloc((uint64_t)(i % 5) * 300);
    }
    CHECK_EQ(fp_heap_collect(&heap), 0);
    for (int i = 0; i < N; i++) {
        fp_block_return(base, offsets[i], KEEP);
        CHECK_EQ(heap.blocks, N); /* not yet known to the books */
    }
    CHECK_EQ(fp_heap_collect(&heap), N);
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK_EQ(heap.blocks, 0);
    CHECK_EQ(heap.used_bytes, 0);
    CHECK_EQ(fp_heap_collect(&heap), 0);
    close_heap();
}

static void returned_blocks_are_used_before_fresh_memory(void) {
    open_heap(MIB, MIB);
    uint64_t a = alloc(5000);
    uint64_t fresh = heap.fresh;
    fp_block_return(base, a, KEEP);
    CHECK_EQ(alloc(5000), a);
    CHECK_EQ(heap.fresh, fresh);
    close_heap();
}

static void a_large_block_beyond_the_bound_goes_cold_and_comes_back_zeroed(void) {
    open_heap(16 * MIB, 0);
    uint64_t n = 4 * MIB;
    uint64_t a = alloc(n);
    memset(base + a, 0xAB, n);
    give(a);
    CHECK_EQ(heap.warm_bytes, 0);
    CHECK_EQ(alloc(n), a);
    uint64_t first = FP_ALIGN_UP(a, 4096) - a; /* only whole pages were given back */
    CHECK_EQ(base[a + first], 0);
    CHECK_EQ(base[a + n / 2], 0);
    memset(base + a, 0xCD, n);
    give(a);
    close_heap();
}

static void giving_a_block_back_to_the_system_leaves_its_neighbours_alone(void) {
    open_heap(64 * MIB, 0);
    for (uint64_t n = 64 * 1024; n < 300 * 1024; n += 4001) {
        uint64_t before = alloc(1000);
        uint64_t middle = alloc(n);
        uint64_t after = alloc(1000);
        fx_fill(base + before, size_of(before), 1);
        fx_fill(base + after, size_of(after), 2);
        memset(base + middle, 0xAB, size_of(middle));
        give(middle);
        CHECK(fx_filled(base + before, size_of(before), 1));
        CHECK(fx_filled(base + after, size_of(after), 2));
        CHECK_EQ(alloc(n), middle);
    }
    close_heap();
}

static void free_blocks_stay_warm_up_to_the_bound(void) {
    open_heap(64 * MIB, 3 * MIB);
    uint64_t a = alloc(MIB);
    uint64_t b = alloc(MIB);
    uint64_t c = alloc(MIB);
    uint64_t d = alloc(MIB);
    base[a] = base[b] = base[c] = base[d] = 1;
    give(a);
    give(b);
    give(c);
    CHECK_EQ(heap.warm_bytes, 3 * MIB);
    give(d);
    CHECK_EQ(heap.warm_bytes, 3 * MIB);
    CHECK_EQ(heap.cold_bytes, MIB);
    CHECK_EQ(alloc(MIB), c); /* the cold one comes last */
    CHECK_EQ(alloc(MIB), b);
    CHECK_EQ(alloc(MIB), a);
    CHECK_EQ(heap.warm_bytes, 0);
    CHECK_EQ(alloc(MIB), d);
    CHECK_EQ(heap.cold_bytes, 0);
    close_heap();
}

static void a_working_set_that_changes_its_size_stays_warm(void) {
    open_heap(256 * MIB, 8 * MIB);
    for (uint64_t n = 2 * MIB; n <= 4 * MIB; n += MIB / 2) {
        for (int i = 0; i < 4; i++) {
            uint64_t a = alloc(n);
            uint64_t b = alloc(n);
            CHECK(i == 0 || heap.warm_bytes + 2 * n <= 8 * MIB);
            give(a);
            give(b);
            CHECK(heap.warm_bytes >= 2 * n);
            CHECK(heap.warm_bytes <= 8 * MIB);
        }
    }
    close_heap();
}

static void the_largest_blocks_of_other_sizes_go_cold_first(void) {
    open_heap(256 * MIB, 8 * MIB);
    uint64_t small = alloc(1000);
    uint64_t medium = alloc(MIB);
    uint64_t large = alloc(4 * MIB);
    uint64_t other = alloc(3 * MIB);
    give(small);
    give(medium);
    give(large);
    CHECK_EQ(heap.cold_bytes, 0);
    give(other);
    CHECK_EQ(heap.cold_bytes, 4 * MIB);
    CHECK_EQ(heap.warm_bytes, 1024 + MIB + 3 * MIB);
    CHECK_EQ(alloc(MIB), medium);
    CHECK_EQ(alloc(4 * MIB), large);
    close_heap();
}

static void a_block_beyond_the_bound_pushes_nobody_out(void) {
    open_heap(256 * MIB, 8 * MIB);
    uint64_t a = alloc(2 * MIB);
    uint64_t b = alloc(10 * MIB);
    give(a);
    give(b);
    CHECK_EQ(heap.warm_bytes, 2 * MIB);
    CHECK_EQ(heap.cold_bytes, 10 * MIB);
    uint64_t c = alloc(7 * MIB);
    uint64_t d = alloc(7 * MIB);
    give(c); /* in place of a */
    CHECK_EQ(heap.warm_bytes, 7 * MIB);
    a = alloc(MIB);
    give(a);
    give(d); /* there is one of its size already, and no other to go */
    CHECK_EQ(heap.warm_bytes, 8 * MIB);
    close_heap();
}

static void small_blocks_stay_and_push_large_ones_out(void) {
    enum { N = 200 };
    uint64_t offsets[N];
    open_heap(64 * MIB, 2 * MIB);
    uint64_t large = alloc(MIB);
    for (int i = 0; i < N; i++) {
        offsets[i] = alloc(14000);
    }
    give(large);
    for (int i = 0; i < N; i++) {
        give(offsets[i]);
    }
    CHECK_EQ(heap.cold_bytes, MIB);
    CHECK_EQ(heap.warm_bytes, N * 14336);
    give(alloc(MIB)); /* no room beside them */
    CHECK_EQ(heap.cold_bytes, MIB);
    close_heap();
}

/* ---- little memory ---------------------------------------------------------------------------- */

static uint64_t limit; /* bytes that the segment may take */
static uint64_t asked; /* how often somebody asked for it */

static uint64_t what_is_left(void) {
    asked++;
    uint64_t taken = fx_resident(&segment);
    return limit > taken ? limit - taken : 0;
}

static void open_limited(uint64_t size, uint64_t keep, uint64_t most) {
    open_heap(size, keep);
    heap.left = what_is_left;
    limit = most;
    asked = 0;
}

static void the_system_is_asked_every_16_mib_and_before_every_large_block(void) {
    open_limited(512 * MIB, 0, 512 * MIB);
    for (int i = 0; i < 15; i++) {
        CHECK(fp_heap_alloc(&heap, 1000 * 1000) != 0);
    }
    CHECK_EQ(asked, 0);
    CHECK(fp_heap_alloc(&heap, 2 * MIB) != 0);
    CHECK_EQ(asked, 1);
    CHECK(fp_heap_alloc(&heap, 2 * MIB) != 0);
    CHECK_EQ(asked, 1);
    uint64_t large = alloc(16 * MIB);
    CHECK_EQ(asked, 2);
    give(large);
    CHECK_EQ(alloc(16 * MIB), large); /* it was cold */
    CHECK_EQ(asked, 3);
    close_heap();
}

static void what_is_not_left_is_not_taken(void) {
    open_limited(512 * MIB, 0, 100 * MIB);
    CHECK_EQ(alloc(120 * MIB), 0);
    CHECK(fx_resident(&segment) < MIB);
    uint64_t a = alloc(60 * MIB);
    CHECK(a != 0);
    CHECK_EQ(alloc(60 * MIB), 0);
    CHECK_EQ(heap.blocks, 1);
    give(a);
    CHECK(fx_resident(&segment) < MIB);
    CHECK(alloc(60 * MIB) != 0);
    close_heap();
}

/* It is asked in between, since others take memory too. */
static uint64_t less_every_time(void) {
    return limit > 70 * MIB * asked ? limit - 70 * MIB * asked++ : 0;
}

static void a_block_that_others_leave_no_memory_for_is_given_up(void) {
    open_limited(512 * MIB, 0, 320 * MIB);
    CHECK(alloc(1000) != 0);
    heap.left = less_every_time;
    CHECK_EQ(alloc(320 * MIB), 0);
    CHECK(asked > 1);
    CHECK(fx_resident(&segment) < MIB);
    heap.left = NULL;
    CHECK(alloc(320 * MIB) != 0);
    close_heap();
}

static void free_blocks_of_other_sizes_make_room_when_memory_is_short(void) {
    open_limited(512 * MIB, 100 * MIB, 100 * MIB);
    uint64_t a = alloc(40 * MIB);
    uint64_t b = alloc(32 * MIB);
    uint64_t c = alloc(1 * MIB);
    give(a);
    fp_block_return(base, b, KEEP); /* not yet home */
    give(c);
    CHECK(heap.warm_bytes >= 40 * MIB);
    CHECK(alloc(80 * MIB) != 0);
    CHECK_EQ(heap.warm_bytes, 0);
    CHECK_EQ(alloc(40 * MIB), 0);
    CHECK(alloc(14 * MIB) != 0);
    close_heap();
}

/* A segment that ends early stands for a system without memory: a store there would be SIGBUS. */
static void when_the_system_has_no_memory_the_answer_is_none(void) {
    open_sized(16 * MIB, 0, REGION + MIB);
    CHECK_EQ(alloc(2 * MIB), 0);
    uint64_t a = alloc(MIB / 2);
    CHECK(a != 0);
    memset(base + a, 1, MIB / 2);
    CHECK_EQ(alloc(MIB), 0);
    CHECK_EQ(heap.blocks, 1);
    give(a);
    close_heap();
}

static void a_full_region_hands_out_larger_blocks(void) {
    open_heap(8 * MIB, 8 * MIB);
    uint64_t a = alloc(3 * MIB);
    uint64_t b = alloc(4 * MIB);
    give(a);
    CHECK_EQ(alloc(2 * MIB), a); /* no room for one of its own */
    CHECK_EQ(alloc(2 * MIB), 0);
    give(b);
    CHECK_EQ(alloc(500 * 1024), b + 4 * MIB + fp_os_page_size());
    CHECK_EQ(alloc(600 * 1024), 0); /* but not a far larger one */
    CHECK_EQ(alloc(MIB), b);
    close_heap();
}

static void a_full_region_begins_anew_when_every_block_is_home(void) {
    open_heap(8 * MIB, 2 * MIB);
    uint64_t a = alloc(1000 * 1000);
    uint64_t b = alloc(2 * MIB);
    uint64_t c = alloc(3 * MIB);
    memset(base + b, 1, 2 * MIB);
    give(b);
    give(c);
    CHECK_EQ(alloc(6 * MIB), 0); /* a is out */
    fp_block_return(base, a, KEEP);
    CHECK_EQ(alloc(6 * MIB), a);
    CHECK_EQ(heap.blocks, 1);
    CHECK_EQ(alloc(6 * MIB), 0);
    CHECK_EQ(alloc(9 * MIB), 0);
    give(a);
    CHECK(fx_resident(&segment) <= 2 * MIB + 2 * 65536);
    close_heap();
}

/* ---- blocks from others ------------------------------------------------------------------------ */

static fp_region *shared(void) { return (fp_region *)(base + REGION); }

static void what_waits_for_its_owner_takes_no_more_than_the_bound(void) {
    enum { N = 10 };
    uint64_t offsets[N];
    open_heap(64 * MIB, 64 * MIB);
    for (int i = 0; i < N; i++) {
        offsets[i] = alloc(MIB);
        memset(base + offsets[i], 0xAB, MIB);
    }
    uint64_t before = fx_resident(&segment);
    for (int i = 0; i < N; i++) {
        fp_block_return(base, offsets[i], 3 * MIB);
    }
    CHECK_EQ(shared()->waiting, 3 * MIB);
    CHECK(fx_resident(&segment) <= before - 7 * (MIB - 4096));
    CHECK_EQ(fp_heap_collect(&heap), N);
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK_EQ(shared()->waiting, 0);
    CHECK_EQ(heap.warm_bytes, 3 * MIB);
    CHECK_EQ(heap.cold_bytes, 7 * MIB);
    for (int i = 0; i < N; i++) {
        uint64_t offset = alloc(MIB);
        CHECK_EQ(base[offset + MIB / 2], i < 3 ? 0xAB : 0);
    }
    close_heap();
}

static void small_blocks_wait_as_they_are(void) {
    open_heap(MIB, MIB);
    uint64_t a = alloc(5000);
    fx_fill(base + a, 5000, 1);
    fp_block_return(base, a, 0);
    CHECK_EQ(shared()->waiting, 5120);
    CHECK_EQ(fp_heap_collect(&heap), 1);
    CHECK_EQ(shared()->waiting, 0);
    CHECK_EQ(heap.warm_bytes, 5120);
    CHECK(fx_filled(base + a, 5000, 1));
    close_heap();
}

static void a_block_says_its_size_and_region(void) {
    open_heap(MIB, MIB);
    uint64_t a = alloc(5000);
    CHECK_EQ(fp_block_size(base, a), 5120);
    CHECK_EQ(fp_block_region(base, a), REGION);
    close_heap();
}

/* ---- a region outlives its owner --------------------------------------------------------------- */

static void own_anew(void) {
    fp_heap_init(&heap, base, segment.fd, REGION, segment.size - REGION, heap.keep, NULL);
    CHECK_EQ(fp_heap_check(&heap), 0);
}

static void restart(bool live) {
    fp_region_restart(base, REGION, segment.size - REGION, live, heap.keep);
}

static void without_live_blocks_the_next_owner_begins_at_the_beginning(void) {
    open_heap(64 * MIB, 2 * MIB);
    uint64_t a = alloc(1000);
    uint64_t b = alloc(8 * MIB);
    alloc(9 * MIB);
    fp_block_return(base, b, KEEP);
    restart(false);
    CHECK_EQ(shared()->start, 0);
    CHECK_EQ(shared()->returned, 0);
    CHECK_EQ(shared()->waiting, 0);
    CHECK_EQ(shared()->fresh, 0);
    CHECK(fx_resident(&segment) <= REGION + 2 * MIB);
    CHECK(fx_resident(&segment) >= 2 * MIB);
    own_anew();
    CHECK_EQ(fp_heap_collect(&heap), 0);
    CHECK_EQ(heap.blocks, 0);
    CHECK_EQ(alloc(1000), a);
    close_heap();
}

static void with_live_blocks_the_next_owner_begins_behind_them(void) {
    open_heap(64 * MIB, 2 * MIB);
    uint64_t free_one = alloc(8 * MIB);
    uint64_t live = alloc(5 * MIB);
    uint64_t waiting = alloc(6 * MIB);
    uint64_t little = alloc(300);
    memset(base + free_one, 1, 8 * MIB);
    memset(base + waiting, 1, 6 * MIB);
    fx_fill(base + live, 5 * MIB, 7);
    fx_fill(base + little, 300, 8);
    heap.keep = UINT64_MAX / 2;
    give(free_one);
    CHECK_EQ(heap.cold_bytes, 0);
    fp_block_return(base, waiting, KEEP);
    uint64_t fresh = heap.fresh;
    restart(true);
    CHECK(shared()->start >= fresh);
    CHECK_EQ(shared()->start % 4096, 0);
    CHECK_EQ(shared()->returned, 0);
    CHECK(fx_resident(&segment) <= 5 * MIB + 8 * 4096);
    heap.keep = 2 * MIB;
    own_anew();
    CHECK_EQ(fp_heap_collect(&heap), 0);
    for (int i = 0; i < 20; i++) {
        uint64_t offset = alloc(MIB);
        CHECK(offset > shared()->start);
        memset(base + offset, 0xFF, MIB);
    }
    CHECK(fx_filled(base + live, 5 * MIB, 7));
    CHECK(fx_filled(base + little, 300, 8));
    fp_block_drop(base, live);
    CHECK(fx_filled(base + little, 300, 8));
    fp_block_drop(base, little);
    CHECK(fx_resident(&segment) <= 21 * MIB);
    restart(false);
    CHECK(fx_resident(&segment) <= REGION + 2 * MIB);
    own_anew();
    CHECK_EQ(alloc(8 * MIB), free_one);
    close_heap();
}

static void a_region_can_be_restarted_again_and_again(void) {
    enum { N = 12 };
    uint64_t live[N];
    open_heap(64 * MIB, MIB);
    for (uint64_t i = 0; i < N; i++) {
        alloc(100000);
        live[i] = alloc(200000);
        CHECK(i == 0 || live[i] > live[i - 1] + 200000);
        fx_fill(base + live[i], 200000, i);
        alloc(100000);
        restart(true);
        uint64_t start = shared()->start;
        restart(true); /* nobody owned it in between */
        CHECK_EQ(shared()->start, start);
        own_anew(); /* nor used it */
        restart(true);
        CHECK_EQ(shared()->start, start);
        own_anew();
    }
    for (uint64_t i = 0; i < N; i++) {
        CHECK(fx_filled(base + live[i], 200000, i));
        fp_block_drop(base, live[i]);
    }
    restart(false);
    own_anew();
    close_heap();
}

static void a_region_without_an_owner_yet_can_be_restarted(void) {
    open_heap(MIB, MIB);
    memset(shared(), 0, sizeof *shared());
    restart(true);
    own_anew();
    CHECK(alloc(1000) != 0);
    memset(shared(), 0, sizeof *shared());
    restart(false);
    own_anew();
    CHECK(alloc(1000) != 0);
    close_heap();
}

static void behind_too_many_live_blocks_there_is_no_memory(void) {
    open_heap(4 * MIB, MIB);
    uint64_t live = alloc(3 * MIB + MIB / 2);
    base[live] = 42;
    restart(true);
    own_anew();
    CHECK_EQ(alloc(MIB), 0);
    while (alloc(1000) != 0) {
    }
    CHECK_EQ(base[live], 42);
    restart(true);
    own_anew();
    CHECK_EQ(alloc(1), 0);
    fp_block_drop(base, live);
    restart(false);
    own_anew();
    CHECK(alloc(MIB) != 0);
    close_heap();
}

/* What its owner allocated and never sent, nobody will ever return. */
static void blocks_that_died_with_their_owner_are_found_by_the_marks(void) {
    open_heap(64 * MIB, MIB);
    uint64_t live = alloc(MIB);
    uint64_t unsent = alloc(20 * MIB);
    fx_fill(base + live, MIB, 3);
    memset(base + unsent, 1, 20 * MIB);
    restart(true); /* without marks it may be somebody's */
    CHECK(fx_resident(&segment) >= 21 * MIB);
    fp_block_drop(base, live);
    fp_block_drop(base, unsent);
    own_anew();
    live = alloc(MIB);
    unsent = alloc(20 * MIB);
    uint64_t returned = alloc(2 * MIB);
    fx_fill(base + live, MIB, 3);
    memset(base + unsent, 1, 20 * MIB);
    fp_block_hold(base, live);
    fp_block_hold(base, returned);
    fp_block_return(base, returned, KEEP);
    restart(true);
    CHECK(fx_resident(&segment) <= MIB + 10 * 4096);
    CHECK(fx_filled(base + live, MIB, 3));
    own_anew();
    close_heap();
}

/* ---- how much it wastes ------------------------------------------------------------------------ */

/* Few small and many large, or the other way round: random lengths over a range, in random lives. */
static void measure(uint64_t least, uint64_t most, uint64_t salt) {
    enum { N = 64, STEPS = 6000 };
    uint64_t offsets[N] = {0}, lengths[N] = {0}, live = 0;
    double asked_for = 0, used = 0, worst = 0;
    uint64_t keep = 4 * MIB, random = fx_seeded(42, salt);
    open_heap(8192ull * MIB, keep);
    for (int step = 0; step < STEPS; step++) {
        uint64_t i = fx_below(&random, N);
        if (offsets[i] != 0) {
            fp_heap_free(&heap, offsets[i]);
            live -= lengths[i];
            offsets[i] = 0;
        } else {
            double octaves =
                (double)fx_below(&random, 1000) / 1000 * log2((double)most / (double)least);
            lengths[i] = (uint64_t)((double)least * exp2(octaves));
            offsets[i] = fp_heap_alloc(&heap, lengths[i]);
            CHECK(offsets[i] != 0);
            live += lengths[i];
        }
        if (live > 0) {
            double ratio = (double)heap.used_bytes / (double)live;
            worst = ratio > worst ? ratio : worst;
            asked_for += (double)live;
            used += (double)heap.used_bytes;
        }
    }
    CHECK_EQ(fp_heap_check(&heap), 0);
    CHECK(used / asked_for <= 1.26);
    CHECK(worst <= 1.26);
    for (int i = 0; i < N; i++) {
        if (offsets[i] != 0) {
            fp_heap_free(&heap, offsets[i]);
        }
    }
    CHECK_EQ(heap.used_bytes, 0);
    /* Beside what is warm: the header's page of each cold block, and up to a page at each end. */
    uint64_t cold = 0, edges = (uint64_t)1 << 20;
    for (int cls = 0; cls < FP_CLASSES; cls++) {
        for (uint64_t block = heap.cold[cls]; block != 0; cold++) {
            block = ((const fp_block *)(base + block))->next;
        }
    }
    printf("  %llu to %llu bytes: %.3f of what was asked for, %.3f at worst; free: %.2f MiB "
           "resident\n",
           (unsigned long long)least, (unsigned long long)most, used / asked_for, worst,
           (double)fx_resident(&segment) / MIB);
    CHECK(fx_resident(&segment) <=
          (heap.warm_bytes > keep ? heap.warm_bytes : keep) + edges + cold * 8192);
    close_heap();
}

static void at_most_a_quarter_is_wasted_and_what_is_free_is_given_back(void) {
    measure(256, 4096, 1);
    measure(256, 4 * MIB, 2);
    measure(100000, 500000, 3);
    measure(4 * MIB, 16 * MIB, 4);
}

static void the_check_finds_broken_books(void) {
    open_heap(MIB, MIB);
    uint64_t a = alloc(1000);
    give(a);
    fp_block *header = (fp_block *)(base + a - FP_BLOCK_HEADER);
    header->size++;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->size--;
    header->magic ^= 1;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->magic ^= 1;
    header->cold = 1;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->cold = 0;
    header->out = 1;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->out = 0;
    heap.large_bytes++;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    heap.large_bytes--;
    heap.blocks++;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    heap.blocks--;
    shared()->fresh++;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    shared()->fresh--;
    uint64_t list = heap.warm[5];
    CHECK(list == 0 && heap.warm[8] != 0);
    heap.warm[8] = 0; /* a block that is nowhere */
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    heap.warm[8] = a - FP_BLOCK_HEADER;
    header->next = a - FP_BLOCK_HEADER; /* a circle */
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->next = heap.end;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->next = 0;
    header->detached = 1; /* and free */
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->detached = 0;
    CHECK(alloc(100000) != 0);
    fp_block *pad = (fp_block *)(base + a + header->size);
    CHECK_EQ(pad->cls, FP_PAD);
    pad->out = 1;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    pad->out = 0;
    pad->size += 64;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    pad->size -= 64;
    pad->cls = FP_CLASSES;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    pad->cls = FP_PAD;
    close_heap();
}

int main(void) {
    RUN(a_block_holds_what_was_asked_and_at_most_a_quarter_more);
    RUN(every_size_around_a_class_boundary_fits);
    RUN(blocks_do_not_overlap);
    RUN_IF(fx_gives_back(), pages_of_large_blocks_are_their_own);
    RUN(a_gap_before_a_large_block_costs_less_than_a_page);
    RUN(what_does_not_fit_with_its_gap_is_refused);
    RUN(the_last_block_given_back_is_the_next_handed_out);
    RUN(the_books_count_blocks_and_bytes);
    RUN(too_much_is_refused_and_changes_nothing);
    RUN(a_full_region_refuses_until_a_block_comes_back);
    RUN(blocks_from_others_come_home_all_at_once);
    RUN(returned_blocks_are_used_before_fresh_memory);
    RUN_IF(fx_gives_back(), a_large_block_beyond_the_bound_goes_cold_and_comes_back_zeroed);
    RUN(giving_a_block_back_to_the_system_leaves_its_neighbours_alone);
    RUN_IF(fx_gives_back(), free_blocks_stay_warm_up_to_the_bound);
    RUN_IF(fx_gives_back(), a_working_set_that_changes_its_size_stays_warm);
    RUN_IF(fx_gives_back(), the_largest_blocks_of_other_sizes_go_cold_first);
    RUN_IF(fx_gives_back(), a_block_beyond_the_bound_pushes_nobody_out);
    RUN_IF(fx_gives_back(), small_blocks_stay_and_push_large_ones_out);
    RUN_IF(fx_gives_back(), the_system_is_asked_every_16_mib_and_before_every_large_block);
    RUN_IF(fx_gives_back(), what_is_not_left_is_not_taken);
    RUN_IF(fx_gives_back(), a_block_that_others_leave_no_memory_for_is_given_up);
    RUN_IF(fx_gives_back(), free_blocks_of_other_sizes_make_room_when_memory_is_short);
    RUN_IF(fx_gives_back(), when_the_system_has_no_memory_the_answer_is_none);
    RUN(a_full_region_hands_out_larger_blocks);
    RUN_IF(fx_gives_back(), a_full_region_begins_anew_when_every_block_is_home);
    RUN_IF(fx_gives_back(), what_waits_for_its_owner_takes_no_more_than_the_bound);
    RUN(small_blocks_wait_as_they_are);
    RUN(a_block_says_its_size_and_region);
    RUN_IF(fx_gives_back(), without_live_blocks_the_next_owner_begins_at_the_beginning);
    RUN_IF(fx_gives_back(), with_live_blocks_the_next_owner_begins_behind_them);
    RUN(a_region_can_be_restarted_again_and_again);
    RUN(a_region_without_an_owner_yet_can_be_restarted);
    RUN(behind_too_many_live_blocks_there_is_no_memory);
    RUN_IF(fx_gives_back(), blocks_that_died_with_their_owner_are_found_by_the_marks);
    RUN(at_most_a_quarter_is_wasted_and_what_is_free_is_given_back);
    RUN(the_check_finds_broken_books);
    return check_done();
}
