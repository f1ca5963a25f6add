/* fp_memory.h: how much memory there is for this process, and how much of it is left.
 *
 * Shared memory that is asked for beyond that isn't refused: the system, or the cgroup's limit, kills
 * somebody.  So whoever is about to take much of it asks here first.
 *
 * Everything is read anew at each call, into buffers on the stack; there is no state.  Files are
 * looked up below `root`, so that a test can build a machine out of a folder; NULL means "/".  What
 * can't be read sets no limit.
 *
 * Not for     certainty: others take memory too.
 * Check       tests/c/test_memory.c, on made-up machines and on this one.
 */
#ifndef FP_MEMORY_H
#define FP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *total: the least of the machine's memory and the limits of this process's cgroup and all above it.
 * *left: how many bytes may still be taken before one of them runs out.  Page cache that can be
 * dropped and free swap count as left; a reserve, the smaller of 64 MiB and 1/32, doesn't.
 * UINT64_MAX: nobody says. */
void fp_memory_read(const char *root, uint64_t *left, uint64_t *total);

/* The same of this machine. */
uint64_t fp_memory_left(void);
uint64_t fp_memory_total(void);

/* Whether /proc tells in which folder the file lies, and its path: of an object that is limited by more
 * than memory. */
bool fp_memory_folder(int fd, char *path, size_t size);

/* Bytes of memory that are resident and this process's own; 0 when nobody says. */
uint64_t fp_memory_of_self(void);

/* How many processes of this process's cgroup, and those below, the system has killed because memory
 * ran out; UINT64_MAX: nobody says. */
uint64_t fp_memory_kills(const char *root);

#endif
