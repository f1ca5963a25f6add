/* fp_os.h: everything the core asks of the operating system, as one contract.
 *
 * linux.c implements it, with park_futex.c or park_portable.c.  No file above this floor may test for a
 * system.
 * Every function returns 0, a descriptor, a count, or -errno.
 */
#ifndef FP_OS_H
#define FP_OS_H

#include "base/fp_base.h"

/* ---- memory ------------------------------------------------------------------------------- */

/* Bytes in a page. */
uint64_t fp_os_page_size(void);

/* A sparse, nameless, close-on-exec memory object of `size` bytes; returns its descriptor. */
int fp_os_memory_create(uint64_t size);

/* Its size in bytes, or -errno. */
int64_t fp_os_memory_size(int fd);

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

/* Wakes at most `n` sleepers of the word, in any process.  The caller has changed the word before:
 * where sleepers find out by themselves, this does nothing.  Returns how many, as far as it knows. */
int fp_os_unpark(fp_a32 *word, int n);

void fp_os_yield(void);
uint64_t fp_os_now_ns(void); /* monotonic */

/* ---- a bell that poll() can wait for --------------------------------------------------------- */

int fp_os_bell_create(void);
int fp_os_bell_ring(int fd);
int fp_os_bell_clear(int fd);

/* ---- processes ------------------------------------------------------------------------------ */

/* A descriptor that becomes readable when the process ends.  -ESRCH: it has ended already. */
int fp_os_pidfd_open(int pid);

/* SIGKILL for the calling process as soon as the *thread* that forked it ends; so only to be used
 * under a parent that forks from its only thread.  -ESRCH: the parent has ended already. */
int fp_os_die_with_parent(int parent_pid);

/* Starts a thread that ends this process at once when `pidfd` tells that the other one ended. */
int fp_os_die_with(int pidfd);

/* To be called by a thread that is about to fork: libraries give up threads of theirs that serve it and
 * that a child would wait for, for ever, since they are not there.  (GNU's OpenMP does; others know of
 * forks.)  They start them again when they need them. */
void fp_os_before_fork(void);

#endif
