/* test_pool.c - the process's threads: every element once whatever is asked of them, and nothing
 * left behind.  Also built under ThreadSanitizer, with the pool alone: kernels here write plain
 * memory, so that two parts that overlap are a data race. */
#include "ingot/threads.h"
#include "runtime/fpenv.h"
#include "suite.h"
#include "threads.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* they are slow, and lose their way among the threads of a forked child */
#else
#define SANITIZED 0
#endif

enum { MOST = 100000 };
static int64_t hits[MOST];

static const int64_t LONG = INT64_MAX; /* picoseconds: worth any number of threads */

static void launch(ig_kernel k, void *const *bufs, int64_t n, int64_t ps) {
    const ig_exec *e = ig_pool_exec();
    e->run(e, k, bufs, NULL, n, ps);
}

static void use(int count) {
    ck_assert_ptr_null(ig_threads(&(ig_thread_options){.count = count}));
    ck_assert_int_eq(ig_threads_count(), count);
}

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void nap(double s) {
    nanosleep(&(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)(1e9 * (s - (long)s))},
              NULL);
}

static void *nothing(void *arg) { return arg; }

/* The threads there are without the pool: a sanitizer starts one of its own beside the first. */
static long threads_before(void) {
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, nothing, NULL), 0);
    pthread_join(t, NULL);
    return threads_now();
}

/* --- Parts --- */

static void count_up(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    int64_t *at = bufs[0];
    (void)dims;
    if (lo < 0 || lo >= hi)
        at[0] = INT64_MIN; /* no ck_assert here: it takes a lock, and forks come */
    for (int64_t i = lo; i < hi; i++) at[i]++;
}

static void want_each(int64_t n, int64_t times) {
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(hits[i] == times, "element %lld of %lld: %lld times", (long long)i,
                      (long long)n, (long long)hits[i]);
    memset(hits, 0, sizeof hits);
}

START_TEST(covers_once) {
    static const int64_t n[] = {1, 2, 3, 5, 7, 8, 63, 64, 65, 1000, 4097, 9999, 65537, MOST};
    static const int count[] = {1, 2, 3, 5, 8, 17};
    void *bufs[1] = {hits};
    for (size_t c = 0; c < sizeof count / sizeof *count; c++) {
        use(count[c]);
        for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
            for (int k = 0; k < 3; k++) launch(count_up, bufs, n[i], LONG);
            want_each(n[i], 3);
        }
    }
}
END_TEST

static atomic_int cut_count;
static int64_t cut_tab[64];
static void note_cut(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    (void)bufs, (void)dims, (void)hi;
    cut_tab[atomic_fetch_add(&cut_count, 1)] = lo;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Where a launch is cut depends on its extent and the number of threads: other estimates only leave
 * cuts out, and parts are even. */
START_TEST(cuts_are_fixed) {
    static const int64_t ps[] = {LONG, LONG, 2000000, 3000000, 5000000, 200000000, 1, -1};
    int64_t all[64], n = 10007;
    use(7);
    for (size_t i = 0; i < sizeof ps / sizeof *ps; i++) {
        atomic_store(&cut_count, 0);
        launch(note_cut, NULL, n, ps[i]);
        int got = atomic_load(&cut_count);
        qsort(cut_tab, (size_t)got, sizeof *cut_tab, by_value);
        if (!i) memcpy(all, cut_tab, sizeof all);
        if (ps[i] == LONG) ck_assert_int_eq(got, 7);
        if (ps[i] <= 1) ck_assert_int_eq(got, 1);
        for (int k = 0; k < got; k++)
            ck_assert_ptr_nonnull(bsearch(&cut_tab[k], all, 7, sizeof *all, by_value));
    }
    for (int k = 0; k < 7; k++) { /* within one unit of 16 */
        int64_t size = (k < 6 ? all[k + 1] : n) - all[k];
        ck_assert_int_ge(size, n / 7 - 32);
        ck_assert_int_le(size, n / 7 + 16);
    }
}
END_TEST

static pthread_t who[64];
static void note_who(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    (void)bufs, (void)dims;
    for (int64_t i = lo; i < hi; i++) who[i] = pthread_self();
}

/* What is short runs here, and starts no thread. */
START_TEST(short_is_serial) {
    long before = threads_before();
    use(4);
    for (int k = 0; k < 1000; k++) launch(note_who, NULL, 64, 1900000);
    for (int i = 0; i < 64; i++) ck_assert(pthread_equal(who[i], pthread_self()));
    launch(note_who, NULL, 1, LONG); /* one step cannot be split */
    ck_assert_int_eq(threads_now(), before);
    launch(note_who, NULL, 64, LONG);
    ck_assert_int_eq(threads_now(), before + 3);
}
END_TEST

/* Launches of 10 us that come one after the other get threads, too. */
START_TEST(many_short_ones) {
    long before = threads_before();
    use(2);
    for (int k = 0; k < 50; k++) launch(note_who, NULL, 64, 10000000);
    ck_assert_int_eq(threads_now(), before + 1);
}
END_TEST

/* A part that has no thread is done by the caller: nobody waits for who is late. */
static atomic_int late;
static void slow_elsewhere(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    count_up(bufs, dims, lo, hi);
    if (!pthread_equal(pthread_self(), who[0])) atomic_fetch_add(&late, 1), nap(0.02);
}

START_TEST(late_workers) {
    void *bufs[1] = {hits};
    use(16);
    who[0] = pthread_self();
    for (int k = 0; k < 5; k++) launch(slow_elsewhere, bufs, 16, LONG);
    want_each(16, 5);
}
END_TEST

/* --- Callers --- */

static void nested(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    (void)dims;
    for (int64_t i = lo; i < hi; i++) {
        void *row[1] = {(int64_t *)bufs[0] + 100 * i};
        launch(count_up, row, 100, LONG);
    }
}

START_TEST(nests) {
    void *bufs[1] = {hits};
    use(4);
    for (int k = 0; k < 20; k++) launch(nested, bufs, 100, LONG);
    want_each(10000, 20);
}
END_TEST

static atomic_bool stop_calling;
static void *call_often(void *arg) {
    int64_t mine[257] = {0}, rounds = 0;
    void *bufs[1] = {mine};
    for (; rounds < (SANITIZED ? 300 : 3000) || (arg && !atomic_load(&stop_calling)); rounds++)
        launch(count_up, bufs, 257, rounds % 3 ? LONG : 3000000);
    for (int i = 0; i < 257; i++) ck_assert_int_eq(mine[i], rounds);
    return NULL;
}

START_TEST(callers_at_once) {
    pthread_t caller[4];
    use(3);
    for (int k = 0; k < 4; k++)
        ck_assert_int_eq(pthread_create(&caller[k], NULL, call_often, NULL), 0);
    for (int k = 0; k < 4; k++) pthread_join(caller[k], NULL);
}
END_TEST

/* The number of threads changes, and they stop, between the launches of another thread. */
START_TEST(changes_under_way) {
    pthread_t caller;
    int yes = 1;
    long before = threads_before();
    ck_assert_int_eq(pthread_create(&caller, NULL, call_often, &yes), 0);
    for (int k = 0; k < 60; k++) {
        use(1 + k % 5);
        if (k % 7 == 0) ig_threads_stop();
        nap(0.001);
    }
    atomic_store(&stop_calling, true);
    pthread_join(caller, NULL);
    ig_threads_stop();
    ck_assert_int_eq(threads_now(), before);
    void *bufs[1] = {hits};
    use(3);
    launch(count_up, bufs, 100, LONG); /* they start again */
    want_each(100, 1);
    ck_assert_int_eq(threads_now(), before + 2);
}
END_TEST

static atomic_int refused;
static void set_inside(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    (void)bufs, (void)dims, (void)lo, (void)hi;
    ig_status s = ig_threads(NULL);
    if (ig_status_code(s) == IG_INVALID) atomic_fetch_add(&refused, 1);
    ig_status_free(s);
    ig_threads_stop(); /* does nothing */
}

START_TEST(not_from_inside) {
    use(4);
    launch(set_inside, NULL, 4, LONG);
    ck_assert_int_eq(atomic_load(&refused), 4);
}
END_TEST

/* --- Fork --- */

static void in_child(pid_t pid) {
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %x", status);
}

START_TEST(fork_and_use) {
    void *bufs[1] = {hits};
    use(4);
    launch(count_up, bufs, 1000, LONG);
    for (int k = 0; k < 5; k++) {
        pid_t pid = fork();
        if (!pid) {
            long before = threads_now();
            launch(count_up, bufs, 1000, LONG);
            bool ok = threads_now() == before + 3;
            for (int i = 0; i < 1000; i++) ok &= hits[i] == 2;
            ig_threads_stop();
            _exit(!(ok && threads_now() == before));
        }
        in_child(pid);
    }
    want_each(1000, 1);
}
END_TEST

/* Another thread is in the middle of a launch. */
START_TEST(fork_under_way) {
    pthread_t caller;
    int yes = 1;
    use(3);
    ck_assert_int_eq(pthread_create(&caller, NULL, call_often, &yes), 0);
    for (int k = 0; k < 20; k++) {
        nap(0.002);
        pid_t pid = fork();
        if (!pid) {
            void *bufs[1] = {hits};
            bool ok = true;
            alarm(20); /* a hang ends the child */
            for (int r = 0; r < 50; r++) launch(count_up, bufs, 1000, LONG);
            for (int i = 0; i < 1000; i++) ok &= hits[i] == 50;
            _exit(!ok);
        }
        in_child(pid);
    }
    atomic_store(&stop_calling, true);
    pthread_join(caller, NULL);
}
END_TEST

/* --- Options --- */

static void refuse(ig_thread_options opt, const char *word) {
    ig_status s = ig_threads(&opt);
    ck_assert_int_eq(ig_status_code(s), IG_INVALID);
    ck_assert_msg(strstr(ig_status_text(s), word), "%s", ig_status_text(s));
    ig_status_free(s);
}

START_TEST(options) {
    cpu_set_t set;
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    unsetenv("IG_THREADS");
    int cpus = CPU_COUNT(&set) < IG_MAX_THREADS ? CPU_COUNT(&set) : IG_MAX_THREADS;
    ck_assert_int_eq(ig_threads_count(), cpus);
    ck_assert_ptr_null(ig_threads(NULL));
    ck_assert_int_eq(ig_threads_count(), cpus);
    refuse((ig_thread_options){.count = -1}, "-1 threads");
    refuse((ig_thread_options){.count = IG_MAX_THREADS + 1}, "257 threads");
    int bad = -5, far = 1 << 20;
    refuse((ig_thread_options){.cores = &bad, .ncores = 1}, "core -5");
    refuse((ig_thread_options){.cores = &far, .ncores = 1}, "core 1048576");
    refuse((ig_thread_options){.ncores = 1}, "1 cores");
    ck_assert_int_eq(ig_threads_count(), cpus);
    setenv("IG_THREADS", "3", 1);
    ck_assert_int_eq(ig_threads_count(), cpus); /* is set already */
    ck_assert_ptr_null(ig_threads(NULL));
    ck_assert_int_eq(ig_threads_count(), 3);
    use(2); /* the program's word counts more than the environment's */
    setenv("IG_THREADS", "three", 1);
    ck_assert_ptr_null(ig_threads(NULL));
    ck_assert_int_eq(ig_threads_count(), cpus);
    setenv("IG_THREADS", "100000", 1);
    ck_assert_ptr_null(ig_threads(NULL));
    ck_assert_int_eq(ig_threads_count(), IG_MAX_THREADS);
}
END_TEST

static atomic_int pinned, blocked, named;
static int the_core;
static void look_at_thread(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    cpu_set_t set;
    sigset_t now;
    char name[16] = "";
    (void)bufs, (void)dims, (void)lo, (void)hi;
    while (atomic_load(&named) < 3 && pthread_equal(pthread_self(), who[0])) nap(0.0001);
    if (pthread_equal(pthread_self(), who[0])) return; /* which left all parts to the others */
    sched_getaffinity(0, sizeof set, &set);
    if (CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)the_core, &set)) atomic_fetch_add(&pinned, 1);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (sigismember(&now, SIGINT) && sigismember(&now, SIGTERM)) atomic_fetch_add(&blocked, 1);
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (!strncmp(name, "ingot-", 6)) atomic_fetch_add(&named, 1);
}

/* Workers are named, pinned where that was asked for, and take no signal of the program's. */
START_TEST(threads_themselves) {
    cpu_set_t before, after;
    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET((size_t)the_core, &before)) the_core++;
    who[0] = pthread_self();
    ck_assert_ptr_null(
        ig_threads(&(ig_thread_options){.count = 4, .cores = &the_core, .ncores = 1}));
    launch(look_at_thread, NULL, 4, LONG);
    ck_assert_int_eq(atomic_load(&pinned), 3);
    ck_assert_int_eq(atomic_load(&blocked), 3);
    ck_assert_int_eq(atomic_load(&named), 3);
    ck_assert_int_eq(sched_getaffinity(0, sizeof after, &after), 0);
    ck_assert(CPU_EQUAL(&before, &after));
}
END_TEST

/* Every part runs in the default floating-point environment, and the caller's comes back. */
#if defined(__x86_64__)
static atomic_int standard;
static void look_at_mode(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    (void)bufs, (void)dims;
    if ((_mm_getcsr() & ~RT_FP_FLAGS) == RT_FP_DEFAULT) atomic_fetch_add(&standard, (int)(hi - lo));
}

START_TEST(float_modes) {
    static const unsigned csr[] = {0x9fc0, 0x3f80, 0xffc0}; /* FTZ and DAZ; down; both, to 0 */
    for (int k = 0; k < 3; k++) {
        unsigned before = _mm_getcsr();
        atomic_store(&standard, 0);
        _mm_setcsr(csr[k]);
        use(1 + 2 * k); /* the threads are started in this mode */
        for (int r = 0; r < 10; r++) launch(look_at_mode, NULL, 64, r % 2 ? LONG : 1);
        unsigned after = _mm_getcsr();
        _mm_setcsr(before);
        ck_assert_int_eq(atomic_load(&standard), 640);
        ck_assert_uint_eq(after & ~RT_FP_FLAGS, csr[k] & ~RT_FP_FLAGS);
    }
}
END_TEST
#endif

/* --- Idle --- */

/* After a burst, and between launches that are far apart, nobody spins. */
START_TEST(idle) {
    void *bufs[1] = {hits};
    use(4);
    double end = seconds(CLOCK_MONOTONIC) + 0.05;
    while (seconds(CLOCK_MONOTONIC) < end) launch(count_up, bufs, 1000, LONG);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    nap(0.3);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    /* At most three workers that spin for 2 ms each, once, and a millisecond for the clocks. */
    ck_assert_msg(cpu < 0.007, "%.1f ms of CPU time in 300 ms", 1e3 * cpu);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    nap(0.3);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    /* Everybody sleeps: what is left is this thread going to sleep and coming back. */
    ck_assert_msg(cpu < 0.001, "%.1f ms of CPU time in the second 300 ms", 1e3 * cpu);
    for (int k = 0; k < 10; k++) launch(count_up, bufs, 1000, LONG), nap(0.005);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int k = 0; k < 40; k++) launch(count_up, bufs, 1000, LONG), nap(0.005);
    cpu = (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 40;
    /* Three threads that spun for 2 ms would take 6 ms; to wake and to sleep takes 0.1 each. */
    ck_assert_msg(cpu < 0.001, "%.2f ms of CPU time a launch", 1e3 * cpu);
}
END_TEST

int main(void) {
#ifdef NO_THREAD_SANITIZER
    puts("pool: the compiler has no ThreadSanitizer, 1 skipped");
    return 0;
#endif
    Suite *suite = suite_create("pool");
    TCase *t = tcase_create("pool");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, covers_once);
    tcase_add_test(t, cuts_are_fixed);
    tcase_add_test(t, short_is_serial);
    tcase_add_test(t, many_short_ones);
    tcase_add_test(t, late_workers);
    tcase_add_test(t, nests);
    tcase_add_test(t, callers_at_once);
    tcase_add_test(t, changes_under_way);
    tcase_add_test(t, not_from_inside);
    tcase_add_test(t, options);
    tcase_add_test(t, threads_themselves);
#if defined(__x86_64__)
    tcase_add_test(t, float_modes);
#endif
    if (!SANITIZED) {
        tcase_add_test(t, fork_and_use);
        tcase_add_test(t, fork_under_way);
        tcase_add_test(t, idle);
    }
    suite_add_tcase(suite, t);
    return suite_run(suite);
}
