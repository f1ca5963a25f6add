/* park.pml: csrc/ds/fp_park.h and csrc/pool/fp_pool.c: how workers sleep (fp_worker_wait,
 * fp_pool_kick), how the parent's threads do (fp_parent_wait, fp_worker_notify) and the background
 * thread (Dispatcher.service in src/fastpool/_core/_submit.pyx,
 * src/fastpool/_runtime/supervise.py), with workers that die at any step, are settled and replaced
 * (Dispatcher.settle_worker, Engine.worker_ended), and the end of the pool (FP_POOL_DRAIN).
 *
 * Memory      sequentially consistent, which is what the seq_cst accesses of S1, S2 and S4 in
 *             docs/memory-model.md ("Sleepers") are for.  With -DTSO the two plain stores among
 *             them, `tail` of the queue (S1) and of a result ring (S2), wait in a store buffer that
 *             is flushed at any time; a seq_cst store waits until it is.  That release and acquire
 *             show a woken one what it was woken for is argued there, too.
 * Processes   WORKERS workers; WAITERS callers, each with PER tasks, that wait for them
 *             (Dispatcher.wait), or, with -DASYNC, one that leaves PER tasks to the background
 *             thread and, with -DCALLBACK, waits for its callback; the background thread; a killer,
 *             who stops DEATHS workers between any two of their steps, with -DLATE also after
 *             close(). The parent's threads hold the GIL as in the code; with -DYIELDS they let go
 *             of it where Python code may run in the middle (results are read, errors are made).
 * Simpler     A claim and a publication are one step (claim.pml, publish.pml).  What a thread only
 *             reads, in a row, is read in one step; so is what it takes out of the rings.  Nobody
 *             spins: to sleep is possible at once.  The background thread settles one death a
 *             round. What could only hide a lost wake-up is left out: the look-around after two
 *             seconds, and the bell that Engine.repopulate rings to its own thread.  The number in
 *             `bell` is a bit for each caller: whether it is still what the caller read.
 * Checked     - the run ends, with every task delivered or settled as lost, every caller gone home
 *               and every worker gone.  No wait but poll() and futex is in it, so who misses a
 *               wake-up shows as an "invalid end state";
 *             - a task is lost only with the worker that held it.
 * Variants    -DRING=n: slots of the queue; what doesn't fit is sent later.  -DLIMIT=n: workers
 *             leave after n tasks.  -DNEW_SLOT: a replacement gets another slot.  -DMEMORY: the
 *             caller waits for a task to be done (Dispatcher.await_memory).
 * Defects     each DEFECT_ below must be found: see run.py.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef WAITERS
#define WAITERS 1
#endif
#ifndef PER
#define PER 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifdef NEW_SLOT
#define SLOTS (WORKERS + DEATHS)
#else
#define SLOTS WORKERS
#endif
#ifdef ASYNC
#undef WAITERS
#define WAITERS 0
#define CALLERS 1
#else
#define CALLERS WAITERS
#endif
#define TASKS (CALLERS * PER)
#ifndef RING
#define RING 8
#endif
#define NONE 15
#define BIT(n) (1 << (n))

/* ---- shared memory --- */
byte tail; /* of the queue; tickets begin at 0 */
byte head;
byte results[SLOTS]; /* a bit for each task that is published and not read */
byte sleepers;       /* a bit for each slot */
bit park[SLOTS];     /* a token lies here */
bit away[SLOTS];     /* ctl.state is FP_STARTING or FP_LEAVING */
byte attention;
#define WAITER 1
#define RESULTS 2
#define LOW 4
bit drain_state; /* FP_POOL_DRAIN */

/* ---- the kernel --- */
byte unrung; /* a bit for each caller: `bell` is what it was when the caller read it */
byte asleep; /* a bit for each caller: in the futex call on `bell` */
bit eventfd;
#define FREE 0
#define ALIVE 1
#define KILLED 2
#define DEAD 3
byte life[SLOTS];

/* ---- the parent's private memory --- */
bit gil;
byte sent;             /* tasks in the ring or with a worker, as far as is known */
byte unsent[CALLERS];  /* each caller's source */
byte left[CALLERS];    /* tasks that are not done */
bit owner_of[TASKS];   /* whose task it is */
bit flag[CALLERS];     /* its job is settled */
byte jobs;
byte waiting;          /* waiting_threads */
byte dozing;           /* sleeping_threads */
byte alive;
byte top;
bit closing;
byte home; /* callers that have gone home */
bit over;

/* ---- the truth, which the parent learns from the ring: see claim.pml --- */
byte held[SLOTS] = NONE;

#ifdef TSO
byte tail_kept;         /* what the parent has stored into tail, maybe not yet visible */
byte result_kept[SLOTS];
#define STORED_TAIL tail_kept
#define PUBLISHED result_kept
#define FENCE_TAIL tail == tail_kept
#define FENCE_RESULT result_kept[me] == 0
#else
#define STORED_TAIL tail
#define PUBLISHED results
#define FENCE_TAIL true
#define FENCE_RESULT true
#endif

#define SLEEPING ((sleepers & 1) + ((sleepers >> 1) & 1) + ((sleepers >> 2) & 1))
#if SLOTS == 1
#define AWAY away[0]
#elif SLOTS == 2
#define AWAY (away[0] + away[1])
#else
#define AWAY (away[0] + away[1] + away[2])
#endif
#define TASK_WAITS (head < tail)
#define ANY_UNSENT (unsent[0] + unsent[CALLERS - 1] > 0)
#if SLOTS > 2
#define ALL_RESULTS (results[0] | results[1] | results[2])
#else
#define ALL_RESULTS (results[0] | results[SLOTS - 1])
#endif

/* ---- workers --------------------------------------------------------------------------------- */

/* fp_worker_notify: the first one to take a request off answers it. */
inline notify(request) {
#ifdef DEFECT_WAKE_FIRST
    if
    :: attention & request & WAITER -> unrung = 0; asleep = 0
    :: else
    fi;
#endif
    atomic { taken = attention & (request); attention = attention & ~(request) }
    do
#ifndef DEFECT_WAKE_FIRST
    :: atomic { taken & WAITER -> unrung = 0; taken = taken & ~WAITER } /* bell + 1 */
        asleep = 0                                                      /* futex-wake */
#endif
    :: atomic { taken != 0 && !(taken & WAITER) -> eventfd = 1; taken = 0 }
    :: atomic { taken == 0 -> break }
    od
}

proctype worker(byte me) {
    byte task = NONE;
    byte taken;
    byte count;

    do
    :: life[me] == ALIVE || life[me] == KILLED ->
        {
            away[me] = 0;
            do
            :: atomic { TASK_WAITS -> task = head; head++; held[me] = task }
                if /* fp_worker_claimed */
                :: (attention & LOW) && tail - task - 1 <= (RING - 1) / 4 -> notify(LOW)
                :: else
                fi;
                atomic { /* fp_resring_publish */
                    PUBLISHED[me] = PUBLISHED[me] | BIT(task);
                    held[me] = NONE; task = NONE
                }
#ifndef DEFECT_NO_FENCE_RESULT
                FENCE_RESULT;
#endif
                if /* fp_worker_published */
                :: attention & (WAITER | RESULTS) -> notify((attention & (WAITER | RESULTS)))
                :: else
                fi;
#ifdef LIMIT
                count++;
                if
                :: count == LIMIT -> break
                :: else
                fi
#endif
            :: !TASK_WAITS -> /* fp_worker_wait */
                sleepers = sleepers | BIT(me);
#ifndef DEFECT_NO_RECHECK
                if
                :: TASK_WAITS
                :: atomic { !TASK_WAITS && drain_state } /* fp__must_stop */
                :: atomic { !TASK_WAITS && !drain_state }
#endif
                    atomic { park[me] -> park[me] = 0 } /* fp__sleep */
#ifndef DEFECT_NO_RECHECK
                fi;
#endif
                sleepers = sleepers & ~BIT(me);
                if
                :: atomic { drain_state && !TASK_WAITS -> break }
                :: else
                fi
            od;
            atomic { away[me] = 1; eventfd = 1 } /* Segment.leave */
        } unless { life[me] == KILLED };
        FENCE_RESULT;
        d_step { task = NONE; taken = 0; count = 0; life[me] = DEAD }
    :: over -> break
    od
}

/* SIGKILL. */
#ifdef LATE
#define MAY_KILL !over
#else
#define MAY_KILL !closing
#endif
proctype killer() {
    byte deaths;
    do
    :: d_step { deaths < DEATHS && life[0] == ALIVE && MAY_KILL -> life[0] = KILLED; deaths++ }
#if SLOTS > 1
    :: d_step { deaths < DEATHS && life[1] == ALIVE && MAY_KILL -> life[1] = KILLED; deaths++ }
#endif
#if SLOTS > 2
    :: d_step { deaths < DEATHS && life[2] == ALIVE && MAY_KILL -> life[2] = KILLED; deaths++ }
#endif
    :: over -> break
    od
}

#ifdef TSO
proctype store_buffers() {
    do
    :: tail != tail_kept -> tail = tail_kept
    :: result_kept[0] != 0 ->
        d_step { results[0] = results[0] | result_kept[0]; result_kept[0] = 0 }
#if SLOTS > 1
    :: result_kept[1] != 0 ->
        d_step { results[1] = results[1] | result_kept[1]; result_kept[1] = 0 }
#endif
    :: over && tail == tail_kept -> break
    od
}
#endif

/* ---- the parent ------------------------------------------------------------------------------ */

#define TAKE_GIL atomic { gil == 0 -> gil = 1 }
#define DROP_GIL atomic { FENCE_TAIL; gil = 0 }
/* Ends the atomic sequence that it stands in. */
#ifdef YIELDS
#define PYTHON }; if :: DROP_GIL; TAKE_GIL :: skip fi; atomic {
#else
#define PYTHON
#endif

/* fp_parent_wake; the parent doesn't die in the middle. */
#define PARENT_WAKE unrung = 0; asleep = 0

/* fp_pool_kick, until it begins to wake: how many sleepers are `wanted`. */
inline count_wanted() {
    woken = SLEEPING; /* fp_pool_sleeping */
    if
    :: woken == 0
    :: else ->
        woken = woken + AWAY;                         /* idle */
        woken = (alive > woken -> alive - woken : 0); /* awake */
        wanted = (sent > woken -> sent - woken : 0);
        wanted = (wanted > STORED_TAIL - head -> STORED_TAIL - head : wanted);
        woken = 0
    fi
}

/* The rest of it: fp_sleepers_take and fp__hand_token. */
inline wake_wanted() {
    do
    :: atomic { wanted > 0 && i < SLOTS ->
            do
            :: i < SLOTS && !(sleepers & BIT(i)) -> i++
            :: else -> break
            od;
            if
            :: i < SLOTS -> sleepers = sleepers & ~BIT(i)
            :: else -> wanted = 0; i = 0; break
            fi
        }
        atomic { park[i] = 1; wanted--; i++ }
    :: atomic { wanted == 0 || i == SLOTS -> wanted = 0; i = 0; break }
    od
}

#ifdef DEFECT_NO_FENCE
#define FENCE_OF_KICK true
#else
#define FENCE_OF_KICK FENCE_TAIL
#endif

/* Dispatcher.feed, the oldest source first, and the kick. */
#define CAN_FEED (ANY_UNSENT && STORED_TAIL - head < RING)
inline feed_and_kick() {
    do
    :: atomic { CAN_FEED ->
            i = (unsent[0] > 0 -> 0 : CALLERS - 1);
            owner_of[STORED_TAIL] = i; unsent[i]--; sent++; i = 0;
            STORED_TAIL++ /* fp_taskring_push */
        }
    :: atomic { !CAN_FEED && FENCE_OF_KICK ->
            count_wanted();
            if
            :: wanted == 0 -> break
            :: else
            fi
        }
        wake_wanted();
        break
    od
}

/* A task is done: Dispatcher.take_entry and what Job.settle makes of it. */
inline close(t) {
    sent--;
    left[owner_of[t]]--;
    if
    :: left[owner_of[t]] == 0 ->
        flag[owner_of[t]] = 1; jobs--;
        if
        :: dozing > 0 -> PARENT_WAKE
        :: else
        fi;
        if
        :: jobs == 0 && closing -> eventfd = 1
        :: else
        fi
    :: else
    fi
}

/* Dispatcher.drain */
inline drain() {
    d_step {
        do
        :: i < TASKS ->
            if
            :: ALL_RESULTS & BIT(i) -> close(i); fresh = 1
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0; results[0] = 0; results[SLOTS - 1] = 0
#if SLOTS > 2
        ; results[1] = 0
#endif
    }
}

/* Dispatcher.ask_for_low */
inline ask_for_low() {
    attention = attention | LOW;
#ifndef DEFECT_LOW_NO_LOOK
    if
    :: 4 * (STORED_TAIL - head) <= RING - 1 -> eventfd = 1 /* fp_taskring_queued */
    :: else
    fi
#endif
}

/* fp__something: what is in the first `n` rings, and the flag. */
#ifdef MEMORY
#define READY false /* &self.never */
#else
#define READY flag[me]
#endif
#if SLOTS > 2
#define SOMETHING (results[0] || (n > 1 && results[1]) || (n > 2 && results[2]) || READY)
#elif SLOTS > 1
#define SOMETHING (results[0] || (n > 1 && results[1]) || READY)
#else
#define SOMETHING (results[0] || READY)
#endif

/* fp_parent_wait, without the GIL. */
inline sleep_on_bell() {
    do
    :: atomic {
#ifdef DEFECT_BELL_UNLOCKED
            unrung = unrung | BIT(me); /* load bell */
#endif
            if
            :: SOMETHING -> break
            :: else
            fi
        }
        do /* fp__wake_one_for_waiting_task */
        :: atomic {
                do
                :: TASK_WAITS && i < n && !(sleepers & BIT(i)) -> i++
                :: else -> break
                od;
                if
                :: TASK_WAITS && i < n -> sleepers = sleepers & ~BIT(i)
                :: else -> i = 0; break
                fi
            }
            atomic { park[i] = 1; i = 0; break }
        od;
        attention = attention | WAITER; /* fp_pool_ask */
#ifdef DEFECT_WAITER_NO_LOOK
        skip;
#else
        if
        :: atomic { SOMETHING -> break }
        :: else
        fi;
#endif
#ifdef DEFECT_BELL_LATE
        unrung = unrung | BIT(me);
#endif
        atomic { /* the futex call: sleeps only if bell is what it was */
            if
            :: unrung & BIT(me) -> asleep = asleep | BIT(me)
            :: else
            fi
        }
        atomic { !(asleep & BIT(me)) -> break }
    od;
    atomic { TAKE_GIL; unrung = unrung & ~BIT(me); dozing--; n = 0 }
}

#ifdef ASYNC
proctype caller(byte me) {
    byte i, wanted, woken, n;
    bit fresh;

    atomic {
        TAKE_GIL;
#ifdef CALLBACK
        attention = attention | RESULTS; /* Dispatcher.make_job */
#endif
        unsent[me] = PER; left[me] = PER; jobs++
    }
    feed_and_kick();
    if
    :: ANY_UNSENT && waiting == 0 -> ask_for_low() /* Dispatcher.leave_to_background */
    :: else
    fi;
#ifdef MEMORY
    do /* Dispatcher.await_memory */
    :: atomic {
            drain();
            PYTHON
            fresh = 0;
            if
            :: sent < PER -> break /* done_tasks has changed */
            :: else
            fi;
            n = top; dozing++;
#if !defined(DEFECT_BELL_UNLOCKED) && !defined(DEFECT_BELL_LATE)
            unrung = unrung | BIT(me);
#endif
            DROP_GIL
        }
        sleep_on_bell()
    od;
#endif
    DROP_GIL;
#ifdef CALLBACK
    flag[me]; /* the program sleeps until the callback comes */
#else
    !ANY_UNSENT; /* what is left then is done after close() */
#endif
    home++
}
#else
proctype caller(byte me) {
    byte i, wanted, woken, n;
    bit fresh, feeding;

    atomic { TAKE_GIL; unsent[me] = PER; left[me] = PER; jobs++; waiting++; feeding = 1 }
    do /* Dispatcher.wait */
    :: atomic { feeding -> feeding = 0 }
        feed_and_kick()
    :: atomic { !feeding && n == 0 ->
            drain();
            PYTHON
            if
            :: CAN_FEED -> feeding = 1
            :: !CAN_FEED && flag[me] -> break
            :: else
            fi;
            if
            :: feeding || fresh -> fresh = 0
            :: else ->
                n = top; dozing++;
#if !defined(DEFECT_BELL_UNLOCKED) && !defined(DEFECT_BELL_LATE)
                unrung = unrung | BIT(me);
#endif
                DROP_GIL
            fi
        }
    :: n > 0 -> sleep_on_bell()
    od;
    atomic { fresh = 0; waiting-- }
    if
    :: ANY_UNSENT && waiting == 0 -> ask_for_low()
    :: else
    fi;
    atomic { DROP_GIL; home++ }
}
#endif

/* fp_park_forget */
inline forget(s) {
#ifndef DEFECT_KEEP_BIT
    sleepers = sleepers & ~BIT(s);
#endif
#ifndef DEFECT_NO_FORGET
    PARENT_WAKE
#endif
}

/* Engine.worker_ended: Dispatcher.settle_worker, then Engine.repopulate. */
inline bury(s) {
    atomic {
        TAKE_GIL;
        alive--;
        forget(s);
        drain();
        PYTHON
        if
        :: held[s] != NONE -> close(held[s]); held[s] = NONE
        :: else
        fi;
        PYTHON
        fresh = 0;
        count_wanted()
    }
    wake_wanted();
    atomic { life[s] = FREE; DROP_GIL }
    if
    :: drain_state
    :: else ->
        atomic { /* Dispatcher.attach_worker */
            TAKE_GIL;
#ifdef NEW_SLOT
            s = top;
#endif
            forget(s);
            park[s] = 0; away[s] = 1; alive++;
            top = (top > s + 1 -> top : s + 1);
            DROP_GIL
        }
        life[s] = ALIVE
    fi
}

#if SLOTS > 2
#define DEAD_SLOT (life[0] == DEAD -> 0 : (life[1] == DEAD -> 1 : (life[2] == DEAD -> 2 : NONE)))
#else
#define DEAD_SLOT (life[0] == DEAD -> 0 : (life[SLOTS - 1] == DEAD -> SLOTS - 1 : NONE))
#endif

#ifdef CALLBACK
#define ASK_FOR_RESULTS true
#else
#define ASK_FOR_RESULTS closing
#endif

proctype background() {
    byte i, wanted, woken;
    byte slot = NONE;
    bit fresh;

    do
    :: atomic { /* poll, and fp_os_bell_clear */
            eventfd || DEAD_SLOT != NONE ->
            slot = DEAD_SLOT; eventfd = 0
        }
        if
        :: atomic { slot != NONE -> skip }
            bury(slot);
            slot = NONE
        :: else
        fi;
        do
        :: atomic { /* Dispatcher.service */
                TAKE_GIL;
                drain();
                PYTHON
                fresh = 0
            }
            feed_and_kick();
#ifndef DEFECT_NO_REASK
            if
            :: ASK_FOR_RESULTS && jobs > 0 -> attention = attention | RESULTS
            :: else
            fi;
#endif
            if
            :: ANY_UNSENT && waiting == 0 -> ask_for_low()
            :: else
            fi;
            atomic {
#ifdef DEFECT_NO_GLANCE
                DROP_GIL;
                break
#else
                if
                :: ALL_RESULTS == 0 -> DROP_GIL; break /* fp_glance */
                :: else -> DROP_GIL
                fi
#endif
            }
        od;
        if /* Engine.step */
        :: atomic { closing && !drain_state && jobs == 0 -> drain_state = 1 }
#ifndef DEFECT_NO_WAKE_ALL
            d_step { sleepers = sleepers & ~1; park[0] = 1 }
#if SLOTS > 1
            d_step { sleepers = sleepers & ~2; park[1] = 1 }
#endif
#if SLOTS > 2
            d_step { sleepers = sleepers & ~4; park[2] = 1 }
#endif
#endif
        :: else
        fi;
        if
        :: drain_state && alive == 0 -> break
        :: else
        fi
    od;
    assert(sent == 0 && head == TASKS && ALL_RESULTS == 0);
    over = 1
}

init {
    atomic {
        life[0] = ALIVE; away[0] = 1;
#if WORKERS > 1
        life[1] = ALIVE; away[1] = 1;
#endif
        alive = WORKERS; top = WORKERS;
        run worker(0);
#if SLOTS > 1
        run worker(1);
#endif
#if SLOTS > 2
        run worker(2);
#endif
        run background();
        run killer();
#ifdef TSO
        run store_buffers();
#endif
        run caller(0);
#if CALLERS > 1
        run caller(1);
#endif
    }
    /* Pool.close, when every caller has what it wanted. */
    home == CALLERS;
    closing = 1;
    eventfd = 1
}

#ifdef LIVE
ltl ends { <> over }
#endif
