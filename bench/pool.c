/* pool.c - what it costs to split a launch over threads: the numbers of docs/native.md.
 *
 * A kernel of known work runs serially and on the pool, in turns, after a gap in which the calling
 * thread computes something of its own (so that the workers wait).  "Overhead" is what the split
 * run takes longer than the serial one divided by the number of threads; for that the fastest tenth
 * of the serial runs counts, as other work on the machine slows one thread down, too.  "Parts" is
 * in how many a launch ran on the mean (1: it was not worth waking anybody); the caller runs those
 * that nobody else begins.
 *
 * Then the other side of the same decision: what the compiler estimates a launch to cost, beside
 * the measured time, over kernels of every kind.
 *
 *     bench/pool [rounds]       Markdown on stdout; IG_THREADS and IG_SPIN as always */
#include "ingot/ingot.h"
#include "ingot/threads.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { POOL_STEPS = 256, POOL_ROUNDS_MAX = 2001 };

static double pool_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3; /* microseconds */
}

static int pool_by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double pool_quantile(double *x, int n, double q) {
    qsort(x, (size_t)n, sizeof *x, pool_by_size);
    return x[(int)(q * (n - 1))];
}

/* --- Splitting ------------------------------------------------------------------------------ */

/* Chains of multiplications: no memory, no vector unit, nothing two threads would share. */
static uint64_t pool_work(uint64_t x, int64_t times) {
    for (int64_t k = 0; k < times; k++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

static atomic_int pool_parts;
static void pool_kernel(void *const *bufs, const int64_t *dims, int64_t lo, int64_t hi) {
    static atomic_ullong sink;
    (void)bufs;
    if (lo) atomic_fetch_add_explicit(&pool_parts, 1, memory_order_relaxed);
    if (pool_work((uint64_t)lo, (hi - lo) * dims[0]) == 1) atomic_fetch_add(&sink, 1);
}

static void pool_gap(double us) {
    double end = pool_now() + us;
    while (us > 0 && pool_now() < end) pool_work(1, 100);
}

/* Microseconds of one launch after a gap. */
static double pool_time(const ig_exec *exec, const int64_t *dims, double us, double gap) {
    pool_gap(gap);
    double t = pool_now();
    if (exec)
        exec->run(exec, pool_kernel, NULL, dims, POOL_STEPS, (int64_t)(us * 1e6));
    else
        pool_kernel(NULL, dims, 0, POOL_STEPS);
    return pool_now() - t;
}

static void pool_row(double per, double us, double gap, int rounds, int threads) {
    static double serial[POOL_ROUNDS_MAX], split[POOL_ROUNDS_MAX], over[POOL_ROUNDS_MAX];
    int64_t dims[1] = {(int64_t)(us / per / POOL_STEPS + 0.5)};
    const ig_exec *exec = ig_pool_exec();
    if (dims[0] < 1) dims[0] = 1;
    us = per * (double)dims[0] * POOL_STEPS;
    for (int r = 0; r < 20; r++) pool_time(exec, dims, us, gap); /* it learns the gaps */
    atomic_store(&pool_parts, 0);
    /* In turns of fifty: a serial stretch is a long gap for the workers, from which they learn. */
    for (int r = 0; r < rounds; r += 50) {
        int end = r + 50 < rounds ? r + 50 : rounds;
        for (int k = r; k < end; k++) split[k] = pool_time(exec, dims, us, gap);
        for (int k = r; k < end; k++) serial[k] = pool_time(NULL, dims, us, gap);
    }
    double one = pool_quantile(serial, rounds, 0.1), many = pool_quantile(split, rounds, 0.5);
    for (int r = 0; r < rounds; r++) over[r] = split[r] - one / threads;
    double parts = (double)atomic_load(&pool_parts) / rounds + 1;
    printf("| %4.0f | %8.1f | %8.1f | %5.2fx | %7.2f | %7.2f | %4.2f |\n", gap, one, many,
           one / many, pool_quantile(over, rounds, 0.5), pool_quantile(over, rounds, 0.95), parts);
    fflush(stdout);
}

static void pool_split(int rounds) {
    static const double work[] = {3, 5, 10, 30, 100, 300, 1000}, gap[] = {0, 200, 1000};
    int threads = ig_threads_count();
    double best = 1e9;
    for (int r = 0; r < 50; r++) {
        double t = pool_now();
        pool_work((uint64_t)r, 100000);
        t = (pool_now() - t) / 100000;
        if (t < best) best = t;
    }
    printf("%d threads, %d rounds; microseconds\n\n"
           "| gap | serial | split | speed-up | overhead, median | p95 | parts |\n"
           "|---|---|---|---|---|---|---|\n",
           threads, rounds);
    for (size_t g = 0; g < sizeof gap / sizeof *gap; g++)
        for (size_t k = 0; k < sizeof work / sizeof *work; k++)
            pool_row(best, work[k], gap[g], rounds, threads);
}

/* --- Estimates ------------------------------------------------------------------------------ */

/* Runs serially and adds up estimate and time. */
typedef struct pool_meter {
    ig_exec exec;
    double estimated, measured;
} pool_meter;

static void pool_measure(const ig_exec *self, ig_kernel kernel, void *const *bufs,
                         const int64_t *dims, int64_t n, int64_t ps) {
    pool_meter *m = (pool_meter *)(uintptr_t)self;
    double t = pool_now();
    kernel(bufs, dims, 0, n);
    m->measured += pool_now() - t;
    m->estimated += (double)ps * 1e-6;
}

#define POOL_FUNCTION(name, result)                                       \
    static void name(void *user, ig_tensor *const *in, ig_tensor **out) { \
        (void)user;                                                       \
        out[0] = (result);                                                \
    }
POOL_FUNCTION(pool_add, ig_add(in[0], in[1]))
POOL_FUNCTION(pool_exp, ig_exp(in[0]))
POOL_FUNCTION(pool_gelu, ig_mul(in[0], ig_erf(in[0])))
POOL_FUNCTION(pool_divide, ig_div(in[0], in[1]))
POOL_FUNCTION(pool_transpose, ig_transpose(in[0], IG_AXES(1, 0)))
POOL_FUNCTION(pool_sum, ig_sum(in[0], IG_AXES(1)))
POOL_FUNCTION(pool_sum_rows, ig_sum(in[0], IG_AXES(0)))
POOL_FUNCTION(pool_softmax, ig_softmax(in[0], -1))
POOL_FUNCTION(pool_matmul, ig_matmul(in[0], in[1]))

static const struct pool_case {
    const char *name;
    void (*f)(void *user, ig_tensor *const *in, ig_tensor **out);
    ig_dtype dtype;
    int nin, m, n; /* operands are [m,n] */
} pool_case_tab[] = {
    {"add f32 [64,64]", pool_add, IG_f32, 2, 64, 64},
    {"add f32 [1024,1024]", pool_add, IG_f32, 2, 1024, 1024},
    {"add f64 [256,256]", pool_add, IG_f64, 2, 256, 256},
    {"add f16 [256,256]", pool_add, IG_f16, 2, 256, 256},
    {"divide f32 [256,256]", pool_divide, IG_f32, 2, 256, 256},
    {"divide i32 [256,256]", pool_divide, IG_i32, 2, 256, 256},
    {"exp f32 [256,256]", pool_exp, IG_f32, 1, 256, 256},
    {"exp f64 [256,256]", pool_exp, IG_f64, 1, 256, 256},
    {"x erf(x) f32 [256,256]", pool_gelu, IG_f32, 1, 256, 256},
    {"transpose f32 [512,512]", pool_transpose, IG_f32, 1, 512, 512},
    {"sum of rows f32 [512,512]", pool_sum, IG_f32, 1, 512, 512},
    {"sum of columns f32 [512,512]", pool_sum_rows, IG_f32, 1, 512, 512},
    {"softmax f32 [256,256]", pool_softmax, IG_f32, 1, 256, 256},
    {"matmul f32 64", pool_matmul, IG_f32, 2, 64, 64},
    {"matmul f32 512", pool_matmul, IG_f32, 2, 512, 512},
    {"matmul f64 256", pool_matmul, IG_f64, 2, 256, 256},
};

static ig_status pool_estimate(const struct pool_case *c) {
    enum { ROUNDS = 31 };
    double time[ROUNDS];
    pool_meter meter = {.exec = {pool_measure}};
    ig_module *m = NULL;
    ig_scope_begin();
    ig_tensor *in[2], *out;
    for (int k = 0; k < 2; k++) {
        in[k] = ig_normal(NULL, IG_f32, IG_DIMS(c->m, c->n), 4, 1);
        in[k] = ig_cast(in[k], c->dtype);
    }
    ig_status s = ig_trace(c->f, NULL, c->nin, in, 1, NULL, &m);
    if (!s) s = ig_module_compile(m, NULL);
    if (!s) ig_module_set_exec(m, &meter.exec);
    for (int r = 0; r < ROUNDS && !s; r++) {
        meter.measured = meter.estimated = 0;
        s = ig_module_run(m, c->nin, in, 1, &out);
        time[r] = meter.measured;
    }
    ig_module_free(m);
    ig_scope_end();
    if (s) return s;
    double us = pool_quantile(time, ROUNDS, 0.5);
    printf("| %-28s | %8.1f | %8.1f | %5.2f |\n", c->name, meter.estimated, us,
           meter.estimated / us);
    return NULL;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 301;
    if (rounds < 1 || rounds > POOL_ROUNDS_MAX)
        return fprintf(stderr, "usage: pool [rounds up to %d]\n", POOL_ROUNDS_MAX), 2;
    pool_split(rounds);
    puts("\nEstimates; microseconds of one thread\n\n"
         "| launch | estimated | measured | ratio |\n|---|---|---|---|");
    for (size_t k = 0; k < sizeof pool_case_tab / sizeof *pool_case_tab; k++) {
        ig_status s = pool_estimate(&pool_case_tab[k]);
        if (!s) continue;
        fprintf(stderr, "%s: %s\n", pool_case_tab[k].name, ig_status_text(s));
        ig_status_free(s);
        return 1;
    }
    ig_session_free(NULL);
    return 0;
}
