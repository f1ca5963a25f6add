/* fp_cgroup.h: the control groups that limit this process, and small files of /proc and /sys.
 *
 * Everything is read anew at each call, into buffers on the stack; there is no state.  Files are
 * looked up below `root`, so that a test can build a machine out of a folder; NULL means "/".
 * cgroup v1, v2, and both at once.
 *
 * Check       tests/c/test_topo.c, tests/c/test_memory.c
 */
#ifndef FP_CGROUP_H
#define FP_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

/* Told of one group: the folder of its files, and the version of the hierarchy, 1 or 2. */
typedef void (*fp__cgroup_visit)(void *arg, const char *folder, int version);

/* Visits this process's group and all above it that can be seen, in every hierarchy that may have
 * `controller`.  Whether it does is for the visitor to find out: a file is missing if not. */
void fp__cgroup_walk(const char *root, const char *controller, fp__cgroup_visit visit, void *arg);

/* The first size-1 bytes of root/folder/name, ended by 0; false when it can't be read. */
bool fp__file_read(const char *root, const char *folder, const char *name, char *text, size_t size);

#endif
