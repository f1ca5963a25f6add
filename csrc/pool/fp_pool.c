#include "pool/fp_pool.h"

#include "sys/fp_memory.h"
#include "sys/fp_topo.h"

#include <sched.h>
#include <unistd.h>

#define FP__MIN_TOTAL (256ull << 20)
#define FP__PAGE 4096u
/* Regions begin at a page boundary whatever the size of a page: none has two owners. */
#define FP__REGION (64 * 1024u)

/* A sleeping thread of the parent looks for signals this often. */
#define FP__LOOK_NS 2000000000

static bool fp__is_size(uint64_t n, uint64_t most) {
    return n != 0 && (n & (n - 1)) == 0 && n <= most;
}

static void fp__lay_out(fp_pool *pool) {
    const fp_pool_shared *shared = pool->shared;
    uint64_t at = FP_ALIGN_UP(sizeof(fp_pool_shared), FP_LINE);
    pool->total = shared->total;
    pool->slots = shared->slots;
    pool->res_size = shared->res_size;
    pool->pauses = shared->pauses;
    pool->sleepers = (fp_a64 *)(pool->base + at);
    at += FP_ALIGN_UP((pool->slots + 63) / 64 * 8, FP_LINE);
    pool->ctl = (fp_ctl *)(pool->base + at);
    at += pool->slots * sizeof(fp_ctl);
    pool->ring.shared = &pool->shared->tasks;
    pool->ring.mask = shared->ring_size - 1;
    pool->ring.owner = (fp_a64 *)(pool->base + at);
    at += shared->ring_size * sizeof(fp_a64);
    pool->cancelled = (fp_a64 *)(pool->base + at);
    at += shared->ring_size * sizeof(fp_a64);
    at = FP_ALIGN_UP(at, FP__PAGE);
    pool->ring.slots = (fp_slot *)(pool->base + at);
    at += shared->ring_size * sizeof(fp_slot);
    at = FP_ALIGN_UP(at, FP__PAGE);
    pool->rings = pool->base + at;
    pool->ring_bytes = sizeof(fp_resring_shared) + shared->res_size * sizeof(fp_result);
    at += pool->slots * pool->ring_bytes;
    pool->regions = FP_ALIGN_UP(at, FP__REGION);
    uint64_t left = pool->total > pool->regions ? pool->total - pool->regions : 0;
    pool->parent_region_size = (left / 4) & ~(uint64_t)(FP__REGION - 1);
    pool->worker_region_size =
        (left - pool->parent_region_size) / pool->slots & ~(uint64_t)(FP__REGION - 1);
}

/* A pause takes 4 to 140 ns, by processor.  Of some tries the shortest counts: nobody came between. */
static uint32_t fp__count_pauses(void) {
    int cpu;
    if (fp_os_cpus(0, &cpu, 1) == 1) {
        return 0; /* on the only CPU, who pauses keeps the one off it that he waits for */
    }
    const uint64_t tried = 32;
    uint64_t shortest = UINT64_MAX;
    for (int i = 0; i < 4; i++) {
        uint64_t begin = fp_os_now_ns();
        for (uint64_t k = 0; k < tried; k++) {
            fp_relax();
        }
        uint64_t took = fp_os_now_ns() - begin;
        shortest = took < shortest ? took : shortest;
    }
    uint64_t pauses = tried * FP_GLANCE_NS / (shortest == 0 ? 1 : shortest);
    return pauses < 4 ? 4 : pauses > 500 ? 500 : (uint32_t)pauses;
}

int fp_pool_create(fp_pool *pool, uint32_t slots, uint32_t ring_size, uint32_t res_size) {
    if (slots == 0 || slots >= FP_NOBODY || !fp__is_size(ring_size, FP_TASKRING_MOST) ||
        !fp__is_size(res_size, FP_RESRING_MOST)) {
        return -EINVAL;
    }
    memset(pool, 0, sizeof *pool);
    pool->bell_fd = -1;
    void *base = NULL;
    int err = -ENOMEM;
    /* An address-space limit (ulimit -v) may forbid the generous size: ask for less, and then leave
     * half of what there is to the program. */
    bool limited = false;
    for (uint64_t total = FP_POOL_TOTAL; total >= FP__MIN_TOTAL; total /= 2) {
        int fd = fp_os_memory_create(total);
        if (fd < 0) {
            err = fd;
            if (err == -EFBIG || err == -EINVAL) {
                limited = true; /* the file-size limit (ulimit -f), likewise */
                continue;
            }
            return err;
        }
        err = fp_os_memory_map(fd, total, &base);
        if (err == 0 && limited && total / 2 >= FP__MIN_TOTAL) {
            fp_os_memory_unmap(base, total);
            limited = false;
        } else if (err == 0) {
            pool->fd = fd;
            pool->total = total;
            break;
        } else {
            limited = true;
        }
        close(fd);
    }
    if (err < 0) {
        return err;
    }
    pool->base = base;
    pool->shared = base;
    FP_CP("create.mapped");
    err = fp_os_memory_reserve(pool->fd, 0, sizeof(fp_pool_shared));
    if (err < 0) {
        fp_pool_unmap(pool);
        close(pool->fd);
        return err;
    }
    pool->shared->version = FP_POOL_VERSION;
    pool->shared->slots = slots;
    pool->shared->ring_size = ring_size;
    pool->shared->res_size = res_size;
    pool->shared->total = pool->total;
    pool->shared->parent_pid = (uint64_t)getpid();
    pool->shared->pauses = fp__count_pauses();
    pool->shared->naps = !fp_os_can_wake();
    fp__lay_out(pool);
    if (pool->worker_region_size < FP__REGION ||
        fp_os_memory_reserve(pool->fd, 0, (uint64_t)(pool->rings - pool->base)) < 0 ||
        fp_os_memory_reserve(pool->fd, pool->regions, sizeof(fp_region)) < 0) {
        fp_pool_unmap(pool);
        close(pool->fd);
        return -ENOMEM;
    }
    FP_CP("create.reserved");
    fp_taskring_init(&pool->ring);
    FP_CP("create.written");
    pool->shared->magic = FP_POOL_MAGIC;
    FP_CP("create.done");
    return 0;
}

int fp_pool_attach(fp_pool *pool, int fd) {
    memset(pool, 0, sizeof *pool);
    pool->bell_fd = -1;
    void *base;
    int64_t size = fp_os_memory_size(fd);
    if (size < (int64_t)FP__MIN_TOTAL) {
        return size < 0 ? (int)size : -EPROTO; /* reading past its end would be SIGBUS */
    }
    int err = fp_os_memory_map(fd, FP__PAGE, &base);
    if (err < 0) {
        return err;
    }
    const fp_pool_shared *shared = base;
    uint64_t total = shared->total;
    bool ours = shared->magic == FP_POOL_MAGIC && shared->version == FP_POOL_VERSION &&
                total == (uint64_t)size;
    fp_os_memory_unmap(base, FP__PAGE);
    if (!ours) {
        return -EPROTO;
    }
    FP_CP("segment.found");
    err = fp_os_memory_map(fd, total, &base);
    if (err < 0) {
        return err;
    }
    FP_CP("segment.mapped");
    pool->base = base;
    pool->shared = base;
    pool->fd = fd;
    fp__lay_out(pool);
    return 0;
}

void fp_pool_unmap(fp_pool *pool) {
    if (pool->base != NULL) {
        FP_CP("unmap.begin");
        fp_os_memory_unmap(pool->base, pool->total);
        FP_CP("unmap.done");
        pool->base = NULL;
    }
}

void fp_pool_resring(const fp_pool *pool, uint32_t slot, fp_resring *ring) {
    unsigned char *at = pool->rings + slot * pool->ring_bytes;
    ring->shared = (fp_resring_shared *)at;
    ring->slots = (fp_result *)(at + sizeof(fp_resring_shared));
    ring->mask = pool->res_size - 1;
    fp_resring_open(ring);
}

/* ---- regions ---------------------------------------------------------------------------------- */

static uint64_t fp__region(const fp_pool *pool, uint32_t region, uint64_t *size) {
    if (region == 0) {
        *size = pool->parent_region_size;
        return pool->regions;
    }
    *size = pool->worker_region_size;
    return pool->regions + pool->parent_region_size + (region - 1) * pool->worker_region_size;
}

static fp_region *fp__region_header(const fp_pool *pool, uint32_t region) {
    uint64_t size;
    return (fp_region *)(pool->base + fp__region(pool, region, &size));
}

int fp_pool_populate_slot(const fp_pool *pool, uint32_t slot) {
    uint64_t ring = (uint64_t)(pool->rings - pool->base) + slot * pool->ring_bytes;
    uint64_t size;
    FP_CP("slot.begin");
    int err = fp_os_memory_reserve(pool->fd, ring, pool->ring_bytes);
    if (err == 0) {
        FP_CP("slot.ring");
        err = fp_os_memory_reserve(pool->fd, fp__region(pool, slot + 1, &size), sizeof(fp_region));
    }
    FP_CP("slot.region");
    return err;
}

void fp_pool_heap(const fp_pool *pool, uint32_t region, uint64_t keep, fp_heap *heap) {
    uint64_t size;
    uint64_t at = fp__region(pool, region, &size);
    fp_heap_init(heap, pool->base, pool->fd, at, size, keep, fp_memory_left);
}

void fp_pool_restart_region(const fp_pool *pool, uint32_t region, bool blocks_live, uint64_t keep) {
    uint64_t size;
    uint64_t at = fp__region(pool, region, &size);
    fp_region_restart(pool->base, at, size, blocks_live, keep);
}

uint32_t fp_pool_region_of(const fp_pool *pool, uint64_t offset) {
    uint64_t workers = pool->regions + pool->parent_region_size;
    return offset < workers ? 0 : 1 + (uint32_t)((offset - workers) / pool->worker_region_size);
}

bool fp_pool_is_behind(const fp_pool *pool, uint64_t offset) {
    const fp_region *region = fp__region_header(pool, fp_pool_region_of(pool, offset));
    /* Relaxed: only the parent writes it, and only the parent asks. */
    return offset < atomic_load_explicit(&region->start, memory_order_relaxed);
}

/* ---- parent ----------------------------------------------------------------------------------- */

uint32_t fp_pool_sleeping(const fp_pool *pool, uint32_t slots) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < (slots + 63) / 64; i++) {
        n += (uint32_t)__builtin_popcountll(
            atomic_load_explicit(&pool->sleepers[i], memory_order_seq_cst));
    }
    return n;
}

static int fp__park(const fp_pool *pool, fp_a32 *word, uint32_t expected, int64_t timeout_ns) {
    return pool->shared->naps ? fp_os_nap(word, expected, timeout_ns)
                              : fp_os_park(word, expected, timeout_ns);
}

/* The system refused to wake somebody who may sleep. */
static void fp__call_for_help(fp_pool *pool) {
    if (!pool->shared->naps) {
        /* Release: what was published before is visible to who is woken for it. */
        atomic_store_explicit(&pool->shared->park.unheard, 1, memory_order_release);
        FP_CP("unheard.set");
        fp_os_bell_ring(pool->bell_fd);
    }
}

bool fp_pool_answer(fp_pool *pool) {
    fp_a32 *unheard = &pool->shared->park.unheard;
    if (atomic_load_explicit(unheard, memory_order_relaxed) == 0) {
        return false;
    }
    (void)atomic_exchange_explicit(unheard, 0, memory_order_acquire);
    FP_CP("unheard.taken");
    /* Its threads are this process's own; who can't be woken looks around before long. */
    atomic_fetch_add_explicit(&pool->shared->park.bell, 1, memory_order_seq_cst);
    (void)fp_os_unpark(&pool->shared->park.bell, INT32_MAX);
    return true;
}

static void fp__hand_token(fp_pool *pool, uint32_t slot) {
    FP_CP("token.begin");
    /* Release: whatever was published before is visible to the woken worker. */
    atomic_store_explicit(&pool->ctl[slot].park, 1, memory_order_release);
    FP_CP("token.stored");
    if (fp_os_unpark(&pool->ctl[slot].park, 1) < 0) {
        fp__call_for_help(pool);
    }
    FP_CP("token.handed");
}

/* A look that costs no locked instruction; relaxed, since fp_sleepers_take decides. */
static bool fp__may_sleep(const fp_pool *pool, uint32_t slot) {
    uint64_t bits = atomic_load_explicit(&pool->sleepers[slot >> 6], memory_order_relaxed);
    return bits >> (slot & 63) & 1;
}

/* Slots whose worker is not in its loop: it runs its initializer or its exit handlers, for as long as
 * these please, and won't look at the queue meanwhile.  (Or it is dead: then it is counted once too
 * often, and one sleeper more is woken than need be.) */
static uint32_t fp__away(const fp_pool *pool, uint32_t slots) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t state = atomic_load_explicit(&pool->ctl[i].state, memory_order_relaxed);
        n += state == FP_STARTING || state == FP_LEAVING;
    }
    return n;
}

/* To wake somebody takes some microseconds, and puts him on the caller's CPU if there is no free one.
 * So workers that are awake get half a glance first: trivial tasks are taken by then, and long ones
 * don't mind.  Returns how many are left. */
static uint64_t fp__leave_to_awake(fp_pool *pool, uint64_t queued) {
    for (uint32_t i = 0; i < pool->pauses / 2 && queued > 0; i++) {
        fp_relax();
        queued = fp_taskring_queued(&pool->ring);
    }
    return queued;
}

uint32_t fp_pool_kick(fp_pool *pool, uint32_t slots, uint32_t alive, uint64_t outstanding) {
    /* The pushes stored tail with release; this one puts it into the seq_cst order. */
    FP_CP("kick.begin");
    atomic_store_explicit(&pool->ring.shared->tail, pool->ring.tail, memory_order_seq_cst);
    FP_CP("kick.stored");
    uint32_t sleeping = fp_pool_sleeping(pool, slots);
    if (FP_LIKELY(sleeping == 0)) {
        return 0;
    }
    uint32_t idle = sleeping + fp__away(pool, slots);
    uint32_t awake = alive > idle ? alive - idle : 0;
    uint64_t queued = fp_taskring_queued(&pool->ring);
    uint64_t wanted = outstanding > awake ? outstanding - awake : 0;
    if (wanted > 0 && wanted <= awake) {
        queued = fp__leave_to_awake(pool, queued);
    }
    if (wanted > queued) {
        wanted = queued;
    }
    uint32_t woken = 0;
    for (uint32_t i = 0; i < slots && woken < wanted; i++) {
        if (fp__may_sleep(pool, i) && fp_sleepers_take(pool->sleepers, i)) {
            fp__hand_token(pool, i);
            woken++;
        }
    }
    return woken;
}

void fp_pool_wake_all(fp_pool *pool, uint32_t slots) {
    for (uint32_t i = 0; i < slots; i++) {
        fp_sleepers_take(pool->sleepers, i);
        fp__hand_token(pool, i);
    }
}

void fp_park_forget(fp_pool *pool, uint32_t slot) {
    FP_CP("forget.begin");
    fp_sleepers_take(pool->sleepers, slot);
    FP_CP("forget.taken");
    /* It may have been killed in fp_worker_notify, after it took a request off and before it answered
     * it.  Whoever sleeps on that request gets up, looks, and asks anew. */
    fp_parent_wake(pool);
    FP_CP("forget.done");
}

void fp_pool_made_room(fp_pool *pool, uint32_t slot) {
    /* The pops stored head with release; this one puts it into the seq_cst order. */
    fp_resring_shared *ring = (fp_resring_shared *)(pool->rings + slot * pool->ring_bytes);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    FP_CP("room.begin");
    atomic_store_explicit(&ring->head, head, memory_order_seq_cst);
    FP_CP("room.stored");
    if (atomic_exchange_explicit(&pool->ctl[slot].want_room, 0, memory_order_seq_cst)) {
        FP_CP("room.taken");
        fp__hand_token(pool, slot);
    }
}

bool fp_pool_cancel(fp_pool *pool, uint64_t ticket) {
    /* Relaxed: the bit publishes it. */
    atomic_store_explicit(&pool->cancelled[ticket & pool->ring.mask], ticket, memory_order_relaxed);
    fp_pool_ask(pool, FP_ATT_CANCEL);
    uint64_t head = atomic_load_explicit(&pool->ring.shared->head, memory_order_seq_cst);
    return !fp__ticket_before(ticket, fp__ticket_of(head));
}

void fp_parent_wake(fp_pool *pool) {
    FP_CP("bell.begin");
    atomic_fetch_add_explicit(&pool->shared->park.bell, 1, memory_order_seq_cst);
    FP_CP("bell.counted");
    if (fp_os_unpark(&pool->shared->park.bell, INT32_MAX) < 0) {
        fp__call_for_help(pool);
    }
    FP_CP("bell.woken");
}

static bool fp__something(const fp_resring *rings, uint32_t n, const fp_a32 *ready) {
    for (uint32_t i = 0; i < n; i++) {
        if (!fp_resring_empty(&rings[i])) {
            return true;
        }
    }
    /* Acquire: the thread that set it has written the value before. */
    return ready != NULL && atomic_load_explicit(ready, memory_order_acquire) != 0;
}

static bool fp__task_waits(const fp_pool *pool) {
    uint64_t tail = atomic_load_explicit(&pool->ring.shared->tail, memory_order_seq_cst);
    uint64_t head = atomic_load_explicit(&pool->ring.shared->head, memory_order_relaxed);
    return fp__ticket_before(fp__ticket_of(head), tail);
}

/* An awake worker may be stopped by SIGSTOP or a debugger, or kept off its CPU: when nobody has taken
 * a task by the time its caller goes to sleep, let another worker have a look. */
static void fp__wake_one_for_waiting_task(fp_pool *pool, uint32_t slots) {
    if (!fp__task_waits(pool)) {
        return;
    }
    for (uint32_t i = 0; i < slots; i++) {
        if (fp__may_sleep(pool, i) && fp_sleepers_take(pool->sleepers, i)) {
            fp__hand_token(pool, i);
            return;
        }
    }
}

uint32_t fp_parent_bell(const fp_pool *pool) {
    return atomic_load_explicit(&pool->shared->park.bell, memory_order_seq_cst);
}

int fp_parent_wait(fp_pool *pool, const fp_resring *rings, uint32_t n, const fp_a32 *ready,
                   uint32_t bell, uint64_t spin_until_ns, uint64_t deadline_ns,
                   uint64_t give_up_ns) {
    fp_park_shared *park = &pool->shared->park;
    if (fp__something(rings, n, ready)) {
        return 1;
    }
    uint64_t now = fp_os_now_ns();
    uint64_t give_up = now + give_up_ns;
    bool spun = now < spin_until_ns;
    while (now < spin_until_ns) {
        fp_os_yield();
        if (fp__something(rings, n, ready) ||
            atomic_load_explicit(&park->bell, memory_order_relaxed) != bell) {
            return 1;
        }
        now = fp_os_now_ns();
        if (deadline_ns != 0 && now >= deadline_ns) {
            return -ETIMEDOUT;
        }
        if (now >= give_up) {
            return -EAGAIN;
        }
    }
    if (spun) {
        /* A signal that came while we spun ended no system call: it must not wait for the sleep. */
        return -EAGAIN;
    }
    fp__wake_one_for_waiting_task(pool, n);
    fp_pool_ask(pool, FP_ATT_WAITER);
    if (fp__something(rings, n, ready)) {
        return 1;
    }
    /* A signal may have come between the caller's look and this sleep: have it look again soon. */
    int64_t timeout = FP__LOOK_NS;
    bool for_deadline = deadline_ns != 0 && deadline_ns < now + FP__LOOK_NS;
    if (for_deadline) {
        timeout = deadline_ns > now ? (int64_t)(deadline_ns - now) : 0;
    }
    FP_CP("parent_wait.park");
    int err = fp__park(pool, &park->bell, bell, timeout);
    FP_CP("parent_wait.up");
    if (err == -ETIMEDOUT && !for_deadline) {
        return -EAGAIN;
    }
    return err == 0 ? 1 : err;
}

/* ---- worker ----------------------------------------------------------------------------------- */

static bool fp__must_stop(const fp_pool *pool, uint32_t me) {
    uint32_t state = fp_pool_state(pool);
    if (state == FP_POOL_STOP ||
        atomic_load_explicit(&pool->ctl[me].stop, memory_order_seq_cst) != 0) {
        return true;
    }
    /* The queue was empty a moment ago; only that it is so after DRAIN was seen lets us leave. */
    return state == FP_POOL_DRAIN && !fp__task_waits(pool);
}

/* Sleeps on the worker's own word until a token comes. */
static int fp__sleep(const fp_pool *pool, fp_ctl *ctl) {
    fp_ctl_count(&ctl->parks, 1);
    FP_CP("sleep.park");
    int err = fp__park(pool, &ctl->park, 0, -1);
    FP_CP("sleep.up");
    /* Acquire, pairs with the release of the token. */
    atomic_exchange_explicit(&ctl->park, 0, memory_order_acquire);
    FP_CP("sleep.taken");
    return err;
}

int fp_worker_wait(fp_pool *pool, uint32_t me, fp_patience *patience, uint64_t *since_ns) {
    if (!fp_taskring_empty(&pool->ring)) {
        return FP_GOT_TASK;
    }
    uint64_t now = fp_os_now_ns();
    if (*since_ns == 0) {
        *since_ns = now;
    }
    uint64_t until = *since_ns + patience->block_ns;
    uint64_t give_up = now + 1000000; /* look for signals every millisecond of spinning */
    bool spun = now < until;
    while (now < until) {
        fp_os_yield();
        if (!fp_taskring_empty(&pool->ring)) {
            fp_patience_learn(patience, fp_os_now_ns() - *since_ns);
            *since_ns = 0;
            return FP_GOT_TASK;
        }
        if (fp__must_stop(pool, me)) {
            return FP_GOT_STOP;
        }
        now = fp_os_now_ns();
        if (now >= give_up) {
            return -EINTR;
        }
    }
    if (spun) {
        return -EINTR; /* and once more before the sleep */
    }
    int err = 0;
    fp_sleepers_set(pool->sleepers, me);
    if (!fp__task_waits(pool) && !fp__must_stop(pool, me)) {
        err = fp__sleep(pool, &pool->ctl[me]);
    }
    fp_sleepers_take(pool->sleepers, me);
    if (fp__task_waits(pool)) {
        fp_patience_learn(patience, fp_os_now_ns() - *since_ns);
        *since_ns = 0;
        return FP_GOT_TASK;
    }
    if (fp__must_stop(pool, me)) {
        return FP_GOT_STOP;
    }
    return err == 0 ? -EINTR : err;
}

int fp_worker_wait_room(fp_pool *pool, uint32_t me, fp_resring *ring, int bell_fd) {
    fp_ctl *ctl = &pool->ctl[me];
    for (int i = 0; i < 64; i++) {
        if (fp_resring_room(ring)) {
            return 0;
        }
        fp_os_yield();
    }
    FP_CP("wait_room.begin");
    atomic_store_explicit(&ctl->want_room, 1, memory_order_seq_cst);
    FP_CP("wait_room.wished");
    /* After the store: who answers the bell finds the wish. */
    fp_os_bell_ring(bell_fd);
    int err = 0;
    if (!fp_resring_room(ring) && fp_pool_state(pool) != FP_POOL_STOP) {
        err = fp__sleep(pool, ctl);
    }
    FP_CP("wait_room.up");
    atomic_store_explicit(&ctl->want_room, 0, memory_order_seq_cst);
    FP_CP("wait_room.done");
    if (fp_resring_room(ring)) {
        return 0;
    }
    return fp_pool_state(pool) == FP_POOL_STOP ? FP_GOT_STOP : (err == 0 ? -EINTR : err);
}

void fp_worker_notify(fp_pool *pool, uint32_t attention, int bell_fd) {
    FP_CP("notify.begin");
    /* The first one to take a request off answers it; the asker asks again when it sleeps again. */
    uint32_t taken =
        atomic_fetch_and_explicit(&pool->shared->park.attention, ~attention, memory_order_seq_cst) &
        attention;
    FP_CP("notify.taken");
    if (taken & FP_ATT_WAITER) {
        fp_parent_wake(pool);
    }
    FP_CP("notify.woken");
    if (taken & (FP_ATT_RESULTS | FP_ATT_LOW)) {
        fp_os_bell_ring(bell_fd);
    }
}
