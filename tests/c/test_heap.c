/* test_heap.c: the block heap over real shared memory: sizes, reuse, cold blocks, blocks from others. */
#include "ds/fp_heap.h"

#include "check.h"
#include "fixture.h"

#define REGION 4096u
#define MIB (1024u * 1024u)

static unsigned char *base;
static uint64_t total;
static fp_heap heap;

/* A region of `size` bytes in a segment that is `file` bytes long. */
static void open_sized(uint64_t size, uint64_t keep, uint64_t file) {
    void *at;
    int fd = fp_os_memory_create(file);
    CHECK(fd >= 0);
    total = REGION + size;
    CHECK_EQ(fp_os_memory_map(fd, total, &at), 0);
    close(fd);
    base = at;
    fp_heap_init(&heap, base, REGION, size, keep);
}

static void open_heap(uint64_t size, uint64_t keep) { open_sized(size, keep, REGION + size); }

static void close_heap(void) {
    CHECK_EQ(fp_heap_check(&heap), 0);
    fp_os_memory_unmap(base, total);
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
    fp_block_return(base, last); /* by somebody else */
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
        fp_block_return(base, offsets[i]);
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
    fp_block_return(base, a);
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
    CHECK_EQ(alloc(MIB), d); /* cold, but on top */
    CHECK_EQ(heap.warm_bytes, 3 * MIB);
    CHECK_EQ(alloc(MIB), c);
    CHECK_EQ(heap.warm_bytes, 2 * MIB);
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

static void new_books_begin_with_an_empty_region(void) {
    open_heap(MIB, MIB);
    uint64_t a = alloc(1000);
    alloc(2000);
    fp_block_return(base, a);
    fp_heap_init(&heap, base, REGION, MIB, MIB);
    CHECK_EQ(fp_heap_collect(&heap), 0);
    CHECK_EQ(heap.blocks, 0);
    CHECK_EQ(alloc(1000), a);
    close_heap();
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
    header->next = heap.end;
    CHECK_EQ(fp_heap_check(&heap), -EINVAL);
    header->next = 0;
    close_heap();
}

int main(void) {
    RUN(a_block_holds_what_was_asked_and_at_most_a_quarter_more);
    RUN(every_size_around_a_class_boundary_fits);
    RUN(blocks_do_not_overlap);
    RUN(the_last_block_given_back_is_the_next_handed_out);
    RUN(the_books_count_blocks_and_bytes);
    RUN(too_much_is_refused_and_changes_nothing);
    RUN(a_full_region_refuses_until_a_block_comes_back);
    RUN(blocks_from_others_come_home_all_at_once);
    RUN(returned_blocks_are_used_before_fresh_memory);
    RUN(a_large_block_beyond_the_bound_goes_cold_and_comes_back_zeroed);
    RUN(giving_a_block_back_to_the_system_leaves_its_neighbours_alone);
    RUN(free_blocks_stay_warm_up_to_the_bound);
    RUN(when_the_system_has_no_memory_the_answer_is_none);
    RUN(new_books_begin_with_an_empty_region);
    RUN(the_check_finds_broken_books);
    return check_done();
}
