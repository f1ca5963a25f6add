/* stepper.h: a child that executes one function instruction by instruction, under ptrace.
 *
 *     step_begin(body);            the child stands before the first instruction of body()
 *     while (step_once()) ...      one instruction each; false when body() has returned
 *     step_kill();                 SIGKILL where it stands,  or
 *     step_finish();               the rest at full speed
 * A body that may sleep in the middle:
 *     step_until(n)                at most n instructions, or until it is over or asleep
 *
 * With several children, step_choose(i) says which one is meant.  Only the thread that began a child
 * may step it.  Where ptrace is forbidden (some containers), step_possible() says so.
 */
#ifndef STEPPER_H
#define STEPPER_H

#include "fixture.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define STEP_CHILDREN 4

typedef struct step_child {
    pid_t pid;
    volatile int *phase; /* shared: 0 before body(), 1 in it, 2 behind it */
    uint64_t steps;
} step_child;

static step_child step_children[STEP_CHILDREN];
static step_child *step_now = step_children;

static inline void step_choose(int i) { step_now = &step_children[i]; }

/* Waits until the child stops or ends; whether it stopped. */
static inline bool step_stopped(void) {
    int status;
    CHECK_EQ(waitpid(step_now->pid, &status, 0), step_now->pid);
    return WIFSTOPPED(status);
}

static inline void step_begin(void (*body)(void)) {
    if (step_now->phase == NULL) {
        step_now->phase = fx_shared(sizeof *step_now->phase);
    }
    *step_now->phase = 0;
    step_now->steps = 0;
    step_now->pid = fx_fork();
    if (step_now->pid == 0) {
        pid_t me = getpid();
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) {
            _exit(77);
        }
        syscall(SYS_kill, me, SIGSTOP);
        *step_now->phase = 1;
        body();
        *step_now->phase = 2;
        _exit(0);
    }
    CHECK(step_stopped());
    while (*step_now->phase == 0) {
        CHECK_EQ(ptrace(PTRACE_SINGLESTEP, step_now->pid, NULL, NULL), 0);
        CHECK(step_stopped());
    }
}

static inline bool step_once(void) {
    if (*step_now->phase == 2) {
        return false;
    }
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, step_now->pid, NULL, NULL), 0);
    CHECK(step_stopped());
    step_now->steps++;
    return *step_now->phase != 2;
}

/* At most n instructions; whether body() still goes on. */
static inline bool step_many(uint64_t n) {
    while (n-- > 0) {
        if (!step_once()) {
            return false;
        }
    }
    return *step_now->phase != 2;
}

enum { STEP_GOES, STEP_OVER, STEP_SLEEPS };

/* Whether the child's next instruction is one that it may fall asleep in. */
static inline bool step_may_sleep(void) {
#ifdef __x86_64__
    void *rip = (void *)offsetof(struct user_regs_struct, rip);
    long at = ptrace(PTRACE_PEEKUSER, step_now->pid, rip, NULL);
    return (ptrace(PTRACE_PEEKTEXT, step_now->pid, (void *)at, NULL) & 0xFFFF) == 0x050F;
#else
    return true; /* then each step is looked at, which takes longer */
#endif
}

/* Whether the child, set going, sleeps in a system call instead of stopping again. */
static inline bool step_sleeps(void) {
    char path[64], stat[256];
    int status, asleep = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)step_now->pid);
    for (;;) {
        if (waitpid(step_now->pid, &status, WNOHANG) == step_now->pid) {
            CHECK(WIFSTOPPED(status));
            return false;
        }
        FILE *file = fopen(path, "r");
        CHECK(file != NULL);
        size_t n = fread(stat, 1, sizeof stat - 1, file);
        fclose(file);
        stat[n] = '\0';
        const char *name_end = strrchr(stat, ')');
        asleep = name_end != NULL && name_end[2] == 'S' ? asleep + 1 : 0;
        if (asleep == 3) { /* not a moment of waiting for some lock of the kernel */
            return true;
        }
    }
}

static inline int step_until(uint64_t n) {
    for (; *step_now->phase != 2; n--) {
        if (n == 0) {
            return STEP_GOES;
        }
        bool may_sleep = step_may_sleep();
        CHECK_EQ(ptrace(PTRACE_SINGLESTEP, step_now->pid, NULL, NULL), 0);
        if (may_sleep && step_sleeps()) {
            return STEP_SLEEPS;
        }
        CHECK(may_sleep || step_stopped());
        step_now->steps++;
    }
    return STEP_OVER;
}

static inline void step_kill(void) {
    CHECK(step_now->pid > 0);
    kill(step_now->pid, SIGKILL);
    CHECK(!step_stopped());
    step_now->pid = 0;
}

static inline void step_finish(void) {
    CHECK_EQ(ptrace(PTRACE_CONT, step_now->pid, NULL, NULL), 0);
    CHECK(!step_stopped());
    CHECK_EQ(*step_now->phase, 2);
    step_now->pid = 0;
}

static inline bool step_possible(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? 77 : 0);
    }
    int status;
    waitpid(child, &status, 0);
    if (status != 0) {
        printf("  skipped: no ptrace here\n");
    }
    return status == 0;
}

#endif
