/* ref_fma.c - rows of fused multiply-adds, the one place where the reference meets a CPU feature.
 *
 * The C library's fma gives the same bits with and without the instruction, but a call costs ten
 * times as much; on x86-64 the loops are therefore compiled twice and chosen by the CPU.  Class
 * nofma multiplies, rounds, adds, rounds (numerics rule 12). */
#include "ir/ref.h"

#include <math.h>

#define FMA_LOOP(expr)                                                                 \
    do {                                                                               \
        if (sa == 1 && sb == 1)                                                        \
            for (int64_t i = 0; i < n; i++) out[i] = expr(a[i], b[i], c[i]);           \
        else if (sa == 0 && sb == 1)                                                   \
            for (int64_t i = 0; i < n; i++) out[i] = expr(a[0], b[i], c[i]);           \
        else                                                                           \
            for (int64_t i = 0; i < n; i++) out[i] = expr(a[i * sa], b[i * sb], c[i]); \
    } while (0)

#define FMA_TWICE(x, y, z) ((x) * (y) + (z))
#define FMA_ARGS(T) int64_t n, const T *a, int64_t sa, const T *b, int64_t sb, const T *c, T *out

#if defined(__x86_64__) && !defined(__FMA__)
#define FMA_FAST(T, f) \
    __attribute__((target("fma"))) static void fma_fast_##T(FMA_ARGS(T)) { FMA_LOOP(f); }
#define FMA_IS_FAST() __builtin_cpu_supports("fma")
#else
#define FMA_FAST(T, f) \
    static void fma_fast_##T(FMA_ARGS(T)) { FMA_LOOP(f); }
#define FMA_IS_FAST() 1
#endif

#define FMA_ROWS(T, f)                                              \
    FMA_FAST(T, f)                                                  \
    static void fma_call_##T(FMA_ARGS(T)) { FMA_LOOP(f); }          \
    static void fma_twice_##T(FMA_ARGS(T)) { FMA_LOOP(FMA_TWICE); } \
    static void fma_row_##T(ir_class cls, FMA_ARGS(T)) {            \
        if (cls == IR_CLASS_NOFMA)                                  \
            fma_twice_##T(n, a, sa, b, sb, c, out);                 \
        else if (FMA_IS_FAST())                                     \
            fma_fast_##T(n, a, sa, b, sb, c, out);                  \
        else                                                        \
            fma_call_##T(n, a, sa, b, sb, c, out);                  \
    }

FMA_ROWS(float, fmaf)
FMA_ROWS(double, fma)

void ir_fma_f32(ir_class cls, FMA_ARGS(float)) { fma_row_float(cls, n, a, sa, b, sb, c, out); }
void ir_fma_f64(ir_class cls, FMA_ARGS(double)) { fma_row_double(cls, n, a, sa, b, sb, c, out); }
