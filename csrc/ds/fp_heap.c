#include "ds/fp_heap.h"

#include "os/fp_os.h"

/* Fresh memory is populated in steps, so that small blocks don't cost a system call each. */
#define FP__STEP (64 * 1024u)
/* The system is asked what it has left once for so many bytes... */
#define FP__ASK (16ull << 20)
/* ... and again after so many of one large block: others populate at the same time. */
#define FP__PIECE (64ull << 20)
/* A full region hands out blocks of up to so many classes above: four times the size. */
#define FP__ABOVE 8u
/* A block is detached in steps: more memory than that is never taken twice. */
#define FP__DETACH (4ull << 20)

static fp_block *fp__at(const void *base, uint64_t block) {
    return (fp_block *)((unsigned char *)(uintptr_t)base + block);
}

static fp_block *fp__block(const fp_heap *heap, uint64_t block) {
    return fp__at(heap->base, block);
}

static fp_region *fp__region(const void *base, uint64_t region) {
    return (fp_region *)((unsigned char *)(uintptr_t)base + region);
}

/* The size class that holds n bytes: 256, 320, 384, 448, 512, 640, ... */
static uint32_t fp__class_of(uint64_t n) {
    if (n <= FP_CLASS_MIN) {
        return 0;
    }
    uint32_t log = 63 - (uint32_t)__builtin_clzll(n - 1);
    uint64_t quarter = (n - 1 - (1ull << log)) >> (log - 2);
    return (log - 8) * 4 + (uint32_t)quarter + 1;
}

static uint64_t fp__class_size(const fp_heap *heap, uint32_t cls) {
    uint64_t size = (4ull + cls % 4) << (6 + cls / 4);
    /* These are multiples of 16 KiB, but a page may be larger. */
    return size < FP_BLOCK_LARGE ? size : FP_ALIGN_UP(size, heap->page);
}

static uint64_t fp__first(uint64_t region) {
    return region + FP_ALIGN_UP(sizeof(fp_region), FP_BLOCK_HEADER);
}

/* Gives the pages of a large block's bytes back.  The header's own page stays, so that a cold block
 * can be found and reused. */
static int fp__release(fp_block *header) {
    return fp_os_memory_release((unsigned char *)header + FP_BLOCK_HEADER, header->size);
}

/* ---- the owner's pages ------------------------------------------------------------------------ */

/* Makes [at, at+len) present; on failure no page in it is left so. */
static int fp__populate(fp_heap *heap, uint64_t at, uint64_t len) {
    for (uint64_t done = 0; done < len;) {
        uint64_t piece = len - done < FP__PIECE ? len - done : FP__PIECE;
        heap->unasked += piece;
        FP_CP("populate.begin");
        bool enough = true;
        if (heap->left != NULL && heap->unasked >= FP__ASK) {
            enough = heap->left() >= len - done;
        }
        if (!enough ||
            fp_os_memory_populate(heap->base + at + done, heap->fd, at + done, piece) < 0) {
            fp_os_memory_release(heap->base + at, len);
            return -ENOMEM; /* and the next one asks anew */
        }
        if (heap->unasked >= FP__ASK) {
            heap->unasked = 0;
        }
        FP_CP("populate.present");
        done += piece;
    }
    return 0;
}

/* Where a fresh block of this size would lie. */
static uint64_t fp__place(const fp_heap *heap, uint32_t cls) {
    return fp__class_size(heap, cls) < FP_BLOCK_LARGE
               ? heap->fresh
               : FP_ALIGN_UP(heap->fresh + FP_BLOCK_HEADER, heap->page) - FP_BLOCK_HEADER;
}

static bool fp__is_full(const fp_heap *heap, uint32_t cls) {
    uint64_t bytes = fp__place(heap, cls) + FP_BLOCK_HEADER;
    return bytes > heap->end || fp__class_size(heap, cls) > heap->end - bytes;
}

static void fp__write_header(const fp_heap *heap, uint64_t block, uint32_t cls, uint64_t size) {
    fp_block *header = fp__block(heap, block);
    FP_CP("header.begin");
    header->magic = FP_BLOCK_MAGIC;
    header->region = heap->region;
    header->size = size;
    header->cls = cls;
    header->cold = 0;
    header->out = 0;
    header->held = 0;
    header->detached = FP_ATTACHED;
    FP_CP("header.written");
}

static void fp__set_fresh(fp_heap *heap, uint64_t fresh) {
    heap->fresh = fresh;
    FP_CP("fresh.begin");
    /* F1, pairs with F2: the headers below are written, also if this process dies right here. */
    atomic_store_explicit(&fp__region(heap->base, heap->region)->fresh, fresh,
                          memory_order_release);
    FP_CP("fresh.moved");
}

static uint64_t fp__take_fresh(fp_heap *heap, uint32_t cls) {
    uint64_t size = fp__class_size(heap, cls);
    uint64_t block = fp__place(heap, cls);
    if (fp__is_full(heap, cls)) {
        return 0;
    }
    uint64_t end = block + FP_BLOCK_HEADER + size;
    if (end > heap->present) {
        uint64_t upto = FP_ALIGN_UP(end, FP__STEP);
        if (upto > heap->end) {
            upto = heap->end;
        }
        if (fp__populate(heap, heap->present, upto - heap->present) < 0) {
            return 0;
        }
        heap->present = upto;
    }
    if (block > heap->fresh) { /* by a header's length or more: all sizes are multiples of it */
        fp__write_header(heap, heap->fresh, FP_PAD, block - heap->fresh - FP_BLOCK_HEADER);
    }
    fp__write_header(heap, block, cls, size);
    fp__set_fresh(heap, end);
    return block;
}

/* ---- free blocks ------------------------------------------------------------------------------ */

/* Relaxed: only the owner reads its free lists. */
static void fp__push(const fp_heap *heap, uint64_t *list, uint64_t block) {
    FP_CP("list.begin");
    atomic_store_explicit(&fp__block(heap, block)->next, *list, memory_order_relaxed);
    FP_CP("list.linked");
    *list = block;
}

static uint64_t fp__pop(const fp_heap *heap, uint64_t *list) {
    uint64_t block = *list;
    if (block != 0) {
        *list = atomic_load_explicit(&fp__block(heap, block)->next, memory_order_relaxed);
    }
    return block;
}

static void fp__count_warm(fp_heap *heap, uint32_t cls, int64_t blocks) {
    uint64_t bytes = (uint64_t)blocks * fp__class_size(heap, cls);
    heap->warm_count[cls] += (uint64_t)blocks;
    heap->warm_bytes += bytes;
    heap->large_bytes += fp__class_size(heap, cls) >= FP_BLOCK_LARGE ? bytes : 0;
}

static uint64_t fp__take_warm(fp_heap *heap, uint32_t cls) {
    uint64_t block = fp__pop(heap, &heap->warm[cls]);
    if (block != 0) {
        fp__count_warm(heap, cls, -1);
    }
    return block;
}

static uint64_t fp__take_cold(fp_heap *heap, uint32_t cls) {
    uint64_t block = heap->cold[cls];
    if (block == 0 || fp__populate(heap, block + FP_BLOCK_HEADER, fp__class_size(heap, cls)) < 0) {
        return 0;
    }
    fp__pop(heap, &heap->cold[cls]);
    heap->cold_bytes -= fp__class_size(heap, cls);
    FP_CP("warm.begin");
    fp__block(heap, block)->cold = 0;
    FP_CP("warm.marked");
    return block;
}

static void fp__put_cold(fp_heap *heap, uint64_t block) {
    fp_block *header = fp__block(heap, block);
    FP_CP("cold.begin");
    header->cold = 1;
    FP_CP("cold.marked");
    heap->cold_bytes += header->size;
    fp__push(heap, &heap->cold[header->cls], block);
}

/* Gives pages of warm free blocks back, except of one class, the largest blocks first, until at most
 * `upto` bytes are warm. */
static void fp__cool(fp_heap *heap, uint32_t except, uint64_t upto) {
    for (uint32_t cls = FP_CLASSES; cls-- > fp__class_of(FP_BLOCK_LARGE);) {
        while (cls != except && heap->warm[cls] != 0) {
            if (heap->warm_bytes <= upto || fp__release(fp__block(heap, heap->warm[cls])) != 0) {
                return; /* enough, or not possible here */
            }
            fp__put_cold(heap, fp__take_warm(heap, cls));
        }
    }
}

/* Makes room for one more warm block.  Whether it is worth keeping. */
static bool fp__make_room(fp_heap *heap, uint32_t cls) {
    uint64_t size = fp__class_size(heap, cls);
    if (heap->warm_bytes + size <= heap->keep) {
        return true;
    }
    bool large = size >= FP_BLOCK_LARGE;
    uint64_t others = heap->large_bytes - (large ? heap->warm_count[cls] * size : 0);
    bool fits = heap->warm_bytes - others + size <= heap->keep;
    if (others > 0 && (fits || !large)) {
        fp__cool(heap, cls, heap->keep > size ? heap->keep - size : 0);
    }
    return !large || heap->warm_bytes + size <= heap->keep;
}

static void fp__put_free(fp_heap *heap, uint64_t block) {
    fp_block *header = fp__block(heap, block);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && header->region == heap->region && header->out);
    FP_CP("free.begin");
    header->out = 0;
    FP_CP("free.marked");
    heap->blocks--;
    heap->used_bytes -= header->size;
    if (header->cold || (!fp__make_room(heap, header->cls) && fp__release(header) == 0)) {
        fp__put_cold(heap, block);
    } else {
        fp__push(heap, &heap->warm[header->cls], block);
        fp__count_warm(heap, header->cls, 1);
    }
}

/* ---- the owner -------------------------------------------------------------------------------- */

static void fp__begin(fp_heap *heap) {
    heap->present = heap->begin; /* what is present already costs little to populate again */
    heap->warm_bytes = heap->cold_bytes = heap->large_bytes = 0;
    memset(heap->warm, 0, sizeof heap->warm);
    memset(heap->cold, 0, sizeof heap->cold);
    memset(heap->warm_count, 0, sizeof heap->warm_count);
    fp__set_fresh(heap, heap->begin);
}

void fp_heap_init(fp_heap *heap, void *base, int fd, uint64_t region, uint64_t size, uint64_t keep,
                  uint64_t (*left)(void)) {
    fp_region *shared = fp__region(base, region);
    memset(heap, 0, sizeof *heap);
    heap->base = base;
    heap->fd = fd;
    heap->left = left;
    heap->page = fp_os_page_size();
    heap->region = region;
    heap->end = region + size;
    heap->keep = keep;
    /* Relaxed: the parent wrote it before it started this process; and nobody has blocks to return
     * to this owner yet. */
    heap->begin = atomic_load_explicit(&shared->start, memory_order_relaxed);
    if (heap->begin == 0) {
        heap->begin = fp__first(region);
    }
    FP_CP("heap.begin");
    atomic_store_explicit(&shared->returned, 0, memory_order_relaxed);
    FP_CP("heap.emptied");
    atomic_store_explicit(&shared->waiting, 0, memory_order_relaxed);
    fp__begin(heap);
}

static uint64_t fp__take(fp_heap *heap, uint32_t cls) {
    uint64_t block = fp__take_warm(heap, cls);
    if (block == 0 && fp_heap_collect(heap) > 0) {
        block = fp__take_warm(heap, cls);
    }
    if (block == 0) {
        block = fp__take_cold(heap, cls);
    }
    if (block == 0 && heap->blocks == 0 && fp__is_full(heap, cls) && heap->fresh > heap->begin) {
        /* Every block is home: cut the addresses up anew. */
        uint64_t warm = heap->begin + heap->keep;
        if (warm < heap->present) {
            fp_os_memory_release(heap->base + warm, heap->present - warm);
        }
        fp__begin(heap);
    }
    return block != 0 ? block : fp__take_fresh(heap, cls);
}

/* A full region: better too large a block than none. */
static uint64_t fp__take_larger(fp_heap *heap, uint32_t cls) {
    uint64_t block = 0;
    uint32_t last = cls + FP__ABOVE < FP_CLASSES ? cls + FP__ABOVE : FP_CLASSES - 1;
    for (uint32_t c = cls + 1; c <= last && block == 0; c++) {
        block = fp__take_warm(heap, c);
    }
    for (uint32_t c = cls + 1; c <= last && block == 0; c++) {
        block = fp__take_cold(heap, c);
    }
    return block;
}

uint64_t fp_heap_alloc(fp_heap *heap, uint64_t n) {
    if (n > heap->end - heap->region) {
        return 0;
    }
    uint32_t cls = fp__class_of(n);
    uint64_t block = fp__take(heap, cls);
    if (block == 0 && fp__is_full(heap, cls)) {
        block = fp__take_larger(heap, cls);
    }
    if (block == 0 && heap->large_bytes > 0) {
        fp__cool(heap, cls, 0);
        block = fp__take(heap, cls);
    }
    if (block == 0) {
        return 0;
    }
    fp_block *header = fp__block(heap, block);
    FP_CP("alloc.chosen");
    header->out = 1;
    FP_CP("alloc.marked");
    heap->blocks++;
    heap->used_bytes += header->size;
    if (heap->used_bytes > heap->peak_bytes) {
        heap->peak_bytes = heap->used_bytes;
    }
    return block + FP_BLOCK_HEADER;
}

void fp_heap_free(fp_heap *heap, uint64_t offset) { fp__put_free(heap, offset - FP_BLOCK_HEADER); }

uint64_t fp_heap_collect(fp_heap *heap) {
    fp_region *region = fp__region(heap->base, heap->region);
    if (atomic_load_explicit(&region->returned, memory_order_relaxed) == 0) {
        return 0;
    }
    FP_CP("collect.begin");
    /* R2, pairs with R1. */
    uint64_t block = atomic_exchange_explicit(&region->returned, 0, memory_order_acquire);
    FP_CP("collect.taken");
    uint64_t count = 0, warm = 0;
    while (block != 0) {
        fp_block *header = fp__block(heap, block);
        uint64_t next = atomic_load_explicit(&header->next, memory_order_relaxed);
        warm += header->cold ? 0 : header->size;
        fp__put_free(heap, block);
        block = next;
        count++;
    }
    /* Relaxed, and never below 0: each was added before R1. */
    FP_CP("collect.entered");
    atomic_fetch_sub_explicit(&region->waiting, warm, memory_order_relaxed);
    FP_CP("collect.counted");
    return count;
}

/* ---- others ----------------------------------------------------------------------------------- */

void fp_block_return(void *base, uint64_t offset, uint64_t keep) {
    uint64_t block = offset - FP_BLOCK_HEADER;
    fp_block *header = fp__at(base, block);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && header->out && !header->detached);
    fp_region *region = fp__region(base, header->region);
    FP_CP("return.begin");
    header->held = 0;
    FP_CP("return.let_go");
    if (!header->cold) {
        /* Relaxed: a hint.  Nobody else holds the block, so its pages can go; R1 tells the owner. */
        uint64_t waiting = atomic_load_explicit(&region->waiting, memory_order_relaxed);
        if (header->size >= FP_BLOCK_LARGE && waiting + header->size > keep &&
            fp__release(header) == 0) {
            FP_CP("return.released");
            header->cold = 1;
            FP_CP("return.cold");
        } else {
            atomic_fetch_add_explicit(&region->waiting, header->size, memory_order_relaxed);
            FP_CP("return.counted");
        }
    }
    uint64_t top = atomic_load_explicit(&region->returned, memory_order_relaxed);
    do {
        atomic_store_explicit(&header->next, top, memory_order_relaxed);
        FP_CP("return.linked");
        /* R1, pairs with R2. */
    } while (!atomic_compare_exchange_weak_explicit(&region->returned, &top, block,
                                                    memory_order_release, memory_order_relaxed));
    FP_CP("return.pushed");
}

void fp_block_drop(void *base, uint64_t offset) {
    fp_block *header = fp__at(base, offset - FP_BLOCK_HEADER);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && !header->detached);
    /* With its header, if that doesn't share its page: nobody will look for it again. */
    FP_CP("drop.begin");
    fp_os_memory_release(header, FP_BLOCK_HEADER + header->size);
    FP_CP("drop.done");
}

void fp_block_hold(void *base, uint64_t offset) {
    fp_block *header = fp__at(base, offset - FP_BLOCK_HEADER);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && header->out);
    FP_CP("hold.begin");
    header->held = 1;
    FP_CP("hold.held");
    /* Relaxed: only the parent uses it. */
    atomic_store_explicit(&fp__region(base, header->region)->marked, 1, memory_order_relaxed);
    FP_CP("hold.marked");
}

uint64_t fp_block_size(const void *base, uint64_t offset) {
    return fp__at(base, offset - FP_BLOCK_HEADER)->size;
}

uint64_t fp_block_region(const void *base, uint64_t offset) {
    return fp__at(base, offset - FP_BLOCK_HEADER)->region;
}

/* Piece by piece, so that little memory is taken twice.  From the first step on there is no way back:
 * the pages copied so far may have been written to since, and the segment's may be gone.  But none is
 * needed: every byte is there, in a copy or in a page of the segment that nobody else writes to, and
 * processes forked from now on inherit both.  All that may not happen then is that somebody else gets
 * the block, and writes to such a page. */
int fp_block_detach(void *base, int fd, uint64_t offset) {
    fp_block *header = fp__at(base, offset - FP_BLOCK_HEADER);
    unsigned char *at = (unsigned char *)base + offset;
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && header->out);
    if (header->detached) {
        return 0;
    }
    if (header->size < FP_BLOCK_LARGE) {
        return -EINVAL;
    }
    FP_CP("detach.begin");
    int err = fp_os_memory_remap_private(at, fd, offset, header->size);
    if (err < 0) {
        return err;
    }
    FP_CP("detach.mapped");
    header->detached = FP_DETACHED;
    FP_CP("detach.marked");
    for (uint64_t done = 0; done < header->size; done += FP__DETACH) {
        uint64_t left = header->size - done;
        uint64_t piece = left < FP__DETACH ? left : FP__DETACH;
        if (fp_os_memory_own(at + done, piece) < 0) {
            header->detached = FP_PINNED;
            break;
        }
        FP_CP("detach.owned");
        /* What can't be given back here is only wasted: nobody looks at it any more. */
        (void)fp_os_memory_punch(fd, offset + done, piece);
        FP_CP("detach.punched");
    }
    return 0;
}

int fp_block_attach(void *base, int fd, uint64_t offset) {
    fp_block *header = fp__at(base, offset - FP_BLOCK_HEADER);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && header->out);
    if (!header->detached) {
        return -EINVAL;
    }
    FP_CP("attach.begin");
    int err = fp_os_memory_remap_shared((unsigned char *)base + offset, fd, offset, header->size);
    if (err < 0) {
        return err;
    }
    FP_CP("attach.mapped");
    if (header->detached == FP_PINNED) {
        return -EBUSY; /* children may depend on the segment's pages */
    }
    header->detached = FP_ATTACHED;
    FP_CP("attach.marked");
    header->cold = 1;
    FP_CP("attach.cold");
    return 0;
}

/* ---- restart ---------------------------------------------------------------------------------- */

static void fp__release_range(void *base, uint64_t from, uint64_t to) {
    if (from < to) {
        FP_CP("range.begin");
        fp_os_memory_release((unsigned char *)base + from, to - from);
        FP_CP("range.released");
    }
}

/* Gives back all pages from the owner's first block on, except those of blocks that are held. */
static void fp__keep_live(void *base, uint64_t from, uint64_t fresh, uint64_t end, bool marked) {
    uint64_t at = from;
    while (at < fresh) {
        const fp_block *header = fp__at(base, at);
        FP_ASSERT(header->magic == FP_BLOCK_MAGIC);
        if (header->magic != FP_BLOCK_MAGIC) {
            from = fresh; /* somebody wrote where he shouldn't: touch nothing that may be held */
            break;
        }
        uint64_t next = at + FP_BLOCK_HEADER + header->size;
        if (header->out && (header->held || !marked)) {
            fp__release_range(base, from, at);
            from = next;
        }
        at = next;
    }
    fp__release_range(base, from, end);
}

void fp_region_restart(void *base, uint64_t region, uint64_t size, bool blocks_live,
                       uint64_t keep) {
    fp_region *shared = fp__region(base, region);
    uint64_t end = region + size;
    /* F2, pairs with F1.  All else relaxed: there is no owner, and the next one starts after this. */
    uint64_t fresh = atomic_load_explicit(&shared->fresh, memory_order_acquire);
    uint64_t start = atomic_load_explicit(&shared->start, memory_order_relaxed);
    FP_CP("restart.begin");
    uint64_t block = atomic_exchange_explicit(&shared->returned, 0, memory_order_relaxed);
    FP_CP("restart.emptied");
    atomic_store_explicit(&shared->waiting, 0, memory_order_relaxed);
    FP_CP("restart.uncounted");
    if (!blocks_live) {
        atomic_store_explicit(&shared->start, 0, memory_order_relaxed);
        FP_CP("restart.at_beginning");
        atomic_store_explicit(&shared->fresh, 0, memory_order_relaxed);
        FP_CP("restart.nothing_fresh");
        uint64_t warm = FP_ALIGN_UP(sizeof(fp_region), FP__STEP);
        fp__release_range(base, region + (keep > warm ? keep : warm), end);
        return;
    }
    while (block != 0) {
        fp_block *header = fp__at(base, block);
        header->out = 0;
        FP_CP("restart.home");
        block = atomic_load_explicit(&header->next, memory_order_relaxed);
    }
    if (start == 0) {
        start = fp__first(region);
    }
    if (start < fresh) {
        bool marked = atomic_load_explicit(&shared->marked, memory_order_relaxed) != 0;
        fp__keep_live(base, start, fresh, end, marked);
        start = FP_ALIGN_UP(fresh, FP__STEP);
    } else {
        fp__release_range(base, start, end);
    }
    start = start < end ? start : end;
    FP_CP("restart.given_back");
    atomic_store_explicit(&shared->start, start, memory_order_relaxed);
    FP_CP("restart.start_moved");
    atomic_store_explicit(&shared->fresh, start, memory_order_relaxed);
    FP_CP("restart.done");
}

/* ---- check ------------------------------------------------------------------------------------ */

/* Whether a block is what its class says, and where. */
static bool fp__is_sound(const fp_heap *heap, uint64_t block) {
    const fp_block *header = fp__block(heap, block);
    uint64_t bytes = block + FP_BLOCK_HEADER;
    if (header->magic != FP_BLOCK_MAGIC) {
        return false;
    }
    if (header->cls == FP_PAD) { /* up to the header of a large block */
        uint64_t next = bytes + header->size;
        return !header->out && header->size < heap->page && next < heap->fresh &&
               (next + FP_BLOCK_HEADER) % heap->page == 0 &&
               fp__block(heap, next)->size >= FP_BLOCK_LARGE;
    }
    return header->cls < FP_CLASSES && header->size == fp__class_size(heap, header->cls) &&
           (header->size < FP_BLOCK_LARGE || bytes % heap->page == 0);
}

/* Visits one free list; adds its blocks to *count. */
static int fp__check_list(const fp_heap *heap, uint32_t cls, bool cold, uint64_t *count) {
    uint64_t most = heap->end / FP_CLASS_MIN;
    for (uint64_t block = cold ? heap->cold[cls] : heap->warm[cls]; block != 0;) {
        if (block < heap->begin || block >= heap->fresh || ++*count > most) {
            return -EINVAL;
        }
        const fp_block *header = fp__block(heap, block);
        if (header->magic != FP_BLOCK_MAGIC || header->region != heap->region ||
            header->cls != cls || header->size != fp__class_size(heap, cls) || header->out ||
            header->detached || header->cold != cold) {
            return -EINVAL;
        }
        block = atomic_load_explicit(&header->next, memory_order_relaxed);
    }
    return 0;
}

int fp_heap_check(const fp_heap *heap) {
    const fp_region *region = fp__region(heap->base, heap->region);
    uint64_t free_blocks = 0, warm_bytes = 0, cold_bytes = 0, large_bytes = 0;
    if (heap->fresh > heap->end || heap->present > heap->end || heap->fresh > heap->present ||
        heap->fresh != atomic_load_explicit(&region->fresh, memory_order_relaxed)) {
        return -EINVAL;
    }
    for (uint32_t cls = 0; cls < FP_CLASSES; cls++) {
        uint64_t warm = 0, cold = 0, size = fp__class_size(heap, cls);
        if (fp__check_list(heap, cls, false, &warm) < 0 ||
            fp__check_list(heap, cls, true, &cold) < 0 || warm != heap->warm_count[cls]) {
            return -EINVAL;
        }
        free_blocks += warm + cold;
        warm_bytes += warm * size;
        cold_bytes += cold * size;
        large_bytes += size >= FP_BLOCK_LARGE ? warm * size : 0;
    }
    if (warm_bytes != heap->warm_bytes || cold_bytes != heap->cold_bytes ||
        large_bytes != heap->large_bytes) {
        return -EINVAL;
    }
    /* Every block there is lies in a list or is out, or is a pad. */
    uint64_t used = 0, out = 0, at = heap->begin;
    while (at < heap->fresh) {
        const fp_block *header = fp__block(heap, at);
        if (!fp__is_sound(heap, at)) {
            return -EINVAL;
        }
        out += header->out;
        used += header->out ? header->size : 0;
        free_blocks -= !header->out && header->cls != FP_PAD;
        at += FP_BLOCK_HEADER + header->size;
    }
    return at == heap->fresh && free_blocks == 0 && used == heap->used_bytes && out == heap->blocks
               ? 0
               : -EINVAL;
}
