/* fp_pool.h: one pool's segment: its map, and what parent and workers do with it.
 *
 *     0          fp_pool_shared   magic, version, geometry; park words; the task ring's indices
 *     sleepers   one bit a worker slot
 *     ctl        fp_ctl           one a worker slot
 *     owner      fp_a64           one a task slot
 *     cancelled  fp_a64           one a task slot: a ticket that shall not run
 *     tasks      fp_slot          the task ring
 *     rings      fp_resring_shared + fp_result[]    one a worker slot
 *     regions    region 0: the parent's blocks;  region 1 + i: worker slot i's
 *
 * All offsets follow from the geometry in the header; fp_pool_attach() checks magic and version and
 * computes them anew.  The file is sparse: what is not touched costs nothing.
 */
#ifndef FP_POOL_H
#define FP_POOL_H

#include "ds/fp_ctl.h"
#include "ds/fp_heap.h"
#include "ds/fp_park.h"
#include "ds/fp_resring.h"
#include "ds/fp_taskring.h"
#include "os/fp_os.h"

#define FP_POOL_MAGIC 0x6c6f6f7074736166u /* "fastpool" */
#define FP_POOL_VERSION 3u

/* Bytes of a segment, where the address space has room for so many. */
#define FP_POOL_TOTAL (4ull << 40)

/* Who waits for a peer that runs glances for so long before the first yield: it answers in 0.1 to 0.5
 * us.  Longer than that, and two that share a CPU would only keep each other from it. */
#define FP_GLANCE_NS 1000u

typedef struct fp_pool_shared {
    uint64_t magic;
    uint32_t version;
    uint32_t slots;      /* worker slots */
    uint32_t ring_size;  /* task slots, a power of two */
    uint32_t res_size;   /* result slots of each worker, a power of two */
    uint64_t total;      /* bytes of the segment */
    uint64_t parent_pid; /* for monitors */
    uint32_t pauses;     /* of fp_relax() in FP_GLANCE_NS, or 0; written before the magic */
    uint32_t naps;       /* the parent can't wake anybody: all nap; written before the magic */
    fp_park_shared park;
    fp_taskring_shared tasks;
} fp_pool_shared;

/* One process's view of the segment. */
typedef struct fp_pool {
    unsigned char *base;
    fp_pool_shared *shared;
    int fd;
    int bell_fd; /* the background thread's, or -1; the caller's to set */
    uint64_t total;
    uint32_t slots;
    fp_a64 *sleepers;
    fp_ctl *ctl;
    fp_taskring ring;
    uint32_t pauses;
    fp_a64 *cancelled;
    unsigned char *rings; /* the result rings */
    uint64_t ring_bytes;  /* of one result ring */
    uint32_t res_size;
    uint64_t regions; /* offset of region 0 */
    uint64_t parent_region_size;
    uint64_t worker_region_size;
} fp_pool;

/* Creates the segment (as large as the system grants, at least 256 MiB) and maps it.
 * -EINVAL bad geometry; -ENOMEM, -EMFILE and others as fp_os_memory_create() says. */
int fp_pool_create(fp_pool *pool, uint32_t slots, uint32_t ring_size, uint32_t res_size);

/* Maps a segment that another process made.  -EPROTO: not one of ours, or of another version. */
int fp_pool_attach(fp_pool *pool, int fd);

/* Unmaps it; the descriptor stays the caller's. */
void fp_pool_unmap(fp_pool *pool);

/* A handle of slot i's result ring, which must be empty; call from the side that will use it. */
void fp_pool_resring(const fp_pool *pool, uint32_t slot, fp_resring *ring);

/* Makes what belongs to slot i present: its result ring and the header of its region (all else is so
 * from the start).  Before anything else is done with the slot.  0 or -ENOMEM. */
int fp_pool_populate_slot(const fp_pool *pool, uint32_t slot);

/* ---- regions: 0 is the parent's, 1 + i worker slot i's ------------------------------------------ */

/* Begins books on a region, by its owner. */
void fp_pool_heap(const fp_pool *pool, uint32_t region, uint64_t keep, fp_heap *heap);

/* Parent: see fp_region_restart(). */
void fp_pool_restart_region(const fp_pool *pool, uint32_t region, bool blocks_live, uint64_t keep);

/* In which region a block lies. */
uint32_t fp_pool_region_of(const fp_pool *pool, uint64_t offset);

/* Parent: whether a block is left from before its region's restart: then fp_block_drop() instead of
 * fp_block_return(). */
bool fp_pool_is_behind(const fp_pool *pool, uint64_t offset);

/* ---- parent ----------------------------------------------------------------------------------- */

/* How many of the first `slots` slots have a sleeping worker. */
uint32_t fp_pool_sleeping(const fp_pool *pool, uint32_t slots);

/* After publishing tasks: makes the tail visible in seq_cst order, then wakes sleepers until there
 * is an awake worker for each of `outstanding` unfinished tasks, of `alive` workers in the first
 * `slots` slots.  Tasks that workers who are awake take within half a microsecond wake nobody.
 * Returns how many were woken. */
uint32_t fp_pool_kick(fp_pool *pool, uint32_t slots, uint32_t alive, uint64_t outstanding);

/* Wakes every sleeping worker, to look at its stop flag or the pool's state. */
void fp_pool_wake_all(fp_pool *pool, uint32_t slots);

/* A dead worker sleeps no more.  Also wakes all threads of the parent, as fp_parent_wake: it may have
 * died with their wake-up in its hands.  The background thread has to ask for results anew. */
void fp_park_forget(fp_pool *pool, uint32_t slot);

/* After reading a crowded result ring, by the one who read it: wakes its worker if it waits. */
void fp_pool_made_room(fp_pool *pool, uint32_t slot);

/* Has a queued task not run: whoever claims it from now on will skip it and say so.  Returns false
 * when it was claimed before that; then it runs, or is skipped all the same.
 * The parent stores the mark and the bit, then loads head; a worker swaps head, then loads the bit;
 * all seq_cst: if the parent finds the task unclaimed, its claimer finds the bit.  The parent takes
 * the bit off when nothing that it marked is in the queue any more. */
bool fp_pool_cancel(fp_pool *pool, uint64_t ticket);

/* Wakes all threads of the parent that sleep in fp_parent_wait. */
void fp_parent_wake(fp_pool *pool);

/* The background thread, when its bell rings: has somebody been refused to wake others?  Then it wakes
 * the parent's threads here, and has to send every worker a signal. */
bool fp_pool_answer(fp_pool *pool);

/* What fp_parent_wait() compares: read it while you still hold what guards the rings' number and all
 * else that you have looked at, since who changes that rings the bell. */
uint32_t fp_parent_bell(const fp_pool *pool);

/* Waits until one of `n` result rings has something, or *ready is not 0, or somebody rings the bell.
 * deadline_ns is absolute, 0 for none; `give_up_ns` bounds the yield-spinning of one call, so that
 * the caller can look for signals.
 * 1 look again, -ETIMEDOUT, -EINTR (look for signals), -EAGAIN (likewise: has spun for give_up_ns,
 * or to the end; the next call sleeps). */
int fp_parent_wait(fp_pool *pool, const fp_resring *rings, uint32_t n, const fp_a32 *ready,
                   uint32_t bell, uint64_t spin_until_ns, uint64_t deadline_ns,
                   uint64_t give_up_ns);

/* ---- worker ----------------------------------------------------------------------------------- */

/* Waits until there is a task to claim (FP_GOT_TASK) or the worker shall leave (FP_GOT_STOP).
 * -EINTR: a signal handler ran, or it is time to look whether one did. */
int fp_worker_wait(fp_pool *pool, uint32_t me, fp_patience *patience, uint64_t *since_ns);

/* Waits until the result ring has room; rings `bell_fd` so that somebody reads it.
 * 0, FP_GOT_STOP or -EINTR as above. */
int fp_worker_wait_room(fp_pool *pool, uint32_t me, fp_resring *ring, int bell_fd);

/* The rare part of "after I published a result or claimed a task": wakes who asked for it. */
void fp_worker_notify(fp_pool *pool, uint32_t attention, int bell_fd);

static inline uint32_t fp_pool_state(const fp_pool *pool) {
    /* seq_cst: a worker that announced its sleep looks here once more, see fp_park.h. */
    return atomic_load_explicit(&pool->shared->park.state, memory_order_seq_cst);
}

static inline void fp_pool_set_state(fp_pool *pool, uint32_t state) {
    FP_CP("state.begin");
    atomic_store_explicit(&pool->shared->park.state, state, memory_order_seq_cst);
    FP_CP("state.set");
}

static inline void fp_pool_ask(fp_pool *pool, uint32_t attention) {
    /* seq_cst: asked before the asker looks at the rings once more. */
    FP_CP("ask.begin");
    atomic_fetch_or_explicit(&pool->shared->park.attention, attention, memory_order_seq_cst);
    FP_CP("ask.done");
}

/* Worker: after fp_resring_publish. */
static inline void fp_worker_published(fp_pool *pool, int bell_fd) {
    uint32_t a = atomic_load_explicit(&pool->shared->park.attention, memory_order_seq_cst);
    if (FP_UNLIKELY(a & (FP_ATT_WAITER | FP_ATT_RESULTS))) {
        fp_worker_notify(pool, a & (FP_ATT_WAITER | FP_ATT_RESULTS), bell_fd);
    }
}

static inline void fp_pool_ask_no_more(fp_pool *pool, uint32_t attention) {
    /* Relaxed: a worker that still sees the bit looks once for nothing. */
    atomic_fetch_and_explicit(&pool->shared->park.attention, ~attention, memory_order_relaxed);
}

/* Worker: after a claim.  Whether the task may run: it was not cancelled. */
static inline bool fp_worker_claimed(fp_pool *pool, uint64_t ticket, int bell_fd) {
    uint32_t a = atomic_load_explicit(&pool->shared->park.attention, memory_order_seq_cst);
    if (FP_UNLIKELY(a & FP_ATT_LOW)) {
        uint64_t tail = atomic_load_explicit(&pool->shared->tasks.tail, memory_order_relaxed);
        /* What is left after this claim: in the smallest rings, too, an empty queue is low. */
        if (fp__tickets(ticket + 1, tail) <= pool->ring.mask / 4) {
            fp_worker_notify(pool, FP_ATT_LOW, bell_fd);
        }
    }
    /* Relaxed: the mark was stored before the bit that we have seen. */
    return FP_LIKELY(!(a & FP_ATT_CANCEL)) ||
           atomic_load_explicit(&pool->cancelled[ticket & pool->ring.mask], memory_order_relaxed) !=
               ticket;
}

#endif
