/* fp_heap.h: blocks of shared memory, each allocated by the one process that owns its region.
 *
 * The allocator's books (free lists, the end of the used part) are private memory of the owner, so
 * a process that is killed leaves no half-written books behind.  Another process gives a block back
 * by pushing it on the region's return stack; the owner empties that stack when it needs memory.
 *
 * Sizes come in four steps a doubling, from 256 bytes.  Blocks are never split or joined: address
 * space is plentiful, so fragmentation costs addresses, not memory.  Free blocks are reused last in,
 * first out.  They are warm, at most `keep` bytes of them, or cold: their pages were given back to
 * the system, and are populated anew at the next use.  When a block comes home and there is too much,
 * blocks of other sizes go cold first: a working set that changes its size stays warm.  Blocks below
 * 64 KiB are always warm.
 *
 * The bytes of a block of 64 KiB or more are whole pages, all its own; its header ends the page before
 * them.  The gap that this may leave behind the block before is a block too, of class FP_PAD and
 * never free.
 *
 * So the parent can make the bytes of a large block its own, in place, under the eyes of whoever reads
 * and writes them: fp_block_detach().  Processes that it forks then inherit a snapshot, as of all
 * other memory, and keep it when the block goes back to its owner.
 *
 * A region outlives its owner.  The parent may hold blocks of a dead worker for as long as it likes;
 * fp_region_restart() then has the next owner begin behind them, and gives the pages of all others
 * back.
 *
 * Writers     returned: anyone, by compare-and-swap; the owner, by exchange.  waiting: likewise, by
 *             addition.  fresh: the owner.  start, marked: the parent.  All of them: the parent, while
 *             there is no owner.
 *             header: the owner while the block is free; when it is out, only `held` and `detached`
 *             (the parent), and `next`, `cold` by the returner, who is then its only holder.
 * Orders      R1 swap returned, release <-> R2 exchange returned, acquire: the returner is done with
 *             the bytes, has given pages back if it says `cold`, and `next` is visible.  Taking all at
 *             once means no ABA.
 *             F1 store fresh, release <-> F2 load fresh, acquire, after the owner's death: all headers
 *             below it are whole.
 * Death       of a returner before R1: the block is lost until the region is restarted.
 *             of the owner: nobody allocates any more; returns go on harmlessly.  The state of each
 *             block is in its header, well enough for the parent to know what nobody holds.
 * Not for     two threads of the owner at once (the caller holds its process-local lock).
 * Check       fp_heap_check().  Stress: tests/c/stress_heap.c, kill_heap.c, step_heap.c
 */
#ifndef FP_HEAP_H
#define FP_HEAP_H

#include "base/fp_base.h"

#define FP_BLOCK_HEADER 64
#define FP_BLOCK_MAGIC 0x66706c626b303253u
#define FP_CLASSES 168
#define FP_CLASS_MIN 256
#define FP_BLOCK_LARGE (64 * 1024u)
#define FP_PAD UINT32_MAX

/* At the start of every region. */
typedef struct fp_region {
    _Alignas(FP_LINE) fp_a64 returned; /* top of the return stack: a block's offset, or 0 */
    fp_a64 waiting;                    /* bytes on that stack whose pages are present; a hint */
    _Alignas(FP_LINE) fp_a64 fresh;    /* offset up to which blocks were ever handed out */
    fp_a64 start;                      /* offset where the next owner begins; 0: the beginning */
    fp_a64 marked;                     /* 1: the parent marks what it holds, see fp_block_hold() */
} fp_region;

/* In front of every block's bytes. */
typedef struct fp_block {
    _Alignas(FP_BLOCK_HEADER) uint64_t magic;
    fp_a64 next;     /* offset of the block below on a stack */
    uint64_t region; /* offset of its region */
    uint64_t size;   /* bytes after this header */
    uint32_t cls;
    uint32_t cold; /* 1: its pages were given back */
    uint32_t out;  /* 1: handed out and not home again */
    uint32_t held; /* 1: in the hands of the parent */
    uint32_t detached;
} fp_block;
_Static_assert(sizeof(fp_block) == FP_BLOCK_HEADER, "payloads stay aligned to cache lines");

/* What `detached` says. */
enum {
    FP_ATTACHED,
    FP_DETACHED, /* the parent's pages are its own, and the segment's were given back */
    FP_PINNED    /* they are private, but some still show the segment's: nobody may get it again */
};

/* The owner's books. */
typedef struct fp_heap {
    unsigned char *base; /* the segment, in this process */
    int fd;
    uint64_t (*left)(void); /* how many more bytes the system can give; NULL: don't ask */
    uint64_t unasked;       /* bytes populated since it was asked */
    uint64_t page;          /* bytes in a page */
    uint64_t region;        /* offset of the region */
    uint64_t begin;         /* offset of this owner's first block */
    uint64_t end;           /* offset of the region's end */
    uint64_t fresh;         /* offset of the first byte that was never handed out */
    uint64_t present;       /* offset up to which pages were populated */
    uint64_t keep;          /* bytes to keep warm in free lists */
    uint64_t used_bytes;    /* in blocks handed out */
    uint64_t warm_bytes;    /* in free blocks whose pages are present */
    uint64_t cold_bytes;    /* in free blocks whose pages were given back */
    uint64_t peak_bytes;
    uint64_t blocks;                 /* handed out */
    uint64_t large_bytes;            /* the part of warm_bytes that can be given back */
    uint64_t warm[FP_CLASSES];       /* offset of the first free block of each size, or 0 */
    uint64_t cold[FP_CLASSES];       /* the same of those without pages */
    uint64_t warm_count[FP_CLASSES]; /* how many lie in warm */
} fp_heap;

/* ---- the owner -------------------------------------------------------------------------------- */

/* Begins new books on a region, where its `start` says; no block behind that may be out.  The region
 * header must be present.  `fd` is the segment's. */
void fp_heap_init(fp_heap *heap, void *base, int fd, uint64_t region, uint64_t size, uint64_t keep,
                  uint64_t (*left)(void));

/* Returns the offset of `n` bytes aligned to a cache line, or 0 when memory has run out. */
uint64_t fp_heap_alloc(fp_heap *heap, uint64_t n);

/* Gives its own block back. */
void fp_heap_free(fp_heap *heap, uint64_t offset);

/* Takes home what others returned.  Returns how many blocks came. */
uint64_t fp_heap_collect(fp_heap *heap);

/* Asserts the books; every block is visited.  0 or -EINVAL. */
int fp_heap_check(const fp_heap *heap);

/* ---- others: the parent, for blocks of its workers ---------------------------------------------- */

/* Gives a block back to the region it came from; not a detached one.  When more than `keep` bytes would wait there for
 * their owner, the pages go back to the system at once. */
void fp_block_return(void *base, uint64_t offset, uint64_t keep);

/* Instead of fp_block_return() for a block below its region's `start`: its owner is dead. */
void fp_block_drop(void *base, uint64_t offset);

/* Optional, but for every block of a region or for none: the parent has read of this block, and is
 * now its holder until it returns or drops it.  With such marks fp_region_restart() also finds the
 * blocks that died with their owner before anybody heard of them. */
void fp_block_hold(void *base, uint64_t offset);

/* Bytes that fit into it, at least what was asked for. */
uint64_t fp_block_size(const void *base, uint64_t offset);

/* Offset of its region. */
uint64_t fp_block_region(const void *base, uint64_t offset);

/* By the parent, for a block of FP_BLOCK_LARGE bytes or more that only it holds: its pages become
 * private ones with the same content, and the segment's are given back.  Other threads may be reading
 * and writing it: they notice nothing, and no write is lost.  (A device that still writes into it
 * would: no transfer may be under way.)  Whoever maps the segment elsewhere sees the bytes no more.
 *
 * 0, also when it is detached already.  -EINVAL: too small.  -ENOMEM, or what else mapping it anew
 * says: there are too many mappings (vm.max_map_count), or a limit forbids so much private memory;
 * the block is still attached, and nothing has changed.  When memory runs out only later, the answer
 * is 0 all the same: the block is then FP_PINNED. */
int fp_block_detach(void *base, int fd, uint64_t offset);

/* By the parent, for a detached block that it uses no more, before it returns or drops it: shared
 * again, its private copies gone; what children have inherited stays theirs.  The block is cold.
 * 0; -EINVAL: it isn't detached; or it stays detached, and must be kept as if somebody still used it:
 * -EBUSY: it was FP_PINNED, and always will be; -ENOMEM, or what else mapping it says. */
int fp_block_attach(void *base, int fd, uint64_t offset);

/* By the parent, while a region has no owner: makes it ready for the next one, and gives memory back.
 * blocks_live: somebody still holds a block of it (fp_block_return() or fp_block_drop() will follow);
 * then the next owner begins behind all blocks.  Else it begins at the beginning, where `keep` bytes
 * stay warm.  May be called again, when the last block is gone. */
void fp_region_restart(void *base, uint64_t region, uint64_t size, bool blocks_live, uint64_t keep);

#endif
