#include "ds/fp_ledger.h"

#include <stdlib.h>

int fp_ledger_init(fp_ledger *ledger, uint64_t ring_mask) {
    memset(ledger, 0, sizeof *ledger);
    ledger->free = FP_NO_COOKIE;
    ledger->mask = ring_mask;
    ledger->last = calloc(ring_mask + 1, sizeof *ledger->last);
    return ledger->last == NULL ? -ENOMEM : 0;
}

void fp_ledger_close(fp_ledger *ledger) {
    free(ledger->entries);
    free(ledger->copies);
    free(ledger->last);
    memset(ledger, 0, sizeof *ledger);
    ledger->free = FP_NO_COOKIE;
}

int fp__ledger_grow(fp_ledger *ledger) {
    uint32_t capacity = ledger->capacity == 0 ? 64 : ledger->capacity * 2;
    if (ledger->capacity >= FP_NO_COOKIE / 2) {
        return -ENOMEM;
    }
    fp_task *copies = realloc(ledger->copies, capacity * sizeof *copies);
    if (copies == NULL) {
        return -ENOMEM;
    }
    ledger->copies = copies;
    fp_entry *entries = realloc(ledger->entries, capacity * sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    /* Backwards, so that the lowest new entry is handed out first. */
    for (uint32_t i = capacity; i-- > ledger->capacity;) {
        entries[i] = (fp_entry){.next = ledger->free, .state = FP_ENTRY_FREE};
        ledger->free = i;
    }
    ledger->entries = entries;
    ledger->capacity = capacity;
    return 0;
}

uint32_t fp_ledger_held(const fp_ledger *ledger, fp_taskring *ring, uint32_t who, uint32_t from) {
    for (uint32_t i = from; i < ledger->capacity; i++) {
        if (ledger->entries[i].state == FP_ENTRY_SENT && fp_ledger_holder(ledger, ring, i) == who) {
            return i;
        }
    }
    return FP_NO_COOKIE;
}

void fp_ledger_task(const fp_ledger *ledger, fp_taskring *ring, uint32_t cookie, fp_task *task) {
    const fp_entry *entry = &ledger->entries[cookie];
    if (fp__tickets(entry->ticket, ring->tail) <= ring->mask + 1) {
        fp_taskring_read(ring, entry->ticket, task); /* its slot has not been used since */
    } else {
        *task = ledger->copies[cookie];
    }
}

uint32_t fp_ledger_find(const fp_ledger *ledger, uint64_t ticket) {
    uint32_t cookie = ledger->last[ticket & ledger->mask];
    if (cookie != 0 && ledger->entries[cookie - 1].state == FP_ENTRY_SENT &&
        ledger->entries[cookie - 1].ticket == ticket) {
        return cookie - 1;
    }
    for (uint32_t i = 0; i < ledger->capacity; i++) {
        if (ledger->entries[i].state == FP_ENTRY_SENT && ledger->entries[i].ticket == ticket) {
            return i;
        }
    }
    return FP_NO_COOKIE;
}
