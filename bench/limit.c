/* limit.c - the physical limit of a row, measured: how long its multiply-adds take at the FMA peak,
 * or a copy of the bytes it must read and write (a matrix times a vector: reading them).  The same
 * protocol as a contender. */
#include "bench/contender.h"
#include <pthread.h>
#include <stdatomic.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { LIMIT_STEPS = 3000000, LIMIT_THREADS = 64, LIMIT_CHAINS = 12 };

#ifdef __x86_64__
#define PEAK(name, target_, vec, set1, fmadd)                                                    \
    __attribute__((target(target_))) static void name(void) {                                    \
        vec acc[LIMIT_CHAINS], x = set1(1.0f), y = set1(1e-9f);                                  \
        _Pragma("GCC unroll 12") for (int i = 0; i < LIMIT_CHAINS; i++) acc[i] = set1((float)i); \
        for (int64_t n = 0; n < LIMIT_STEPS; n++)                                                \
            _Pragma("GCC unroll 12") for (int i = 0; i < LIMIT_CHAINS; i++) {                    \
                acc[i] = fmadd(x, y, acc[i]);                                                    \
                __asm__ volatile("" : "+v"(acc[i]));                                             \
            }                                                                                    \
    }
PEAK(peak_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)
PEAK(peak_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)

static void *peak_thread(void *user) {
    (void)user;
    __builtin_cpu_supports("avx512f") ? peak_avx512() : peak_avx2();
    return NULL;
}
static double peak_lanes(void) { return __builtin_cpu_supports("avx512f") ? 16 : 8; }
#endif

/* FLOP a second of all threads together: the best of several. */
static double peak(void) {
#ifdef __x86_64__
    int threads = bench_threads();
    double best = 0;
    if (!__builtin_cpu_supports("avx2") || threads > LIMIT_THREADS) exit(BENCH_SKIP);
    printf("info isa %s\n", peak_lanes() > 8 ? "AVX-512" : "AVX2");
    for (int round = 0; round < 7; round++) {
        pthread_t t[LIMIT_THREADS];
        double t0 = bench_now();
        for (int i = 1; i < threads; i++)
            if (pthread_create(&t[i], NULL, peak_thread, NULL)) exit(1);
        peak_thread(NULL);
        for (int i = 1; i < threads; i++) pthread_join(t[i], NULL);
        double rate = 2.0 * LIMIT_STEPS * LIMIT_CHAINS * peak_lanes() * threads /
                      (bench_now() - t0);
        if (rate > best) best = rate;
    }
    return best;
#else
    exit(BENCH_SKIP);
#endif
}

/* Bytes copied, or only read, in as many parts as there are threads, which spin between rounds. */
typedef struct traffic {
    char *to, *from; /* to NULL: only read */
    size_t n;
    int threads;
    atomic_long round, done;
} traffic;

typedef struct traffic_worker {
    traffic *t;
    int i;
} traffic_worker;

#ifdef __x86_64__
__attribute__((target("avx2")))
#endif
static void traffic_read(const char *p, size_t n) {
    const uint64_t *word = (const uint64_t *)(const void *)p;
    uint64_t x[32] = {0};
    for (size_t i = 0; i + 32 <= n / 8; i += 32)
        _Pragma("GCC unroll 32") for (int j = 0; j < 32; j++) x[j] |= word[i + (size_t)j];
    __asm__ volatile("" : : "r"(x) : "memory");
}

static void traffic_part(traffic *t, int i) {
    size_t each = t->n / (size_t)t->threads / 256 * 256, at = each * (size_t)i;
    size_t n = i == t->threads - 1 ? t->n - at : each;
    if (!t->to) {
        traffic_read(t->from + at, n);
        return;
    }
    memcpy(t->to + at, t->from + at, n);
    __asm__ volatile("" : : "r"(t->to) : "memory");
}

static void *traffic_thread(void *user) {
    traffic_worker *w = user;
    for (long seen = 0;; seen++) {
        while (atomic_load(&w->t->round) == seen) continue;
        traffic_part(w->t, w->i);
        atomic_fetch_add(&w->t->done, 1);
    }
    return NULL;
}

static void traffic_run(void *user) {
    traffic *t = user;
    atomic_store(&t->done, 0);
    atomic_fetch_add(&t->round, 1);
    traffic_part(t, 0);
    while (atomic_load(&t->done) < t->threads - 1) continue;
}

static int traffic_measure(size_t bytes, int copy) {
    static traffic_worker worker[LIMIT_THREADS];
    static traffic t;
    int64_t floats = (int64_t)(bytes / sizeof(float)) + 16;
    t.threads = bench_threads();
    t.n = bytes;
    t.from = (char *)bench_floats(floats);
    if (copy) t.to = (char *)bench_floats(floats);
    if (t.threads > LIMIT_THREADS) return BENCH_SKIP;
    for (int i = 1; i < t.threads; i++) {
        pthread_t id;
        worker[i] = (traffic_worker){&t, i};
        if (pthread_create(&id, NULL, traffic_thread, &worker[i])) return 1;
    }
    return bench_run(traffic_run, &t);
}

int main(int argc, char **argv) {
    bench_row r = bench_parse(argc, argv);
    double m = (double)r.n[0], n = (double)r.n[1], k = (double)r.n[2];
    if (bench_is(&r, "gemm") || bench_is(&r, "dense")) {
        printf("seconds %.9g\n", 2 * m * n * k * (double)r.batch / peak());
        return 0;
    }
    if (bench_is(&r, "add") || bench_is(&r, "digits") || !strncmp(r.what, "train", 5))
        exit(BENCH_SKIP); /* bound by calls, or by more than one thing */
    if (bench_is(&r, "gemv")) return traffic_measure((size_t)(m * n) * sizeof(float), 0);
    if (bench_is(&r, "sum") || bench_is(&r, "argmax"))
        return traffic_measure((size_t)m * sizeof(float), 0);
    double floats = bench_is(&r, "chain") ? 3 * m : 2 * m * n;
    return traffic_measure((size_t)(floats * sizeof(float) / 2), 1);
}
