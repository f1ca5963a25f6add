/* ring_paths.c: the operations of both rings, to be counted under callgrind.
 *
 * Each is done N and 2 N times between marks (marks.h); who reads the counts subtracts one from the
 * other.  One process plays both sides, so nobody waits and no claim is lost to another claimer.
 */
#include "marks.h"

#include "ds/fp_resring.h"
#include "ds/fp_taskring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 1024,
    PAYLOAD = 16, /* two ints, such as the arguments of a small call */
};

static void *lines(size_t bytes) {
    void *memory = aligned_alloc(FP_LINE, (bytes + FP_LINE - 1) / FP_LINE * FP_LINE);
    if (memory == NULL) {
        perror("ring_paths");
        exit(EXIT_FAILURE);
    }
    memset(memory, 0, bytes);
    return memory;
}

static void expect(bool right, const char *what) {
    if (!right) {
        fprintf(stderr, "ring_paths: wrong %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void end(const char *path, int n) {
    char name[64];
    snprintf(name, sizeof name, "%s:%d", path, n);
    mark_end(name);
}

static void count_tasks(fp_taskring *ring, int n) {
    fp_taskring claimer = *ring;
    fp_task task;
    memset(&task, 0, sizeof task);
    task.len = PAYLOAD;
    task.count = 1;

    mark_begin();
    for (int i = 0; i < n; i++) {
        task.cookie = (uint32_t)i;
        fp_taskring_push(ring, &task);
    }
    end("ring push", n);

    uint64_t sum = 0;
    mark_begin();
    for (int i = 0; i < n; i++) {
        fp_taskring_claim(&claimer, 1, &task);
        sum += task.cookie;
    }
    end("ring claim", n);
    expect(sum == (uint64_t)n * (uint64_t)(n - 1) / 2, "tasks");
    expect(fp_taskring_claim(&claimer, 1, &task) == 0, "number of tasks");
    fp_taskring_queued(ring); /* has the producer see what was claimed */
}

static void count_results(fp_resring *producer, fp_resring *consumer, int n) {
    fp_result result;

    mark_begin();
    for (int i = 0; i < n; i++) {
        if (fp_resring_room(producer)) {
            fp_result *slot = fp_resring_next(producer);
            slot->cookie = (uint32_t)i;
            slot->len = PAYLOAD;
            slot->in_block = 0;
            fp_resring_publish(producer);
        }
    }
    end("ring publish", n);

    uint64_t sum = 0;
    mark_begin();
    while (fp_resring_pop(consumer, &result)) {
        sum += result.cookie;
    }
    end("ring pop", n);
    expect(sum == (uint64_t)n * (uint64_t)(n - 1) / 2, "results");
}

int main(void) {
    fp_taskring tasks = {.mask = SLOTS - 1};
    tasks.shared = lines(sizeof *tasks.shared);
    tasks.slots = lines(SLOTS * sizeof *tasks.slots);
    tasks.owner = lines(SLOTS * sizeof *tasks.owner);
    fp_taskring_init(&tasks);

    fp_resring producer = {.mask = SLOTS - 1};
    producer.shared = lines(sizeof *producer.shared);
    producer.slots = lines(SLOTS * sizeof *producer.slots);
    fp_resring_reset(&producer);
    fp_resring consumer = producer;

    mark_start();
    for (int n = SLOTS / 4; n <= SLOTS / 2; n *= 2) {
        count_tasks(&tasks, n);
        count_results(&producer, &consumer, n);
    }
    return EXIT_SUCCESS;
}
