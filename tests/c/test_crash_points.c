/* test_crash_points.c: the named points of fp_crash.h; and a whole pool whose workers, one after the
 * other, die at each of them, and which dies as a whole when its parent does.
 *
 * Built with FP_CRASH_POINTS.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
static void be_born(unsigned long long seed);
#define MINI_BORN(seed) be_born(seed)
#define CHECK_SECONDS 60
#include "minipool.h"

#include "sys/fp_zygote.h"

#include <ftw.h>
#include <regex.h>
#include <sys/socket.h>

#define POINTS 500u
#define NUMBERS 400u

static uint64_t seed;
static char names[POINTS][64];
static uint32_t points;
static regex_t call, form;

/* ---- the names -------------------------------------------------------------------------------- */

static int read_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    const char *dot = strrchr(path, '.');
    (void)ftw;
    if (type != FTW_F || dot == NULL || strstr(".c .h .pyx .pxd", dot) == NULL) {
        return 0;
    }
    size_t n = (size_t)st->st_size;
    char *text = malloc(n + 1);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    CHECK_EQ(fread(text, 1, n, file), n);
    fclose(file);
    text[n] = '\0';
    regmatch_t found[2];
    for (const char *at = text; regexec(&call, at, 2, found, 0) == 0; at += found[0].rm_eo) {
        CHECK(points < POINTS);
        snprintf(names[points], sizeof *names, "%.*s", (int)(found[1].rm_eo - found[1].rm_so),
                 at + found[1].rm_so);
        if (regexec(&form, names[points], 0, NULL, 0) != 0) {
            CHECK_FAIL("%s: the point %s is not called something.something", path, names[points]);
        }
        for (uint32_t i = 0; i < points; i++) {
            if (strcmp(names[i], names[points]) == 0) {
                CHECK_FAIL("%s: there is another point called %s", path, names[i]);
            }
        }
        points++;
    }
    free(text);
    return 0;
}

static void no_two_points_have_the_same_name(void) {
    CHECK_EQ(regcomp(&call, "FP_CP\\(\"([^\"]*)\"\\)", REG_EXTENDED), 0);
    CHECK_EQ(regcomp(&form, "^[a-z_]+\\.[a-z_]+$", REG_EXTENDED), 0);
    CHECK_EQ(nftw("../../csrc", read_one, 16, FTW_PHYS), 0);
    uint32_t core = points;
    CHECK_EQ(nftw("../../src/fastpool/_core", read_one, 16, FTW_PHYS), 0);
    CHECK(core > 80);
    printf("  %u points in the core, %u in Cython\n", core, points - core);
}

static uint32_t point_called(const char *name) {
    for (uint32_t i = 0; i < points; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    CHECK_FAIL("no point is called %s", name);
}

/* ---- the request ------------------------------------------------------------------------------ */

/* What an executed copy of this program does: claims three tasks, in a role. */
static int claim_three(const char *role) {
    fp_taskring ring = fx_taskring(4);
    fp_task task = {.len = 0};
    fp_crash_role(role);
    for (int i = 0; i < 3; i++) {
        fp_taskring_push(&ring, &task);
        if (fp_taskring_claim(&ring, 0, &task) == 0) {
            return 2;
        }
    }
    return 0;
}

/* How a copy ends that is asked so. */
static int executed(const char *asked, const char *role) {
    int status;
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setenv("FASTPOOL_CRASH", asked, 1);
        close(2);
        execl("/proc/self/exe", "test_crash_points", role, (char *)NULL);
        _exit(127);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return status;
}

static bool is_killed(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; }

static void a_process_dies_at_the_kth_pass_of_its_role(void) {
    CHECK_EQ(executed("", "worker"), 0);
    CHECK(is_killed(executed("worker:claim.taken:1", "worker")));
    CHECK(is_killed(executed("worker:claim.taken:3", "worker")));
    CHECK_EQ(executed("worker:claim.taken:4", "worker"), 0);
    CHECK_EQ(executed("worker:claim.taken:1", "zygote"), 0);
    CHECK_EQ(executed("worker:claim.take:1", "worker"), 0);
    CHECK(is_killed(executed("any:claim.taken:3", "zygote")));
    CHECK(is_killed(executed("parent:push.begin:2", "parent")));
}

static void a_request_that_makes_no_sense_is_refused(void) {
    const char *asked[] = {"worker", "worker:claim.taken", "worker:claim.taken:0",
                           "worker:claim.taken:1x", ":claim.taken:1"};
    for (unsigned i = 0; i < sizeof asked / sizeof *asked; i++) {
        int status = executed(asked[i], "worker");
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

/* ---- a pool ----------------------------------------------------------------------------------- */

static struct shared {
    fp_a32 passed[POINTS];
    fp_a32 died[POINTS];
} *shared;                    /* by all processes */
static uint32_t aim = POINTS; /* where this process is to die */
static uint64_t passes;       /* so many more of these it survives */
static bool workers_only;
static bool patient; /* not always at the first pass */

static void pass(const char *name) {
    uint32_t i = point_called(name);
    atomic_store_explicit(&shared->passed[i], 1, memory_order_relaxed);
    if (i == aim && passes-- == 0) {
        atomic_fetch_add_explicit(&shared->died[i], 1, memory_order_relaxed);
        kill(getpid(), SIGKILL);
    }
}

/* In a new worker. */
static void be_born(unsigned long long seed_of_worker) {
    if (!workers_only) {
        fp_crash.pass = NULL;
        return;
    }
    fp_crash.pass = pass;
    if (seed_of_worker % 7 < 3) {
        aim = POINTS; /* or a point at the start would leave nobody to do the work */
    }
    passes = patient ? seed_of_worker / 5 % (seed_of_worker % 5 == 0 ? 40 : 3) : 0;
}

static bool has_ended(const mini_worker *worker) {
    struct pollfd end = {.fd = worker->end_fd, .events = POLLIN};
    return poll(&end, 1, 0) == 1;
}

/* Lets results lie until a worker waits for room, or no more come.  On a busy machine, whose parent may
 * always be quick enough, none would ever have to. */
static void be_late(mini *m) {
    bool more = true;
    pthread_mutex_lock(&m->lock);
    while (more) {
        uint64_t results = 0;
        more = true;
        for (uint32_t i = 0; i < m->slots; i++) {
            results += m->rings[i].shared->tail - m->rings[i].shared->head;
            more &= !atomic_load_explicit(&m->pool.ctl[i].want_room, memory_order_relaxed) &&
                    m->workers[i].alive && !has_ended(&m->workers[i]);
        }
        more &= results < m->sent;
        fp_os_yield();
    }
    pthread_mutex_unlock(&m->lock);
}

/* The smallest rings: everybody sleeps often, for room too. */
static void one_pool(mini *m, uint64_t salt) {
    uint64_t random = fx_seeded(seed, salt);
    mini_open(m, 1 + (uint32_t)fx_below(&random, 3), 1u << fx_below(&random, 3), 1, NUMBERS, true,
              0, 0, salt);
    mini_deadline(m, CHECK_SECONDS);
    for (uint32_t at = 0; at < NUMBERS;) {
        mini_job job;
        uint32_t n = 1 + (uint32_t)fx_below(&random, 60);
        n = n < NUMBERS - at ? n : NUMBERS - at;
        mini_submit(m, &job, at, n, fx_below(&random, 3) == 0);
        if (fx_below(&random, 2) == 0) {
            be_late(m);
        }
        mini_wait(m, &job);
        at += n;
    }
    CHECK_EQ(m->ledger.used, 0);
    CHECK_EQ(m->heap.blocks, 0);
    for (uint32_t i = 0; i < NUMBERS; i++) {
        CHECK(m->fate[i] == MINI_DONE || (m->fate[i] == MINI_LOST && m->executed[i] <= 1));
    }
    mini_end(m, FP_POOL_STOP);
    CHECK_EQ(fp_pool_sleeping(&m->pool, m->slots), 0);
    mini_free(m);
}

static bool begins_with_one_of(const char *name, const char *const *starts) {
    for (; *starts != NULL; starts++) {
        if (strncmp(name, *starts, strlen(*starts)) == 0) {
            return true;
        }
    }
    return false;
}

static void a_worker_may_die_at_any_point(void) {
    static mini m;
    const char *const must[] = {"claim.", "publish.",  "alloc.",       "header.",
                                "fresh.", "populate.", "collect.",     "sleepers.",
                                "sleep.", "park.",     "wait_room.",   "notify.",
                                "bell.",  "unpark.",   "bell_fd.rung", NULL};
    uint64_t pools = 0, deaths = 0, tried = 0;
    workers_only = true;
    memset(shared, 0, sizeof *shared);
    for (int i = 0; i < 4; i++) { /* nobody aims: what do workers pass? */
        one_pool(&m, pools++);
    }
    for (uint32_t i = 0; i < points; i++) {
        if (begins_with_one_of(names[i], must) && !atomic_load(&shared->passed[i])) {
            CHECK_FAIL("no worker has passed %s", names[i]);
        }
        uint64_t tries = 0;
        for (; atomic_load(&shared->passed[i]) && !atomic_load(&shared->died[i]); tries++) {
            if (tries == 100) {
                CHECK_FAIL("no worker dies at %s", names[i]);
            }
            patient = tries < 4; /* some points are passed once in a life, and not in each */
            aim = i;
            one_pool(&m, pools++);
        }
        deaths += shared->died[i];
        tried += shared->died[i] > 0;
    }
    aim = POINTS;
    printf("  %llu points, %llu pools, %llu deaths\n", (unsigned long long)tried,
           (unsigned long long)pools, (unsigned long long)deaths);
}

/* A pool in a process of its own; everything of it holds the pipe's other end. */
static void a_pool_whose_parent_dies(uint32_t at, uint64_t salt) {
    static mini m;
    int ends[2], status;
    CHECK_EQ(pipe(ends), 0);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        aim = at;
        passes = patient && salt % 3 == 0 ? salt / 3 % 30 : 0;
        fp_crash.pass = pass;
        one_pool(&m, salt);
        _exit(0);
    }
    close(ends[1]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(status == 0 || is_killed(status));
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 0); /* until the last process that holds it has ended */
    close(ends[0]);
}

static void with_its_parent_a_pool_dies_at_any_point(void) {
    const char *const must[] = {"push.",  "pop.",     "kick.",   "token.",  "forget.", "ask.",
                                "state.", "restart.", "return.", "create.", "slot.",   "reset.",
                                "room.",  "alloc.",   "free.",   "ctl.",    NULL};
    const char *const not_here[] = {"restart.home",
                                    "restart.given_back",
                                    "restart.start_moved",
                                    "restart.done",
                                    "return.released",
                                    "return.cold",
                                    NULL};
    uint64_t pools = 0, tried = 0;
    workers_only = false;
    memset(shared, 0, sizeof *shared);
    for (int i = 0; i < 4; i++) {
        a_pool_whose_parent_dies(POINTS, pools++);
    }
    for (uint32_t i = 0; i < points; i++) {
        alarm(CHECK_SECONDS);
        if (begins_with_one_of(names[i], must) && !begins_with_one_of(names[i], not_here) &&
            !atomic_load(&shared->passed[i])) {
            CHECK_FAIL("no parent has passed %s", names[i]);
        }
        uint64_t tries = 0;
        for (; atomic_load(&shared->passed[i]) && !atomic_load(&shared->died[i]); tries++) {
            if (tries == 100) {
                CHECK_FAIL("no parent dies at %s", names[i]);
            }
            patient = tries < 4;
            a_pool_whose_parent_dies(i, pools++);
        }
        tried += shared->died[i] > 0;
    }
    printf("  %llu points, %llu pools\n", (unsigned long long)tried, (unsigned long long)pools);
}

/* ---- the fork server -------------------------------------------------------------------------- */

/* A server, and in its workers what they live for. */
static void serve(int end, int parent, int kind, int own) {
    char order[16];
    long n = fp_zygote_serve(end, parent, kind, own, order, sizeof order);
    if (n > 0 && order[0] == 'l') {
        pause();
    }
    _exit(0);
}

/* The next note of a server's; false when it has ended, and all that it said has been read. */
static bool next_note(int end, int watch) {
    fp_zygote_note note;
    struct pollfd fds[] = {{.fd = end, .events = POLLIN}, {.fd = watch, .events = POLLIN}};
    CHECK(poll(fds, 2, -1) > 0);
    int fd;
    long n = fp_os_receive(end, &note, sizeof note, &fd);
    if (fd >= 0) {
        close(fd);
    }
    return n == -EAGAIN && fds[1].revents == 0 ? next_note(end, watch) : n == sizeof note;
}

/* Orders two workers, the second when the first has ended, of a server that dies at a point, or whose
 * workers do.  Everybody is gone soon after: workers end with the server, and it with the pair, or with
 * the line of its parent. */
static void a_server_that_meets(uint32_t at) {
    int pair[2], ends[2], line, watch, status, kind = fp_os_watch_kind();
    CHECK_EQ(fp_os_pair(pair), 0);
    CHECK_EQ(pipe(ends), 0);
    int parent = fp_os_watch_self(kind, &line);
    CHECK(parent >= 0);
    fflush(stdout);
    pid_t pid = fp_os_fork(kind, &watch);
    CHECK(pid >= 0);
    if (pid == 0) {
        close(pair[0]);
        close(ends[0]);
        aim = at;
        passes = 0;
        fp_crash.pass = pass;
        serve(pair[1], parent, kind, watch);
    }
    close(pair[1]);
    close(ends[1]);
    const char *orders[] = {"short", "long"};
    int notes = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (fp_os_send(pair[0], orders[i], strlen(orders[i]) + 1, -1) < 0) {
            break;
        }
        /* "forked", and of the short one its exit. */
        for (unsigned n = 0; n < 2 - i && next_note(pair[0], watch); n++) {
            notes++;
        }
    }
    close(pair[0]);
    fp_os_let_go(line);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(status == 0 || is_killed(status));
    CHECK(at != POINTS || (status == 0 && notes == 3));
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    close(parent);
    close(watch);
}

static void a_fork_server_may_die_at_any_point_and_its_workers_with_it(void) {
    const char *const of_it[] = {"serve.", "fork.", "leave.", "reap.", NULL};
    uint64_t tried = 0;
    memset(shared, 0, sizeof *shared);
    a_server_that_meets(POINTS);
    for (uint32_t i = 0; i < points; i++) {
        alarm(CHECK_SECONDS);
        if (!begins_with_one_of(names[i], of_it) || strcmp(names[i], "fork.undone") == 0) {
            continue;
        }
        if (!atomic_load(&shared->passed[i])) {
            CHECK_FAIL("nobody has passed %s", names[i]);
        }
        a_server_that_meets(i);
        CHECK(atomic_load(&shared->died[i]) > 0);
        tried++;
    }
    printf("  %llu points\n", (unsigned long long)tried);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        return claim_three(argv[1]);
    }
    seed = fx_seed();
    RUN(no_two_points_have_the_same_name);
    RUN(a_process_dies_at_the_kth_pass_of_its_role);
    RUN(a_request_that_makes_no_sense_is_refused);
    shared = fx_shared(sizeof *shared);
    RUN(a_worker_may_die_at_any_point);
    RUN(with_its_parent_a_pool_dies_at_any_point);
    RUN(a_fork_server_may_die_at_any_point_and_its_workers_with_it);
    return check_done();
}
