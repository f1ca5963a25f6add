/* fp_crash.h: named points where a process can be told to die.  Only in builds with FP_CRASH_POINTS.
 *
 *     FASTPOOL_CRASH=role:point:k    a process of that role (or `any`) kills itself with SIGKILL when
 *                                    it passes the point for the k-th time
 *     FASTPOOL_CRASH_ONCE=file       only the first that gets there: it makes this file before
 *     FASTPOOL_CRASH_LOG=file        nobody dies; each process appends role:point:k to this file when
 *                                    it passes a point, for k up to 8
 *
 * A point stands before and after each step that others can see: a store to shared memory, a wake-up,
 * a fork, a close.  FP_CP(name) is written with the name in quotes, and no name stands in two places.
 *
 * Roles       `parent` until a process says otherwise: fp_crash_role().  A fork server and what it
 *             forks do so themselves (fp_zygote.c); a worker that is started another way has to.
 * Counting    each process counts its own passes, from its start or from its last change of role.
 * State       one in a process, though every extension has a copy of this file: the dynamic linker
 *             makes one of all `fp_crash`.  The copy that is loaded first does the work.
 */
#ifndef FP_CRASH_H
#define FP_CRASH_H

typedef struct fp_crash_hooks {
    void (*pass)(const char *point); /* NULL: nobody asked for anything */
    void (*role)(const char *role);
} fp_crash_hooks;

extern __attribute__((visibility("default"))) fp_crash_hooks fp_crash;

static inline void fp__crash_pass(const char *point) {
    if (fp_crash.pass) {
        fp_crash.pass(point);
    }
}

/* From now on this process counts as a `worker`, a `zygote` or a `parent`. */
static inline void fp_crash_role(const char *role) {
    if (fp_crash.role) {
        fp_crash.role(role);
    }
}

#define FP_CP(name) fp__crash_pass(name)

#endif
