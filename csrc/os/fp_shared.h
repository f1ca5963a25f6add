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

/* A close-on-exec file in a folder that no name leads to; its descriptor or -errno. */
int fp__nameless_file(const char *folder);

/* The same in the first folder for temporary files where that is possible. */
int fp__temporary_file(void);

#endif
