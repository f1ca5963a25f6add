/* fixture.h: what the tests of shared structures have in common: memory with guards, rings, seeds.
 *
 *     FP_SEED=7              the random numbers of a failed run again (each stress prints its seed)
 *     FP_STRESS_SECONDS=60   each stress runs that long instead of a second or two
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "base/fp_base.h"
#include "check.h"
#include "ds/fp_resring.h"
#include "ds/fp_taskring.h"
#include "os/fp_os.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Zeroed shared memory that ends where an inaccessible page begins; there is one before it too.  It
 * is also seen by children that are forked later. */
static inline void *fx_shared(size_t bytes) {
    size_t page = 4096;
    size_t need = FP_ALIGN_UP(bytes, FP_LINE);
    size_t room = FP_ALIGN_UP(need, page);
    /* Taken away afterwards, since ThreadSanitizer never looks at what was mapped inaccessible. */
    unsigned char *at =
        mmap(NULL, room + 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    CHECK_EQ(mprotect(at, page, PROT_NONE), 0);
    CHECK_EQ(mprotect(at + page + room, page, PROT_NONE), 0);
    return at + page + room - need;
}

/* What fx_shared gave, given back. */
static inline void fx_release(void *memory, size_t bytes) {
    size_t page = 4096;
    size_t need = FP_ALIGN_UP(bytes, FP_LINE);
    size_t room = FP_ALIGN_UP(need, page);
    munmap((unsigned char *)memory - (room - need) - page, room + 2 * page);
}

/* ---- segments --------------------------------------------------------------------------------- */

/* A memory object of `file` bytes, `map` bytes of it mapped; both stay until the test ends them. */
typedef struct fx_segment {
    unsigned char *base;
    int fd;
    uint64_t size;
} fx_segment;

static inline fx_segment fx_segment_of(uint64_t map, uint64_t file) {
    void *at;
    int fd = fp_os_memory_create(file);
    CHECK(fd >= 0);
    CHECK_EQ(fp_os_memory_map(fd, map, &at), 0);
    return (fx_segment){at, fd, map};
}

/* Bytes of the object that take memory. */
static inline uint64_t fx_resident(const fx_segment *segment) {
    struct stat st;
    CHECK_EQ(fstat(segment->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static inline void fx_segment_close(fx_segment *segment) {
    CHECK_EQ(fp_os_memory_unmap(segment->base, segment->size), 0);
    close(segment->fd);
}

/* ---- rings ------------------------------------------------------------------------------------ */

/* The producer's handle of a new task ring; claimers use copies. */
static inline fp_taskring fx_taskring(uint32_t size) {
    fp_taskring ring = {.mask = size - 1};
    ring.shared = fx_shared(sizeof *ring.shared);
    ring.slots = fx_shared(size * sizeof *ring.slots);
    ring.owner = fx_shared(size * sizeof *ring.owner);
    fp_taskring_init(&ring);
    return ring;
}

static inline void fx_taskring_free(fp_taskring *ring) {
    uint64_t size = ring->mask + 1;
    fx_release(ring->shared, sizeof *ring->shared);
    fx_release(ring->slots, size * sizeof *ring->slots);
    fx_release(ring->owner, size * sizeof *ring->owner);
}

/* The ticket that the ring's functions return for the n-th task from the one at index `first`. */
static inline uint64_t fx_ticket(uint64_t first, uint64_t n) {
    return ((first + n) & FP__TICKET_MASK) | FP_TICKET_MARK;
}

/* A ring allows a claimer to sleep in the middle of a claim for half as many tasks as there are tickets:
 * for years.  With tickets of a few bits that is a moment, so there the producer keeps the promise. */
#define FX_NARROW (FP_TICKET_BITS < 32)
#define FX_CLAIMERS 8u
typedef struct fx_pace {
    fp_a64 pushed;
    fp_a64 since[FX_CLAIMERS]; /* `pushed` + 1 when a claim began; 0: none goes on */
} fx_pace;

/* seq_cst, all of them: before the claim looks at the ring, and before the push is seen. */
static inline void fx_claim_begins(fx_pace *pace, uint32_t who) {
    if (FX_NARROW) {
        atomic_store(&pace->since[who], atomic_load(&pace->pushed) + 1);
    }
}

static inline void fx_claim_ends(fx_pace *pace, uint32_t who) {
    if (FX_NARROW) {
        atomic_store(&pace->since[who], 0);
    }
}

/* Whose claim is too old for one more push; FX_CLAIMERS: nobody's. */
static inline uint32_t fx_too_slow(fx_pace *pace, uint64_t mask) {
    const uint64_t most = (1ull << (FP_TICKET_BITS - 1)) - 2 * (mask + 1) - 4;
    for (uint32_t who = 0; FX_NARROW && who < FX_CLAIMERS; who++) {
        uint64_t since = atomic_load(&pace->since[who]);
        if (since != 0 && atomic_load(&pace->pushed) - (since - 1) >= most) {
            return who;
        }
    }
    return FX_CLAIMERS;
}

static inline void fx_will_push(fx_pace *pace) {
    if (FX_NARROW) {
        atomic_fetch_add(&pace->pushed, 1);
    }
}

/* One handle of a new result ring; the other side uses a copy. */
static inline fp_resring fx_resring(uint32_t size) {
    fp_resring ring = {.mask = size - 1};
    ring.shared = fx_shared(sizeof *ring.shared);
    ring.slots = fx_shared(size * sizeof *ring.slots);
    fp_resring_reset(&ring);
    return ring;
}

static inline void fx_resring_free(fp_resring *ring) {
    fx_release(ring->shared, sizeof *ring->shared);
    fx_release(ring->slots, (ring->mask + 1) * sizeof *ring->slots);
}

/* ---- numbers ---------------------------------------------------------------------------------- */

/* xorshift64*: a seed, and only that, decides all that follows. */
static inline uint64_t fx_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static inline uint64_t fx_below(uint64_t *state, uint64_t n) {
    return (fx_random(state) >> 11) % n;
}

/* A state to begin with, never 0; `salt` makes different ones of one seed. */
static inline uint64_t fx_seeded(uint64_t seed, uint64_t salt) {
    uint64_t state = (seed + 1) * 0x9E3779B97F4A7C15u ^ (salt + 1) * 0xD1B54A32D192ED03u;
    return state ? state : 1;
}

static inline uint64_t fx_seed(void) {
    const char *given = getenv("FP_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : fp_os_now_ns() % 1000000007;
    printf("  FP_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

/* When a stress that lasts `seconds` by default has to end. */
static inline uint64_t fx_until(double seconds) {
    const char *given = getenv("FP_STRESS_SECONDS");
    return fp_os_now_ns() + (uint64_t)((given ? strtod(given, NULL) : seconds) * 1e9);
}

/* Whether this system takes back pages of a segment before its end.  Those that do have also the rest
 * of what is asked for by this: see linux.c. */
static inline bool fx_gives_back(void) {
    fx_segment probe = fx_segment_of(65536, 65536);
    bool can = fp_os_memory_release(probe.base, 65536) == 0;
    fx_segment_close(&probe);
    return can;
}

/* ---- processes -------------------------------------------------------------------------------- */

/* fork(), of a child that dies with its parent. */
static inline pid_t fx_fork(void) {
    static int watch = -1;
    static pid_t owner;
    int line;
    pid_t parent = getpid();
    fflush(stdout);
    if (owner != parent) {
        watch = fp_os_watch_self(fp_os_watch_kind(), &line);
        CHECK(watch >= 0);
        owner = parent;
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0 && fp_os_die_with_parent(parent, watch) < 0) {
        _exit(1); /* it has ended in between */
    }
    return child;
}

static inline void fx_close_bell(int bell, int heard) {
    if (heard != bell) {
        close(heard);
    }
    close(bell);
}

/* ---- contents --------------------------------------------------------------------------------- */

/* Bytes that tell the key, and where in the buffer they belong. */
static inline void fx_fill(void *buffer, size_t n, uint64_t key) {
    unsigned char *to = buffer;
    for (size_t i = 0; i < n; i++) {
        to[i] = (unsigned char)((key + i) * 167 >> 3);
    }
}

static inline bool fx_filled(const void *buffer, size_t n, uint64_t key) {
    const unsigned char *from = buffer;
    for (size_t i = 0; i < n; i++) {
        if (from[i] != (unsigned char)((key + i) * 167 >> 3)) {
            return false;
        }
    }
    return true;
}

/* A task that tells its key in every field. */
static inline fp_task fx_task(uint64_t key, uint64_t len) {
    fp_task task;
    memset(&task, 0xEE, sizeof task);
    task.func = key ^ 0x5555555555555555u;
    task.func_ref = ~key;
    task.refs = (uint32_t)(key * 3);
    task.cookie = (uint32_t)key;
    task.kind = (uint8_t)key;
    task.codec = (uint8_t)(key >> 8);
    task.in_block = len > FP_TASK_INLINE;
    task.flags = (uint8_t)~key;
    task.count = (uint32_t)(key + 7);
    task.len = len;
    if (task.in_block) {
        task.payload.ref = key * 64;
    } else {
        fx_fill(task.payload.bytes, len, key);
    }
    return task;
}

static inline bool fx_task_is(const fp_task *task, uint64_t key, uint64_t len) {
    fp_task wanted = fx_task(key, len);
    size_t payload = wanted.in_block ? 8 : len;
    return memcmp(task, &wanted, offsetof(fp_task, payload)) == 0 &&
           memcmp(&task->payload, &wanted.payload, payload) == 0;
}

/* The same of a result; everything is written into `result` in place. */
static inline void fx_result(fp_result *result, uint64_t key, uint64_t len) {
    result->ticket = key;
    result->cookie = (uint32_t)(key * 5);
    result->status = (uint8_t)key;
    result->codec = (uint8_t)(key >> 8);
    result->in_block = len > FP_RESULT_INLINE;
    result->flags = (uint8_t)~key;
    result->count = (uint32_t)(key + 7);
    result->refs = (uint32_t)(key * 11);
    result->len = len;
    if (result->in_block) {
        result->payload.ref = key * 64;
    } else {
        fx_fill(result->payload.bytes, len, key);
    }
}

static inline bool fx_result_is(const fp_result *result, uint64_t key, uint64_t len) {
    fp_result wanted;
    fx_result(&wanted, key, len);
    size_t payload = wanted.in_block ? 8 : len;
    return memcmp(result, &wanted, offsetof(fp_result, payload)) == 0 &&
           memcmp(&result->payload, &wanted.payload, payload) == 0;
}

#endif
