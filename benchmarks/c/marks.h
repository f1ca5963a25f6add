/* marks.h: where callgrind begins and ends to count.  Outside valgrind all of it does nothing.
 *
 * What is counted between mark_begin and mark_end is written out as a part of its own, with a name.
 * The few instructions of the marks themselves are the same each time: they vanish where two counts are
 * subtracted.
 */
#ifndef MARKS_H
#define MARKS_H

#include <valgrind/callgrind.h>

static inline void mark_begin(void) { CALLGRIND_ZERO_STATS; }

static inline void mark_end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }

/* Off, and on again: what lies between does not count. */
static inline void mark_toggle(void) { CALLGRIND_TOGGLE_COLLECT; }

/* Callgrind is told to begin without its instrumentation, which makes the start a lot faster. */
static inline void mark_start(void) { CALLGRIND_START_INSTRUMENTATION; }

#endif
