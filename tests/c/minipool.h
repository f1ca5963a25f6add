/* minipool.h: a whole pool in C, made of the core's parts as the package makes it of them: for tests
 * of what these parts do together.  Its workers are threads (for the sanitizers) or processes (which
 * can be killed).
 *
 * A job is a row of numbers.  Each number travels as a task of its own; whoever waits for the job
 * learns the fate of each: done, or lost with the worker that held it.  A lock takes the GIL's part:
 * ledger, rings and books of the parent are only touched under it.
 */
#ifndef MINIPOOL_H
#define MINIPOOL_H

#include "fixture.h"

#include "ds/fp_ledger.h"
#include "pool/fp_pool.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define MINI_SLOTS 8u
#define MINI_KEEP (1u << 20)
#ifndef MINI_BORN /* what a test has a new worker process do first */
#define MINI_BORN(seed) ((void)0)
#endif

enum { MINI_UNKNOWN, MINI_DONE, MINI_LOST };

typedef struct mini_job {
    fp_a32 flag;    /* every number has its fate; read without the lock */
    uint32_t next;  /* to send */
    uint32_t end;   /* behind the last one */
    uint32_t left;  /* without a fate */
    bool on_behalf; /* nobody waits in fp_parent_wait: the background thread does it all */
    struct mini_job *following;
} mini_job;

typedef struct mini_worker {
    bool alive;
    int end_fd;   /* readable when it has ended */
    int end_bell; /* a thread's: rings it */
    pid_t pid;    /* under pid_lock; 0: none */
    pthread_t thread;
    struct mini *mini;
    uint32_t slot;
    uint64_t seed;
} mini_worker;

typedef struct mini {
    fp_pool pool;
    fp_pool view; /* the same, before anything moved */
    int bell, heard;
    int own, line; /* a watch of this process, for its workers */
    fp_ledger ledger;
    fp_heap heap;
    fp_resring rings[MINI_SLOTS];
    mini_worker workers[MINI_SLOTS];
    pthread_t background;
    pthread_mutex_t lock;
    pthread_mutex_t pid_lock;
    pthread_cond_t settled;
    mini_job *sources;
    uint32_t slots;
    uint32_t alive;
    uint64_t sent;
    uint32_t waiting;  /* threads in mini_wait */
    uint32_t sleeping; /* of them, threads in fp_parent_wait */
    uint32_t on_behalf;
    bool ending;
    bool processes;
    uint32_t maxtasks; /* 0: none */
    uint64_t block_ns;
    uint64_t seed;
    uint32_t numbers;
    uint8_t *fate;
    fx_pace *pace;    /* shared with worker processes, as the next */
    fp_a32 *executed; /* shared with worker processes: how often each number was worked on */
    uint64_t deaths;
    uint64_t losses;
} mini;

static uint32_t mini_length(uint32_t number) { return (number * 7919u) % 300; }

/* ---- a worker --------------------------------------------------------------------------------- */

static void mini_dawdle(uint64_t *random) {
    uint64_t dice = fx_below(random, 64);
    if (dice == 0) {
        uint64_t until = fp_os_now_ns() + fx_below(random, 100000);
        while (fp_os_now_ns() < until) {
            fp_relax();
        }
    } else if (dice < 4) {
        fp_os_yield();
    }
}

/* As WorkLoop: returns when told to leave, or after maxtasks. */
static void mini_work(mini *m, uint32_t slot, uint64_t seed) {
    fp_pool pool = m->view; /* its own, as that of a process is */
    fp_ctl *ctl = &pool.ctl[slot];
    fp_patience patience = {0, m->block_ns, m->block_ns, m->block_ns};
    fp_resring ring;
    fp_heap heap;
    fp_task task;
    uint64_t since = 0;
    uint64_t random = fx_seeded(seed, slot);
    uint32_t done = 0;
    fp_pool_resring(&pool, slot, &ring);
    fp_pool_heap(&pool, 1 + slot, MINI_KEEP, &heap);
    mini_dawdle(&random);
    atomic_store_explicit(&ctl->state, FP_IDLE, memory_order_relaxed);
    while (!atomic_load_explicit(&ctl->stop, memory_order_relaxed) &&
           fp_pool_state(&pool) != FP_POOL_STOP) {
        fx_claim_begins(m->pace, slot);
        uint64_t ticket = fp_taskring_claim(&pool.ring, slot, &task);
        fx_claim_ends(m->pace, slot);
        if (ticket == 0) {
            if (fp_worker_wait(&pool, slot, &patience, &since) == FP_GOT_STOP) {
                break;
            }
            continue;
        }
        since = 0;
        atomic_store_explicit(&ctl->state, FP_BUSY, memory_order_relaxed);
        fp_worker_claimed(&pool, ticket, m->bell);
        const unsigned char *data =
            task.in_block ? pool.base + task.payload.ref : task.payload.bytes;
        uint32_t number = task.count;
        CHECK_EQ(task.len, mini_length(number));
        CHECK(fx_filled(data, task.len, number));
        atomic_fetch_add_explicit(&m->executed[number], 1, memory_order_relaxed);
        mini_dawdle(&random);
        uint64_t ref = 0;
        if (task.len > FP_RESULT_INLINE) {
            ref = fp_heap_alloc(&heap, task.len);
            CHECK(ref != 0);
            fx_fill(pool.base + ref, task.len, number + 1);
        }
        while (!fp_resring_room(&ring)) {
            if (fp_worker_wait_room(&pool, slot, &ring, m->bell) == FP_GOT_STOP) {
                return;
            }
        }
        fp_result *result = fp_resring_next(&ring);
        result->ticket = ticket;
        result->cookie = task.cookie;
        result->count = number;
        result->len = task.len;
        result->in_block = ref != 0;
        if (ref != 0) {
            result->payload.ref = ref;
        } else {
            fx_fill(result->payload.bytes, task.len, number + 1);
        }
        fp_resring_publish(&ring);
        fp_worker_published(&pool, m->bell);
        atomic_store_explicit(&ctl->state, FP_IDLE, memory_order_relaxed);
        if (++done == m->maxtasks) {
            break;
        }
    }
    atomic_store_explicit(&ctl->state, FP_LEAVING, memory_order_relaxed);
}

static void *mini_worker_thread(void *arg) {
    mini_worker *self = arg;
    mini_work(self->mini, self->slot, self->seed);
    fp_os_bell_ring(self->end_bell);
    return NULL;
}

/* ---- the parent, under the lock --------------------------------------------------------------- */

static void mini_start_worker(mini *m, uint32_t slot) {
    mini_worker *worker = &m->workers[slot];
    CHECK_EQ(fp_pool_populate_slot(&m->pool, slot), 0);
    fp_pool_restart_region(&m->pool, 1 + slot, false, MINI_KEEP);
    fp_ctl_reset(&m->pool.ctl[slot]);
    fp_resring_reset(&m->rings[slot]);
    atomic_store_explicit(&m->pool.ctl[slot].state, FP_STARTING, memory_order_relaxed);
    fx_claim_ends(m->pace, slot);
    m->alive++;
    worker->alive = true;
    worker->mini = m;
    worker->slot = slot;
    worker->seed = fx_random(&m->seed);
    if (!m->processes) {
        worker->end_bell = fp_os_bell_create(&worker->end_fd);
        CHECK(worker->end_bell >= 0);
        CHECK_EQ(pthread_create(&worker->thread, NULL, mini_worker_thread, worker), 0);
        return;
    }
    int parent = getpid(), kind = fp_os_watch_kind();
    int pid = fp_os_fork(kind, &worker->end_fd);
    CHECK(pid >= 0);
    if (pid == 0) {
        if (fp_os_die_with_parent(parent, m->own) < 0) {
            _exit(1); /* it has ended in between */
        }
        MINI_BORN(worker->seed);
        mini_work(m, slot, worker->seed);
        _exit(0);
    }
    pthread_mutex_lock(&m->pid_lock);
    worker->pid = pid;
    pthread_mutex_unlock(&m->pid_lock);
}

static void mini_kick(mini *m) { fp_pool_kick(&m->pool, m->slots, m->alive, m->sent); }

/* With narrow tickets: until nobody is too far behind in the middle of a claim, but for the dead. */
static void mini_keep_pace(mini *m) {
    uint32_t who;
    while ((who = fx_too_slow(m->pace, m->pool.ring.mask)) < FX_CLAIMERS) {
        struct pollfd end = {.fd = m->workers[who].end_fd, .events = POLLIN};
        if (poll(&end, 1, 0) == 1) {
            fx_claim_ends(m->pace, who);
        } else {
            fp_os_yield();
        }
    }
    fx_will_push(m->pace);
}

static void mini_feed(mini *m) {
    while (m->sources != NULL && fp_taskring_room(&m->pool.ring) > 0) {
        mini_keep_pace(m);
        mini_job *job = m->sources;
        uint32_t number = job->next++;
        uint32_t cookie = fp_ledger_take(&m->ledger);
        CHECK(cookie != FP_NO_COOKIE);
        fp_task task = {.cookie = cookie, .count = number, .len = mini_length(number)};
        fp_entry *entry = &m->ledger.entries[cookie];
        entry->job = job;
        entry->index = number;
        entry->block = 0;
        if (task.len > FP_TASK_INLINE) {
            task.in_block = 1;
            task.payload.ref = entry->block = fp_heap_alloc(&m->heap, task.len);
            CHECK(entry->block != 0);
            fx_fill(m->pool.base + entry->block, task.len, number);
        } else {
            fx_fill(task.payload.bytes, task.len, number);
        }
        fp_ledger_sent(&m->ledger, &m->pool.ring, cookie);
        fp_taskring_push(&m->pool.ring, &task);
        m->sent++;
        if (job->next == job->end) {
            m->sources = job->following;
        }
    }
    mini_kick(m);
}

static void mini_settle(mini *m, uint32_t cookie, uint8_t fate) {
    fp_entry *entry = &m->ledger.entries[cookie];
    mini_job *job = entry->job;
    CHECK_EQ(m->fate[entry->index], MINI_UNKNOWN);
    m->fate[entry->index] = fate;
    if (entry->block != 0) {
        fp_heap_free(&m->heap, entry->block);
    }
    m->sent--;
    fp_ledger_release(&m->ledger, cookie);
    if (--job->left == 0) {
        m->on_behalf -= job->on_behalf;
        pthread_cond_broadcast(&m->settled);
        atomic_store_explicit(&job->flag, 1, memory_order_release);
        if (m->sleeping > 0) {
            fp_parent_wake(&m->pool);
        }
    }
}

static uint32_t mini_drain(mini *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->slots; i++) {
        bool crowded = false;
        fp_result result;
        for (uint32_t here = 0; here < 256 && fp_resring_pop(&m->rings[i], &result); here++, n++) {
            crowded |= fp_resring_crowded(&m->rings[i]);
            uint32_t number = result.count;
            CHECK(result.cookie < m->ledger.capacity);
            CHECK_EQ(m->ledger.entries[result.cookie].state, FP_ENTRY_SENT);
            CHECK_EQ(m->ledger.entries[result.cookie].ticket, result.ticket);
            CHECK_EQ(m->ledger.entries[result.cookie].index, number);
            CHECK_EQ(fp_ledger_holder(&m->ledger, &m->pool.ring, result.cookie), i);
            CHECK_EQ(result.len, mini_length(number));
            CHECK(fx_filled(result.in_block ? m->pool.base + result.payload.ref
                                            : result.payload.bytes,
                            result.len, number + 1));
            if (result.in_block) {
                fp_block_return(m->pool.base, result.payload.ref, MINI_KEEP);
            }
            mini_settle(m, result.cookie, MINI_DONE);
        }
        if (crowded) {
            fp_pool_made_room(&m->pool, i);
        }
    }
    return n;
}

static void mini_ask_for_low(mini *m) {
    fp_pool_ask(&m->pool, FP_ATT_LOW);
    if (4 * fp_taskring_queued(&m->pool.ring) <= m->pool.ring.mask) {
        fp_os_bell_ring(m->bell);
    }
}

static void mini_check(mini *m) {
    CHECK_EQ(fp_taskring_check(&m->pool.ring), 0);
    CHECK_EQ(fp_heap_check(&m->heap), 0);
    for (uint32_t i = 0; i < m->slots; i++) {
        CHECK_EQ(fp_resring_check(&m->rings[i]), 0);
    }
}

/* ---- the background thread -------------------------------------------------------------------- */

static void mini_bury(mini *m, uint32_t slot) {
    mini_worker *worker = &m->workers[slot];
    if (m->processes) {
        int status;
        pthread_mutex_lock(&m->pid_lock);
        CHECK_EQ(waitpid(worker->pid, &status, 0), worker->pid);
        worker->pid = 0;
        pthread_mutex_unlock(&m->pid_lock);
        CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
        m->deaths += status != 0;
    } else {
        pthread_join(worker->thread, NULL);
    }
    if (!m->processes) {
        fx_close_bell(worker->end_bell, worker->end_fd);
    } else {
        close(worker->end_fd);
    }
    worker->alive = false;
    m->alive--;
    fp_park_forget(&m->pool, slot);
    mini_drain(m);
    CHECK(fp_resring_empty(&m->rings[slot]));
    for (uint32_t cookie = 0;;) {
        cookie = fp_ledger_held(&m->ledger, &m->pool.ring, slot, cookie);
        if (cookie == FP_NO_COOKIE) {
            break;
        }
        CHECK(m->processes || fp_pool_state(&m->pool) == FP_POOL_STOP);
        m->losses++;
        mini_settle(m, cookie, MINI_LOST);
    }
    mini_check(m);
    mini_kick(m);
    if (!m->ending) {
        mini_start_worker(m, slot);
    }
}

static void *mini_background(void *arg) {
    mini *m = arg;
    for (;;) {
        struct pollfd fds[MINI_SLOTS + 1] = {{.fd = m->heard, .events = POLLIN}};
        uint32_t slots[MINI_SLOTS + 1];
        nfds_t n = 1;
        bool more = false;
        pthread_mutex_lock(&m->lock);
        mini_drain(m);
        mini_feed(m);
        if (m->on_behalf > 0) {
            fp_pool_ask(&m->pool, FP_ATT_RESULTS);
        }
        if (m->sources != NULL && m->waiting == 0) {
            mini_ask_for_low(m);
        }
        for (uint32_t i = 0; i < m->slots; i++) {
            if (m->workers[i].alive) {
                slots[n] = i;
                fds[n++] = (struct pollfd){.fd = m->workers[i].end_fd, .events = POLLIN};
            }
            more |= !fp_resring_empty(&m->rings[i]);
        }
        bool over = m->ending && n == 1;
        pthread_mutex_unlock(&m->lock);
        if (over) {
            return NULL;
        }
        if (poll(fds, n, more ? 0 : -1) <= 0) {
            continue;
        }
        if (fds[0].revents) {
            fp_os_bell_clear(m->heard);
        }
        for (nfds_t i = 1; i < n; i++) {
            if (fds[i].revents) {
                pthread_mutex_lock(&m->lock);
                mini_bury(m, slots[i]);
                pthread_mutex_unlock(&m->lock);
            }
        }
    }
}

/* ---- what a test calls ------------------------------------------------------------------------ */

static mini *mini_of_alarm;

/* A hang is the failure that is looked for: say where everybody was. */
static void mini_on_alarm(int number) {
    mini *m = mini_of_alarm;
    (void)number;
    if (m != NULL) {
        dprintf(2,
                "HANG in %s: tail %llu head %llu sleepers %llx attention %x bell %u state %u sent "
                "%llu waiting %u sleeping %u\n",
                check_name, (unsigned long long)m->pool.shared->tasks.tail,
                (unsigned long long)fp__ticket_of(m->pool.shared->tasks.head),
                (unsigned long long)m->pool.sleepers[0], m->pool.shared->park.attention,
                m->pool.shared->park.bell, m->pool.shared->park.state, (unsigned long long)m->sent,
                m->waiting, m->sleeping);
        for (uint32_t i = 0; i < m->slots; i++) {
            const fp_ctl *ctl = &m->pool.ctl[i];
            dprintf(2, "  slot %u: alive %d state %u park %u want_room %u results %llu\n", i,
                    m->workers[i].alive, ctl->state, ctl->park, ctl->want_room,
                    (unsigned long long)(m->rings[i].shared->tail - m->rings[i].shared->head));
        }
    }
    _exit(1);
}

/* Dies with a report if the test makes no call of this for so many seconds. */
static void mini_deadline(mini *m, unsigned seconds) {
    mini_of_alarm = m;
    signal(SIGALRM, mini_on_alarm);
    alarm(seconds);
}

static void mini_open(mini *m, uint32_t workers, uint32_t ring_size, uint32_t res_size,
                      uint32_t numbers, bool processes, uint32_t maxtasks, uint64_t block_ns,
                      uint64_t seed) {
    memset(m, 0, sizeof *m);
    CHECK(workers <= MINI_SLOTS);
    CHECK_EQ(fp_pool_create(&m->pool, workers, ring_size, res_size), 0);
    m->view = m->pool;
    CHECK_EQ(fp_ledger_init(&m->ledger, m->pool.ring.mask), 0);
    fp_pool_heap(&m->pool, 0, MINI_KEEP, &m->heap);
    m->bell = fp_os_bell_create(&m->heard);
    CHECK(m->bell >= 0);
    m->own = fp_os_watch_self(fp_os_watch_kind(), &m->line);
    CHECK(m->own >= 0);
    m->slots = workers;
    m->processes = processes;
    m->maxtasks = maxtasks;
    m->block_ns = block_ns;
    m->seed = fx_seeded(seed, 99);
    m->numbers = numbers;
    m->fate = calloc(numbers, 1);
    m->executed = fx_shared(numbers * sizeof *m->executed);
    m->pace = fx_shared(sizeof *m->pace);
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->pid_lock, NULL);
    pthread_cond_init(&m->settled, NULL);
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < workers; i++) {
        fp_pool_resring(&m->pool, i, &m->rings[i]);
        mini_start_worker(m, i);
    }
    pthread_mutex_unlock(&m->lock);
    CHECK_EQ(pthread_create(&m->background, NULL, mini_background, m), 0);
}

/* Sends the numbers first ... first + count - 1. */
static void mini_submit(mini *m, mini_job *job, uint32_t first, uint32_t count, bool on_behalf) {
    *job = (mini_job){.next = first, .end = first + count, .left = count, .on_behalf = on_behalf};
    pthread_mutex_lock(&m->lock);
    if (on_behalf) {
        m->on_behalf++;
        fp_pool_ask(&m->pool, FP_ATT_RESULTS);
    }
    mini_job **last = &m->sources;
    while (*last != NULL) {
        last = &(*last)->following;
    }
    *last = job;
    mini_feed(m);
    if (m->sources != NULL && m->waiting == 0) {
        mini_ask_for_low(m);
    }
    pthread_mutex_unlock(&m->lock);
}

/* As Dispatcher.wait. */
static void mini_wait(mini *m, mini_job *job) {
    pthread_mutex_lock(&m->lock);
    if (job->on_behalf) {
        while (job->left > 0) {
            pthread_cond_wait(&m->settled, &m->lock);
        }
        pthread_mutex_unlock(&m->lock);
        return;
    }
    m->waiting++;
    for (;;) {
        uint32_t n = mini_drain(m);
        mini_feed(m);
        if (atomic_load_explicit(&job->flag, memory_order_relaxed)) {
            break;
        }
        if (n > 0) {
            continue;
        }
        uint32_t bell = fp_parent_bell(&m->pool); /* before the lock is let go of */
        m->sleeping++;
        pthread_mutex_unlock(&m->lock);
        uint64_t before = fp_os_now_ns();
        uint64_t spin = m->block_ns ? before + m->block_ns : 0;
        int code = fp_parent_wait(&m->pool, m->rings, m->slots, &job->flag, bell, spin, 0, 1000000);
        bool slept_long = code == -EAGAIN && fp_os_now_ns() - before > 1000000000;
        pthread_mutex_lock(&m->lock);
        m->sleeping--;
        /* Its look for signals now and then must not hide that nobody woke it. */
        CHECK(!slept_long || (mini_drain(m) == 0 && !job->flag));
    }
    m->waiting--;
    if (m->sources != NULL && m->waiting == 0) {
        mini_ask_for_low(m);
    }
    pthread_mutex_unlock(&m->lock);
}

/* Ends the workers: DRAIN lets them finish what is queued, STOP does not. */
static void mini_end(mini *m, uint32_t state) {
    pthread_mutex_lock(&m->lock);
    m->ending = true;
    fp_pool_set_state(&m->pool, state);
    fp_pool_wake_all(&m->pool, m->slots);
    fp_os_bell_ring(m->bell);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->background, NULL);
    mini_check(m);
}

static void mini_free(mini *m) {
    fx_close_bell(m->bell, m->heard);
    close(m->own);
    fp_os_let_go(m->line);
    fp_pool_unmap(&m->pool);
    close(m->pool.fd);
    fp_ledger_close(&m->ledger);
    fx_release(m->executed, m->numbers * sizeof *m->executed);
    fx_release(m->pace, sizeof *m->pace);
    free(m->fate);
}

#endif
