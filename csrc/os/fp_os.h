/* fp_os.h: everything the core asks of the operating system, as one contract.
 *
 * No file above this floor may test for a system, or include a header that only one has.  Which files
 * here keep the contract on which system is a list in setup.py; docs/porting.md says how to add one.
 * Every function returns 0, a descriptor, a count, or -errno.
 */
#ifndef FP_OS_H
#define FP_OS_H

#include "base/fp_base.h"

/* ---- memory ------------------------------------------------------------------------------- */

/* Bytes in a page. */
uint64_t fp_os_page_size(void);

/* A sparse, nameless, close-on-exec memory object of `size` bytes; returns its descriptor.  Where a
 * system refuses to make one in memory, or has hardly any room there, it is a file, which may be in a
 * folder for temporary files.  -EOPNOTSUPP: it refuses that too. */
int fp_os_memory_create(uint64_t size);

/* Its size in bytes, or -errno. */
int64_t fp_os_memory_size(int fd);

/* The file system that it lies in: how many bytes are left there, and how many there are in all.
 * UINT64_MAX: it lies in memory, and nothing else limits it. */
void fp_os_memory_bounds(int fd, uint64_t *left, uint64_t *total);

/* Maps it shared, without reserving memory and without a part in core dumps. */
int fp_os_memory_map(int fd, uint64_t size, void **base);
int fp_os_memory_unmap(void *base, uint64_t size);

/* Makes the pages of [addr, addr+len) present and writable, or says -ENOMEM: so that a later store
 * can't raise SIGBUS.  addr is where byte `offset` of the object is mapped.  Pages that are only
 * partly inside the range are included; what was made present before a failure stays so. */
int fp_os_memory_populate(void *addr, int fd, uint64_t offset, uint64_t len);

/* As populate, but the pages are not mapped here yet: cheaper where only some will be touched soon. */
int fp_os_memory_reserve(int fd, uint64_t offset, uint64_t len);

/* Gives the whole pages inside [addr, addr+len) back to the system; they read as zero afterwards. */
int fp_os_memory_release(void *addr, uint64_t len);

/* The same of bytes [offset, offset+len) of the object, wherever they are mapped; copies in private
 * views stay.  offset and len are page-aligned. */
int fp_os_memory_punch(int fd, uint64_t offset, uint64_t len);

/* A private view of bytes [offset, offset+len) of the object: what is written there, nobody else
 * sees.  What is not yet written still follows the object, until fp_os_memory_own().
 * *at is where byte `offset` lies; no alignment is needed.  0 or -errno. */
int fp_os_memory_map_private(int fd, uint64_t offset, uint64_t len, void **at);
int fp_os_memory_unmap_private(void *at, uint64_t len);

/* Copies every page of such a view that is not a copy yet: from then on the object may change.  Not
 * a snapshot: whoever writes to the object meanwhile is seen in part.  0 or -ENOMEM. */
int fp_os_memory_own(void *at, uint64_t len);

/* Has most of such a view been written, as far as a few of its pages tell?  1, 0, or -errno where the
 * system does not say. */
int fp_os_memory_is_written(const void *at, uint64_t len);

/* Replaces a shared mapping in place by a private view of the same bytes.  Other threads may read and
 * write there meanwhile: none of them ever finds nothing mapped, and what one has written before, it
 * finds there afterwards.  (Not so a device that writes behind the processor's back.)
 * addr, offset and len are page-aligned.  0 or -errno, and then nothing has changed. */
int fp_os_memory_remap_private(void *addr, int fd, uint64_t offset, uint64_t len);

/* The reverse: the view's copies are dropped.  0 or -errno, and then nothing has changed. */
int fp_os_memory_remap_shared(void *addr, int fd, uint64_t offset, uint64_t len);

/* ---- waiting ------------------------------------------------------------------------------ */

/* Sleeps while *word == expected, a word of shared memory or of the caller's own.  timeout_ns < 0: for
 * ever.  Whoever dies asleep, or while he wakes others, leaves nothing behind.
 * 0 woken or value changed, -ETIMEDOUT, -EINTR (a signal handler ran). */
int fp_os_park(fp_a32 *word, uint32_t expected, int64_t timeout_ns);

/* The same for a word whose waker only changes it: looks again and again, more and more rarely. */
int fp_os_nap(fp_a32 *word, uint32_t expected, int64_t timeout_ns);

/* Wakes at most `n` sleepers of the word, in any process.  The caller has changed the word before:
 * where sleepers find out by themselves, this does nothing.  Returns how many, as far as it knows;
 * -errno: the system refuses this process to, and who sleeps in fp_os_park() may go on sleeping. */
int fp_os_unpark(fp_a32 *word, int n);

/* Whether it does not refuse that, now. */
bool fp_os_can_wake(void);

void fp_os_yield(void);
uint64_t fp_os_now_ns(void); /* monotonic */

/* ---- a bell that poll() can wait for --------------------------------------------------------- */

/* Returns the descriptor that is rung, from any process.  *heard: the one that poll() finds readable
 * then, and that is cleared; on some systems the same. */
int fp_os_bell_create(int *heard);
int fp_os_bell_ring(int fd);
int fp_os_bell_clear(int heard);

/* ---- processes and their ends ------------------------------------------------------------------
 *
 * A *watch* is a descriptor that becomes readable when a certain process has ended, and stays so.
 *
 *   FP_BY_ID    the system makes one of a process id
 *   FP_BY_PIPE  the reading end of a pipe whose writing end, the *line*, only that process has: the
 *               system closes it with the process
 *
 * The parent of a pool asks once which kind it can have; everybody in its pool goes by that, so both
 * can be at work on one machine.  A line is close-on-exec, and closed in each child that is forked,
 * whoever forks it: a grandchild that kept it would hide a death.  What a line can't tell apart from an
 * end: a process that closes descriptors which it does not know.  So who waits for such a process kills
 * it before.
 *
 * Watches are close-on-exec, and the caller's to close; lines are let go. */
enum { FP_BY_ID, FP_BY_PIPE };

/* What this system, as it is today, can do. */
int fp_os_watch_kind(void);

/* FP_BY_ID: a watch of any process.  -ESRCH: it has ended already. */
int fp_os_watch_id(int pid);

/* A watch of the calling process, to hand on.  *line: what it depends on, or -1. */
int fp_os_watch_self(int kind, int *line);

/* fork().  Returns the child's id to the parent, and in *watch a watch of it.  Returns 0 to the child:
 * its *watch, with FP_BY_PIPE, is one of itself, for children that it forks; else -1.  -errno: there is
 * no child. */
int fp_os_fork(int kind, int *watch);

/* FP_BY_PIPE: a watch of a process that the calling thread is about to start as another program, which
 * takes over *line by a descriptor that it inherits or is sent.  Then the caller lets go of it. */
int fp_os_lend_line(int *line);

/* In that process: this is my line from now on. */
int fp_os_take_line(int line);

/* Closes a line of this process's; nothing happens when a fork has done so, or if it is -1. */
void fp_os_let_go(int line);

/* Sends a signal to the process behind a watch, unless it has ended: 0, -ESRCH, -EPERM.  FP_BY_ID: never
 * to another that has its id by now.  FP_BY_PIPE: that can't happen as long as nobody has reaped it, and
 * after that only between two system calls of the caller's. */
int fp_os_signal(int watch, int pid, int signum);

/* SIGKILL for the calling process as soon as the *thread* that forked it ends; so only to be used
 * under a parent that forks from its only thread.  watch: that of the parent; not needed where the
 * system does it by itself.  -ESRCH: the parent has ended already. */
int fp_os_die_with_parent(int parent_pid, int watch);

/* Starts a thread that ends this process at once when the one behind the watch has ended. */
int fp_os_die_with(int watch);

/* Takes a child's exit status, as waitpid() does, and the most bytes of memory that were resident in it.
 * Returns its id; 0 when it has not ended and `wait` is false; -ECHILD: it is none of ours. */
int fp_os_reap(int pid, bool wait, int *status, uint64_t *peak);

/* A signal that hardly a program uses. */
int fp_os_spare_signal(void);

/* To be called by a thread that is about to fork: libraries give up threads of theirs that serve it and
 * that a child would wait for, for ever, since they are not there.  (GNU's OpenMP does; others know of
 * forks.)  They start them again when they need them.
 *
 * GNU's OpenMP of before GCC 9 can't: where this thread has used it, it has no threads in the child and
 * in its children.  In the parent it has them again after fp_os_after_fork(). */
#define FP_OPENMP_COPIES 4 /* wheels bring their own */
struct fp_os_openmp {
    struct {
        void (*set_levels)(int);
        int levels;
    } stopped[FP_OPENMP_COPIES];
    int count;
};
void fp_os_before_fork(struct fp_os_openmp *openmp);
void fp_os_after_fork(const struct fp_os_openmp *openmp);

/* Calls visit() for the path of each library that is loaded, until it returns other than 0.  A lock may
 * be held meanwhile: nothing may be loaded there. */
void fp_os_each_library(int (*visit)(const char *path, void *arg), void *arg);

/* ---- messages ----------------------------------------------------------------------------------
 *
 * Between two ends of a pair, whole and in their order, or not at all; some fit into it.  Never waits. */
int fp_os_pair(int ends[2]);

/* fd: goes along, as a copy; -1: none.  0; -EAGAIN: no room; -EPIPE or the like: nobody reads. */
int fp_os_send(int end, const void *data, size_t size, int fd);

/* The size of a message; *fd: what came along, close-on-exec, -1: nothing, -EMFILE: no descriptor was
 * left for it.  -EAGAIN: there is none; 0: nobody is left to send one, where the system tells. */
long fp_os_receive(int end, void *data, size_t room, int *fd);

/* Waits until there may be room for a message; timeout_ms < 0: for ever.  0, -EAGAIN, -EINTR. */
int fp_os_await_room(int end, int timeout_ms);

/* Nothing more is sent, either way, where the system knows of that. */
void fp_os_hang_up(int end);

/* ---- files ------------------------------------------------------------------------------------- */

/* A nameless, close-on-exec file that can be read and written. */
int fp_os_file_create(void);

/* Another descriptor of it, with a position of its own; -ENOTSUP where there is no way to that. */
int fp_os_file_reopen(int fd);

/* ---- the machine ------------------------------------------------------------------------------- */

/* The CPUs that thread `tid` (0: the caller) may run on, ascending. Writes at most `room` of them and
 * returns how many there are. */
int fp_os_cpus(int tid, int *cpus, int room);

/* Lets thread `tid` run on these n CPUs only.  -ENOTSUP where a system leaves that to itself. */
int fp_os_bind(int tid, const int *cpus, int n);

/* Whether it lets a thread choose its CPUs, today. */
bool fp_os_can_bind(void);

/* Bytes of memory in the machine, and how many can be had; UINT64_MAX: not known, or told by files that
 * sys/fp_memory reads. */
void fp_os_memory_of_machine(uint64_t *left, uint64_t *total);

/* Bytes that are resident and this process's own; 0: likewise. */
uint64_t fp_os_memory_of_self(void);

#endif
