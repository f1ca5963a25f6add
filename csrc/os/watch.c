/* watch.c: the ends of processes, told by pipes.  See fp_os.h and fp_shared.h.
 *
 * A child that is forked inherits all lines of its parent's; each that it kept would hide its parent's
 * death for as long as it lives.  So a handler of pthread_atfork() closes them, in the children of
 * libraries too.  (A raw clone() without exec runs no handlers.)  One line may be meant for the child:
 * the one that the forking thread has in `heirloom`.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "os/fp_shared.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows, and of making lines */
/* A program that closes all descriptors, and goes on, has others under their numbers later: so a line is
 * known by what it was when it was noted. */
static struct fp__line {
    int fd;
    dev_t device;
    ino_t inode;
} *lines;
static size_t count, room;

static _Thread_local int heirloom = -1;

static void fp__before_fork(void) { pthread_mutex_lock(&lock); }
static void fp__after_in_parent(void) { pthread_mutex_unlock(&lock); }

static void fp__close_line(const struct fp__line *line) {
    struct stat now;
    if (fstat(line->fd, &now) == 0 && now.st_dev == line->device && now.st_ino == line->inode) {
        close(line->fd);
    }
}

static void fp__after_in_child(void) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (lines[i].fd == heirloom) {
            lines[kept++] = lines[i];
        } else {
            fp__close_line(&lines[i]);
        }
    }
    count = kept;
    heirloom = -1; /* its own children get none */
    pthread_mutex_unlock(&lock);
}

static void fp__register(void) {
    pthread_atfork(fp__before_fork, fp__after_in_parent, fp__after_in_child);
}

/* Under the lock. */
static int fp__note_line(int fd) {
    struct stat now;
    if (fstat(fd, &now) < 0) {
        return -errno;
    }
    size_t at = 0;
    while (at < count && lines[at].fd != fd) { /* one that has the number is gone */
        at++;
    }
    if (at == room) {
        size_t more = room == 0 ? 8 : 2 * room;
        struct fp__line *grown = realloc(lines, more * sizeof *grown);
        if (grown == NULL) {
            return -ENOMEM;
        }
        lines = grown;
        room = more;
    }
    lines[at] = (struct fp__line){.fd = fd, .device = now.st_dev, .inode = now.st_ino};
    count += at == count;
    return 0;
}

/* A pipe whose writing end is a line of this process's, before any other thread can fork. */
static int fp__make_line(int *line) {
    int ends[2];
    pthread_once(&once, fp__register);
    pthread_mutex_lock(&lock);
    int err = fp__pipe(ends);
    if (err == 0) {
        err = fp__note_line(ends[1]);
        if (err < 0) {
            close(ends[0]);
            close(ends[1]);
        }
    }
    pthread_mutex_unlock(&lock);
    if (err < 0) {
        return err;
    }
    *line = ends[1];
    return ends[0];
}

void fp_os_let_go(int line) {
    if (line < 0) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; i++) {
        if (lines[i].fd == line) {
            fp__close_line(&lines[i]);
            lines[i] = lines[--count];
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    if (heirloom == line) {
        heirloom = -1;
    }
}

int fp_os_take_line(int line) {
    pthread_once(&once, fp__register);
    fcntl(line, F_SETFD, FD_CLOEXEC);
    pthread_mutex_lock(&lock);
    int err = fp__note_line(line);
    pthread_mutex_unlock(&lock);
    return err;
}

int fp_os_lend_line(int *line) {
    int watch = fp__make_line(line);
    if (watch >= 0) {
        heirloom = *line;
    }
    return watch;
}

int fp__pipe_self(int *line) { return fp__make_line(line); }

int fp__pipe_fork(int *watch) {
    int line;
    *watch = fp_os_lend_line(&line);
    if (*watch < 0) {
        return *watch;
    }
    pid_t pid = fork();
    int err = errno;
    if (pid == 0) {
        return 0;
    }
    fp_os_let_go(line);
    if (pid < 0) {
        close(*watch);
        *watch = -1;
        return -err;
    }
    return pid;
}

/* Errors of poll() that say nothing of what is watched. */
static bool fp__passes(int error) { return error == EINTR || error == EAGAIN || error == ENOMEM; }

static bool fp__has_ended(int watch) {
    struct pollfd fd = {.fd = watch, .events = POLLIN};
    int n;
    do {
        n = poll(&fd, 1, 0);
    } while (n < 0 && fp__passes(errno));
    return n != 0;
}

int fp__pipe_signal(int watch, int pid, int signum) {
    if (fp__has_ended(watch)) {
        return -ESRCH;
    }
    return kill(pid, signum) < 0 ? -errno : 0;
}

static void *fp__watch(void *arg) {
    struct pollfd watched = {.fd = (int)(intptr_t)arg, .events = POLLIN};
    for (;;) {
        int n = poll(&watched, 1, -1);
        if (n < 0 && fp__passes(errno)) {
            struct timespec while_ago = {.tv_sec = 0, .tv_nsec = 1000000};
            (void)nanosleep(&while_ago, NULL);
        } else if (n != 0) {
            /* No exit handlers: nothing of the dead process's work may go on. */
            kill(getpid(), SIGKILL);
        }
    }
    return NULL;
}

int fp_os_die_with(int watch) {
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    int err = pthread_attr_init(&attr);
    if (err != 0) {
        return -err;
    }
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN > 65536 ? PTHREAD_STACK_MIN : 65536);
    /* Signals belong to the program's threads, never to this one. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&thread, &attr, fp__watch, (void *)(intptr_t)watch);
    if (err == EINVAL) { /* too small: libraries have thread-local variables there */
        err = pthread_create(&thread, NULL, fp__watch, (void *)(intptr_t)watch);
        if (err == 0) {
            pthread_detach(thread);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}
