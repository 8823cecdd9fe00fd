/* contender.h - the protocol between bench/run.py and the programs it compares.
 *
 *     PROGRAM ROW            one row in one process: nothing else has been loaded or has started
 *                            threads; thread variables are in the environment before the start
 *
 * It prints `info KEY VALUE` lines (version, isa) and one line `seconds S`: the median over samples
 * of the time of one iteration.  It exits with 77 when it does not do such a row.  Rows are words
 * with extents, `gemm:128x768x768:tb:b4` (products of M x N x K; ta, tb: operand transposed;
 * b4: a batch of four; w: the second operand, of gemv the matrix, is a constant weight that may be
 * packed ahead; to those who compile for sizes, d: the rows are known only when it runs, e: nothing
 * is, an eager call). */
#ifndef BENCH_CONTENDER_H
#define BENCH_CONTENDER_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BENCH_SAMPLES = 15, BENCH_SKIP = 77 };
#define BENCH_SAMPLE_SECONDS 0.02

typedef struct bench_row {
    char what[32];
    int64_t n[3]; /* missing extents are 1 */
    int ta, tb, w, d, e;
    int64_t batch;
} bench_row;

static inline bench_row bench_parse(int argc, char **argv) {
    bench_row r = {.n = {1, 1, 1}, .batch = 1};
    long long n[3] = {1, 1, 1};
    if (argc < 2 || sscanf(argv[1], "%31[a-z0-9_]:%lldx%lldx%lld", r.what, &n[0], &n[1], &n[2]) < 1)
        exit(BENCH_SKIP);
    for (int i = 0; i < 3; i++) r.n[i] = n[i];
    r.ta = strstr(argv[1], ":ta") != NULL;
    r.tb = strstr(argv[1], ":tb") != NULL;
    r.w = strstr(argv[1], ":w") != NULL;
    r.d = strstr(argv[1], ":d") != NULL;
    r.e = strstr(argv[1], ":e") != NULL;
    const char *b = strstr(argv[1], ":b");
    if (b) r.batch = atoll(b + 2);
    return r;
}

static inline int bench_is(const bench_row *r, const char *what) { return !strcmp(r->what, what); }

/* Threads this process was given. */
static inline int bench_threads(void) {
    const char *t = getenv("BENCH_THREADS");
    return t ? atoi(t) : 1;
}

static inline float *bench_floats(int64_t n) {
    float *p = aligned_alloc(64, ((size_t)n * sizeof *p + 127) / 64 * 64);
    uint32_t seed = 1;
    if (!p) exit(1);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return p;
}

/* BENCH_CLOCK=cpu: the CPU time of the process, for rows of one thread on a machine with other
 * work. */
static inline double bench_now(void) {
    static int cpu = -1;
    struct timespec t;
    const char *clock = cpu < 0 ? getenv("BENCH_CLOCK") : NULL;
    if (cpu < 0) cpu = clock && !strcmp(clock, "cpu");
    clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline int bench_by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* Time fn(user) and print it. */
static inline int bench_run(void (*fn)(void *), void *user) {
    double sample[BENCH_SAMPLES], t0 = bench_now(), once;
    fn(user); /* code is generated, pages are touched, threads start */
    fn(user);
    t0 = bench_now();
    fn(user);
    once = bench_now() - t0;
    int64_t times = once > 0 ? (int64_t)(BENCH_SAMPLE_SECONDS / once) : 1000;
    if (times < 1) times = 1;
    if (times > 1000000) times = 1000000;
    int samples = once > 0.2 ? 3 : BENCH_SAMPLES;
    for (int s = 0; s < samples; s++) {
        t0 = bench_now();
        for (int64_t i = 0; i < times; i++) fn(user);
        sample[s] = (bench_now() - t0) / (double)times;
    }
    qsort(sample, (size_t)samples, sizeof *sample, bench_by_value);
    printf("seconds %.9g\n", sample[samples / 2]);
    return 0;
}
#endif
