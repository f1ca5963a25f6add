/* fp_ctl.h: one worker's control block: what it does, for the parent and for monitors to read.
 *
 * Writers     `stop`: the parent; `park`, `want_room`: both (see fp_park.h); all else: the worker,
 *             and the parent while nobody owns the slot.
 * Orders      relaxed unless said otherwise: each field is read by itself, as a report.
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
    _Alignas(FP_LINE) fp_a32 state;
    fp_a32 pid;
    fp_a64 ticket;    /* the task it runs; 0: none */
    fp_a64 tasks;     /* tasks done */
    fp_a64 items;     /* items done, chunks counted by their items */
    fp_a64 parks;     /* times it slept */
    fp_a64 heap_used; /* bytes of its blocks that are in use */
    fp_a64 heap_warm; /* bytes of its free blocks that take memory */
    fp_a64 heap_peak; /* the most that heap_used has been */
} fp_ctl;
_Static_assert(sizeof(fp_ctl) == 2 * FP_LINE, "what only the worker writes shares one line");

static inline void fp_ctl_reset(fp_ctl *ctl) {
    FP_CP("ctl.begin");
    atomic_store_explicit(&ctl->park, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->stop, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->want_room, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->state, FP_FREE, memory_order_relaxed);
    atomic_store_explicit(&ctl->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->ticket, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->tasks, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->items, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->parks, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->heap_used, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->heap_warm, 0, memory_order_relaxed);
    atomic_store_explicit(&ctl->heap_peak, 0, memory_order_relaxed);
    FP_CP("ctl.reset");
}

/* Worker: a counter that only this process writes needs no locked instruction. */
static inline void fp_ctl_count(fp_a64 *counter, uint64_t n) {
    uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

#endif
