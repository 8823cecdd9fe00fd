/* math_range.h - what bench/math.c and its peers share: the functions with the range of their
 * arguments, and how a call on n elements is timed. */
#ifndef BENCH_MATH_RANGE_H
#define BENCH_MATH_RANGE_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Arguments are spread evenly over [lo, hi]: everyday numbers, no special values. */
typedef struct math_range {
    const char *name;
    int arity;
    float lo, hi;
} math_range;

static const math_range math_ranges[] = {
    {"exp", 1, -20, 20},     {"expm1", 1, -5, 5}, {"log", 1, 0.01f, 100}, {"log1p", 1, -0.9f, 9},
    {"sin", 1, -10, 10},     {"cos", 1, -10, 10}, {"tanh", 1, -5, 5},     {"erf", 1, -4, 4},
    {"sigmoid", 1, -10, 10}, {"gelu", 1, -5, 5},  {"pow", 2, 0.1f, 10},   {"atan2", 2, -10, 10},
};

/* NULL when there is no such function. */
static inline const math_range *math_range_of(const char *name) {
    for (size_t i = 0; i < sizeof math_ranges / sizeof *math_ranges; i++)
        if (!strcmp(math_ranges[i].name, name)) return &math_ranges[i];
    return NULL;
}

typedef void math_call(size_t n, const float *x, const float *y, float *out);

static inline double math_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int math_order(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* Print the median over rounds, each shorter than a scheduler's slice; 0 when all went well. */
static inline int math_measure(const math_range *r, size_t n, math_call *call) {
    enum { ROUNDS = 2001, ELEMENTS = 1 << 15 };
    static double t[ROUNDS];
    size_t bytes = (n * sizeof(float) + 63) / 64 * 64, calls = ELEMENTS / n + 1;
    float *x = aligned_alloc(64, bytes), *y = aligned_alloc(64, bytes);
    float *out = aligned_alloc(64, bytes);
    uint32_t seed = 1;
    if (!x || !y || !out) return 1;
    for (size_t i = 0; i < 2 * n; i++) {
        seed = seed * 1664525u + 1013904223u;
        *(i < n ? x + i : y + i - n) = r->lo + (r->hi - r->lo) * (float)(seed >> 8) * 0x1p-24f;
    }
    for (int k = 0; k < ROUNDS; k++) {
        double start = math_seconds();
        for (size_t c = 0; c < calls; c++) call(n, x, y, out);
        t[k] = (math_seconds() - start) / (double)(calls * n);
    }
    qsort(t, ROUNDS, sizeof *t, math_order);
    printf("%.4e\n", t[ROUNDS / 2]);
    free(x), free(y), free(out);
    return 0;
}
#endif
