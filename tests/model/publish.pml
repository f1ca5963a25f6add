/* publish.pml: csrc/ds/fp_resring.h, and who waits for room in it (fp_worker_wait_room and
 * fp_pool_made_room in csrc/pool/fp_pool.c), with a worker that dies at any step, and the parent's
 * answer to that: drain, then settle, then a new worker in the same slot and ring
 * (Dispatcher.settle_worker and attach_worker in src/fastpool/_core/_submit.pyx).
 *
 * Memory      sequentially consistent.  That P1-C1 and C2-P2 carry this over to release and
 *             acquire, and that S3 needs seq_cst, is argued in docs/memory-model.md ("The result
 *             rings", "Sleepers").
 * Processes   the worker; `reader`, a thread that waits for results (Dispatcher.wait);
 *             `background`, the background thread (Dispatcher.service); a killer.  The parent's
 *             threads share the ring's handle, under the GIL, and let go of it between two results,
 *             since reading one may run Python code.
 * Simpler     a record is one word, which stands for each of its words; claiming a task is one step
 *             (claim.pml); the reader sees at once that there are results (park.pml).
 * Variants    -DDEAF: the background thread doesn't answer the bell, so that who reads has to make
 *             room known.  -DNO_READER: nobody waits, so that only the bell gets the ring read.
 * Checked     - what is read from a slot is what was published there, whole, and once;
 *             - a task is settled as lost only if the dead worker held it and had not published it;
 *             - nobody waits for ever, also not a worker whose ring is full.
 * Defects     each DEFECT_ below must be found: see run.py.
 */
#ifndef SIZE
#define SIZE 2 /* of the ring: a power of two */
#endif
#ifndef TASKS
#define TASKS 4
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define MASK (SIZE - 1)

#ifdef DEFECT_CROWDED
#define CROWDED (MASK / 2 + 1)
#else
#define CROWDED (MASK / 2) /* fp_resring_crowded */
#endif

/* ---- shared memory --- */
byte tail;
byte head;
byte slot[SIZE];
bit want_room;
bit park; /* the worker's word: a token */
bit bell; /* the eventfd */
byte next = 1; /* the queue: tasks 1 .. TASKS */

/* ---- the parent's private memory --- */
bit gil;
byte own; /* its handle of the ring */
byte peer;
bit closed[TASKS + 1]; /* the ledger's entries */
byte unfinished = TASKS;

/* ---- the kernel --- */
#define ALIVE 0
#define KILLED 1
#define DEAD 2
byte life;
bit stop; /* the run is over */

/* ---- the truth --- */
byte held;                /* what the worker has claimed and not published; 0: nothing */
bit published[TASKS + 1]; /* and not read */

/* ---- worker ---------------------------------------------------------------------------------- */

active proctype worker() {
    byte mine; /* its handle: own and peer */
    byte seen;
    byte task;

    do
    :: life != DEAD ->
        {
            atomic { mine = tail; seen = tail } /* fp_resring_open */
            do
            :: stop -> goto left
            :: atomic { next <= TASKS -> task = next; held = task; next++ }
                do /* WorkLoop.slot_for */
                :: atomic { mine - seen <= MASK -> break }
                :: atomic { mine - seen > MASK -> seen = head } /* P2, fp_resring_room */
                    if
                    :: mine - seen <= MASK
                    :: else -> /* fp_worker_wait_room */
                        want_room = 1;
#ifndef DEFECT_NO_BELL
                        bell = 1;
#endif
#ifndef DEFECT_NO_RECHECK
                        seen = head; /* fp_resring_room */
#endif
                        if
                        :: mine - seen <= MASK
                        :: else ->
                            park; /* fp__sleep */
                            park = 0
                        fi;
                        want_room = 0
                    fi
                od;
#ifdef DEFECT_PUBLISH_FIRST
                atomic { mine++; tail = mine; published[task] = 1; held = 0 };
                d_step { slot[(mine - 1) & MASK] = task; task = 0 }
#else
                slot[mine & MASK] = task; /* the record */
                d_step { mine++; tail = mine; published[task] = 1; held = 0; task = 0 } /* P1 */
#endif
            od
        } unless { life == KILLED };
        d_step { mine = 0; seen = 0; task = 0; life = DEAD }
    :: stop -> break
    od;
left:
    skip
}

/* ---- the parent ------------------------------------------------------------------------------ */

#define TAKE_GIL atomic { gil == 0 -> gil = 1 }
#define DROP_GIL gil = 0

/* fp_pool_made_room */
inline made_room() {
    if
    :: atomic { want_room -> want_room = 0 } /* the exchange */
        park = 1                            /* fp__hand_token */
    :: else
    fi
}

/* Dispatcher.drain, and handle() for each record. */
inline drain() {
    do
    :: own == peer ->
        peer = tail; /* C1 */
        if
        :: own == peer -> break
        :: else
        fi
    :: else ->
#ifdef DEFECT_FREE_FIRST
        own++; head = own;
        record = slot[(own - 1) & MASK];
#else
        record = slot[own & MASK];
        atomic { own++; head = own }; /* C2 */
#endif
        d_step {
            crowded = crowded || (peer - own >= CROWDED);
            assert(record != 0 && published[record] && !closed[record]);
            published[record] = 0; closed[record] = 1; record = 0; unfinished--
        }
        if
        :: DROP_GIL; TAKE_GIL /* reading the result has run Python code */
        :: skip
        fi
    od;
    if
    :: crowded -> made_room(); crowded = 0
    :: else
    fi
}

/* Dispatcher.settle_worker: each task that this worker has claimed, as the ring knows, and that is
 * still open. */
inline settle() {
    d_step {
        record = 1;
        do
        :: record < next ->
            if
            :: !closed[record] ->
                assert(record == held);
                closed[record] = 1; held = 0; unfinished--
            :: else
            fi;
            record++
        :: else -> break
        od;
        record = 0
    }
}

/* Segment.prepare_slot and Dispatcher.attach_worker. */
inline restart() {
    d_step {
        park = 0; want_room = 0;         /* fp_ctl_reset */
        own = tail; peer = tail;         /* fp_pool_resring */
        head = own; /* fp_resring_reset */
        life = ALIVE
    }
}

#ifndef NO_READER
active proctype reader() {
    byte record;
    bit crowded;

    do
    :: atomic { gil == 0 && tail != head -> gil = 1 }
        drain();
        DROP_GIL
    :: unfinished == 0 -> break
    od
}
#endif

active proctype background() {
    byte record;
    bit crowded;

    do
#ifndef DEAF
    :: bell ->
        bell = 0; /* fp_os_bell_clear */
        TAKE_GIL;
        drain(); /* Dispatcher.service */
        made_room();
        DROP_GIL
#endif
#ifdef NO_READER
    :: next > TASKS && held == 0 && tail != head -> /* the last ones were asked for: park.pml */
        TAKE_GIL;
        drain();
        DROP_GIL
#endif
    :: life == DEAD ->
        TAKE_GIL;
#ifdef DEFECT_RESET_FIRST
        restart();
        drain();
        settle();
#else
#ifdef DEFECT_SETTLE_FIRST
        settle();
        drain();
#else
        drain();
        settle();
#endif
        restart();
#endif
        DROP_GIL
    :: unfinished == 0 && life != DEAD -> break
    od;
    assert(tail == head && held == 0);
    stop = 1
}

/* SIGKILL. */
active proctype killer() {
    byte deaths;
    do
    :: deaths < DEATHS && life == ALIVE && unfinished != 0 -> d_step { life = KILLED; deaths++ }
    :: stop -> break
    od
}

#ifdef LIVE
ltl ends { <> stop }
#endif
