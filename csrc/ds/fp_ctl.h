/* fp_ctl.h: one worker's control block: what it does, for the parent and for monitors to read.
 *
 * Writers     `stop`, the verdict: the parent; `park`, `want_room`: both (see fp_park.h); all else:
 *             the worker, and the parent while nobody owns the slot.
 * Orders      relaxed unless said otherwise: each field is read by itself, as a report.
 *             S1 store finished, release  <->  S2 load finished, acquire: the results of so many
 *                items of the chunk lie where `saved` says, but for those that were published.
 *             P1 store ticket, release  <->  P2 load ticket, acquire: `item` is not older than that.
 *             V1 store verdict_ticket, release  <->  V2 load verdict_ticket, acquire: the rest of the
 *                verdict is visible.  (The signal comes after it, but it may be an older one.)
 * Saved       results of a chunk lie in shared memory as soon as they are there, so that a worker
 *             that dies in the middle loses only the item that it runs.  `saved` says where and in
 *             which form in one word, so a move to a larger buffer is one store.  Where items were
 *             published since, the buffer begins with the first one that was not.
 * Death       the fields stay as the worker left them; fp_ctl_reset() makes them new.
 */
#ifndef FP_CTL_H
#define FP_CTL_H

#include "base/fp_base.h"

enum fp_state {
    FP_FREE = 0, /* the slot belongs to nobody */
    FP_STARTING, /* forked, the initializer has not returned */
    FP_IDLE,
    FP_BUSY,
    FP_LEAVING, /* left the loop, exit handlers run */
};

typedef struct fp_ctl {
    _Alignas(FP_LINE) fp_a32 park; /* 1: a wake-up token lies here */
    fp_a32 stop;                   /* 1: leave after the current task */
    fp_a32 want_room;              /* 1: sleeps until its result ring has room */
    fp_a32 verdict_kind;           /* why: the codec's business */
    fp_a64 verdict_ticket;         /* the task that shall be stopped; 0: none */
    fp_a64 verdict_since;          /* the item of it that began then; FP_ANY_ITEM */
    _Alignas(FP_LINE) fp_a32 state;
    fp_a32 pid;
    fp_a32 last;      /* 1: this task is its last one, it may be replaced */
    fp_a32 item;      /* which item of the task it runs */
    fp_a64 ticket;    /* the task it runs; 0: none */
    fp_a64 tasks;     /* tasks done */
    fp_a64 items;     /* items done, chunks counted by their items */
    fp_a64 parks;     /* times it slept */
    fp_a64 heap_used; /* bytes of its blocks that are in use */
    fp_a64 heap_warm; /* bytes of its free blocks that take memory */
    fp_a64 heap_peak; /* the most that heap_used has been */
    fp_a64
        finished; /* items of the task that are published or saved: at most `item`, or one more */
    fp_a64 saved; /* where the results lie that are not published: fp_saved_word() */
    fp_a64 since; /* when the item began, as fp_os_now_ns; 0: nobody wants to know */
    /* Where a report is asked for, and else 0; noted before the result of a task is published. */
    fp_a64 task_count;
    fp_a64 item_count;
    fp_a64 task_ns; /* time in tasks */
    fp_a64 call_ns; /* of that, time in the functions that tasks call */
} fp_ctl;
_Static_assert(sizeof(fp_ctl) == 2 * FP_LINE, "what only the worker writes shares one line");

#define FP_ANY_ITEM UINT64_MAX

/* An offset in the segment (of at most 2^48 bytes) and a form, which is the codec's business. */
static inline uint64_t fp_saved_word(uint64_t offset, uint8_t form) { return offset << 8 | form; }

static inline void fp_ctl_reset(fp_ctl *ctl) {
    FP_CP("ctl.begin");
    atomic_store_explicit(&ctl->verdict_ticket, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->last, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->item, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->finished, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->saved, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->since, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->park, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->stop, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->want_room, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->state, FP_FREE, memory_order_relaxed);
    atomic_store_explicit(&ctl->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->ticket, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->tasks, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->items, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->parks, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->task_count, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->item_count, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->task_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->call_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->heap_used, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->heap_warm, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->heap_peak, 0, memory_order_relaxed);
    FP_CP("ctl.reset");
}

/* Parent: says what shall be stopped, before the signal is sent: the item of a task that began at
 * `since`, or FP_ANY_ITEM. */
static inline void fp_ctl_condemn(fp_ctl *ctl, uint64_t ticket, uint64_t since, uint32_t kind) {
    /* Relaxed: V1 publishes them. A handler that reads them in between finds no task of its own. */
    atomic_store_explicit(&ctl->verdict_ticket, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->verdict_since, since, memory_order_relaxed);
    atomic_store_explicit(&ctl->verdict_kind, kind, memory_order_relaxed);
    /* V1, pairs with V2. */
    atomic_store_explicit(&ctl->verdict_ticket, ticket, memory_order_release);
}

/* Worker, in its signal handler: why the item that runs shall be stopped, or 0. */
static inline uint32_t fp_ctl_verdict(fp_ctl *ctl) {
    uint64_t ticket = atomic_load_explicit(&ctl->ticket, memory_order_relaxed);
    /* V2, pairs with V1. */
    if (ticket == 0 || ticket != atomic_load_explicit(&ctl->verdict_ticket, memory_order_acquire)) {
        return 0;
    }
    uint64_t since = atomic_load_explicit(&ctl->verdict_since, memory_order_relaxed);
    if (since != FP_ANY_ITEM && since != atomic_load_explicit(&ctl->since, memory_order_relaxed)) {
        return 0;
    }
    return atomic_load_explicit(&ctl->verdict_kind, memory_order_relaxed);
}

/* Worker: so many items of the task are done. */
static inline void fp_ctl_finished(fp_ctl *ctl, uint64_t n) {
    /* S1, pairs with S2. */
    atomic_store_explicit(&ctl->finished, n, memory_order_release);
}

/* Parent: the same, of a worker that runs or is dead. */
static inline uint64_t fp_ctl_progress(fp_ctl *ctl) {
    /* S2, pairs with S1. */
    return atomic_load_explicit(&ctl->finished, memory_order_acquire);
}

/* Parent: the task that the worker runs, and since when its item, whose name that is; false when it
 * runs none whose time is taken.  The worker sets `since` after `ticket`, and clears it before: with
 * the same ticket before and after, `since` belongs to that task.  Release and acquire. */
static inline bool fp_ctl_running(fp_ctl *ctl, uint64_t *ticket, uint64_t *since) {
    *ticket = atomic_load_explicit(&ctl->ticket, memory_order_acquire);
    *since = atomic_load_explicit(&ctl->since, memory_order_acquire);
    return *since != 0 && *ticket != 0 &&
           *ticket == atomic_load_explicit(&ctl->ticket, memory_order_acquire);
}

/* Parent: the task that the worker runs, and which item of it; false when it runs none. With the same
 * ticket before and after, `item` belongs to that task, but on a machine that makes relaxed stores
 * visible out of order: this is for reports. */
static inline bool fp_ctl_position(fp_ctl *ctl, uint64_t *ticket, uint32_t *item) {
    /* P2, pairs with P1. */
    *ticket = atomic_load_explicit(&ctl->ticket, memory_order_acquire);
    /* Acquire: read before the ticket is once more. */
    *item = atomic_load_explicit(&ctl->item, memory_order_acquire);
    return *ticket != 0 && *ticket == atomic_load_explicit(&ctl->ticket, memory_order_relaxed);
}

/* Worker: a counter that only this process writes needs no locked instruction. */
static inline void fp_ctl_count(fp_a64 *counter, uint64_t n) {
    uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

#endif
