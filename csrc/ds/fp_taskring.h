/* fp_taskring.h: the queue of tasks; one producer, many claimers that may be killed at any instant.
 *
 * Roles       producer: the parent thread that holds the submit lock.  claimer: each worker.
 *
 * The head is one word (ticket | claimer:16), the ticket in its highest FP_TICKET_BITS.  A claimer
 *   1. reads head = (t, w'),                 2. copies slot t,
 *   3. records owner[t-1] = (t-1, w'),       4. compares-and-swaps (t, w') -> (t+1, me).
 * The swap takes ticket t and names who took it in the same instruction; the next claimer writes
 * that name down before it overwrites it.  So whoever dies wherever, the parent can read who holds
 * each ticket: the last one from head, all earlier ones from owner[].  Copying before claiming
 * means that no "taken" mark is left for a dead process to forget.
 *
 * Tickets count modulo 2^FP_TICKET_BITS, and are compared by their difference: the ring is right for
 * ever, as long as size is at most an eighth of that, and nobody sleeps in the middle of one claim
 * while half as many tasks go by (at a million tasks a second: for four years).  tail, head and
 * owner[] hold tickets without FP_TICKET_MARK; what a function returns has it, so that no ticket is 0;
 * what it is given may have it or not.
 *
 * Writers     tail, slots: producer.  head, owner: claimers, by compare-and-swap only.
 * Invariants  tail - size <= head <= tail;  both only grow;
 *             owner[i] only moves forward in tickets, and i == ticket & mask; it is at least head -
 *             size - 1, so that never a ticket is so old that it would look new.
 * Orders      P1 store tail, release  <->  C1 load tail, acquire: the slot's words are visible.
 *             C2 swap head, release   <->  P2 load head, acquire: the copy is done before the slot
 *                is written again.  A claimer whose swap failed may have read a torn slot; it
 *                throws the copy away.  That is why the words are relaxed atomics, not plain.
 *             C3 store owner, release (before C2)  <->  P3 load owner, acquire (after P2):
 *                a head past t+1 shows the record for t.
 *             P1 and C1 are seq_cst where they meet a sleeper's flag: see fp_park.h.
 * Death       before C2: nothing was taken.  After C2: head or owner[] names the dead claimer.
 * Overwrite   owner[] forgets a ticket one lap later: before it reuses a slot the producer asks
 *             fp_taskring_owner() for the ticket that lay there, if that is still unfinished.
 * Not for     two producers; tasks larger than a slot (send a block reference).
 * Check       fp_taskring_check().  Stress: tests/c/stress_taskring.c
 */
#ifndef FP_TASKRING_H
#define FP_TASKRING_H

#include "base/fp_base.h"

#define FP_TASK_WORDS 16
#define FP_TASK_HEAD_WORDS 5
#define FP_TASK_INLINE ((FP_TASK_WORDS - FP_TASK_HEAD_WORDS) * 8)

/* Tests make it small, so that every value occurs and wraps around. */
#ifndef FP_TICKET_BITS
#define FP_TICKET_BITS 48
#endif
_Static_assert(FP_TICKET_BITS >= 4 && FP_TICKET_BITS <= 48,
               "a ticket shares a word with a claimer");
#define FP__TICKET_SHIFT (64 - FP_TICKET_BITS)
#define FP__TICKET_MASK ((1ull << FP_TICKET_BITS) - 1)
#define FP_TICKET_MARK (1ull << FP_TICKET_BITS)
#define FP_TASKRING_MOST (1ull << (FP_TICKET_BITS - 3)) /* slots of the largest ring */

#define FP_NOBODY 0xFFFFu    /* claimer number of nobody */
#define FP_UNCLAIMED 0x1FFFF /* fp_taskring_owner: still in the queue */
#define FP_FORGOTTEN 0x2FFFF /* fp_taskring_owner: more than a lap ago */

/* One task as it travels.  `payload` holds the bytes themselves, or the offset of a block. */
typedef struct fp_task {
    uint64_t func;     /* number of the function; 0: the payload brings it along */
    uint64_t func_ref; /* payload offset of the block with the pickled function */
    uint32_t refs;     /* blocks that the payload names, beside its own */
    uint32_t cookie;   /* the parent's ledger entry, returned with the result */
    uint8_t kind;      /* how to call: the codec's business */
    uint8_t codec;     /* how the payload is encoded: the codec's business */
    uint8_t in_block;
    uint8_t flags;
    uint32_t count; /* items in the payload */
    uint64_t len;   /* bytes of the payload */
    union fp_task_payload {
        unsigned char bytes[FP_TASK_INLINE];
        uint64_t ref;
    } payload;
} fp_task;
_Static_assert(sizeof(fp_task) == FP_TASK_WORDS * 8, "a task fills its slot");
_Static_assert(offsetof(fp_task, payload) == FP_TASK_HEAD_WORDS * 8, "the header's size");

typedef struct fp_slot {
    _Alignas(FP_LINE) fp_a64 word[FP_TASK_WORDS];
} fp_slot;

/* The shared part: each index on a line of its own. */
typedef struct fp_taskring_shared {
    _Alignas(FP_LINE) fp_a64 tail;
    _Alignas(FP_LINE) fp_a64 head;
} fp_taskring_shared;

/* One process's handle. */
typedef struct fp_taskring {
    fp_taskring_shared *shared;
    fp_slot *slots;
    fp_a64 *owner;
    uint64_t mask;
    uint64_t tail;      /* producer only: the next ticket */
    uint64_t head_seen; /* producer only: head's ticket when last looked at */
} fp_taskring;

/* Bits of a ticket above its width, such as the mark, are lost here, as in the next two. */
static inline uint64_t fp__claim_word(uint64_t ticket, uint32_t who) {
    return ticket << FP__TICKET_SHIFT | who;
}

static inline uint64_t fp__ticket_of(uint64_t word) { return word >> FP__TICKET_SHIFT; }

/* How many tickets there are from `from` up to, without, `to`. */
static inline uint64_t fp__tickets(uint64_t from, uint64_t to) {
    return (to - from) & FP__TICKET_MASK;
}

/* Of two tickets that are less than half of all apart. */
static inline bool fp__ticket_before(uint64_t a, uint64_t b) {
    return (int64_t)((a - b) << FP__TICKET_SHIFT) < 0;
}

static inline uint32_t fp__words(const fp_task *task) {
    uint64_t bytes = task->in_block ? 8 : task->len;
    return FP_TASK_HEAD_WORDS + (uint32_t)((bytes + 7) / 8);
}

/* As fp_taskring_init, the first ticket being `first`. */
static inline void fp__taskring_begin(fp_taskring *ring, uint64_t first) {
    FP_ASSERT(ring->mask < FP_TASKRING_MOST && first <= FP__TICKET_MASK);
    ring->tail = ring->head_seen = first;
    /* Relaxed: no other process has the segment yet. */
    for (uint64_t ticket = first - ring->mask - 1; ticket != first; ticket++) {
        atomic_store_explicit(&ring->owner[ticket & ring->mask], fp__claim_word(ticket, FP_NOBODY),
                              memory_order_relaxed);
    }
    atomic_store_explicit(&ring->shared->tail, first, memory_order_relaxed);
    atomic_store_explicit(&ring->shared->head, fp__claim_word(first, FP_NOBODY),
                          memory_order_relaxed);
}

/* Called once, by the creator. */
static inline void fp_taskring_init(fp_taskring *ring) { fp__taskring_begin(ring, ring->mask + 1); }

/* Producer.  Slots that can be written now, at least; 0 only if there are none. */
static inline uint64_t fp_taskring_room(fp_taskring *ring) {
    uint64_t size = ring->mask + 1;
    if (FP_UNLIKELY(fp__tickets(ring->head_seen, ring->tail) >= size)) {
        /* P2, pairs with C2. */
        ring->head_seen =
            fp__ticket_of(atomic_load_explicit(&ring->shared->head, memory_order_acquire));
    }
    return size - fp__tickets(ring->head_seen, ring->tail);
}

/* Producer.  Tasks in the queue that nobody has claimed. */
static inline uint64_t fp_taskring_queued(fp_taskring *ring) {
    /* P2, pairs with C2; seq_cst because who asked for FP_ATT_LOW looks here once more. */
    ring->head_seen =
        fp__ticket_of(atomic_load_explicit(&ring->shared->head, memory_order_seq_cst));
    return fp__tickets(ring->head_seen, ring->tail);
}

/* Producer.  Writes and publishes one task and returns its ticket; there must be room. */
static inline uint64_t fp_taskring_push(fp_taskring *ring, const fp_task *task) {
    uint64_t ticket = ring->tail;
    fp_a64 *to = ring->slots[ticket & ring->mask].word;
    const unsigned char *from = (const unsigned char *)task;
    uint32_t n = fp__words(task);
    FP_ASSERT(n <= FP_TASK_WORDS);
    FP_ASSERT(fp_taskring_room(ring) > 0);
    FP_CP("push.begin");
    for (uint32_t i = 0; i < n; i++) {
        uint64_t word;
        memcpy(&word, from + 8 * i, 8);
        /* Relaxed: a late claimer may be reading this slot; P1 publishes the words. */
        atomic_store_explicit(&to[i], word, memory_order_relaxed);
    }
    FP_CP("push.written");
    ring->tail = (ticket + 1) & FP__TICKET_MASK;
    /* P1, pairs with C1. */
    atomic_store_explicit(&ring->shared->tail, ring->tail, memory_order_release);
    FP_CP("push.published");
    return ticket | FP_TICKET_MARK;
}

/* Producer.  The task that was pushed with this ticket, while its slot has not been used since. */
static inline void fp_taskring_read(const fp_taskring *ring, uint64_t ticket, fp_task *task) {
    const fp_a64 *from = ring->slots[ticket & ring->mask].word;
    uint64_t word;
    for (uint32_t i = 0; i < FP_TASK_HEAD_WORDS; i++) {
        /* Relaxed: only the producer writes them. */
        word = atomic_load_explicit(&from[i], memory_order_relaxed);
        memcpy((unsigned char *)task + 8 * i, &word, 8);
    }
    for (uint32_t i = FP_TASK_HEAD_WORDS; i < fp__words(task); i++) {
        word = atomic_load_explicit(&from[i], memory_order_relaxed);
        memcpy((unsigned char *)task + 8 * i, &word, 8);
    }
}

/* Claimer.  Is there anything to claim?  A hint only. */
static inline bool fp_taskring_empty(fp_taskring *ring) {
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_relaxed);
    return !fp__ticket_before(fp__ticket_of(head), tail);
}

static inline void fp__owner_record(fp_a64 *entry, uint64_t ticket, uint32_t who) {
    uint64_t seen = atomic_load_explicit(entry, memory_order_relaxed);
    /* Forward only: with a plain store, a claimer that slept through a lap would overwrite a newer
     * record. */
    while (fp__ticket_before(fp__ticket_of(seen), ticket)) {
        /* C3, pairs with P3. */
        if (atomic_compare_exchange_weak_explicit(entry, &seen, fp__claim_word(ticket, who),
                                                  memory_order_release, memory_order_relaxed)) {
            return;
        }
    }
}

/* Claimer.  Takes the next task.  Returns its ticket, or 0 when the queue is empty. */
static inline uint64_t fp_taskring_claim(fp_taskring *ring, uint32_t me, fp_task *task) {
    /* Acquire: what the last claimer recorded is visible before we overwrite its name. */
    uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
    for (;;) {
        uint64_t ticket = fp__ticket_of(head);
        /* C1, pairs with P1. */
        if (!fp__ticket_before(ticket,
                               atomic_load_explicit(&ring->shared->tail, memory_order_acquire))) {
            return 0;
        }
        fp_a64 *from = ring->slots[ticket & ring->mask].word;
        unsigned char *to = (unsigned char *)task;
        uint64_t word;
        for (uint32_t i = 0; i < FP_TASK_HEAD_WORDS; i++) {
            word = atomic_load_explicit(&from[i], memory_order_relaxed);
            memcpy(to + 8 * i, &word, 8);
        }
        /* The header may be torn: bound what it says before using it. */
        uint64_t n = (task->in_block ? 8 : task->len) + 7;
        n = FP_TASK_HEAD_WORDS + (n / 8 <= FP_TASK_INLINE / 8 ? n / 8 : FP_TASK_INLINE / 8);
        for (uint32_t i = FP_TASK_HEAD_WORDS; i < n; i++) {
            word = atomic_load_explicit(&from[i], memory_order_relaxed);
            memcpy(to + 8 * i, &word, 8);
        }
        FP_CP("claim.copied");
        fp__owner_record(&ring->owner[(ticket - 1) & ring->mask], ticket - 1, head & 0xFFFF);
        FP_CP("claim.recorded");
        /* C2, pairs with P2; acquire on failure for the next round, as above.  seq_cst orders the
         * claim before the worker's next look at a flag: see fp_park.h. */
        if (atomic_compare_exchange_strong_explicit(&ring->shared->head, &head,
                                                    fp__claim_word(ticket + 1, me),
                                                    memory_order_seq_cst, memory_order_acquire)) {
            FP_CP("claim.taken");
            return ticket | FP_TICKET_MARK;
        }
    }
}

/* Producer.  Who claimed this published ticket: a claimer's number, FP_UNCLAIMED, FP_FORGOTTEN. */
static inline uint32_t fp_taskring_owner(fp_taskring *ring, uint64_t ticket) {
    for (;;) {
        /* P2: everything the named claimers recorded before is visible. */
        uint64_t head = atomic_load_explicit(&ring->shared->head, memory_order_acquire);
        if (!fp__ticket_before(ticket, fp__ticket_of(head))) {
            return FP_UNCLAIMED;
        }
        if (fp__tickets(ticket, fp__ticket_of(head)) == 1) {
            return head & 0xFFFF;
        }
        /* P3, pairs with C3. */
        uint64_t entry =
            atomic_load_explicit(&ring->owner[ticket & ring->mask], memory_order_acquire);
        if (fp__tickets(ticket, fp__ticket_of(entry)) == 0) {
            return entry & 0xFFFF;
        }
        if (fp__ticket_before(ticket, fp__ticket_of(entry))) {
            return FP_FORGOTTEN;
        }
        /* Unreachable by P3; going round again costs nothing and can't mislead. */
    }
}

/* Producer, or anyone while nobody pushes: asserts the invariants; 0 or -EINVAL. */
static inline int fp_taskring_check(fp_taskring *ring) {
    uint64_t head = fp__ticket_of(atomic_load_explicit(&ring->shared->head, memory_order_acquire));
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, memory_order_acquire);
    uint64_t size = ring->mask + 1;
    if (tail > FP__TICKET_MASK || fp__tickets(head, tail) > size) {
        return -EINVAL;
    }
    for (uint64_t i = 0; i < size; i++) {
        uint64_t entry = fp__ticket_of(atomic_load_explicit(&ring->owner[i], memory_order_acquire));
        if ((entry & ring->mask) != i || !fp__ticket_before(entry, tail) ||
            fp__ticket_before(entry, head - size - 1)) {
            return -EINVAL;
        }
    }
    return 0;
}

#endif
