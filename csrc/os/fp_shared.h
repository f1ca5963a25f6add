/* fp_shared.h: what the files of this floor share.
 *
 * State       the lines that this process has, in watch.c: pthread_atfork() hands nothing to its
 *             handlers.  Each extension has a copy of that file, and each copy closes what it has made.
 * Locks       theirs is a leaf: nothing is called under it that takes another, fork() least of all.
 */
#ifndef FP_SHARED_H
#define FP_SHARED_H

#include "os/fp_os.h"

/* As fp_os_watch_self(), fp_os_fork() and fp_os_signal(), with FP_BY_PIPE. */
int fp__pipe_self(int *line);
int fp__pipe_fork(int *watch);
int fp__pipe_signal(int watch, int pid, int signum);

/* Bytes in a unit of ru_maxrss. */
uint64_t fp__peak_unit(void);

/* Whether variables of the library at this path that each thread has its own of have other than zeros in
 * the calling thread; true where that can't be seen. */
bool fp__library_was_used(const char *path);

/* CPUs 0 to n-1, at least one, as fp_os_cpus() tells of them: where a system does not say which. */
int fp__first_cpus(long n, int *cpus, int room);

/* Whether a message was refused with this error, besides EAGAIN, since the other end is full. */
bool fp__pair_is_full(int error);

/* As fp_os_await_room(), where poll() knows. */
int fp__poll_room(int end, int timeout_ms);

/* The whole pages around [addr, addr+len). */
void fp__pages(const void *addr, uint64_t len, uintptr_t *start, uintptr_t *end);

/* Writes to each of these pages, and changes nothing, whoever else writes there. */
void fp__write_pages(uintptr_t start, uintptr_t end);

/* A pipe, both ends close-on-exec, from the beginning where the system can: 0 or -errno. */
int fp__pipe(int ends[2]);

/* The same, and neither end waits, where a bell is made of one. */
int fp__pipe_bell(int *heard);

/* fp_os_pair() of datagrams. */
int fp__datagram_pair(int ends[2]);

/* The descriptor, if there is room for a pool's start where it lies; or else it is closed: -ENOSPC. */
int fp__with_room(int fd);

/* A close-on-exec file in a folder that no name leads to; its descriptor or -errno. */
int fp__nameless_file(const char *folder);

/* The same in the first folder for temporary files where that is possible. */
int fp__temporary_file(void);

/* Ends fp_os_memory_create(): what a system has made, or -errno if it refuses to, becomes an object of
 * that size. */
int fp__memory_of(int fd, uint64_t size);

#endif
