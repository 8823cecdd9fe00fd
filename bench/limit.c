/* limit.c - the physical limit of a row, measured: how long its multiply-adds take at the FMA peak,
 * or a copy of the bytes it must read and write.  The same protocol as a contender. */
#include "bench/contender.h"
#include <pthread.h>
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

typedef struct copy {
    char *to, *from;
    size_t n;
} copy;
static void copy_run(void *user) {
    copy *c = user;
    memcpy(c->to, c->from, c->n);
    __asm__ volatile("" : : "r"(c->to) : "memory");
}

int main(int argc, char **argv) {
    bench_row r = bench_parse(argc, argv);
    double m = (double)r.n[0], n = (double)r.n[1], k = (double)r.n[2];
    if (bench_is(&r, "gemm")) {
        printf("seconds %.9g\n", 2 * m * n * k * (double)r.batch / peak());
        return 0;
    }
    double read = bench_is(&r, "gemv") ? m * n : bench_is(&r, "chain") ? 2 * m : m * n;
    double write = bench_is(&r, "gemv") ? m : bench_is(&r, "chain") ? m : m * n;
    if (bench_is(&r, "add") || bench_is(&r, "digits")) exit(BENCH_SKIP); /* bound by calls */
    size_t half = (size_t)((read + write) * sizeof(float) / 2);
    copy c = {(char *)bench_floats((int64_t)(half / 4) + 16),
              (char *)bench_floats((int64_t)(half / 4) + 16), half};
    return bench_run(copy_run, &c);
}
