# Declares fp_core.h; no code.  The headers say what each thing means.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "pool/fp_core.h" nogil:
    ctypedef uint32_t fp_a32
    ctypedef uint64_t fp_a64

    # base/fp_crash.h; nothing at all but in a build with crash points
    void FP_CP(const char *name)
    void fp_crash_role(const char *role)

    # os/fp_os.h
    uint64_t fp_os_now_ns()
    int fp_os_bell_create(int *heard)
    int fp_os_bell_ring(int fd)
    int fp_os_bell_clear(int heard)
    enum:
        FP_BY_PIPE
    int fp_os_watch_kind()
    int fp_os_watch_id(int pid)
    int fp_os_watch_self(int kind, int *line)
    int fp_os_fork(int kind, int *watch)
    int fp_os_lend_line(int *line)
    int fp_os_take_line(int line)
    void fp_os_let_go(int line)
    int fp_os_signal(int watch, int pid, int signum)
    int fp_os_die_with(int watch)
    int fp_os_reap(int pid, bint wait, int *status, uint64_t *peak)
    int fp_os_spare_signal()
    struct fp_os_openmp:
        pass
    void fp_os_before_fork(fp_os_openmp *openmp)
    void fp_os_after_fork(const fp_os_openmp *openmp)
    void fp_os_each_library(int (*visit)(const char *path, void *arg) noexcept nogil, void *arg)
    int fp_os_pair(int *ends)
    int fp_os_send(int end, const void *data, size_t size, int fd)
    long fp_os_receive(int end, void *data, size_t room, int *fd)
    int fp_os_await_room(int end, int timeout_ms)
    void fp_os_hang_up(int end)
    int fp_os_file_create()
    int fp_os_file_reopen(int fd)
    int fp_os_cpus(int tid, int *cpus, int room)
    int fp_os_bind(int tid, const int *cpus, int n)
    bint fp_os_can_bind()
    int fp_os_park(fp_a32 *word, uint32_t expected, int64_t timeout_ns)
    void fp_os_memory_bounds(int fd, uint64_t *left, uint64_t *total)
    int fp_os_memory_release(void *addr, uint64_t len)
    int fp_os_memory_map_private(int fd, uint64_t offset, uint64_t len, void **at)
    int fp_os_memory_unmap_private(void *at, uint64_t len)
    int fp_os_memory_is_written(const void *at, uint64_t len)
    int fp_os_memory_own(void *at, uint64_t len)

    # ds/fp_taskring.h
    enum:
        FP_TASK_INLINE
        FP_RESULT_INLINE
        FP_UNCLAIMED

    ctypedef union fp_task_payload "union fp_task_payload":
        unsigned char bytes[88]
        uint64_t ref

    ctypedef struct fp_task:
        uint64_t func
        uint64_t func_ref
        uint32_t refs
        uint32_t cookie
        uint8_t kind
        uint8_t codec
        uint8_t in_block
        uint8_t flags
        uint32_t count
        uint64_t len
        fp_task_payload payload

    ctypedef struct fp_taskring:
        uint64_t mask
        uint64_t tail

    uint64_t fp_taskring_room(fp_taskring *ring)
    uint64_t fp_taskring_queued(fp_taskring *ring)
    uint64_t fp_taskring_push(fp_taskring *ring, const fp_task *task)
    uint64_t fp_taskring_claim(fp_taskring *ring, uint32_t me, fp_task *task)
    int fp_taskring_check(fp_taskring *ring)

    # ds/fp_resring.h
    ctypedef union fp_result_payload "union fp_result_payload":
        unsigned char bytes[96]
        uint64_t ref

    ctypedef struct fp_result:
        uint64_t ticket
        uint32_t cookie
        uint8_t status
        uint8_t codec
        uint8_t in_block
        uint8_t flags
        uint32_t count
        uint32_t refs
        uint64_t len
        fp_result_payload payload

    ctypedef struct fp_resring:
        uint64_t mask
        uint64_t own
        uint64_t peer

    void fp_resring_reset(fp_resring *ring)
    bint fp_resring_room(fp_resring *ring)
    fp_result *fp_resring_next(fp_resring *ring)
    void fp_resring_publish(fp_resring *ring)
    bint fp_resring_empty(const fp_resring *ring)
    bint fp_resring_pop(fp_resring *ring, fp_result *out)
    bint fp_resring_crowded(const fp_resring *ring)

    # ds/fp_ctl.h
    enum:
        FP_FREE
        FP_STARTING
        FP_IDLE
        FP_BUSY
        FP_LEAVING

    uint64_t FP_ANY_ITEM

    ctypedef struct fp_ctl:
        fp_a32 stop
        fp_a32 state
        fp_a32 pid
        fp_a32 last
        fp_a32 item
        fp_a64 ticket
        fp_a64 tasks
        fp_a64 items
        fp_a64 parks
        fp_a64 heap_used
        fp_a64 heap_warm
        fp_a64 heap_peak
        fp_a64 finished
        fp_a64 saved
        fp_a64 since
        fp_a64 task_count
        fp_a64 item_count
        fp_a64 task_ns
        fp_a64 call_ns

    uint64_t fp_saved_word(uint64_t offset, uint8_t form)
    void fp_ctl_condemn(fp_ctl *ctl, uint64_t ticket, uint64_t since, uint32_t kind)
    uint32_t fp_ctl_verdict(fp_ctl *ctl)
    void fp_ctl_finished(fp_ctl *ctl, uint64_t n)
    uint64_t fp_ctl_progress(fp_ctl *ctl)
    bint fp_ctl_running(fp_ctl *ctl, uint64_t *ticket, uint64_t *since)
    bint fp_ctl_position(fp_ctl *ctl, uint64_t *ticket, uint32_t *item)
    void fp_ctl_reset(fp_ctl *ctl)
    void fp_ctl_count(fp_a64 *counter, uint64_t n)

    # ds/fp_heap.h
    enum:
        FP_BLOCK_HEADER

    ctypedef struct fp_heap:
        uint64_t region
        uint64_t end
        uint64_t used_bytes
        uint64_t warm_bytes
        uint64_t peak_bytes
        uint64_t blocks

    uint64_t fp_heap_alloc(fp_heap *heap, uint64_t n)
    void fp_heap_free(fp_heap *heap, uint64_t offset)
    uint64_t fp_heap_collect(fp_heap *heap)
    void fp_block_return(void *base, uint64_t offset, uint64_t keep)
    void fp_block_hold(void *base, uint64_t offset)
    void fp_block_drop(void *base, uint64_t offset)
    int fp_block_detach(void *base, int fd, uint64_t offset)
    int fp_block_attach(void *base, int fd, uint64_t offset)
    uint64_t fp_block_size(const void *base, uint64_t offset)

    # ds/fp_park.h
    enum:
        FP_ATT_WAITER
        FP_ATT_RESULTS
        FP_ATT_LOW
        FP_ATT_CANCEL
        FP_POOL_RUN
        FP_POOL_DRAIN
        FP_POOL_STOP
        FP_GOT_TASK
        FP_GOT_STOP

    ctypedef struct fp_patience:
        uint64_t pause_ns
        uint64_t block_ns
        uint64_t min_ns
        uint64_t max_ns

    void fp_patience_init(fp_patience *p, uint64_t min_ns, uint64_t max_ns)
    void fp_patience_learn(fp_patience *p, uint64_t waited_ns)

    # ds/fp_ledger.h
    enum:
        FP_ENTRY_FREE
        FP_ENTRY_WAITING
        FP_ENTRY_SENT
    uint32_t FP_NO_COOKIE

    ctypedef struct fp_entry:
        void *job
        uint64_t index
        uint64_t block
        void *keeps
        uint64_t again
        uint64_t ticket
        uint32_t count
        uint32_t done
        uint32_t culprit
        uint32_t deaths
        uint32_t state

    ctypedef struct fp_ledger:
        fp_entry *entries
        uint32_t capacity
        uint32_t used

    int fp_ledger_init(fp_ledger *ledger, uint64_t ring_mask)
    void fp_ledger_close(fp_ledger *ledger)
    uint32_t fp_ledger_take(fp_ledger *ledger)
    void fp_ledger_release(fp_ledger *ledger, uint32_t cookie)
    void fp_ledger_sent(fp_ledger *ledger, fp_taskring *ring, uint32_t cookie)
    void fp_ledger_task(const fp_ledger *ledger, fp_taskring *ring, uint32_t cookie, fp_task *task)
    uint32_t fp_ledger_find(const fp_ledger *ledger, uint64_t ticket)
    uint32_t fp_ledger_holder(const fp_ledger *ledger, fp_taskring *ring, uint32_t cookie)
    uint32_t fp_ledger_held(const fp_ledger *ledger, fp_taskring *ring, uint32_t who,
                            uint32_t start)

    # pool/fp_pool.h
    ctypedef struct fp_pool:
        unsigned char *base
        int fd
        int bell_fd
        uint64_t total
        uint32_t slots
        fp_ctl *ctl
        fp_taskring ring
        uint32_t pauses
        uint64_t regions
        uint64_t worker_region_size
    uint64_t FP_POOL_TOTAL

    int fp_pool_create(fp_pool *pool, uint32_t slots, uint32_t ring_size, uint32_t res_size)
    int fp_pool_attach(fp_pool *pool, int fd)
    void fp_pool_unmap(fp_pool *pool)
    void fp_pool_resring(const fp_pool *pool, uint32_t slot, fp_resring *ring)
    void fp_pool_heap(const fp_pool *pool, uint32_t region, uint64_t keep, fp_heap *heap)
    int fp_pool_populate_slot(const fp_pool *pool, uint32_t slot)
    void fp_pool_restart_region(const fp_pool *pool, uint32_t region, bint blocks_live,
                                uint64_t keep)
    uint32_t fp_pool_region_of(const fp_pool *pool, uint64_t offset)
    bint fp_pool_is_behind(const fp_pool *pool, uint64_t offset)
    uint32_t fp_pool_sleeping(const fp_pool *pool, uint32_t slots)
    uint32_t fp_pool_kick(fp_pool *pool, uint32_t slots, uint32_t alive, uint64_t outstanding)
    void fp_pool_wake_all(fp_pool *pool, uint32_t slots)
    void fp_park_forget(fp_pool *pool, uint32_t slot)
    void fp_pool_made_room(fp_pool *pool, uint32_t slot)
    void fp_parent_wake(fp_pool *pool)
    bint fp_pool_answer(fp_pool *pool)
    uint32_t fp_parent_bell(const fp_pool *pool)
    int fp_parent_wait(fp_pool *pool, const fp_resring *rings, uint32_t n, const fp_a32 *ready,
                       uint32_t bell, uint64_t spin_until_ns, uint64_t deadline_ns,
                       uint64_t give_up_ns)
    int fp_worker_wait(fp_pool *pool, uint32_t me, fp_patience *patience, uint64_t *since_ns)
    int fp_worker_wait_room(fp_pool *pool, uint32_t me, fp_resring *ring, int bell_fd)
    uint32_t fp_pool_state(const fp_pool *pool)
    void fp_pool_set_state(fp_pool *pool, uint32_t state)
    void fp_pool_ask(fp_pool *pool, uint32_t attention)
    void fp_worker_published(fp_pool *pool, int bell_fd)
    void fp_pool_ask_no_more(fp_pool *pool, uint32_t attention)
    bint fp_pool_cancel(fp_pool *pool, uint64_t ticket)
    bint fp_worker_claimed(fp_pool *pool, uint64_t ticket, int bell_fd)

    # sys/fp_memory.h
    uint64_t fp_memory_total()
    uint64_t fp_memory_of_self()
    bint fp_memory_folder(int fd, char *path, size_t size)
    uint64_t fp_memory_kills(const char *root)

    # sys/fp_zygote.h
    enum:
        FP_NOTE_FORKED
        FP_NOTE_FAILED
        FP_NOTE_EXIT

    long fp_zygote_serve(int end, int parent, int kind, int own, void *order, size_t room)

    # sys/fp_topo.h
    ctypedef struct fp_topo_cpu "struct fp_topo_cpu":
        int cpu, package, node, cache, core, smt

    int fp_topo_read(const char *root, const int *cpus, int n, fp_topo_cpu *out)
    int fp_topo_sort(fp_topo_cpu *cpus, int n, int order)
    int fp_topo_quota(const char *root, double *cores)
    int fp_topo_usable(const char *root)

cdef extern from *:
    """
    #define FP_LOAD32(p) atomic_load_explicit((p), memory_order_relaxed)
    #define FP_LOAD64(p) atomic_load_explicit((p), memory_order_relaxed)
    #define FP_STORE32(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
    #define FP_STORE64(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
    #define FP_LOAD64_ACQUIRE(p) atomic_load_explicit((p), memory_order_acquire)
    /* Release: the results that it points to are there. */
    #define FP_SAVE(p, v) atomic_store_explicit((p), (v), memory_order_release)
    /* Release: what the setter wrote before is visible to a thread that sees the flag. */
    #define FP_FLAG(p) atomic_store_explicit((p), 1, memory_order_release)
    /* seq_cst: the sleeper looks at it after announcing its sleep (fp_park.h). */
    /* seq_cst: before its bell, for a parent that counts who is awake. */
    #define FP_LEAVE(p) atomic_store_explicit((p), FP_LEAVING, memory_order_seq_cst)
    #define FP_STOP(p) atomic_store_explicit((p), 1, memory_order_seq_cst)
    """
    uint32_t FP_LOAD32(fp_a32 *p) nogil
    uint64_t FP_LOAD64(fp_a64 *p) nogil
    void FP_STORE32(fp_a32 *p, uint32_t v) nogil
    void FP_STORE64(fp_a64 *p, uint64_t v) nogil
    uint64_t FP_LOAD64_ACQUIRE(fp_a64 *p) nogil
    void FP_SAVE(fp_a64 *p, uint64_t v) nogil
    void FP_FLAG(fp_a32 *p) nogil
    void FP_STOP(fp_a32 *p) nogil
    void FP_LEAVE(fp_a32 *p) nogil
