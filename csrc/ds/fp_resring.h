/* fp_resring.h: one worker's finished results, read by the parent.
 *
 * Roles       producer: the owning worker.  consumer: the parent thread that holds the drain lock.
 * Writers     tail: producer.  head: consumer.  slot[i & mask]: producer, only while
 *             i - head < size.
 * Invariants  0 <= tail - head <= size;  size == mask + 1 == 2^k;  both only grow, modulo
 *             2^FP_INDEX_BITS, and size is at most half of that.
 * Orders      P1 store tail, seq_cst   <->  C1 load tail, acquire: the slot's bytes are visible.
 *                (release would do for that; seq_cst is for the sleeper's flag, see fp_park.h)
 *             C2 store head, release   <->  P2 load head, acquire: the reader is done before the
 *                slot is written again.
 *             own index: relaxed, only this side writes it.
 * Death       killed before P1: the record was never published; after P1: it is whole.  No lock,
 *             no mark to forget.
 * Not for     two producers; records larger than a slot (send a block reference).
 * Check       fp_resring_check().  Stress: tests/c/stress_resring.c
 */
#ifndef FP_RESRING_H
#define FP_RESRING_H

#include "base/fp_base.h"

#define FP_RESULT_INLINE 96

/* Tests make it small, so that every value occurs and wraps around. */
#ifndef FP_INDEX_BITS
#define FP_INDEX_BITS 64
#endif
_Static_assert(FP_INDEX_BITS >= 4 && FP_INDEX_BITS <= 64, "an index is a word");
#define FP__INDEX_MASK (UINT64_MAX >> (64 - FP_INDEX_BITS))
#define FP_RESRING_MOST (1ull << (FP_INDEX_BITS - 1)) /* slots of the largest ring */

typedef struct fp_result {
    uint64_t ticket;
    uint32_t cookie;
    uint8_t status; /* what it is: the codec's business */
    uint8_t codec;
    uint8_t in_block;
    uint8_t flags;
    uint32_t count;
    uint32_t refs; /* blocks that the payload names, beside its own */
    uint64_t len;
    union fp_result_payload {
        unsigned char bytes[FP_RESULT_INLINE];
        uint64_t ref;
    } payload;
} fp_result;
_Static_assert(sizeof(fp_result) == FP_LINE, "a result fills its slot");

typedef struct fp_resring_shared {
    _Alignas(FP_LINE) fp_a64 tail;
    _Alignas(FP_LINE) fp_a64 head;
} fp_resring_shared;

typedef struct fp_resring {
    fp_resring_shared *shared;
    fp_result *slots;
    uint64_t mask;
    uint64_t own;  /* this side's index */
    uint64_t peer; /* the other side's index when last looked at */
} fp_resring;

/* How many records there are from index `from` up to, without, index `to`. */
static inline uint64_t fp__records(uint64_t from, uint64_t to) {
    return (to - from) & FP__INDEX_MASK;
}

/* A handle of an empty ring, for either side, before the other one moves. */
static inline void fp_resring_open(fp_resring *ring) {
    /* Relaxed: a process that starts, and the one that starts it, see what was before. */
    ring->own = ring->peer = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed);
}

/* Consumer, before a new owner starts: drops what the dead one left unread.  The indices go on where
 * they are: a handle of the consumer's that was not opened anew is then only late, not wrong. */
static inline void fp_resring_reset(fp_resring *ring) {
    fp_resring_open(ring);
    FP_CP("reset.begin");
    atomic_store_explicit(&ring->shared->head, ring->own, memory_order_relaxed);
    FP_CP("reset.done");
}

/* Producer.  Is there room for one more? */
static inline bool fp_resring_room(fp_resring *ring) {
    if (FP_UNLIKELY(fp__records(ring->peer, ring->own) > ring->mask)) {
        /* P2, pairs with C2; seq_cst because a worker that found no room announces its sleep and
         * looks again: see fp_park.h. */
        ring->peer = atomic_load_explicit(&ring->shared->head, memory_order_seq_cst);
        return fp__records(ring->peer, ring->own) <= ring->mask;
    }
    return true;
}

/* Producer.  The slot to fill in place; there must be room. */
static inline fp_result *fp_resring_next(fp_resring *ring) {
    return &ring->slots[ring->own & ring->mask];
}

/* Producer.  Publishes the slot that fp_resring_next gave. */
static inline void fp_resring_publish(fp_resring *ring) {
    FP_CP("publish.begin");
    ring->own = (ring->own + 1) & FP__INDEX_MASK;
    /* P1, pairs with C1. */
    atomic_store_explicit(&ring->shared->tail, ring->own, memory_order_seq_cst);
    FP_CP("publish.done");
}

/* Anyone.  Is there nothing to read?  A thread that only looks may be told so wrongly while another
 * one pops; it looks again.  seq_cst for the sleeper's flag, see fp_park.h. */
static inline bool fp_resring_empty(const fp_resring *ring) {
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_seq_cst);
    return tail == atomic_load_explicit(&ring->shared->head, memory_order_relaxed);
}

/* Consumer, after each pop.  Is the ring so full that its producer may be waiting for room?
 * A producer waits only on a full ring.  Read one to its end: with p records known of when the
 * producer went to sleep, either p - 1 are left after the first pop, or size - p - 1 after the pop
 * that looked again; one of the two is at least mask / 2.  A higher bound would let it sleep. */
static inline bool fp_resring_crowded(const fp_resring *ring) {
    return fp__records(ring->own, ring->peer) >= ring->mask / 2;
}

/* Consumer.  Copies the next record out and frees its slot.  False when there is none. */
static inline bool fp_resring_pop(fp_resring *ring, fp_result *out) {
    if (ring->own == ring->peer) {
        /* C1, pairs with P1. */
        ring->peer = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
        if (ring->own == ring->peer) {
            return false;
        }
    }
    const fp_result *slot = &ring->slots[ring->own & ring->mask];
    size_t head = offsetof(fp_result, payload);
    memcpy(out, slot, head);
    memcpy(&out->payload, &slot->payload,
           out->in_block ? 8 : (out->len <= FP_RESULT_INLINE ? out->len : FP_RESULT_INLINE));
    FP_CP("pop.copied");
    ring->own = (ring->own + 1) & FP__INDEX_MASK;
    /* C2, pairs with P2. */
    atomic_store_explicit(&ring->shared->head, ring->own, memory_order_release);
    FP_CP("pop.done");
    return true;
}

static inline int fp_resring_check(const fp_resring *ring) {
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
    return tail <= FP__INDEX_MASK && fp__records(head, tail) <= ring->mask + 1 ? 0 : -EINVAL;
}

#endif
