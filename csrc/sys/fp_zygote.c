#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "sys/fp_zygote.h"

#include "os/fp_os.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* The poll set: the pair's end, the parent, then a watch of each worker. */
#define FP__FIXED 2

typedef struct fp__zygote {
    struct pollfd *fds;
    pid_t *pids; /* beside fds */
    size_t count;
    size_t room;
    int end;
    int kind;
    int own; /* a watch of this process, for the workers; -1: they need none */
    bool children_were_ignored;
} fp__zygote;

static int fp__grow(fp__zygote *z) {
    if (z->count < z->room) {
        return 0;
    }
    size_t room = z->room == 0 ? 16 : 2 * z->room;
    struct pollfd *fds = realloc(z->fds, room * sizeof *fds);
    if (fds == NULL) {
        return -ENOMEM;
    }
    z->fds = fds;
    pid_t *pids = realloc(z->pids, room * sizeof *pids);
    if (pids == NULL) {
        return -ENOMEM;
    }
    z->pids = pids;
    z->room = room;
    return 0;
}

/* False when it can't be said, to a parent that is gone or because the system refuses; then the parent
 * waits for what never comes, unless this process ends. */
static bool fp__note(const fp__zygote *z, int kind, pid_t pid, int value, int fd, uint64_t peak) {
    fp_zygote_note note = {.kind = kind, .pid = (int32_t)pid, .value = value, .peak = peak};
    int err;
    while ((err = fp_os_send(z->end, &note, sizeof note, fd)) == -EAGAIN) {
        (void)fp_os_await_room(z->end, -1);
    }
    return err == 0;
}

enum fp__forked { FP__WORKER, FP__ZYGOTE, FP__MUTE };

/* Says in which process it returns; FP__MUTE: in the zygote, which can't reach the parent. */
static enum fp__forked fp__fork(fp__zygote *z) {
    bool said;
    pid_t zygote = getpid();
    int watch = -1;
    int pid = fp__grow(z);
    FP_CP("fork.begin");
    if (pid == 0) {
        pid = fp_os_fork(z->kind, &watch);
        if (pid == 0) {
            fp_crash_role("worker");
            FP_CP("fork.child");
            if (watch >= 0) {
                close(watch);
            }
            if (fp_os_die_with_parent(zygote, z->own) < 0) {
                _exit(1); /* the zygote has ended in between */
            }
            FP_CP("fork.bound");
            return FP__WORKER;
        }
    }
    FP_CP("fork.parent");
    if (pid < 0) {
        said = fp__note(z, FP_NOTE_FAILED, 0, -pid, -1, 0);
        return said ? FP__ZYGOTE : FP__MUTE;
    }
    z->fds[z->count] = (struct pollfd){.fd = watch, .events = POLLIN};
    z->pids[z->count] = pid;
    z->count++;
    FP_CP("fork.watched");
    said = fp__note(z, FP_NOTE_FORKED, pid, 0, watch, 0);
    FP_CP("fork.noted");
    return said ? FP__ZYGOTE : FP__MUTE;
}

/* False when the parent can't be told. */
static bool fp__reap(fp__zygote *z, size_t i) {
    int status = 0;
    uint64_t peak = 0;
    pid_t pid = z->pids[i];
    FP_CP("reap.begin");
    if (fp_os_reap(pid, false, &status, &peak) == 0) {
        /* It is on its way out, where this changes nothing; or it has closed its line, and would be
         * waited for as long as it pleases. */
        kill(pid, SIGKILL);
        fp_os_reap(pid, true, &status, &peak);
    }
    FP_CP("reap.waited");
    bool said = fp__note(z, FP_NOTE_EXIT, pid, status, -1, peak);
    FP_CP("reap.noted");
    close(z->fds[i].fd);
    FP_CP("reap.closed");
    z->count--;
    z->fds[i] = z->fds[z->count];
    z->pids[i] = z->pids[z->count];
    return said;
}

/* In a new worker: nothing of the zygote's stays, but what it is watched by. */
static void fp__leave(fp__zygote *z) {
    FP_CP("leave.begin");
    for (size_t i = FP__FIXED; i < z->count; i++) {
        close(z->fds[i].fd);
    }
    FP_CP("leave.watched_closed");
    close(z->end);
    FP_CP("leave.socket_closed");
    if (z->children_were_ignored) {
        signal(SIGCHLD, SIG_IGN);
    }
    free(z->fds);
    free(z->pids);
}

long fp_zygote_serve(int end, int parent, int kind, int own, void *order, size_t room) {
    fp__zygote z = {.end = end, .kind = kind, .own = own};
    struct sigaction before;
    fp_crash_role("zygote");
    FP_CP("serve.begin");
    int err = fp__grow(&z);
    if (err < 0) {
        return err;
    }
    /* Ignored, it would have the kernel reap the workers, and their exit status be lost. */
    sigaction(SIGCHLD, NULL, &before);
    if (before.sa_handler == SIG_IGN) {
        z.children_were_ignored = true;
        signal(SIGCHLD, SIG_DFL);
    }
    z.fds[0] = (struct pollfd){.fd = end, .events = POLLIN};
    z.fds[1] = (struct pollfd){.fd = parent, .events = POLLIN};
    z.count = FP__FIXED;
    for (;;) {
        if (poll(z.fds, (nfds_t)z.count, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (z.fds[1].revents != 0) {
            return 0;
        }
        for (size_t i = z.count; i-- > FP__FIXED;) {
            if (z.fds[i].revents != 0 && !fp__reap(&z, i)) {
                return 0;
            }
        }
        if (z.fds[0].revents != 0) {
            int none;
            long n = fp_os_receive(end, order, room, &none);
            FP_CP("serve.received");
            if (n == 0 || (n < 0 && n != -EAGAIN)) {
                return 0;
            }
            enum fp__forked forked = n > 0 ? fp__fork(&z) : FP__ZYGOTE;
            if (forked == FP__MUTE) {
                return 0;
            }
            if (forked == FP__WORKER) {
                fp__leave(&z);
                return n;
            }
        }
    }
}
