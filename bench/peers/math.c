/* math.c LIBRARY FUNCTION [N | ulp] - seconds per element of a function of a vector library
 * (sleef, libmvec) by the protocol of bench/math.c, eight f32 a call, as a compiler calls them.
 *
 * With `ulp` instead: the largest error over every 16th f32 (of functions of one argument), against
 * the C library's double functions.  The libraries are opened at run time; exit status 77 when one
 * is missing or lacks the function. */
#include "bench/math_range.h"
#include <dlfcn.h>
#include <immintrin.h>
#include <math.h>

typedef __m256 unary(__m256 x);
typedef __m256 binary(__m256 x, __m256 y);

static unary *fn1;
static binary *fn2;

static void call_unary(size_t n, const float *x, const float *y, float *out) {
    (void)y;
    for (size_t i = 0; i < n; i += 8) _mm256_storeu_ps(out + i, fn1(_mm256_loadu_ps(x + i)));
}

static void call_binary(size_t n, const float *x, const float *y, float *out) {
    for (size_t i = 0; i < n; i += 8)
        _mm256_storeu_ps(out + i, fn2(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
}

/* 1 / (1 + exp(-x)) */
static void call_sigmoid(size_t n, const float *x, const float *y, float *out) {
    __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);
    (void)y;
    for (size_t i = 0; i < n; i += 8) {
        __m256 e = fn1(_mm256_xor_ps(_mm256_loadu_ps(x + i), sign));
        _mm256_storeu_ps(out + i, _mm256_div_ps(one, _mm256_add_ps(one, e)));
    }
}

/* x/2 (1 + erf(x / sqrt 2)) */
static void call_gelu(size_t n, const float *x, const float *y, float *out) {
    __m256 one = _mm256_set1_ps(1), half = _mm256_set1_ps(0.5f);
    __m256 root = _mm256_set1_ps(0x1.6a09e6p-1f);
    (void)y;
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i), e = fn1(_mm256_mul_ps(v, root));
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_mul_ps(v, half), _mm256_add_ps(one, e)));
    }
}

/* --- Error ------------------------------------------------------------------------------------ */

static double exact(const char *name, double x) {
#define CASE(fn) \
    if (!strcmp(name, #fn)) return fn(x);
    CASE(exp)
    CASE(expm1)
    CASE(log)
    CASE(log1p)
    CASE(sin)
    CASE(cos)
    CASE(tanh)
    CASE(erf)
    return NAN;
}

static double ulps(float y, double t) {
    if (isnan(t) || isnan(y)) return isnan(t) && isnan(y) ? 0 : 1e9;
    if (isinf(t) || t == 0) return (double)y == t ? 0 : 1e9;
    if (isinf(y)) return fabs(t) >= 0x1.ffffffp127 ? 0 : 1e9;
    int e = ilogb(t) < -126 ? -126 : ilogb(t) > 127 ? 127 : ilogb(t);
    return fabs(y - t) * ldexp(1, 23 - e);
}

static int measure_ulps(const char *name) {
    double most = 0;
    float worst = 0;
    for (uint64_t i = 7; i < UINT64_C(1) << 32; i += 128) {
        float x[8], y[8];
        for (uint32_t k = 0; k < 8; k++) {
            uint32_t bits = (uint32_t)i + 16 * k;
            memcpy(x + k, &bits, sizeof bits);
        }
        _mm256_storeu_ps(y, fn1(_mm256_loadu_ps(x)));
        for (int k = 0; k < 8; k++) {
            double e = ulps(y[k], exact(name, x[k]));
            if (e > most) most = e, worst = x[k];
        }
    }
    printf("%.3f at %a\n", most, (double)worst);
    return 0;
}

/* --- The libraries ---------------------------------------------------------------------------- */

/* The vector form of a scalar function; sigmoid and gelu are made of exp and erf. */
static void *find(const char *library, const char *name, int arity) {
    char symbol[64];
    if (!strcmp(name, "sigmoid")) name = "exp";
    if (!strcmp(name, "gelu")) name = "erf";
    if (!strcmp(library, "sleef"))
        snprintf(symbol, sizeof symbol, "Sleef_%sf8_u10avx2", name);
    else
        snprintf(symbol, sizeof symbol, "_ZGVdN8v%s_%sf", arity == 2 ? "v" : "", name);
    void *lib = dlopen(!strcmp(library, "sleef") ? "libsleef.so.3" : "libmvec.so.1", RTLD_NOW);
    return lib ? dlsym(lib, symbol) : NULL;
}

int main(int argc, char **argv) {
    const math_range *r = argc > 2 ? math_range_of(argv[2]) : NULL;
    size_t n = argc > 3 ? strtoul(argv[3], NULL, 10) : 4096;
    if (!r || (strcmp(argv[1], "sleef") && strcmp(argv[1], "libmvec"))) {
        fprintf(stderr, "usage: %s sleef|libmvec FUNCTION [N | ulp]\n", argv[0]);
        return 2;
    }
    void *sym = find(argv[1], argv[2], r->arity);
    if (!sym) return 77;
    memcpy(&fn1, &sym, sizeof sym);
    memcpy(&fn2, &sym, sizeof sym);
    if (argc > 3 && !strcmp(argv[3], "ulp")) return measure_ulps(argv[2]);
    if (!strcmp(argv[2], "sigmoid")) return math_measure(r, n, call_sigmoid);
    if (!strcmp(argv[2], "gelu")) return math_measure(r, n, call_gelu);
    return math_measure(r, n, r->arity == 2 ? call_binary : call_unary);
}
