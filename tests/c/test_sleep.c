/* test_sleep.c: the contract of fp_os_park and fp_os_unpark, which each implementation of them keeps:
 * between processes, with signals and deadlines, and when sleepers are killed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/fp_os.h"

#include "check.h"
#include "fixture.h"
#include "refuse.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#define MS 1000000ll
#define SLEEPERS 4u

static fp_a32 *word, *begun; /* shared with the children */

static void set_up(void) {
    word = fx_shared(sizeof *word);
    begun = fx_shared(sizeof *begun);
}

static void tear_down(void) {
    fx_release(word, sizeof *word);
    fx_release(begun, sizeof *begun);
}

/* A child that sleeps until the word is not 0, and then ends. */
static pid_t sleeper(void) {
    pid_t child = fx_fork();
    if (child == 0) {
        atomic_fetch_add(begun, 1);
        while (atomic_load(word) == 0) {
            if (fp_os_park(word, 0, -1) != 0) {
                _exit(2);
            }
        }
        _exit(0);
    }
    return child;
}

static void until_begun(uint32_t n) {
    while (atomic_load(begun) < n) {
        fp_os_yield();
    }
}

static void wake(int n) {
    atomic_store(word, 1);
    CHECK(fp_os_unpark(word, n) >= 0);
}

static void ends_well(pid_t child) {
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void a_word_that_has_changed_is_not_slept_on(void) {
    set_up();
    CHECK_EQ(fp_os_park(word, 1, -1), 0);
    CHECK_EQ(fp_os_park(word, 1, 0), 0);
    tear_down();
}

static void a_sleep_ends_at_its_deadline_and_not_before(void) {
    const int64_t times[] = {0, 1, 10000, MS, 30 * MS};
    set_up();
    for (unsigned i = 0; i < sizeof times / sizeof *times; i++) {
        uint64_t before = fp_os_now_ns();
        CHECK_EQ(fp_os_park(word, 0, times[i]), -ETIMEDOUT);
        CHECK(fp_os_now_ns() - before >= (uint64_t)times[i]);
    }
    tear_down();
}

static void a_sleeper_of_another_process_is_woken(void) {
    set_up();
    for (uint64_t i = 0; i < 30; i++) {
        atomic_store(word, 0);
        atomic_store(begun, 0);
        pid_t child = sleeper();
        until_begun(1);
        for (uint64_t until = fp_os_now_ns() + i * 100000; fp_os_now_ns() < until;) {
            fp_os_yield();
        }
        wake(1);
        ends_well(child);
    }
    tear_down();
}

static void all_sleepers_are_woken_though_some_were_killed(void) {
    pid_t children[SLEEPERS];
    set_up();
    for (uint32_t i = 0; i < SLEEPERS; i++) {
        children[i] = sleeper();
    }
    until_begun(SLEEPERS);
    for (uint32_t i = 0; i < SLEEPERS; i += 2) {
        CHECK_EQ(kill(children[i], SIGKILL), 0);
        CHECK_EQ(waitpid(children[i], NULL, 0), children[i]);
    }
    wake(INT32_MAX);
    for (uint32_t i = 1; i < SLEEPERS; i += 2) {
        ends_well(children[i]);
    }
    tear_down();
}

static void a_sleeper_that_was_stopped_finds_out_later(void) {
    set_up();
    pid_t child = sleeper();
    until_begun(1);
    CHECK_EQ(kill(child, SIGSTOP), 0);
    wake(1);
    CHECK_EQ(kill(child, SIGCONT), 0);
    ends_well(child);
    tear_down();
}

static volatile sig_atomic_t ticks;
static void on_tick(int number) {
    (void)number;
    ticks++;
}

/* A futex does not see a signal that came just before it; so the timer goes on. */
static void a_signal_ends_a_sleep(void) {
    struct itimerval often = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    set_up();
    struct sigaction before;
    unsigned left = alarm(0); /* the real timer is one: the deadline begins anew afterwards */
    CHECK_EQ(sigaction(SIGALRM, &action, &before), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int i = 0; i < 30; i++) {
        CHECK_EQ(fp_os_park(word, 0, 20000 * MS), -EINTR);
    }
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_EQ(sigaction(SIGALRM, &before, NULL), 0);
    CHECK(ticks > 0);
    alarm(left);
    tear_down();
}

static void a_sleep_leaves_the_signal_mask_as_it_was(void) {
    sigset_t before, after;
    set_up();
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    CHECK_EQ(fp_os_park(word, 0, MS), -ETIMEDOUT);
    CHECK_EQ(fp_os_park(word, 1, MS), 0);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    for (int number = 1; number < NSIG; number++) {
        CHECK_EQ(sigismember(&after, number), sigismember(&before, number));
    }
    tear_down();
}

static bool no_wake(uint32_t error) { return refuse(SYS_futex, 1, 1, error); }

static void no_sleeper_is_woken(void) {
    set_up();
    bool can = fp_os_can_wake();
    atomic_store(word, 1);
    CHECK_EQ(fp_os_unpark(word, 1) >= 0, can); /* whoever naps finds out by himself */
    tear_down();
}

static void the_contract(void) {
    a_word_that_has_changed_is_not_slept_on();
    a_sleep_ends_at_its_deadline_and_not_before();
    a_sleeper_of_another_process_is_woken();
    all_sleepers_are_woken_though_some_were_killed();
    a_sleeper_that_was_stopped_finds_out_later();
    a_signal_ends_a_sleep();
    a_sleep_leaves_the_signal_mask_as_it_was();
}

static bool no_wait(uint32_t error) { return refuse(SYS_futex, 1, 0, error); }

static void where_sleepers_are_refused_the_futex_all_is_as_before(void) {
    where_refused(no_wait, the_contract);
}

/* They were not, when they fell asleep; so there has to be another way to get them up. */
static void where_wakers_are_refused_it_they_learn_of_that(void) {
    CHECK(fp_os_can_wake());
    where_refused(no_wake, no_sleeper_is_woken);
}

int main(void) {
    RUN(a_word_that_has_changed_is_not_slept_on);
    RUN(a_sleep_ends_at_its_deadline_and_not_before);
    RUN(a_sleeper_of_another_process_is_woken);
    RUN(all_sleepers_are_woken_though_some_were_killed);
    RUN(a_sleeper_that_was_stopped_finds_out_later);
    RUN(a_signal_ends_a_sleep);
    RUN(a_sleep_leaves_the_signal_mask_as_it_was);
    RUN(where_sleepers_are_refused_the_futex_all_is_as_before);
    RUN(where_wakers_are_refused_it_they_learn_of_that);
    return check_done();
}
