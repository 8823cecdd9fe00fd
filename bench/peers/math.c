/* math.c LIBRARY FUNCTION [N | ulp] - seconds per element of a function of a vector library
 * (sleef, libmvec) by the protocol of bench/math.c, a vector a call, as a compiler calls them:
 * sixteen f32 where the CPU has AVX-512, else eight.
 *
 * With `ulp` instead: the largest error over every 16th f32 (of functions of one argument), against
 * the C library's double functions.  The libraries are opened at run time; exit status 77 when one
 * is missing or lacks the function. */
#include "bench/math_range.h"
#include <dlfcn.h>
#include <math.h>

/* What is timed, for vectors of N f32 on an ISA.  sigmoid is 1 / (1 + exp(-x)), gelu is
 * x/2 (1 + erf(x / sqrt 2)). */
#define CALLS(N, ISA)                                                                          \
    typedef float vec##N __attribute__((vector_size(4 * N)));                                  \
    static vec##N (*unary##N)(vec##N x), (*binary##N)(vec##N x, vec##N y);                     \
    __attribute__((target(ISA))) static void call_unary##N(size_t n, const float *x,           \
                                                           const float *y, float *out) {       \
        (void)y;                                                                               \
        for (size_t i = 0; i < n; i += N) *(vec##N *)(out + i) = unary##N(*(vec##N *)(x + i)); \
    }                                                                                          \
    __attribute__((target(ISA))) static void call_binary##N(size_t n, const float *x,          \
                                                            const float *y, float *out) {      \
        for (size_t i = 0; i < n; i += N)                                                      \
            *(vec##N *)(out + i) = binary##N(*(vec##N *)(x + i), *(vec##N *)(y + i));          \
    }                                                                                          \
    __attribute__((target(ISA))) static void call_sigmoid##N(size_t n, const float *x,         \
                                                             const float *y, float *out) {     \
        (void)y;                                                                               \
        for (size_t i = 0; i < n; i += N)                                                      \
            *(vec##N *)(out + i) = 1 / (1 + unary##N(-*(vec##N *)(x + i)));                    \
    }                                                                                          \
    __attribute__((target(ISA))) static void call_gelu##N(size_t n, const float *x,            \
                                                          const float *y, float *out) {        \
        (void)y;                                                                               \
        for (size_t i = 0; i < n; i += N) {                                                    \
            vec##N v = *(vec##N *)(x + i);                                                     \
            *(vec##N *)(out + i) = v * 0.5f * (1 + unary##N(v * 0x1.6a09e6p-1f));              \
        }                                                                                      \
    }

CALLS(8, "avx2,fma")
CALLS(16, "avx512f")

typedef struct width {
    int lanes;
    const char *sleef, *mvec; /* how the libraries name their entries */
    math_call *unary, *binary, *sigmoid, *gelu;
} width;

static const width widths[] = {
    {8, "avx2", "d", call_unary8, call_binary8, call_sigmoid8, call_gelu8},
    {16, "avx512f", "e", call_unary16, call_binary16, call_sigmoid16, call_gelu16},
};

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

static int measure_ulps(const char *name, const width *w) {
    double most = 0;
    float worst = 0;
    for (uint64_t i = 7; i < UINT64_C(1) << 32; i += 256) {
        _Alignas(64) float x[16], y[16];
        for (uint32_t k = 0; k < 16; k++) {
            uint32_t bits = (uint32_t)i + 16 * k;
            memcpy(x + k, &bits, sizeof bits);
        }
        w->unary(16, x, NULL, y);
        for (int k = 0; k < 16; k++) {
            double e = ulps(y[k], exact(name, x[k]));
            if (e > most) most = e, worst = x[k];
        }
    }
    printf("%.3f at %a\n", most, (double)worst);
    return 0;
}

/* --- The libraries ---------------------------------------------------------------------------- */

/* The vector form of a scalar function; sigmoid and gelu are made of exp and erf. */
static void *find(const char *library, const char *name, int arity, const width *w) {
    char symbol[64];
    if (!strcmp(name, "sigmoid")) name = "exp";
    if (!strcmp(name, "gelu")) name = "erf";
    if (!strcmp(library, "sleef"))
        snprintf(symbol, sizeof symbol, "Sleef_%sf%d_u10%s", name, w->lanes, w->sleef);
    else
        snprintf(symbol, sizeof symbol, "_ZGV%sN%dv%s_%sf", w->mvec, w->lanes,
                 arity == 2 ? "v" : "", name);
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
    const width *w = &widths[__builtin_cpu_supports("avx512f") ? 1 : 0];
    void *sym = find(argv[1], argv[2], r->arity, w);
    if (!sym) return 77;
    memcpy(&unary8, &sym, sizeof sym);
    memcpy(&binary8, &sym, sizeof sym);
    memcpy(&unary16, &sym, sizeof sym);
    memcpy(&binary16, &sym, sizeof sym);
    if (argc > 3 && !strcmp(argv[3], "ulp")) return measure_ulps(argv[2], w);
    if (!strcmp(argv[2], "sigmoid")) return math_measure(r, n, w->sigmoid);
    if (!strcmp(argv[2], "gelu")) return math_measure(r, n, w->gelu);
    return math_measure(r, n, r->arity == 2 ? w->binary : w->unary);
}
