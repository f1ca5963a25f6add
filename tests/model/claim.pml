/* claim.pml: csrc/ds/fp_taskring.h and csrc/ds/fp_ledger.h, with claimers that die at any step; and
 * Dispatcher.settle_worker (src/fastpool/_core/_submit.pyx), and the next worker in that slot.
 *
 * Memory      sequentially consistent: each step takes effect at once, for everybody.  That the
 *             pairs P1-C1, C2-P2 and C3-P3 carry this over to release and acquire is argued in
 *             docs/memory-model.md ("The task ring"), not here.
 * Processes   the parent (one thread: who holds the GIL), WORKERS claimers, and a killer, who stops
 *             DEATHS claimers between any two of their steps.
 * Simpler     a task is one word, its ticket: it stands for any word of the slot, since each is
 *             written somewhere before P1 and copied somewhere between C1 and C2.  A result is
 *             published and read in one step: publish.pml looks into that.  Nobody sleeps: that is
 *             park.pml.
 * Checked     - a claim that succeeds has a whole copy of the task under its ticket;
 *             - whatever the ring or the ledger says of a ticket's holder is so at that moment;
 *             - each ticket is claimed once at most, and ends delivered once or lost once, settled
 *               for the very worker that held it and had not published it;
 *             - it ends: every ticket meets its fate, and every claimer leaves.
 * Defects     each DEFECT_ below must be found: see run.py.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef TASKS
#define TASKS 4
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

#define SIZE 2 /* slots of the ring, and the first ticket */
#define MASK 1
#define END (SIZE + TASKS) /* tickets are SIZE .. END - 1 */
#define NOBODY 7
#define UNCLAIMED 8
#define ASK 9 /* ring_owner: what head does not tell, owner[] does */

/* ---- shared memory --- */
byte tail = SIZE;
byte head_t = SIZE; /* head is one word: both parts of it change in one step */
byte head_who = NOBODY;
byte slot[SIZE];
byte owner_t[SIZE]; /* owner[i] is one word, too */
byte owner_who[SIZE];
byte results[WORKERS]; /* a bit for each ticket that is published and not read */

/* ---- the parent's private memory --- */
#define FREE 0
#define SENT 1
byte state[TASKS]; /* the ledger's entries, by cookie */
byte ticket[TASKS];
byte claimed_by[TASKS];
byte used;
byte last[SIZE]; /* cookie + 1 of the newest ticket in each task slot */
byte head_seen = SIZE;

/* ---- what the kernel knows --- */
#define ALIVE 0
#define KILLED 1 /* takes no step any more */
#define DEAD 2   /* the same, with its memory gone */
byte life[WORKERS];
bool stop; /* the run is over */

/* ---- the truth, which nobody can read: what the books are compared with --- */
byte by[END] = UNCLAIMED; /* who claimed the ticket; NOBODY once it met its fate */
byte held[WORKERS];    /* what this claimer has claimed and not published; 0: nothing */
byte cookie_of[END];

#define BIT(t) (1 << ((t) - SIZE))

/* ---- claimer: fp_taskring_claim ------------------------------------------------------------- */

/* C3, fp__owner_record: forward only. */
inline record() {
#ifdef DEFECT_PLAIN_STORE
    d_step { owner_t[(t - 1) & MASK] = t - 1; owner_who[(t - 1) & MASK] = who }
#else
    atomic {
        seen = owner_t[(t - 1) & MASK];
        if
        :: seen >= t - 1 -> seen = 0; goto recorded
        :: else
        fi
    }
    do
    :: atomic {
        if
        :: owner_t[(t - 1) & MASK] == seen ->
            owner_t[(t - 1) & MASK] = t - 1;
            owner_who[(t - 1) & MASK] = who;
            seen = 0;
            break
        :: else ->
            seen = owner_t[(t - 1) & MASK];
            if
            :: seen >= t - 1 -> seen = 0; break
            :: else
            fi
        fi
       }
    od;
recorded:
#endif
    skip
}

proctype worker(byte me) {
    byte t, who; /* head, as last read */
    byte copy;
    byte seen; /* the record, as last read */

    do
    :: life[me] != DEAD ->
        {
            do
            :: stop -> goto left
            :: atomic { head_t < tail -> t = head_t; who = head_who } /* load head */
                do
                :: atomic { t >= tail -> t = 0; who = 0; break } /* C1: nothing there */
                :: t < tail -> /* C1 */
#ifndef DEFECT_ORDER
                    copy = slot[t & MASK];
#endif
#if !defined(DEFECT_RECORD_LATE) && !defined(DEFECT_NO_RECORD)
                    record();
#endif
                    atomic { /* C2: takes the ticket and names who took it, in one instruction */
                        if
                        :: head_t == t && head_who == who ->
                            head_t = t + 1;
#ifndef DEFECT_NAME_LATE
                            head_who = me;
#endif
                            assert(by[t] == UNCLAIMED && held[me] == 0);
                            by[t] = me; held[me] = t;
                            goto won
                        :: else -> t = head_t; who = head_who; copy = 0
                        fi
                    }
                od;
                goto next;
won:
#ifdef DEFECT_ORDER
                copy = slot[t & MASK];
#endif
#ifdef DEFECT_NAME_LATE
                head_who = me;
#endif
#ifdef DEFECT_RECORD_LATE
                record();
#endif
                atomic { /* the task is run; fp_resring_publish */
                    assert(copy == t);
                    results[me] = results[me] | BIT(t); held[me] = 0;
                    t = 0; who = 0; copy = 0
                }
next:
                skip
            od
        } unless { life[me] == KILLED };
        d_step { t = 0; who = 0; copy = 0; seen = 0; life[me] = DEAD }
    :: stop -> break
    od;
left:
    skip
}

/* ---- the parent ------------------------------------------------------------------------------ */

/* fp_taskring_owner: who has claimed this ticket.  Compared with the truth at the last look. */
inline ring_owner(x, answer) {
    atomic { /* P2 */
        if
        :: x >= head_t -> answer = UNCLAIMED; assert(by[x] == UNCLAIMED)
        :: x == head_t - 1 -> answer = head_who; assert(by[x] == answer)
        :: else -> answer = ASK
        fi
    }
    if
    :: answer == ASK ->
        atomic { /* P3 */
            if
            :: owner_t[x & MASK] == x -> answer = owner_who[x & MASK]; assert(by[x] == answer)
            :: owner_t[x & MASK] > x -> assert(false) /* FP_FORGOTTEN */
            :: else -> assert(false) /* "unreachable by P3" */
            fi
        }
    :: else
    fi
}

/* fp_ledger_take, fp_ledger_sent and fp_taskring_push, when there is room. */
inline push() {
#ifndef DEFECT_NO_OVERWRITE_RULE
    if
    :: last[tail & MASK] != 0 && state[last[tail & MASK] - 1] == SENT &&
       ticket[last[tail & MASK] - 1] + SIZE == tail ->
        ring_owner(tail - SIZE, who);
        assert(who != UNCLAIMED);
        d_step { claimed_by[last[tail & MASK] - 1] = who; who = 0 }
    :: else
    fi;
#endif
    atomic {
        c = 0;
        do
        :: state[c] != FREE -> c++
        :: else -> break
        od;
        last[tail & MASK] = c + 1;
        ticket[c] = tail; claimed_by[c] = UNCLAIMED; state[c] = SENT; cookie_of[tail] = c;
        used++; c = 0;
#ifdef DEFECT_PUBLISH_FIRST
        tail++
    }
    slot[(tail - 1) & MASK] = tail - 1
#else
        slot[tail & MASK] = tail
    }
    tail++ /* P1 */
#endif
}

/* Dispatcher.take_entry */
inline close(e) {
    by[ticket[e]] = NOBODY; cookie_of[ticket[e]] = 0;
    state[e] = FREE; ticket[e] = 0; claimed_by[e] = 0; used--
}

/* Dispatcher.drain, one ring: the ledger's entry is closed with the result. */
inline drain(w) {
    d_step {
        x = SIZE;
        do
        :: x < END ->
            if
            :: results[w] & BIT(x) ->
                c = cookie_of[x];
                assert(state[c] == SENT && ticket[c] == x && by[x] == w);
                close(c) /* delivered */
            :: else
            fi;
            x++
        :: else -> break
        od;
        results[w] = 0; x = 0; c = 0
    }
}

/* Dispatcher.settle_worker: the loop over fp_ledger_held. */
inline settle(w) {
    do
    :: atomic { /* private: the next entry that is sent */
        do
        :: c < TASKS && state[c] == FREE -> c++
        :: else -> break
        od;
        if
        :: c == TASKS -> assert(held[w] == 0); c = 0; break
        :: else -> who = claimed_by[c]; assert(who == UNCLAIMED || who == by[ticket[c]])
        fi
       }
       if
       :: who == UNCLAIMED -> ring_owner(ticket[c], who)
       :: else
       fi;
       d_step {
        if
        :: who == w ->
            assert(held[w] == ticket[c]);
            held[w] = 0;
            close(c) /* lost */
        :: else
        fi;
        who = 0; c++
       }
    od
}

inline bury(w) {
#ifdef DEFECT_RESTART_FIRST
    life[w] = ALIVE;
#endif
#ifdef DEFECT_SETTLE_FIRST
    settle(w);
    drain(w);
#else
    drain(w); /* all rings, in fact; the others any time */
    settle(w);
#endif
    life[w] = ALIVE /* attach_worker: the slot's next owner starts */
}

active proctype parent() {
    byte c, x, who;

    atomic {
        run worker(0);
#if WORKERS > 1
        run worker(1);
#endif
#if WORKERS > 2
        run worker(2);
#endif
    }
    do
    :: tail < END && tail - head_seen >= SIZE && head_seen != head_t ->
        head_seen = head_t /* P2, fp_taskring_room */
    :: tail < END && tail - head_seen < SIZE -> push()
    :: results[0] -> drain(0)
    :: life[0] == DEAD -> bury(0)
#if WORKERS > 1
    :: results[1] -> drain(1)
    :: life[1] == DEAD -> bury(1)
#endif
#if WORKERS > 2
    :: results[2] -> drain(2)
    :: life[2] == DEAD -> bury(2)
#endif
    :: tail == END && used == 0 -> break
    od;
    stop = true
}

/* SIGKILL. */
active proctype killer() {
    byte deaths;
    do
    :: deaths < DEATHS && life[0] == ALIVE && !stop -> d_step { life[0] = KILLED; deaths++ }
#if WORKERS > 1
    :: deaths < DEATHS && life[1] == ALIVE && !stop -> d_step { life[1] = KILLED; deaths++ }
#endif
#if WORKERS > 2
    :: deaths < DEATHS && life[2] == ALIVE && !stop -> d_step { life[2] = KILLED; deaths++ }
#endif
    :: stop -> break
    od
}

#ifdef LIVE
ltl ends { <> stop }
#endif
