#include "ds/fp_heap.h"

#include "os/fp_os.h"

/* Fresh memory is populated in steps, so that small blocks don't cost a system call each. */
#define FP__STEP (64 * 1024u)
/* Below this, giving pages back costs more than they are worth. */
#define FP__RELEASE_MIN (64 * 1024u)

static fp_block *fp__block(const fp_heap *heap, uint64_t block) {
    return (fp_block *)(heap->base + block);
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

static uint64_t fp__class_size(uint32_t cls) { return (4ull + cls % 4) << (6 + cls / 4); }

void fp_heap_init(fp_heap *heap, void *base, uint64_t region, uint64_t size, uint64_t keep) {
    memset(heap, 0, sizeof *heap);
    heap->base = base;
    heap->region = region;
    heap->end = region + size;
    heap->fresh = region + FP_ALIGN_UP(sizeof(fp_region), FP_BLOCK_HEADER);
    heap->present = heap->fresh;
    heap->keep = keep;
    fp_region *shared = (fp_region *)((unsigned char *)base + region);
    /* Relaxed: every block is home, so nobody returns any. */
    atomic_store_explicit(&shared->returned, 0, memory_order_relaxed);
}

static uint64_t fp__take_fresh(fp_heap *heap, uint32_t cls) {
    uint64_t size = fp__class_size(cls);
    uint64_t block = heap->fresh;
    if (size > heap->end || heap->fresh + FP_BLOCK_HEADER + size > heap->end) {
        return 0;
    }
    uint64_t end = block + FP_BLOCK_HEADER + size;
    if (end > heap->present) {
        uint64_t upto = FP_ALIGN_UP(end, FP__STEP);
        if (upto > heap->end) {
            upto = heap->end;
        }
        if (fp_os_memory_populate(heap->base + heap->present, upto - heap->present) < 0) {
            return 0;
        }
        heap->present = upto;
    }
    heap->fresh = end;
    fp_block *header = fp__block(heap, block);
    header->magic = FP_BLOCK_MAGIC;
    header->region = heap->region;
    header->size = size;
    header->cls = cls;
    header->cold = 0;
    return block;
}

static uint64_t fp__take_free(fp_heap *heap, uint32_t cls) {
    uint64_t block = heap->free[cls];
    if (block == 0) {
        return 0;
    }
    fp_block *header = fp__block(heap, block);
    if (header->cold) {
        if (fp_os_memory_populate(header, FP_BLOCK_HEADER + header->size) < 0) {
            return 0;
        }
        header->cold = 0;
    } else {
        heap->warm_bytes -= header->size;
    }
    heap->free[cls] = atomic_load_explicit(&header->next, memory_order_relaxed);
    return block;
}

uint64_t fp_heap_alloc(fp_heap *heap, uint64_t n) {
    if (n > heap->end - heap->region) {
        return 0;
    }
    uint32_t cls = fp__class_of(n);
    uint64_t block = fp__take_free(heap, cls);
    if (block == 0 && fp_heap_collect(heap) > 0) {
        block = fp__take_free(heap, cls);
    }
    if (block == 0) {
        block = fp__take_fresh(heap, cls);
    }
    if (block == 0) {
        return 0;
    }
    heap->blocks++;
    heap->used_bytes += fp__block(heap, block)->size;
    if (heap->used_bytes > heap->peak_bytes) {
        heap->peak_bytes = heap->used_bytes;
    }
    return block + FP_BLOCK_HEADER;
}

static void fp__put_free(fp_heap *heap, uint64_t block) {
    fp_block *header = fp__block(heap, block);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC && header->region == heap->region);
    heap->blocks--;
    heap->used_bytes -= header->size;
    /* The header's own page stays, so a block whose payload is cold can be found and reused. */
    if (heap->warm_bytes + header->size > heap->keep && header->size >= FP__RELEASE_MIN &&
        fp_os_memory_release((unsigned char *)header + FP_BLOCK_HEADER, header->size) == 0) {
        header->cold = 1;
    } else {
        heap->warm_bytes += header->size;
    }
    /* Relaxed: only the owner reads its free lists. */
    atomic_store_explicit(&header->next, heap->free[header->cls], memory_order_relaxed);
    heap->free[header->cls] = block;
}

void fp_heap_free(fp_heap *heap, uint64_t offset) { fp__put_free(heap, offset - FP_BLOCK_HEADER); }

uint64_t fp_heap_collect(fp_heap *heap) {
    fp_region *region = (fp_region *)(heap->base + heap->region);
    if (atomic_load_explicit(&region->returned, memory_order_relaxed) == 0) {
        return 0;
    }
    /* R2, pairs with R1. */
    uint64_t block = atomic_exchange_explicit(&region->returned, 0, memory_order_acquire);
    uint64_t count = 0;
    while (block != 0) {
        uint64_t next = atomic_load_explicit(&fp__block(heap, block)->next, memory_order_relaxed);
        fp__put_free(heap, block);
        block = next;
        count++;
    }
    return count;
}

void fp_block_return(void *base, uint64_t offset) {
    uint64_t block = offset - FP_BLOCK_HEADER;
    fp_block *header = (fp_block *)((unsigned char *)base + block);
    FP_ASSERT(header->magic == FP_BLOCK_MAGIC);
    fp_region *region = (fp_region *)((unsigned char *)base + header->region);
    uint64_t top = atomic_load_explicit(&region->returned, memory_order_relaxed);
    do {
        atomic_store_explicit(&header->next, top, memory_order_relaxed);
        /* R1, pairs with R2. */
    } while (!atomic_compare_exchange_weak_explicit(&region->returned, &top, block,
                                                    memory_order_release, memory_order_relaxed));
}

int fp_heap_check(const fp_heap *heap) {
    uint64_t warm = 0;
    if (heap->fresh > heap->end || heap->present > heap->end || heap->fresh > heap->present) {
        return -EINVAL;
    }
    for (uint32_t cls = 0; cls < FP_CLASSES; cls++) {
        for (uint64_t block = heap->free[cls]; block != 0;) {
            const fp_block *header = fp__block(heap, block);
            if (block < heap->region || block >= heap->fresh || header->magic != FP_BLOCK_MAGIC ||
                header->region != heap->region || header->cls != cls ||
                header->size != fp__class_size(cls)) {
                return -EINVAL;
            }
            warm += header->cold ? 0 : header->size;
            block = atomic_load_explicit(&header->next, memory_order_relaxed);
        }
    }
    return warm == heap->warm_bytes ? 0 : -EINVAL;
}
