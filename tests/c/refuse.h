/* refuse.h: a kernel that refuses one system call, for the rest of this process's life.
 */
#ifndef REFUSE_H
#define REFUSE_H

#include "check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* From now on call `nr` fails with `error` when the low half of argument `arg`, as far as `mask` goes,
 * is `value`.  Whether that is possible here. */
static inline bool refuse_masked(uint32_t nr, uint32_t arg, uint32_t mask, uint32_t value,
                                 uint32_t error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)arg)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    bool done = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    if (!done) {
        printf("  skipped: no seccomp here\n");
        fflush(stdout);
    }
    return done;
}

/* Where the argument is just that value, and in any case. */
static inline bool refuse(uint32_t nr, uint32_t arg, uint32_t value, uint32_t error) {
    return refuse_masked(nr, arg, UINT32_MAX, value, error);
}
static inline bool refuse_all(uint32_t nr, uint32_t error) {
    return refuse_masked(nr, 0, 0, 0, error);
}

/* Runs a test in a child that prepare(error) has denied something to, for each way of saying so. */
static inline void where_refused(bool (*prepare)(uint32_t error), void (*test)(void)) {
    const uint32_t errors[] = {ENOSYS, EPERM, EACCES};
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        int status;
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (prepare(errors[i])) {
                test();
            }
            _exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
}

#endif
