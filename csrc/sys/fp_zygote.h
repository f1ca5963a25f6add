/* fp_zygote.h: the loop of the single-threaded copy of the parent that forks all workers.
 *
 * It runs no Python at all: what it does not touch is not copied, so a zygote costs the fork and
 * little more, and no lock or state of the interpreter can be in its way.
 *
 * Talk      messages on an fp_os_pair().  To the zygote: orders, opaque bytes that the new worker
 *           gets.  From it: fp_zygote_note, "forked" with a watch of the worker attached.
 * Ends      when the parent ends or, where the system tells, closes its end of the pair, and when the
 *           parent can't be told of a worker.  The kernel then kills every worker, because this
 *           process's only thread is the one that forked them; or they do so themselves
 *           (fp_os_die_with_parent).
 * Signals   all blocked by the caller before it forked the zygote, and so until a worker unblocks
 *           them: no handler of the parent's runs here.
 */
#ifndef FP_ZYGOTE_H
#define FP_ZYGOTE_H

#include "base/fp_base.h"

#define FP_NOTE_FORKED 1 /* value: 0; the watch comes along */
#define FP_NOTE_FAILED 2 /* value: errno of fork */
#define FP_NOTE_EXIT 3   /* value: as waitpid wrote it */

typedef struct fp_zygote_note {
    int32_t kind;
    int32_t pid;
    int32_t value;
    int32_t unused;
    uint64_t peak; /* exit: the most memory that was resident, in bytes */
} fp_zygote_note;

/* In the zygote, which fp_os_fork() made with this kind of watches and gave `own`: forks a worker for
 * each order.  Returns in each new worker, with the size of its order in `order`; in the zygote itself
 * 0 when it is to end, or -errno. */
long fp_zygote_serve(int end, int parent, int kind, int own, void *order, size_t room);

#endif
