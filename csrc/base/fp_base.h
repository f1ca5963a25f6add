/* fp_base.h: compiler words, cache geometry and the error convention of the whole core.
 *
 * Errors   a function returns 0, a count, or -errno.  "Full", "empty" and "peer died" are results,
 *          not surprises: each function says which codes it may return, and there are no others.
 * Names    fp_<thing>_<verb> is called from above (Cython), fp__<name> stays inside csrc.
 * Offsets  shared memory lies at another address in each process: it holds offsets from the start
 *          of the segment, never pointers.  Offset 0 is the header, so 0 means "none".
 */
#ifndef FP_BASE_H
#define FP_BASE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Crash points: in a build that has them, a process can be told to die at one.  See fp_crash.h. */
#ifdef FP_CRASH_POINTS
#include "base/fp_crash.h"
#else
#define FP_CP(name) ((void)0)
#define fp_crash_role(role) ((void)(role))
#endif

/* Two lines: the adjacent-line prefetcher of x86 moves lines in pairs. */
#define FP_LINE 128

#define FP_LIKELY(x) __builtin_expect(!!(x), 1)
#define FP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FP_ALIGN_UP(n, a) (((n) + ((a) - 1)) & ~((uint64_t)(a) - 1))

#ifdef FP_DEBUG
#include <assert.h>
#define FP_ASSERT(x) assert(x)
#else
#define FP_ASSERT(x) ((void)0)
#endif

/* Lock-free or not at all: a lock inside an atomic could be left held by a killed process. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");

typedef _Atomic uint64_t fp_a64;
typedef _Atomic uint32_t fp_a32;

/* Tells the core that this is a spin-wait; no memory order is implied. */
static inline void fp_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif
