/* check.h: the test harness. A test is a function without arguments; main() names them.
 *
 *     static void a_ring_holds_what_was_put_in(void) { CHECK(...); CHECK_EQ(got, wanted); }
 *     int main(void) { RUN(a_ring_holds_what_was_put_in); return check_done(); }
 *
 * The first failure in a test prints file, line and values and ends the program: what follows
 * would be noise. A program that takes longer than CHECK_SECONDS is killed by SIGALRM.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef CHECK_SECONDS
#define CHECK_SECONDS 120
#endif

static const char *check_name = "";
static int check_count;

#define CHECK_FAIL(...)                                                                            \
    (fflush(stdout), fprintf(stderr, "%s:%d: in %s: ", __FILE__, __LINE__, check_name),            \
     fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))
#define CHECK(condition) ((condition) ? (void)0 : CHECK_FAIL("not true: %s", #condition))
#define CHECK_EQ(got, wanted)                                                                      \
    do {                                                                                           \
        long long check_got = (long long)(got), check_wanted = (long long)(wanted);                \
        if (check_got != check_wanted)                                                             \
            CHECK_FAIL("%s is %lld, not %lld", #got, check_got, check_wanted);                     \
    } while (0)
#define RUN(test) (check_name = #test, alarm(CHECK_SECONDS), test(), check_count++)
/* A test of what not every system does. */
#define RUN_IF(can, test) ((can) ? RUN(test) : printf("  not here: %s\n", #test))

static inline int check_done(void) {
    printf("  %d passed\n", check_count);
    return 0;
}

#endif
