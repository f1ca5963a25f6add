/* limits.c: what this machine allows, measured without Python.
 *
 * Prints one JSON object a line. Times are nanoseconds per round, bandwidths GiB/s; each is the
 * median (p50) of many samples, with the 90th percentile of times (the 10th of bandwidths) beside
 * it as "tail".
 *
 *   pingpong    a word goes to another process and back in one cache line; each of the two is
 *               pinned to its own CPU
 *
 *   forkjoinN   post a job to each of N workers, wait for all answers; nobody is pinned. N is 1, 2,
 *               4 and so on up to the number of CPUs; with their caller that is one process more
 *
 *   memcpy      8 MiB from private memory into shared memory that is warm
 *   firsttouch  8 MiB from private memory into shared memory that nobody has touched yet
 *
 * The first three are run with each way of waiting: "pause" spins on the CPU's pause instruction,
 * "yield" spins on sched_yield(), "futex" sleeps in the kernel at every wait.
 *
 * Roles: one caller (this process), some workers (its children, which loop until they are killed).
 *
 * Writers: in forkjoin, the caller of job.word, the worker whose pair it is of answer.word and
 * answer.value. In pingpong, both of job.word alone, by turns: the caller makes it odd, the worker
 * makes it even.
 *
 * Orders: J1 store job, release, and J2 load job, acquire: what came with the job is visible to the
 * worker. A1 store answer, release, and A2 load answer, acquire: answer.value is visible to the
 * caller. The futex reads the word again in the kernel before it sleeps, so a post between the load
 * and the sleep isn't lost; the wake that follows every post needs no fence, since it is never left
 * out.
 *
 * Death: PR_SET_PDEATHSIG ends a worker with its caller, whose only thread forked it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CACHE_LINE = 128, /* two lines: the neighbour is fetched along with the one asked for */
    MAX_WORKERS = 1024,
    MAX_SAMPLES = 100000,
    BLOCK_BYTES = 8 << 20,
    DEFAULT_BUDGET_MS = 300,
};

typedef enum { WAIT_PAUSE, WAIT_YIELD, WAIT_FUTEX, WAIT_STYLES } wait_style;
static const char *const STYLE_NAMES[WAIT_STYLES] = {"pause", "yield", "futex"};

typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint32_t word;
    uint32_t value;
} mailbox;

typedef struct {
    mailbox job;
    mailbox answer;
} desk; /* one worker's pair */

static uint64_t samples[MAX_SAMPLES];
static uint64_t budget_ns;

static void die(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void cpu_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- a word that is posted and awaited ---- */

static void futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    /* Errors are as good as success here: EAGAIN and EINTR only send the caller back to look at the
     * word. */
    syscall(SYS_futex, (uint32_t *)word, operation, value, NULL, NULL, 0);
}

static void post(mailbox *box, uint32_t word, wait_style style) {
    atomic_store_explicit(&box->word, word, memory_order_release); /* J1, A1 */
    if (style == WAIT_FUTEX)
        futex(&box->word, FUTEX_WAKE, 1);
}

static uint32_t await_change(mailbox *box, uint32_t seen, wait_style style) {
    for (;;) {
        uint32_t word = atomic_load_explicit(&box->word, memory_order_acquire); /* J2, A2 */
        if (word != seen)
            return word;
        switch (style) {
        case WAIT_PAUSE:
            cpu_pause();
            break;
        case WAIT_YIELD:
            sched_yield();
            break;
        default:
            futex(&box->word, FUTEX_WAIT, seen);
            break;
        }
    }
}

/* ---- CPUs and workers ---- */

static int nth_cpu(const cpu_set_t *allowed, int n) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && n-- == 0)
            return cpu;
    return -1;
}

static void pin(int cpu) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    if (sched_setaffinity(0, sizeof only, &only) != 0)
        die("sched_setaffinity");
}

static void work(desk *own, wait_style style) {
    for (uint32_t seen = 0;;) {
        seen = await_change(&own->job, seen, style);
        own->answer.value = seen + 1;
        post(&own->answer, seen, style);
    }
}

static void return_word(desk *own, wait_style style) {
    for (uint32_t even = 0;; even += 2) {
        await_change(&own->job, even, style);
        post(&own->job, even + 2, style);
    }
}

static pid_t start_worker(desk *own, wait_style style, int cpu) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    if (cpu >= 0) {
        pin(cpu);
        return_word(own, style);
    }
    work(own, style);
    _exit(EXIT_FAILURE); /* not reached: both loop until they are killed */
}

static void send_word(desk *peer, uint32_t round, wait_style style) {
    post(&peer->job, 2 * round - 1, style);
    if (await_change(&peer->job, 2 * round - 1, style) != 2 * round) {
        fprintf(stderr, "a wrong word came back in round %u\n", round);
        exit(EXIT_FAILURE);
    }
}

static void fork_join(desk *desks, int workers, uint32_t round, wait_style style) {
    for (int i = 0; i < workers; i++)
        post(&desks[i].job, round, style);
    for (int i = 0; i < workers; i++) {
        if (await_change(&desks[i].answer, round - 1, style) != round ||
            desks[i].answer.value != round + 1) {
            fprintf(stderr, "worker %d gave a wrong answer in round %u\n", i, round);
            exit(EXIT_FAILURE);
        }
    }
}

static void run_round(desk *desks, int workers, uint32_t round, wait_style style, bool pinned) {
    if (pinned)
        send_word(desks, round, style);
    else
        fork_join(desks, workers, round, style);
}

/* ---- samples to figures ---- */

static int compare_samples(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile(int count, int percent) {
    return (double)samples[(int64_t)(count - 1) * percent / 100];
}

static void report_rounds(const char *name, wait_style style, int cpus, int count, int batch) {
    qsort(samples, (size_t)count, sizeof samples[0], compare_samples);
    printf("{\"name\": \"%s\", \"wait\": \"%s\", \"cpus\": %d, \"unit\": \"ns\", \"p50\": %.1f, "
           "\"tail\": %.1f, "
           "\"samples\": %d}\n",
           name, STYLE_NAMES[style], cpus, percentile(count, 50) / batch,
           percentile(count, 90) / batch, count);
    fflush(stdout);
}

static double gib_per_s(double ns) {
    return (double)BLOCK_BYTES / (double)(1u << 30) / (ns * 1e-9);
}

static void report_bandwidth(const char *name, int count) {
    qsort(samples, (size_t)count, sizeof samples[0], compare_samples);
    printf("{\"name\": \"%s\", \"bytes\": %d, \"unit\": \"GiB/s\", \"p50\": %.2f, \"tail\": %.2f, "
           "\"samples\": %d}\n",
           name, BLOCK_BYTES, gib_per_s(percentile(count, 50)), gib_per_s(percentile(count, 90)),
           count);
    fflush(stdout);
}

/* ---- the measurements ---- */

static void measure_rounds(const char *name, int workers, wait_style style, bool pinned,
                           const cpu_set_t *allowed) {
    int cpus = CPU_COUNT(allowed);
    int batch = style == WAIT_FUTEX ? 1
                : pinned ? 16
                         : 1; /* a pinned spin takes little more than reading the clock */
    desk *desks = mmap(NULL, MAX_WORKERS * sizeof(desk), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (desks == MAP_FAILED)
        die("mmap");
    pid_t pids[MAX_WORKERS];
    for (int i = 0; i < workers; i++)
        pids[i] = start_worker(&desks[i], style, pinned ? nth_cpu(allowed, cpus - 1) : -1);
    if (pinned)
        pin(nth_cpu(allowed, 0));

    uint32_t round = 0;
    int count = 0;
    uint64_t warm = now_ns() + budget_ns / 10;
    do
        run_round(desks, workers, ++round, style, pinned);
    while (now_ns() < warm);
    uint64_t deadline = now_ns() + budget_ns;
    do {
        uint64_t start = now_ns();
        for (int i = 0; i < batch; i++)
            run_round(desks, workers, ++round, style, pinned);
        samples[count++] = now_ns() - start;
    } while (count < MAX_SAMPLES && now_ns() < deadline);

    for (int i = 0; i < workers; i++) {
        kill(pids[i], SIGKILL);
        while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    if (pinned && sched_setaffinity(0, sizeof *allowed, allowed) != 0)
        die("sched_setaffinity");
    munmap(desks, MAX_WORKERS * sizeof(desk));
    report_rounds(name, style, cpus, count, batch);
}

static void measure_copy(const char *name, bool fresh) {
    int fd = memfd_create("limits", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, BLOCK_BYTES) != 0)
        die("memfd");
    char *shared = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *source = malloc(BLOCK_BYTES);
    if (shared == MAP_FAILED || source == NULL)
        die("memory");
    memset(source, 'x', BLOCK_BYTES);
    memset(shared, 'y', BLOCK_BYTES);
    int count = 0;
    uint64_t deadline = now_ns() + budget_ns;
    do {
        if (fresh && (ftruncate(fd, 0) != 0 || ftruncate(fd, BLOCK_BYTES) != 0))
            die("ftruncate");
        source[count % BLOCK_BYTES] =
            (char)count; /* no two copies alike, so none can be left out */
        uint64_t start = now_ns();
        memcpy(shared, source, BLOCK_BYTES);
        __asm__ volatile("" ::"r"(shared) : "memory"); /* the copy counts as read */
        samples[count++] = now_ns() - start;
    } while (count < MAX_SAMPLES && now_ns() < deadline);
    if (memcmp(shared, source, BLOCK_BYTES) != 0) {
        fprintf(stderr, "%s: the copy differs\n", name);
        exit(EXIT_FAILURE);
    }
    free(source);
    munmap(shared, BLOCK_BYTES);
    close(fd);
    report_bandwidth(name, count);
}

/* The powers of two, and the last count if it is none. */
static int next_count(int workers, int most) {
    return workers < most && 2 * workers > most ? most : 2 * workers;
}

int main(int argc, char **argv) {
    long budget_ms = argc > 1 ? strtol(argv[1], NULL, 10) : DEFAULT_BUDGET_MS;
    if (argc > 2 || budget_ms < 1) {
        fprintf(stderr, "usage: %s [MILLISECONDS PER MEASUREMENT]\n", argv[0]);
        return EXIT_FAILURE;
    }
    budget_ns = (uint64_t)budget_ms * 1000000u;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        die("sched_getaffinity");
    for (int style = 0; style < WAIT_STYLES; style++)
        measure_rounds("pingpong", 1, (wait_style)style, true, &allowed);
    int most = CPU_COUNT(&allowed) < 2             ? 2
               : CPU_COUNT(&allowed) < MAX_WORKERS ? CPU_COUNT(&allowed)
                                                   : MAX_WORKERS;
    for (int workers = 1; workers <= most; workers = next_count(workers, most)) {
        char name[sizeof "forkjoin" + 11];
        snprintf(name, sizeof name, "forkjoin%d", workers);
        for (int style = 0; style < WAIT_STYLES; style++)
            measure_rounds(name, workers, (wait_style)style, false, &allowed);
    }
    measure_copy("memcpy", false);
    measure_copy("firsttouch", true);
    return EXIT_SUCCESS;
}
