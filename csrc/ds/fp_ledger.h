/* fp_ledger.h: the parent's book of unfinished tasks, in private memory.
 *
 * Each task has an entry from its submission until its result was read; the entry's number (the
 * cookie) travels with the task and comes back with the result.  So at any moment every task is
 * free, waiting (not yet in the ring), or sent; and a sent one is held by exactly the worker that
 * fp_ledger_holder() names, or by nobody yet.
 *
 * Roles       one thread at a time: the holder of the parent's lock.
 * Invariants  used == entries that are not FP_ENTRY_FREE;  sent entries have different tickets (but
 *             for a task that is older than 2^FP_TICKET_BITS others: it has its cookie);
 *             last[ticket & mask] is the cookie + 1 of the newest ticket in that task slot.
 * Overwrite   before a task slot is used again, fp_ledger_sent() writes down who claimed the
 *             unfinished ticket that lay there, since the ring forgets it (see fp_taskring.h), and
 *             keeps a copy of the task, which may have to be sent once more.
 */
#ifndef FP_LEDGER_H
#define FP_LEDGER_H

#include "ds/fp_taskring.h"

#define FP_ENTRY_FREE 0u
#define FP_ENTRY_WAITING 1u
#define FP_ENTRY_SENT 2u
#define FP_NO_COOKIE UINT32_MAX

typedef struct fp_entry {
    void *job;       /* whom the result is for: the caller's business, as are index, block, keeps */
    uint64_t index;  /* position of the task's first item in the job */
    uint64_t block;  /* argument block to free with the task, or 0 */
    void *keeps;     /* what else the task needs */
    uint64_t again;  /* block that says where to go on, when it was sent once more; or 0 */
    uint64_t ticket; /* as the ring's functions return it */
    uint32_t count;  /* items */
    uint32_t done;   /* of these, whose results have been read */
    uint32_t deaths; /* workers that died ... */
    uint32_t culprit;    /* ... of this item */
    uint32_t claimed_by; /* written down before the ring forgot it; FP_UNCLAIMED until then */
    uint32_t next;       /* free list */
    uint32_t state;
} fp_entry;

typedef struct fp_ledger {
    fp_entry *entries;
    fp_task *copies; /* beside entries: of tasks whose slot was used again before they were done */
    uint32_t *last;
    uint32_t capacity;
    uint32_t free;
    uint32_t used;
    uint64_t mask;
} fp_ledger;

/* 0 or -ENOMEM. */
int fp_ledger_init(fp_ledger *ledger, uint64_t ring_mask);
void fp_ledger_close(fp_ledger *ledger);

/* Makes room for more entries; 0 or -ENOMEM. */
int fp__ledger_grow(fp_ledger *ledger);

/* Takes an entry, state waiting.  Returns its cookie, or FP_NO_COOKIE when memory ran out. */
static inline uint32_t fp_ledger_take(fp_ledger *ledger) {
    if (FP_UNLIKELY(ledger->free == FP_NO_COOKIE) && fp__ledger_grow(ledger) < 0) {
        return FP_NO_COOKIE;
    }
    uint32_t cookie = ledger->free;
    fp_entry *entry = &ledger->entries[cookie];
    ledger->free = entry->next;
    ledger->used++;
    entry->state = FP_ENTRY_WAITING;
    entry->claimed_by = FP_UNCLAIMED;
    entry->again = 0;
    entry->done = entry->deaths = 0;
    return cookie;
}

static inline void fp_ledger_release(fp_ledger *ledger, uint32_t cookie) {
    fp_entry *entry = &ledger->entries[cookie];
    FP_ASSERT(entry->state != FP_ENTRY_FREE);
    entry->state = FP_ENTRY_FREE;
    entry->job = NULL;
    entry->next = ledger->free;
    ledger->free = cookie;
    ledger->used--;
}

/* Call before fp_taskring_push: the entry's task is about to get the ring's next ticket. */
static inline void fp_ledger_sent(fp_ledger *ledger, fp_taskring *ring, uint32_t cookie) {
    uint64_t ticket = ring->tail | FP_TICKET_MARK;
    uint32_t *last = &ledger->last[ticket & ledger->mask];
    if (*last != 0) {
        fp_entry *old = &ledger->entries[*last - 1];
        if (FP_UNLIKELY(old->state == FP_ENTRY_SENT &&
                        fp__tickets(old->ticket, ticket) == ledger->mask + 1)) {
            old->claimed_by = fp_taskring_owner(ring, old->ticket);
            fp_taskring_read(ring, old->ticket, &ledger->copies[*last - 1]);
        }
    }
    *last = cookie + 1;
    ledger->entries[cookie].ticket = ticket;
    ledger->entries[cookie].claimed_by = FP_UNCLAIMED; /* also when it is sent once more */
    ledger->entries[cookie].state = FP_ENTRY_SENT;
}

/* Who holds this sent, unfinished task: a worker's number, or FP_UNCLAIMED. */
static inline uint32_t fp_ledger_holder(const fp_ledger *ledger, fp_taskring *ring,
                                        uint32_t cookie) {
    const fp_entry *entry = &ledger->entries[cookie];
    return entry->claimed_by != FP_UNCLAIMED ? entry->claimed_by
                                             : fp_taskring_owner(ring, entry->ticket);
}

/* A sent task as it was sent, to send it once more. */
void fp_ledger_task(const fp_ledger *ledger, fp_taskring *ring, uint32_t cookie, fp_task *task);

/* The entry of a sent task, or FP_NO_COOKIE. */
uint32_t fp_ledger_find(const fp_ledger *ledger, uint64_t ticket);

/* The next task at or after `from` that worker `who` holds, or FP_NO_COOKIE. */
uint32_t fp_ledger_held(const fp_ledger *ledger, fp_taskring *ring, uint32_t who, uint32_t from);

#endif
