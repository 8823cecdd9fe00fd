/* pool.c - the threads of the process: static parts, spin then sleep, nobody waits for who is late.
 *
 * One launch runs at a time; launches only ever try the lock, and run serially when it is taken.
 * The extent is cut into chunks, one a thread, so that where it is cut depends on the extent and
 * the number of threads alone; a part is a run of chunks.  Part 0 is the caller's own; part k is
 * posted to worker k, with all that it needs in the worker's cache line, by an exchange on its
 * word:
 *
 *     FREE --(caller posts)--> POSTED --(worker claims)--> RUNNING --(worker is done)--> FREE
 *                                     --(caller claims)--> FREE
 *     FREE --(worker)--> ASLEEP --(caller posts, and wakes)--> POSTED
 *     RUNNING --(caller goes to sleep)--> AWAITED --(worker is done, and wakes)--> FREE
 *     FREE, ASLEEP --(the pool ends)--> STOP
 *
 * The caller, done with its own part, claims what no worker has begun.  So a worker that sleeps, or
 * that the system gives no CPU to, costs a launch the time to post and no more; and it leaves only
 * when all parts are done, so that no post outlives its launch.  Nothing is allocated, and nothing
 * can fail but the start of threads, which means fewer of them.
 *
 * Waking a thread costs 25 to 50 us on the measured machines, finding it awake less than one
 * (bench/pool.c).  So a worker waits awake for a budget that follows its own idle gaps
 * (pool_adapt), and when the workers sleep a launch must be long to wake them, or one of many
 * (pool_is_worth_waking). */
#include "ingot/threads.h"
#include "runtime/base/status.h"
#include "runtime/fpenv.h"
#include "runtime/kernel_abi.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POOL_PART_PS (RT_WORTH_PS / 2) /* a part worth posting */
#define POOL_WAKE_NS 50000             /* to wake a thread */
#define POOL_WAKE_PS (POOL_WAKE_NS * INT64_C(1000))
#define POOL_SPIN_US 2000              /* covers a stretch of serial work between two launches */
#define POOL_STACK   ((size_t)2 << 20) /* kernels use up to 256 KiB */
#define POOL_PAUSES  32                /* between two looks at the clock: about a microsecond */
#define POOL_LINE    128               /* cache lines come in pairs */

enum { POOL_FREE, POOL_POSTED, POOL_RUNNING, POOL_AWAITED, POOL_ASLEEP, POOL_STOP };

typedef struct pool_part {
    ig_kernel kernel;
    void *const *bufs;
    const int64_t *dims;
    int64_t lo, hi;
} pool_part;

typedef struct pool_worker {
    _Alignas(POOL_LINE) atomic_uint word;
    uint32_t number; /* from 1 */
    pool_part part;  /* written by the caller before it posts */
    /* The worker's own: */
    _Alignas(64) uint32_t longs; /* how often in a row, about, the gap was not worth spinning */
    int64_t typical;             /* of the other gaps, the longer ones; ns */
    int64_t budget;              /* ns to wait awake */
    pthread_t thread;
} pool_worker;

/* How a launch is cut. */
typedef struct pool_plan {
    int64_t n, unit;              /* chunks begin at multiples of unit */
    uint32_t chunks, each, parts; /* chunks a part */
} pool_plan;

static struct pool {
    _Alignas(POOL_LINE) atomic_bool locked;
    atomic_uint threads; /* that a launch may use; 0: not asked yet */
    atomic_llong spin_ns;
    atomic_llong missed_ns; /* when the last launch came that woke nobody */
    /* Under the lock: */
    uint32_t started;            /* workers */
    bool tried, forks;           /* threads were started, the handler of fork is set */
    int64_t first_ns, missed_ps; /* launches that woke nobody: the first of them, their sum */
    uint32_t ncores;
    uint16_t cores[IG_MAX_THREADS];
    pool_worker worker[IG_MAX_THREADS]; /* entry 0 is the caller's: not used */
} pool;

/* This thread is at work in a launch of the pool. */
static _Thread_local bool pool_inside;

/* --- Waiting -------------------------------------------------------------------------------- */

static int64_t pool_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pool_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Sleep while the word has this value; may return at any time. */
static void pool_sleep(atomic_uint *word, unsigned value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void pool_wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static bool pool_try_lock(void) {
    return !atomic_load_explicit(&pool.locked, memory_order_relaxed) &&
           !atomic_exchange_explicit(&pool.locked, true, memory_order_acquire);
}

static void pool_unlock(void) { atomic_store_explicit(&pool.locked, false, memory_order_release); }

/* Wait for the launch under way; false when it is the caller's own. */
static bool pool_lock(void) {
    const struct timespec nap = {.tv_nsec = POOL_WAKE_NS};
    if (pool_inside) return false;
    while (!pool_try_lock()) nanosleep(&nap, NULL);
    return true;
}

/* --- Parts ---------------------------------------------------------------------------------- */

static void pool_call(const pool_part *p) {
    uint32_t fp = rt_fp_enter();
    p->kernel(p->bufs, p->dims, p->lo, p->hi);
    rt_fp_leave(fp);
}

/* Where part k begins: chunks are as even as whole units allow. */
static int64_t pool_cut(const pool_plan *p, uint32_t k) {
    int64_t units = p->n / p->unit + (p->n % p->unit != 0), c = (int64_t)k * p->each;
    int64_t size = units / p->chunks, more = units % p->chunks;
    int64_t at = size * c + (c < more ? c : more);
    return k < p->parts && at < units ? at * p->unit : p->n;
}

/* Take a post; then the part is the taker's to run. */
static bool pool_claim(pool_worker *w, unsigned next) {
    unsigned posted = POOL_POSTED;
    return atomic_load_explicit(&w->word, memory_order_relaxed) == POOL_POSTED &&
           atomic_compare_exchange_strong_explicit(&w->word, &posted, next, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* --- Workers -------------------------------------------------------------------------------- */

/* Learn from an idle gap.  The budget covers the longer ones of the gaps that are worth spinning,
 * four times over as they vary; after two gaps in a row that are not, it is nothing.  At least the
 * time to wake up: to spin that long costs no more than twice the better choice. */
static void pool_adapt(pool_worker *w, int64_t gap) {
    int64_t most = atomic_load_explicit(&pool.spin_ns, memory_order_relaxed);
    if (gap > most) {
        w->longs += w->longs < 2;
    } else {
        w->longs -= w->longs > 0;
        w->typical = gap > w->typical ? gap : w->typical - (w->typical - gap) / 16;
    }
    int64_t budget = 4 * w->typical < POOL_WAKE_NS ? POOL_WAKE_NS : 4 * w->typical;
    w->budget = w->longs == 2 ? 0 : budget < most ? budget : most;
}

/* Wait for a post and claim it; false when the pool ends. */
static bool pool_await(pool_worker *w) {
    int64_t begin = pool_now(), now = begin;
    for (uint32_t i = 1;; i++) {
        unsigned word = atomic_load_explicit(&w->word, memory_order_relaxed);
        if (word == POOL_STOP) return false;
        if (word == POOL_POSTED && pool_claim(w, POOL_RUNNING)) break;
        pool_pause();
        if (i % POOL_PAUSES && w->budget) continue;
        now = pool_now();
        if (now - begin < w->budget) continue;
        word = POOL_FREE;
        if (!atomic_compare_exchange_strong(&w->word, &word, POOL_ASLEEP)) continue;
        while (atomic_load(&w->word) == POOL_ASLEEP) pool_sleep(&w->word, POOL_ASLEEP);
        now = pool_now();
        int64_t missed = atomic_load_explicit(&pool.missed_ns, memory_order_relaxed);
        if (missed > begin) begin = missed; /* a launch that this worker could have served */
        if (pool_claim(w, POOL_RUNNING)) break;
        pool_adapt(w, now - begin); /* too late for this one: the next may come soon */
        begin = now;
    }
    pool_adapt(w, now - begin);
    return true;
}

static void *pool_main(void *arg) {
    pool_worker *w = arg;
    char name[16];
    snprintf(name, sizeof name, "ingot-%u", w->number);
    pthread_setname_np(pthread_self(), name);
    if (pool.ncores) { /* written before the thread was made */
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(pool.cores[(w->number - 1) % pool.ncores], &set);
        sched_setaffinity(0, sizeof set, &set); /* else it runs where it may */
    }
    pool_inside = true;
    while (pool_await(w)) {
        pool_call(&w->part);
        if (atomic_exchange_explicit(&w->word, POOL_FREE, memory_order_release) == POOL_AWAITED)
            pool_wake(&w->word);
    }
    return NULL;
}

/* --- Starting and ending -------------------------------------------------------------------- */

/* In the child of a fork, which has no workers. */
static void pool_forget(void) {
    for (uint32_t k = 1; k <= pool.started; k++) atomic_store(&pool.worker[k].word, POOL_FREE);
    pool.started = 0;
    pool.tried = false;
    pool_inside = false;
    pool_unlock();
}

static bool pool_start_worker(uint32_t k, const pthread_attr_t *attr) {
    pool_worker *w = &pool.worker[k];
    atomic_store(&w->word, POOL_FREE);
    w->number = k;
    w->longs = 0;
    w->typical = 0;
    w->budget = atomic_load(&pool.spin_ns);
    return !pthread_create(&w->thread, attr, pool_main, w);
}

/* Start the threads, as many as can be had; they take no signal. */
static void pool_start(void) {
    pthread_attr_t attr;
    sigset_t all, old;
    uint32_t want = atomic_load(&pool.threads);
    pool.tried = true;
    if (!pool.forks) pool.forks = !pthread_atfork(NULL, NULL, pool_forget);
    if (!pool.forks || pthread_attr_init(&attr)) return;
    pthread_attr_setstacksize(&attr, POOL_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (pool.started + 1 < want && pool_start_worker(pool.started + 1, &attr)) pool.started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
}

static void pool_end(void) {
    for (uint32_t k = 1; k <= pool.started; k++) {
        if (atomic_exchange(&pool.worker[k].word, POOL_STOP) == POOL_ASLEEP)
            pool_wake(&pool.worker[k].word);
    }
    for (uint32_t k = 1; k <= pool.started; k++) pthread_join(pool.worker[k].thread, NULL);
    pool.started = 0;
    pool.tried = false;
}

/* When the library goes, no thread may be left in its code.  The lock stays: a launch from some
 * other destructor runs serially.  It is taken when a kernel itself ends the process. */
__attribute__((destructor)) static void pool_unload(void) {
    if (pool_try_lock()) pool_end();
}

/* --- Options -------------------------------------------------------------------------------- */

/* A number from the environment, or -1. */
static long pool_env(const char *name, long most) {
    const char *text = getenv(name);
    char *end;
    long x = text && *text ? strtol(text, &end, 10) : -1;
    return x < 0 || *end ? -1 : x < most ? x : most;
}

/* How many CPUs the calling thread may run on. */
static uint32_t pool_cpus(void) {
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN)
                                                    : CPU_COUNT(&set);
    return n < 1 ? 1 : n < IG_MAX_THREADS ? (uint32_t)n : IG_MAX_THREADS;
}

static uint32_t pool_count(int count) {
    long n = count ? count : pool_env("IG_THREADS", IG_MAX_THREADS);
    return n > 0 ? (uint32_t)n : pool_cpus();
}

static int64_t pool_spin(int us) {
    long env = us ? -1 : pool_env("IG_SPIN", INT_MAX);
    return us < 0 ? 0 : (us ? us : env >= 0 ? env : POOL_SPIN_US) * INT64_C(1000);
}

/* Under the lock. */
static void pool_configure(const ig_thread_options *opt) {
    pool.ncores = (uint32_t)opt->ncores;
    for (uint32_t k = 0; k < pool.ncores; k++) pool.cores[k] = (uint16_t)opt->cores[k];
    atomic_store(&pool.spin_ns, pool_spin(opt->spin_us));
    atomic_store(&pool.threads, pool_count(opt->count));
}

static ig_status pool_check(const ig_thread_options *opt) {
    const ig_allocator *a = ig_allocator_default();
    cpu_set_t set;
    if (opt->count < 0 || opt->count > IG_MAX_THREADS)
        return rt_fail(a, IG_INVALID, "%d threads: 0 to %d are possible", opt->count,
                       IG_MAX_THREADS);
    if (opt->ncores < 0 || opt->ncores > IG_MAX_THREADS || (opt->ncores && !opt->cores))
        return rt_fail(a, IG_INVALID, "%d cores: 0 to %d can be given", opt->ncores,
                       IG_MAX_THREADS);
    if (opt->ncores && sched_getaffinity(0, sizeof set, &set))
        return rt_fail(a, IG_UNSUPPORTED, "the system does not say which cores there are");
    for (int k = 0; k < opt->ncores; k++) {
        int core = opt->cores[k];
        if (core < 0 || core >= CPU_SETSIZE || !CPU_ISSET((size_t)core, &set))
            return rt_fail(a, IG_INVALID, "core %d is not one this thread may run on", core);
    }
    return NULL;
}

ig_status ig_threads(const ig_thread_options *opt) {
    const ig_thread_options none = {0};
    if (!opt) opt = &none;
    ig_status s = pool_check(opt);
    if (s) return s;
    if (!pool_lock())
        return rt_fail(ig_allocator_default(), IG_INVALID,
                       "the threads cannot be set from inside a kernel");
    pool_end();
    pool_configure(opt);
    pool_unlock();
    return NULL;
}

int ig_threads_count(void) {
    uint32_t n = atomic_load(&pool.threads);
    return (int)(n ? n : pool_count(0));
}

void ig_threads_stop(void) {
    if (!pool_lock()) return;
    pool_end();
    pool_unlock();
}

/* --- Launches ------------------------------------------------------------------------------- */

/* The workers sleep, or do not exist yet: whether to wake them.  A long launch is worth it; so are
 * shorter ones that come one after the other, which then find the workers awake. */
static bool pool_is_worth_waking(int64_t ps) {
    int64_t most = atomic_load_explicit(&pool.spin_ns, memory_order_relaxed);
    if (ps >= 2 * POOL_WAKE_PS) return true;
    if (!most) return false;
    int64_t now = pool_now();
    if (now - pool.first_ns > most) {
        pool.first_ns = now;
        pool.missed_ps = 0;
    }
    pool.missed_ps += ps;
    if (pool.missed_ps >= 2 * POOL_WAKE_PS) {
        pool.first_ns = 0;
        return true;
    }
    atomic_store_explicit(&pool.missed_ns, now, memory_order_relaxed);
    return false;
}

/* Cut a launch of p->n steps; false when it is to run serially. */
static bool pool_is_split(pool_plan *p, int64_t ps) {
    if (!atomic_load_explicit(&pool.threads, memory_order_relaxed))
        pool_configure(&(ig_thread_options){0});
    bool cold = !pool.started ||
                atomic_load_explicit(&pool.worker[1].word, memory_order_relaxed) == POOL_ASLEEP;
    if (cold && !pool_is_worth_waking(ps)) return false;
    if (!pool.tried) pool_start();
    int64_t worth = ps / (cold ? POOL_WAKE_PS : POOL_PART_PS);
    uint32_t threads = pool.started + 1;
    p->chunks = p->n < threads ? (uint32_t)p->n : threads;
    if (p->chunks < 2) return false;
    p->parts = worth < 2 ? 2 : worth < p->chunks ? (uint32_t)worth : p->chunks;
    p->each = (p->chunks + p->parts - 1) / p->parts;
    p->parts = (p->chunks + p->each - 1) / p->each;
    /* Vectors and cache lines stay whole where that unbalances the parts by 2 % at most. */
    int64_t steps = p->n / p->chunks;
    p->unit = steps >= 4096 ? 64 : steps >= 1024 ? 16 : 1;
    return true;
}

/* Wait until a worker is done: awake for as long as it takes to wake up, then asleep. */
static void pool_wait(pool_worker *w) {
    int64_t begin = 0;
    for (uint32_t i = 1; atomic_load_explicit(&w->word, memory_order_acquire) == POOL_RUNNING;
         i++) {
        pool_pause();
        if (i % POOL_PAUSES) continue;
        int64_t now = pool_now();
        unsigned running = POOL_RUNNING;
        if (!begin) begin = now;
        if (now - begin >= POOL_WAKE_NS &&
            atomic_compare_exchange_strong(&w->word, &running, POOL_AWAITED))
            while (atomic_load(&w->word) == POOL_AWAITED) pool_sleep(&w->word, POOL_AWAITED);
    }
}

static void pool_split(const pool_plan *plan, pool_part part) {
    int64_t end = pool_cut(plan, 1);
    for (uint32_t k = 1; k < plan->parts; k++) {
        pool_worker *w = &pool.worker[k];
        w->part = part;
        w->part.lo = end;
        w->part.hi = end = pool_cut(plan, k + 1);
        if (atomic_exchange_explicit(&w->word, POOL_POSTED, memory_order_acq_rel) == POOL_ASLEEP)
            pool_wake(&w->word);
    }
    part.hi = pool_cut(plan, 1);
    pool_call(&part);
    for (uint32_t k = 1; k < plan->parts; k++)
        if (pool_claim(&pool.worker[k], POOL_FREE)) pool_call(&pool.worker[k].part);
    for (uint32_t k = 1; k < plan->parts; k++) pool_wait(&pool.worker[k]);
}

static void pool_run(const ig_exec *self, ig_kernel kernel, void *const *bufs, const int64_t *dims,
                     int64_t n, int64_t ps) {
    pool_part whole = {kernel, bufs, dims, 0, n};
    pool_plan plan = {.n = n};
    (void)self;
    if (ps < RT_WORTH_PS || n < 2 ||
        atomic_load_explicit(&pool.threads, memory_order_relaxed) == 1 || !pool_try_lock()) {
        pool_call(&whole);
        return;
    }
    pool_inside = true;
    if (pool_is_split(&plan, ps))
        pool_split(&plan, whole);
    else
        pool_call(&whole);
    pool_inside = false;
    pool_unlock();
}

static const ig_exec pool_exec = {pool_run};

const ig_exec *ig_pool_exec(void) { return &pool_exec; }
