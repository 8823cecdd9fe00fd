/* ref_convert.c - reference of convert: every element type to every other.
 *
 * A conversion passes through the widest type of its source's kind (u64, i64 or f64, each exact for
 * that kind), so that 13 reads and 13 x 3 writes define all 169 pairs, each with one rounding:
 *   float -> float  to nearest even
 *   float -> int    truncates, saturates, NaN -> 0
 *   int -> float    to nearest even, directly
 *   int -> int      modulo 2^n
 *   any -> bool     x != 0 (NaN is not 0);  bool -> any 0 or 1 */
#include "ir/ref.h"

#include <string.h>

enum { CONVERT_CHUNK = 512 };

typedef union convert_wide {
    uint64_t u[CONVERT_CHUNK];
    int64_t i[CONVERT_CHUNK];
    double f[CONVERT_CHUNK];
} convert_wide;

/* --- Reading: one function a type and kind of wide value -------------------------------------- */

static double convert_get_f16(uint16_t x) { return (double)rt_f16_to_f32(x); }
static double convert_get_bf16(uint16_t x) { return (double)rt_bf16_to_f32(x); }
static double convert_get_f32(float x) { return (double)x; }
static double convert_get_f64(double x) { return x; }

#define CONVERT_GET_b(name, x) w->u[k] = (uint64_t)(x)
#define CONVERT_GET_u(name, x) w->u[k] = (uint64_t)(x)
#define CONVERT_GET_i(name, x) w->i[k] = (int64_t)(x)
#define CONVERT_GET_f(name, x) w->f[k] = convert_get_##name(x)

static void convert_read(ig_dtype from, int64_t n, const void *src, convert_wide *w) {
    switch (from) {
#define DT(name, code, bytes, kind, ctype)                              \
    case IG_##name: {                                                   \
        const ctype *x = src;                                           \
        for (int64_t k = 0; k < n; k++) CONVERT_GET_##kind(name, x[k]); \
        break;                                                          \
    }
#include "ingot/dtypes.def"
#undef DT
    default: break;
    }
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* An integer as a double that rounds to fewer than 53 bits as the integer does: what does not fit
 * sticks to the last bit. */
static double convert_sticky_u(uint64_t x) {
    return x >> 53 ? (double)(x >> 11 | ((x & 2047) != 0)) * 2048.0 : (double)x;
}
static double convert_sticky_i(int64_t x) {
    return x < 0 ? -convert_sticky_u(0 - (uint64_t)x) : convert_sticky_u((uint64_t)x);
}

#define CONVERT_PUT_16(name)                             \
    static uint16_t convert_put_##name##_u(uint64_t x) { \
        return rt_f64_to_##name(convert_sticky_u(x));    \
    }                                                    \
    static uint16_t convert_put_##name##_i(int64_t x) {  \
        return rt_f64_to_##name(convert_sticky_i(x));    \
    }                                                    \
    static uint16_t convert_put_##name##_f(double x) { return rt_f64_to_##name(x); }
CONVERT_PUT_16(f16)
CONVERT_PUT_16(bf16)
static float convert_put_f32_u(uint64_t x) { return (float)x; }
static float convert_put_f32_i(int64_t x) { return (float)x; }
static float convert_put_f32_f(double x) { return (float)x; }
static double convert_put_f64_u(uint64_t x) { return (double)x; }
static double convert_put_f64_i(int64_t x) { return (double)x; }
static double convert_put_f64_f(double x) { return x; }

/* Half of 2^n and the largest value of a type of n bits, without overflow on the way. */
#define CONVERT_HALF(bytes) (UINT64_C(1) << (8 * (bytes)-1))

#define CONVERT_PUT_b(name, T, bytes, x, k) (T)((x) != 0)
#define CONVERT_PUT_u(name, T, bytes, x, k) CONVERT_PUT_u_##k(T, bytes, x)
#define CONVERT_PUT_i(name, T, bytes, x, k) CONVERT_PUT_i_##k(T, bytes, x)
#define CONVERT_PUT_f(name, T, bytes, x, k) convert_put_##name##_##k(x)
#define CONVERT_PUT_u_u(T, bytes, x)        (T)(x)
#define CONVERT_PUT_u_i(T, bytes, x)        (T)(x)
#define CONVERT_PUT_i_u(T, bytes, x)        (T)(x)
#define CONVERT_PUT_i_i(T, bytes, x)        (T)(x)
#define CONVERT_PUT_u_f(T, bytes, x) \
    (!((x) > 0) ? 0 : (x) >= (double)CONVERT_HALF(bytes) * 2.0 ? (T) ~(T)0 : (T)(x))
#define CONVERT_PUT_i_f(T, bytes, x)                                                     \
    ((x) != (x)                           ? 0                                            \
     : (x) >= (double)CONVERT_HALF(bytes) ? (T)(CONVERT_HALF(bytes) - 1)                 \
     : (x) < -(double)CONVERT_HALF(bytes) ? (T)(-(int64_t)(CONVERT_HALF(bytes) - 1) - 1) \
                                          : (T)(x))

#define CONVERT_CASE(name, bytes, kind, T, wk)                                                   \
    {                                                                                            \
        T *y = dst;                                                                              \
        for (int64_t k = 0; k < n; k++) y[k] = CONVERT_PUT_##kind(name, T, bytes, w->wk[k], wk); \
        break;                                                                                   \
    }

static void convert_write_u(ig_dtype to, int64_t n, const convert_wide *w, void *dst) {
    switch (to) {
#define DT(name, code, bytes, kind, ctype) \
    case IG_##name:                        \
        CONVERT_CASE(name, bytes, kind, ctype, u)
#include "ingot/dtypes.def"
#undef DT
    default: break;
    }
}

static void convert_write_i(ig_dtype to, int64_t n, const convert_wide *w, void *dst) {
    switch (to) {
#define DT(name, code, bytes, kind, ctype) \
    case IG_##name:                        \
        CONVERT_CASE(name, bytes, kind, ctype, i)
#include "ingot/dtypes.def"
#undef DT
    default: break;
    }
}

static void convert_write_f(ig_dtype to, int64_t n, const convert_wide *w, void *dst) {
    switch (to) {
#define DT(name, code, bytes, kind, ctype) \
    case IG_##name:                        \
        CONVERT_CASE(name, bytes, kind, ctype, f)
#include "ingot/dtypes.def"
#undef DT
    default: break;
    }
}

void ir_convert(ig_dtype from, ig_dtype to, int64_t n, const void *x, void *y) {
    convert_wide wide;
    size_t xb = rt_dtype_bytes(from), yb = rt_dtype_bytes(to);
    const char *src = x;
    char *dst = y;
    if (from == to) {
        if (n && x != y) memcpy(y, x, (size_t)n * xb);
        return;
    }
    for (int64_t at = 0; at < n; at += CONVERT_CHUNK) {
        int64_t m = n - at < CONVERT_CHUNK ? n - at : CONVERT_CHUNK;
        convert_read(from, m, src + (size_t)at * xb, &wide);
        if (rt_is_float(from))
            convert_write_f(to, m, &wide, dst + (size_t)at * yb);
        else if (rt_is_signed(from))
            convert_write_i(to, m, &wide, dst + (size_t)at * yb);
        else
            convert_write_u(to, m, &wide, dst + (size_t)at * yb);
    }
}
