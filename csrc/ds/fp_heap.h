/* fp_heap.h: blocks of shared memory, each allocated by the one process that owns its region.
 *
 * The allocator's books (free lists, the end of the used part) are private memory of the owner, so
 * a process that is killed leaves no half-written books behind: whoever takes its region over
 * starts with new ones, once the last block has come home.  Another process gives a block back by
 * pushing it on the region's return stack; the owner empties that stack when it needs memory.
 *
 * Sizes come in four steps a doubling, from 256 bytes.  Free blocks are reused last in, first out,
 * while they are warm; what lies free beyond `keep` bytes is given back to the system (the address
 * range stays, and is touched anew at its next use).  Blocks are never split or joined: address
 * space is plentiful, so fragmentation costs addresses, not memory.
 *
 * Writers     returned: anyone, by compare-and-swap; the owner, by exchange.  header: the owner
 *             while the block is free; `next` by the returner while it is on the stack.
 * Orders      R1 swap returned, release <-> R2 exchange returned, acquire: the returner is done with
 *             the bytes, and `next` is visible.  Taking all at once means no ABA.
 * Death       of a returner before R1: the block is lost until the region is taken over.
 *             of the owner: nobody allocates any more; returns go on harmlessly.
 * Not for     two threads of the owner at once (the caller holds its process-local lock).
 * Check       fp_heap_check().  Stress: tests/c/stress_heap.c
 */
#ifndef FP_HEAP_H
#define FP_HEAP_H

#include "base/fp_base.h"

#define FP_BLOCK_HEADER 64
#define FP_BLOCK_MAGIC 0x66706c626b303153u
#define FP_CLASSES 168
#define FP_CLASS_MIN 256

/* At the start of every region. */
typedef struct fp_region {
    _Alignas(FP_LINE) fp_a64 returned; /* top of the return stack: a block's offset, or 0 */
} fp_region;

/* In front of every block's bytes. */
typedef struct fp_block {
    _Alignas(FP_BLOCK_HEADER) uint64_t magic;
    fp_a64 next;     /* offset of the block below on a stack */
    uint64_t region; /* offset of its region */
    uint64_t size;   /* bytes after this header */
    uint32_t cls;
    uint32_t cold; /* 1: its pages were given back */
} fp_block;
_Static_assert(sizeof(fp_block) == FP_BLOCK_HEADER, "payloads stay aligned to cache lines");

/* The owner's books. */
typedef struct fp_heap {
    unsigned char *base; /* the segment, in this process */
    uint64_t region;     /* offset of the region */
    uint64_t end;        /* offset of its end */
    uint64_t fresh;      /* offset of the first byte that was never handed out */
    uint64_t present;    /* offset up to which pages were populated */
    uint64_t keep;       /* bytes to keep warm in free lists */
    uint64_t used_bytes; /* in blocks handed out */
    uint64_t warm_bytes; /* in free blocks whose pages are present */
    uint64_t peak_bytes;
    uint64_t blocks;           /* handed out */
    uint64_t free[FP_CLASSES]; /* offset of the first free block of each size, or 0 */
} fp_heap;

/* Begins new books on a region; every block of it must be home. */
void fp_heap_init(fp_heap *heap, void *base, uint64_t region, uint64_t size, uint64_t keep);

/* Returns the offset of `n` bytes aligned to a cache line, or 0 when memory has run out. */
uint64_t fp_heap_alloc(fp_heap *heap, uint64_t n);

/* Owner: gives its own block back. */
void fp_heap_free(fp_heap *heap, uint64_t offset);

/* Owner: takes home what others returned.  Returns how many blocks came. */
uint64_t fp_heap_collect(fp_heap *heap);

/* Anyone but the owner: gives a block back to the region it came from. */
void fp_block_return(void *base, uint64_t offset);

/* Asserts the books; every free block is visited.  0 or -EINVAL. */
int fp_heap_check(const fp_heap *heap);

#endif
