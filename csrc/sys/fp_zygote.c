#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "sys/fp_zygote.h"

#include "os/fp_os.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The poll set: the socket, the parent, then a pidfd for each worker. */
#define FP__FIXED 2

typedef struct fp__zygote {
    struct pollfd *fds;
    pid_t *pids; /* beside fds */
    size_t count;
    size_t room;
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
static bool fp__note(int socket, int kind, pid_t pid, int value, int fd, uint64_t peak) {
    fp_zygote_note note = {.kind = kind, .pid = (int32_t)pid, .value = value, .peak = peak};
    struct iovec part = {.iov_base = &note, .iov_len = sizeof note};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    ssize_t n;
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0;
}

enum fp__forked { FP__WORKER, FP__ZYGOTE, FP__MUTE };

/* Says in which process it returns; FP__MUTE: in the zygote, which can't reach the parent. */
static enum fp__forked fp__fork(fp__zygote *z, int socket) {
    bool said;
    pid_t zygote = getpid();
    int err = fp__grow(z);
    FP_CP("fork.begin");
    pid_t pid = err < 0 ? -1 : fork();
    if (pid == 0) {
        fp_crash_role("worker");
        FP_CP("fork.child");
        if (fp_os_die_with_parent(zygote) < 0) {
            _exit(1); /* the zygote has ended in between */
        }
        FP_CP("fork.bound");
        return FP__WORKER;
    }
    FP_CP("fork.parent");
    if (pid < 0) {
        said = fp__note(socket, FP_NOTE_FAILED, 0, err < 0 ? -err : errno, -1, 0);
        return said ? FP__ZYGOTE : FP__MUTE;
    }
    /* Our child, and not reaped: the number can't be anyone else's. */
    int pidfd = fp_os_pidfd_open(pid);
    if (pidfd < 0) {
        kill(pid, SIGKILL);
        FP_CP("fork.undone");
        waitpid(pid, NULL, 0);
        said = fp__note(socket, FP_NOTE_FAILED, 0, -pidfd, -1, 0);
        return said ? FP__ZYGOTE : FP__MUTE;
    }
    z->fds[z->count] = (struct pollfd){.fd = pidfd, .events = POLLIN};
    z->pids[z->count] = pid;
    z->count++;
    FP_CP("fork.watched");
    said = fp__note(socket, FP_NOTE_FORKED, pid, 0, pidfd, 0);
    FP_CP("fork.noted");
    return said ? FP__ZYGOTE : FP__MUTE;
}

/* False when the parent can't be told. */
static bool fp__reap(fp__zygote *z, int socket, size_t i) {
    int status = 0;
    struct rusage usage = {0};
    FP_CP("reap.begin");
    while (wait4(z->pids[i], &status, 0, &usage) < 0 && errno == EINTR) {
    }
    FP_CP("reap.waited");
    bool said =
        fp__note(socket, FP_NOTE_EXIT, z->pids[i], status, -1, (uint64_t)usage.ru_maxrss * 1024);
    FP_CP("reap.noted");
    close(z->fds[i].fd);
    FP_CP("reap.closed");
    z->count--;
    z->fds[i] = z->fds[z->count];
    z->pids[i] = z->pids[z->count];
    return said;
}

/* In a new worker: nothing of the zygote's stays. */
static void fp__leave(fp__zygote *z, int socket) {
    FP_CP("leave.begin");
    for (size_t i = FP__FIXED; i < z->count; i++) {
        close(z->fds[i].fd);
    }
    FP_CP("leave.watched_closed");
    close(socket);
    FP_CP("leave.socket_closed");
    if (z->children_were_ignored) {
        signal(SIGCHLD, SIG_IGN);
    }
    free(z->fds);
    free(z->pids);
}

long fp_zygote_serve(int socket, int parent_pidfd, void *order, size_t room) {
    fp__zygote z = {0};
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
    z.fds[0] = (struct pollfd){.fd = socket, .events = POLLIN};
    z.fds[1] = (struct pollfd){.fd = parent_pidfd, .events = POLLIN};
    z.count = FP__FIXED;
    for (;;) {
        if (poll(z.fds, z.count, -1) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (z.fds[1].revents != 0) {
            return 0;
        }
        for (size_t i = z.count; i-- > FP__FIXED;) {
            if (z.fds[i].revents != 0 && !fp__reap(&z, socket, i)) {
                return 0;
            }
        }
        if (z.fds[0].revents != 0) {
            ssize_t n = recv(socket, order, room, MSG_DONTWAIT);
            FP_CP("serve.received");
            if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
                return 0;
            }
            enum fp__forked forked = n > 0 ? fp__fork(&z, socket) : FP__ZYGOTE;
            if (forked == FP__MUTE) {
                return 0;
            }
            if (forked == FP__WORKER) {
                fp__leave(&z, socket);
                return (long)n;
            }
        }
    }
}
