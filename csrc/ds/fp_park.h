/* fp_park.h: how workers wait for tasks, and the parent's threads for results.
 *
 * Everyone waits in three steps: pause-spin about a microsecond (the peer is running and answers in
 * a tenth of that), yield-spin for the block time (other processes run undisturbed), then sleep.
 *
 * Workers sleep one by one, each on its own word, and say so by a bit of `sleepers`.  Bits, not a
 * count: when a worker is killed the parent clears its bit, and nothing is off by one for ever.
 * Whoever publishes tasks wakes no more sleepers than there are tasks without an awake worker.
 * The parent's threads sleep together on `bell`, and say so by a bit of `attention`.
 *
 * No wake-up is lost, because both sides write, then read, in the one order of seq_cst:
 *     publisher   store tail         sleeper    set bit
 *                 load sleepers                 load tail
 * If the publisher missed the bit, its store of tail came before the sleeper's load of tail, so the
 * sleeper sees the task and does not sleep; else it is woken.  The same for results and attention.
 *
 * Refusals    Where the parent can't wake when it makes the pool, all its processes nap.  Whoever is
 *             refused it later (a filter of system calls that a task or the program has set up) sets
 *             `unheard` and rings the background thread, which wakes the parent's threads, and the
 *             workers by a signal.  They look around: late, but no token is lost, since the token
 *             was stored before the signal was sent.  A thread of the parent looks around by itself.
 * Tokens      A waker takes a sleeper's bit, stores 1 to its park word and wakes it.  A token that
 *             arrives after the worker got up by itself ends one later sleep early: harmless.
 * Death       of a sleeper: the parent clears the bit (fp_park_forget) and wakes others in its place.
 *             of the parent between taking a bit and the wake: only the parent wakes workers, and
 *             with it everything ends.
 *             of a worker between taking a request off `attention` and the wake: the parent wakes
 *             all its own sleepers when it settles a death, and they ask anew (fp_park_forget).
 */
#ifndef FP_PARK_H
#define FP_PARK_H

#include "base/fp_base.h"
#include "ds/fp_ctl.h"

/* Bits of `attention`: what a worker has to do after it published a result or claimed a task. */
#define FP_ATT_WAITER 1u  /* threads of the parent sleep on `bell` */
#define FP_ATT_RESULTS 2u /* the background thread wants to hear of results */
#define FP_ATT_LOW 4u     /* ... of a queue that runs low */
/* And what it has to look for after it claimed a task; this bit stays until the parent takes it off. */
#define FP_ATT_CANCEL 8u /* queued tasks were cancelled */

/* States of the pool. */
#define FP_POOL_RUN 0u
#define FP_POOL_DRAIN 1u /* workers leave when the queue is empty */
#define FP_POOL_STOP 2u  /* workers leave after their task */

/* Reasons why fp_worker_wait returned. */
#define FP_GOT_TASK 0
#define FP_GOT_STOP 1

typedef struct fp_park_shared {
    _Alignas(FP_LINE) fp_a32 attention;
    fp_a32 state;
    _Alignas(FP_LINE) fp_a32 bell;
    /* Set by who could not wake somebody, taken by the parent's background thread. */
    fp_a32 unheard;
} fp_park_shared;

/* How long to spin before sleeping; process-local. */
typedef struct fp_patience {
    uint64_t pause_ns;
    uint64_t block_ns; /* now */
    uint64_t min_ns;
    uint64_t max_ns; /* == min_ns: fixed by the user */
} fp_patience;

/* Spins 0.2 ms at first, if the bounds allow it. */
static inline void fp_patience_init(fp_patience *p, uint64_t min_ns, uint64_t max_ns) {
    uint64_t block_ns = min_ns > 200000 ? min_ns : 200000;
    p->min_ns = min_ns;
    p->max_ns = max_ns;
    p->block_ns = block_ns < max_ns ? block_ns : max_ns;
}

/* After a wait: `waited_ns` is how long it really took.  A wait that would have fitted into max_ns
 * makes the next one spin at least twice as long; a longer one lets the patience shrink. */
static inline void fp_patience_learn(fp_patience *p, uint64_t waited_ns) {
    if (p->min_ns == p->max_ns) {
        return;
    }
    if (waited_ns > p->max_ns) {
        p->block_ns = p->block_ns / 2 > p->min_ns ? p->block_ns / 2 : p->min_ns;
    } else if (2 * waited_ns > p->block_ns) {
        p->block_ns = 2 * waited_ns < p->max_ns ? 2 * waited_ns : p->max_ns;
    }
}

static inline bool fp_sleepers_set(fp_a64 *sleepers, uint32_t who) {
    uint64_t bit = 1ull << (who & 63);
    FP_CP("sleepers.begin_set");
    bit &= atomic_fetch_or_explicit(&sleepers[who >> 6], bit, memory_order_seq_cst);
    FP_CP("sleepers.set");
    return bit;
}

/* Returns whether the bit was set, that is, whether the caller is the one who took it. */
static inline bool fp_sleepers_take(fp_a64 *sleepers, uint32_t who) {
    uint64_t bit = 1ull << (who & 63);
    FP_CP("sleepers.begin_take");
    bit &= atomic_fetch_and_explicit(&sleepers[who >> 6], ~bit, memory_order_seq_cst);
    FP_CP("sleepers.taken");
    return bit;
}

#endif
