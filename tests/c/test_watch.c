/* test_watch.c: the ends of processes are noticed, whatever else they leave behind; and messages.  Both
 * kinds of watches, where the system has both. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/fp_os.h"

#include "check.h"
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define SOON 10000 /* ms */

#ifdef __SANITIZE_THREAD__ /* it ends a child that has threads, if its parent had some */
#define FORKS_BESIDE_NO_THREADS 1
#else
#define FORKS_BESIDE_NO_THREADS 0
#endif

extern char **environ;

static int kind;

static bool readable(int fd, int ms) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return poll(&polled, 1, ms) == 1;
}

static bool is_over(int watch) { return readable(watch, SOON); }

static void end(pid_t pid, int watch) {
    int status;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    close(watch);
}

/* How many descriptors this process has. */
static int descriptors(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static pid_t start(void (*body)(void), int *watch) {
    fflush(stdout);
    int pid = fp_os_fork(kind, watch);
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(CHECK_SECONDS);
        if (*watch >= 0) {
            close(*watch);
        }
        body();
        _exit(0);
    }
    return pid;
}

static void sleep_long(void) {
    for (;;) {
        pause();
    }
}

/* ---- a child ---------------------------------------------------------------------------------- */

static void a_child_is_watched_until_it_ends(void) {
    int watch, before = descriptors();
    pid_t pid = start(sleep_long, &watch);
    CHECK(!readable(watch, 20));
    CHECK_EQ(fp_os_signal(watch, pid, 0), 0);
    CHECK_EQ(fp_os_signal(watch, pid, SIGKILL), 0);
    CHECK(is_over(watch));
    CHECK(is_over(watch)); /* and stays so */
    end(pid, watch);
    CHECK_EQ(descriptors(), before);
}

static void no_signal_is_sent_to_who_has_ended(void) {
    int watch;
    pid_t pid = start(sleep_long, &watch);
    kill(pid, SIGKILL);
    CHECK(is_over(watch));
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(fp_os_signal(watch, getpid(), SIGKILL), -ESRCH); /* its number is ours now, say */
    close(watch);
}

static void a_child_can_be_watched_by_who_is_sent_the_watch(void) {
    int watch, theirs, pair[2];
    char byte;
    CHECK_EQ(fp_os_pair(pair), 0);
    pid_t pid = start(sleep_long, &watch);
    CHECK_EQ(fp_os_send(pair[0], "x", 1, watch), 0);
    close(watch);
    CHECK_EQ(fp_os_receive(pair[1], &byte, 1, &theirs), 1);
    CHECK(fcntl(theirs, F_GETFD) & FD_CLOEXEC);
    CHECK(!readable(theirs, 20));
    kill(pid, SIGKILL);
    CHECK(is_over(theirs));
    end(pid, theirs);
    close(pair[0]);
    close(pair[1]);
}

/* ---- what must not hide a death ---------------------------------------------------------------- */

static int told[2];

/* Ends itself when a grandchild, made by this, is there. */
static void leaves_a_grandchild(pid_t (*make)(void)) {
    pid_t grandchild = make();
    CHECK_EQ(write(told[1], &grandchild, sizeof grandchild), sizeof grandchild);
    _exit(0);
}

static pid_t by_fork(void) {
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHECK_SECONDS);
        sleep_long();
    }
    return pid;
}

static pid_t by_exec(void) {
    pid_t pid;
    char *argv[] = {"sleep", "100", NULL};
    CHECK_EQ(posix_spawn(&pid, "/bin/sleep", NULL, NULL, argv, environ), 0);
    return pid;
}

static pid_t by_the_contract(void) {
    int watch;
    return start(sleep_long, &watch);
}

/* Who forks is watched itself, hands on a watch of itself, and lends a line besides. */
static pid_t with_lines_of_its_own(void) {
    int line, other;
    CHECK(fp_os_watch_self(kind, &line) >= 0);
    if (kind == FP_BY_PIPE) {
        CHECK(fp_os_lend_line(&other) >= 0);
        fp_os_let_go(other);
    }
    return by_fork();
}

static void forks(void) { leaves_a_grandchild(by_fork); }
static void starts_a_program(void) { leaves_a_grandchild(by_exec); }
static void starts_a_watched_child(void) { leaves_a_grandchild(by_the_contract); }
static void has_lines_and_forks(void) { leaves_a_grandchild(with_lines_of_its_own); }

static void a_grandchild_hides_no_death(void) {
    void (*const bodies[])(void) = {forks, starts_a_program, starts_a_watched_child,
                                    has_lines_and_forks};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        int watch;
        pid_t grandchild;
        CHECK_EQ(pipe(told), 0);
        pid_t pid = start(bodies[i], &watch);
        CHECK_EQ(read(told[0], &grandchild, sizeof grandchild), sizeof grandchild);
        CHECK(is_over(watch));
        CHECK_EQ(kill(grandchild, 0), 0);
        kill(grandchild, SIGKILL);
        end(pid, watch);
        close(told[0]);
        close(told[1]);
    }
}

/* A child that takes a line over, but was made by fork() alone, as some contexts of Python's do. */
static void a_grandchild_of_who_took_a_line_hides_no_death(void) {
    int line, watch, status;
    pid_t grandchild;
    if (kind != FP_BY_PIPE) {
        return;
    }
    CHECK_EQ(pipe(told), 0);
    watch = fp_os_lend_line(&line);
    CHECK(watch >= 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        leaves_a_grandchild(by_fork);
    }
    fp_os_let_go(line);
    CHECK_EQ(read(told[0], &grandchild, sizeof grandchild), sizeof grandchild);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(is_over(watch));
    CHECK_EQ(kill(grandchild, 0), 0);
    kill(grandchild, SIGKILL);
    close(watch);
    close(told[0]);
    close(told[1]);
}

static void siblings_hide_no_death(void) {
    enum { N = 4 };
    int watches[N];
    pid_t pids[N];
    for (int i = 0; i < N; i++) {
        pids[i] = start(sleep_long, &watches[i]);
    }
    for (int i = N; i-- > 0;) {
        for (int k = 0; k < i; k++) {
            CHECK(!readable(watches[k], 0));
        }
        kill(pids[i], SIGKILL);
        CHECK(is_over(watches[i]));
        end(pids[i], watches[i]);
    }
}

static fp_a32 forking;

static void *fork_again_and_again(void *arg) {
    enum { MOST = 8 };
    pid_t sleepers[MOST] = {0};
    (void)arg;
    for (int n = 0; atomic_load(&forking) || n % MOST != 0; n++) {
        pid_t *sleeper = &sleepers[n % MOST];
        if (*sleeper > 0) {
            kill(*sleeper, SIGKILL);
            CHECK_EQ(waitpid(*sleeper, NULL, 0), *sleeper);
        }
        *sleeper = by_fork();
    }
    for (int i = 0; i < MOST; i++) {
        kill(sleepers[i], SIGKILL);
        waitpid(sleepers[i], NULL, 0);
    }
    return NULL;
}

/* Children of another thread are there from before to after each of ours. */
static void threads_that_fork_hide_no_death(void) {
    pthread_t thread;
    uint64_t until = fx_until(0.3);
    atomic_store(&forking, 1);
    CHECK_EQ(pthread_create(&thread, NULL, fork_again_and_again, NULL), 0);
    while (fp_os_now_ns() < until) {
        int watch;
        pid_t pid = start(sleep_long, &watch);
        kill(pid, SIGKILL);
        CHECK(is_over(watch));
        end(pid, watch);
    }
    atomic_store(&forking, 0);
    pthread_join(thread, NULL);
}

/* ---- a parent ---------------------------------------------------------------------------------- */

/* A parent whose child tells by the pipe that it has seen it end. */
static int seen[2];

static void has_a_child_that_watches(void) {
    int line, watch = fp_os_watch_self(kind, &line);
    CHECK(watch >= 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHECK_SECONDS);
        CHECK(!readable(watch, 20));
        CHECK_EQ(write(seen[1], "1", 1), 1);
        CHECK(is_over(watch));
        CHECK_EQ(write(seen[1], "2", 1), 1);
        _exit(0);
    }
    sleep_long();
}

static void has_a_child_that_dies_with_it(void) {
    int line, watch = fp_os_watch_self(kind, &line);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        alarm(CHECK_SECONDS);
        if (fp_os_die_with_parent(parent, watch) == 0) {
            CHECK_EQ(write(seen[1], "1", 1), 1);
            sleep_long();
        }
        _exit(1);
    }
    close(seen[1]);
    sleep_long();
}

static void has_a_child_with_a_watching_thread(void) {
    int line, watch = fp_os_watch_self(kind, &line);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHECK_SECONDS);
        CHECK_EQ(fp_os_die_with(watch), 0);
        CHECK_EQ(write(seen[1], "1", 1), 1);
        sleep_long();
    }
    close(seen[1]);
    sleep_long();
}

static void a_parent_can_be_watched_by_its_child(void) {
    int watch;
    char byte = 0;
    CHECK_EQ(pipe(seen), 0);
    pid_t pid = start(has_a_child_that_watches, &watch);
    CHECK_EQ(read(seen[0], &byte, 1), 1);
    kill(pid, SIGKILL);
    CHECK_EQ(read(seen[0], &byte, 1), 1);
    CHECK_EQ(byte, '2');
    end(pid, watch);
    close(seen[0]);
    close(seen[1]);
}

static void a_child_can_die_with_its_parent(void) {
    void (*const bodies[])(void) = {has_a_child_that_dies_with_it,
                                    has_a_child_with_a_watching_thread};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        int watch;
        char byte;
        CHECK_EQ(pipe(seen), 0);
        pid_t pid = start(bodies[i], &watch);
        close(seen[1]);
        CHECK_EQ(read(seen[0], &byte, 1), 1);
        CHECK(!readable(seen[0], 20));
        kill(pid, SIGKILL);
        CHECK_EQ(read(seen[0], &byte, 1), 0); /* the last who had its end is gone */
        end(pid, watch);
        close(seen[0]);
    }
}

/* ---- a program that is started ------------------------------------------------------------------ */

/* In the child of a fork that is about to exec, as Python's subprocess has it. */
static void a_program_takes_over_a_line(void) {
    int line, watch, status, before = descriptors();
    if (kind != FP_BY_PIPE) {
        return;
    }
    watch = fp_os_lend_line(&line);
    CHECK(watch >= 0);
    CHECK(fcntl(line, F_GETFD) & FD_CLOEXEC);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(fcntl(line, F_SETFD, 0), 0);
        execl("/bin/sleep", "sleep", "100", (char *)NULL);
        _exit(1);
    }
    fp_os_let_go(line);
    CHECK(fcntl(line, F_GETFD) < 0);
    fp_os_let_go(line); /* once more does nothing */
    CHECK(!readable(watch, 50));
    kill(pid, SIGKILL);
    CHECK(is_over(watch));
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    close(watch);
    CHECK_EQ(descriptors(), before);
}

static void a_line_that_was_taken_is_closed_in_children(void) {
    int line, watch;
    if (kind != FP_BY_PIPE) {
        return;
    }
    watch = fp_os_lend_line(&line);
    int taken = dup(line);
    fp_os_let_go(line);
    CHECK_EQ(fp_os_take_line(taken), 0);
    CHECK(fcntl(taken, F_GETFD) & FD_CLOEXEC);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fcntl(taken, F_GETFD) >= 0);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    CHECK(!readable(watch, 0));
    fp_os_let_go(taken);
    CHECK(readable(watch, 0));
    close(watch);
}

/* As a program does that becomes a daemon, and then opens files. */
static void who_has_the_number_of_a_line_that_is_gone_keeps_it(void) {
    int line, watch, status, before = descriptors();
    if (kind != FP_BY_PIPE) {
        return;
    }
    watch = fp_os_watch_self(kind, &line);
    CHECK(watch >= 0);
    int file = fp_os_file_create();
    CHECK_EQ(dup2(file, line), line);
    CHECK(readable(watch, 0));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fcntl(line, F_GETFD) < 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    fp_os_let_go(line);
    CHECK(fcntl(line, F_GETFD) >= 0);
    close(line);
    close(file);
    close(watch);
    CHECK_EQ(descriptors(), before);
}

static void a_line_may_have_the_number_of_one_that_is_gone(void) {
    int line, other, watch, before = descriptors();
    if (kind != FP_BY_PIPE) {
        return;
    }
    watch = fp_os_watch_self(kind, &line);
    close(watch);
    close(line);
    watch = fp_os_watch_self(kind, &other);
    CHECK_EQ(other, line);
    fp_os_let_go(other);
    CHECK(readable(watch, 0));
    close(watch);
    CHECK_EQ(descriptors(), before);
}

static void without_a_descriptor_there_is_no_child(void) {
    struct rlimit limit, none;
    int watch;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    int pid = fp_os_fork(kind, &watch);
    if (pid == 0) {
        sleep_long(); /* until it is taken back */
    }
    CHECK_EQ(pid, -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQ(errno, ECHILD);
}

/* ---- exit status, messages, files -------------------------------------------------------------- */

static void exits_with_memory(void) {
    enum { SIZE = 30 << 20 };
    volatile char *memory = malloc(SIZE);
    for (int at = 0; at < SIZE; at += 1024) {
        memory[at] = 1;
    }
    _exit(7);
}

static void an_exit_status_comes_with_the_peak_of_memory(void) {
    int watch, status = 0;
    uint64_t peak = 0;
    pid_t pid = start(sleep_long, &watch);
    CHECK_EQ(fp_os_reap(pid, false, &status, &peak), 0);
    end(pid, watch);
    CHECK_EQ(fp_os_reap(pid, true, &status, &peak), -ECHILD);
    pid = start(exits_with_memory, &watch);
    CHECK_EQ(fp_os_reap(pid, true, &status, &peak), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(peak >= 30u << 20 && peak < 4000ull << 20);
    close(watch);
}

static void messages_are_whole_and_in_order(void) {
    enum { LARGE = 16400 };
    static char large[LARGE], got[LARGE + 10];
    int pair[2], fd;
    CHECK_EQ(fp_os_pair(pair), 0);
    CHECK(fcntl(pair[0], F_GETFD) & fcntl(pair[1], F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(fp_os_receive(pair[1], got, sizeof got, &fd), -EAGAIN);
    fx_fill(large, LARGE, 5);
    CHECK_EQ(fp_os_send(pair[0], "one", 3, -1), 0);
    CHECK_EQ(fp_os_send(pair[0], large, LARGE, -1), 0);
    CHECK_EQ(fp_os_receive(pair[1], got, sizeof got, &fd), 3);
    CHECK_EQ(memcmp(got, "one", 3), 0);
    CHECK_EQ(fd, -1);
    CHECK_EQ(fp_os_receive(pair[1], got, sizeof got, &fd), LARGE);
    CHECK(fx_filled(got, LARGE, 5));
    close(pair[0]);
    close(pair[1]);
}

static void a_full_pair_is_an_answer(void) {
    int pair[2], fd, n = 0, err;
    char got[16];
    CHECK_EQ(fp_os_pair(pair), 0);
    while ((err = fp_os_send(pair[0], "message", 7, -1)) == 0) {
        n++;
    }
    CHECK_EQ(err, -EAGAIN);
    CHECK(n >= 8); /* orders ahead */
    CHECK_EQ(fp_os_await_room(pair[0], 10), -EAGAIN);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(fp_os_receive(pair[1], got, sizeof got, &fd), 7);
    }
    CHECK_EQ(fp_os_await_room(pair[0], SOON), 0);
    CHECK_EQ(fp_os_send(pair[0], "message", 7, -1), 0);
    close(pair[1]);
    CHECK(fp_os_send(pair[0], "message", 7, -1) < 0); /* and no SIGPIPE */
    close(pair[0]);
}

static void a_file_has_no_name_and_can_be_read_and_written(void) {
    char got[8] = {0};
    int fd = fp_os_file_create();
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(write(fd, "stacks", 6), 6);
    CHECK_EQ(pread(fd, got, sizeof got, 0), 6);
    CHECK_EQ(memcmp(got, "stacks", 6), 0);
    int own = fp_os_file_reopen(fd);
    if (own != -ENOTSUP) {
        CHECK(own >= 0);
        CHECK_EQ(read(own, got, sizeof got), 6); /* from the beginning */
        close(own);
    }
    close(fd);
}

static void of_each_kind(void) {
    RUN(a_child_is_watched_until_it_ends);
    RUN(no_signal_is_sent_to_who_has_ended);
    RUN(a_child_can_be_watched_by_who_is_sent_the_watch);
    RUN(a_grandchild_hides_no_death);
    RUN(a_grandchild_of_who_took_a_line_hides_no_death);
    RUN(siblings_hide_no_death);
    RUN_IF(!FORKS_BESIDE_NO_THREADS, threads_that_fork_hide_no_death);
    RUN_IF(!FORKS_BESIDE_NO_THREADS, a_child_can_die_with_its_parent);
    RUN(a_parent_can_be_watched_by_its_child);
    RUN(a_program_takes_over_a_line);
    RUN(a_line_that_was_taken_is_closed_in_children);
    RUN(who_has_the_number_of_a_line_that_is_gone_keeps_it);
    RUN(a_line_may_have_the_number_of_one_that_is_gone);
    RUN(without_a_descriptor_there_is_no_child);
    RUN(an_exit_status_comes_with_the_peak_of_memory);
}

int main(void) {
    if (fp_os_watch_kind() == FP_BY_ID) {
        kind = FP_BY_ID;
        of_each_kind();
    }
    kind = FP_BY_PIPE;
    of_each_kind();
    RUN(messages_are_whole_and_in_order);
    RUN(a_full_pair_is_an_answer);
    RUN(a_file_has_no_name_and_can_be_read_and_written);
    return check_done();
}
