/* ref_ew.c - reference of the elementwise ops: the definition of every bit of every op at every
 * element type.
 *
 * One function a type holds one line an op.  Integers compute in an unsigned type of at least 32
 * bits and are cut, so that they wrap modulo 2^n without undefined behaviour.  The 16-bit floats
 * widen exactly, run the f32 line and round back (numerics rule 1), except where only bits are
 * moved (neg, abs, select, bitcast).  convert is in ref_convert.c, fma in ref_fma.c; a
 * transcendental function has a body and no line here. */
#include "ir/ref.h"

#include <math.h>
#include <string.h>

enum { EW_CHUNK = 512 };

/* An op and its mode (the enumerated attribute, if any) as one key for a switch. */
#define EW_KEY(op, mode) ((int)(op)*8 + (int)(mode))

static int ew_key(const ir_ew *e) {
    switch (e->op) {
    case OP_rint: return EW_KEY(OP_rint, ((const ir_attr_rmode *)e->attr)->mode);
    case OP_bitcount: return EW_KEY(OP_bitcount, ((const ir_attr_count *)e->attr)->kind);
    case OP_bit: return EW_KEY(OP_bit, ((const ir_attr_bitop *)e->attr)->op);
    case OP_shift: return EW_KEY(OP_shift, ((const ir_attr_shop *)e->attr)->op);
    case OP_cmp: return EW_KEY(OP_cmp, ((const ir_attr_cmpop *)e->attr)->op);
    default: return EW_KEY(e->op, 0);
    }
}

/* One line of the definition: the expression over x, y, p (the condition of a select) for every
 * element. */
#define EW_1(key, R, expr)                \
    case key:                             \
        for (int64_t k = 0; k < n; k++) { \
            const ew_T x = xs[k];         \
            ((R *)e->out)[k] = (R)(expr); \
        }                                 \
        return true;
#define EW_2(key, R, expr)                   \
    case key:                                \
        for (int64_t k = 0; k < n; k++) {    \
            const ew_T x = xs[k], y = ys[k]; \
            ((R *)e->out)[k] = (R)(expr);    \
        }                                    \
        return true;
#define EW_SELECT()                                                                 \
    case EW_KEY(OP_select, 0): {                                                    \
        const uint8_t *p = e->in[0];                                                \
        const ew_T *zs = e->in[2];                                                  \
        for (int64_t k = 0; k < n; k++) ((ew_T *)e->out)[k] = p[k] ? ys[k] : zs[k]; \
        return true;                                                                \
    }
#define EW_CMP()                                       \
    EW_2(EW_KEY(OP_cmp, IR_cmpop_eq), uint8_t, x == y) \
    EW_2(EW_KEY(OP_cmp, IR_cmpop_ne), uint8_t, x != y) \
    EW_2(EW_KEY(OP_cmp, IR_cmpop_lt), uint8_t, x < y)  \
    EW_2(EW_KEY(OP_cmp, IR_cmpop_le), uint8_t, x <= y)
#define EW_BITS()                                  \
    EW_2(EW_KEY(OP_bit, IR_bitop_band), ew_T, (x) & (y)) \
    EW_2(EW_KEY(OP_bit, IR_bitop_bor), ew_T, x | y) \
    EW_2(EW_KEY(OP_bit, IR_bitop_bxor), ew_T, x ^ y)
#define EW_BEGIN(name, T)                            \
    static bool ew_##name(const ir_ew *e, int key) { \
        typedef T ew_T;                              \
        const ew_T *xs = e->in[0], *ys = e->in[1];   \
        const int64_t n = e->n;                      \
        switch (key) {
#define EW_END()           \
    default: return false; \
        }                  \
        }

/* --- bool ------------------------------------------------------------------------------------- */

EW_BEGIN(b, uint8_t)
EW_1(EW_KEY(OP_lnot, 0), ew_T, !x)
EW_2(EW_KEY(OP_max, 0), ew_T, x | y)
EW_2(EW_KEY(OP_min, 0), ew_T, (x) & (y))
EW_BITS()
EW_CMP()
EW_SELECT()
EW_END()

/* --- Integers --------------------------------------------------------------------------------- */

/* What differs by sign: T the type, W the unsigned type to compute in. */
#define EW_ABS_i(T, W) (x < 0 ? (W)0 - (W)x : (W)x)
#define EW_ABS_u(T, W) x
#define EW_DIV_i(T, W) (y == 0 ? (W)0 : y == -1 ? (W)0 - (W)x : (W)(x / y))
#define EW_DIV_u(T, W) (y == 0 ? (W)0 : (W)(x / y))
#define EW_REM_i(T, W) (y == 0 ? (W)x : y == -1 ? (W)0 : (W)(x % y))
#define EW_REM_u(T, W) (y == 0 ? (W)x : (W)(x % y))

/* S and U are the signed and unsigned types of the width, `bits` their width; bit counts go through
 * 64 bits. */
#define EW_INT(name, T, S, U, W, kind, bits)                                                       \
    EW_BEGIN(name, T)                                                                              \
    EW_1(EW_KEY(OP_neg, 0), T, (W)0 - (W)x)                                                        \
    EW_1(EW_KEY(OP_abs, 0), T, EW_ABS_##kind(T, W))                                                \
    EW_1(EW_KEY(OP_lnot, 0), T, ~x)                                                                \
    EW_1(EW_KEY(OP_bitcount, IR_count_pop), T, __builtin_popcountll((U)x))                         \
    EW_1(EW_KEY(OP_bitcount, IR_count_clz), T, x ? __builtin_clzll((U)x) - (64 - (bits)) : (bits)) \
    EW_1(EW_KEY(OP_bitcount, IR_count_ctz), T, x ? __builtin_ctzll((U)x) : (bits))                 \
    EW_2(EW_KEY(OP_add, 0), T, (W)x + (W)y)                                                        \
    EW_2(EW_KEY(OP_sub, 0), T, (W)x - (W)y)                                                        \
    EW_2(EW_KEY(OP_mul, 0), T, (W)x *(W)y)                                                         \
    EW_2(EW_KEY(OP_div, 0), T, EW_DIV_##kind(T, W))                                                \
    EW_2(EW_KEY(OP_rem, 0), T, EW_REM_##kind(T, W))                                                \
    EW_2(EW_KEY(OP_max, 0), T, x > y ? x : y)                                                      \
    EW_2(EW_KEY(OP_min, 0), T, x < y ? x : y)                                                      \
    EW_2(EW_KEY(OP_shift, IR_shop_left), T, (U)y < (bits) ? (W)x << (U)y : (W)0)                   \
    EW_2(EW_KEY(OP_shift, IR_shop_right), T, (U)y < (bits) ? (U)x >> (U)y : 0)                     \
    EW_2(EW_KEY(OP_shift, IR_shop_arith), T, (S)x >> ((U)y < (bits) ? (U)y : (bits)-1))            \
    EW_BITS()                                                                                      \
    EW_CMP()                                                                                       \
    EW_SELECT()                                                                                    \
    EW_END()

#define EW_INT_1(name, T, kind) EW_INT(name, T, int8_t, uint8_t, uint32_t, kind, 8)
#define EW_INT_2(name, T, kind) EW_INT(name, T, int16_t, uint16_t, uint32_t, kind, 16)
#define EW_INT_4(name, T, kind) EW_INT(name, T, int32_t, uint32_t, uint32_t, kind, 32)
#define EW_INT_8(name, T, kind) EW_INT(name, T, int64_t, uint64_t, uint64_t, kind, 64)
#define EW_DEFINE_b(name, bytes, T)
#define EW_DEFINE_f(name, bytes, T)
#define EW_DEFINE_i(name, bytes, T)        EW_INT_##bytes(name, T, i)
#define EW_DEFINE_u(name, bytes, T)        EW_INT_##bytes(name, T, u)
#define DT(name, code, bytes, kind, ctype) EW_DEFINE_##kind(name, bytes, ctype)
#include "ingot/dtypes.def"
#undef DT

/* --- Floats ----------------------------------------------------------------------------------- */

/* NaN first, then the larger (smaller); equal ones differ at most in the sign of zero. */
#define EW_MAX(x, y) (x != x ? x : y != y ? y : x > y ? x : x < y ? y : signbit(x) ? y : x)
#define EW_MIN(x, y) (x != x ? x : y != y ? y : x < y ? x : x > y ? y : signbit(x) ? x : y)
float ir_max_f32(float x, float y) { return EW_MAX(x, y); }
float ir_min_f32(float x, float y) { return EW_MIN(x, y); }
double ir_max_f64(double x, double y) { return EW_MAX(x, y); }
double ir_min_f64(double x, double y) { return EW_MIN(x, y); }

/* f: the suffix of the C library's functions.  -x and fabs touch the sign bit only; rint needs the
 * default rounding mode, which every entry guarantees (numerics rule 14). */
#define EW_FLOAT(name, T, f)                              \
    EW_BEGIN(name, T)                                     \
    EW_1(EW_KEY(OP_neg, 0), T, -x)                        \
    EW_1(EW_KEY(OP_abs, 0), T, fabs##f(x))                \
    EW_1(EW_KEY(OP_rint, IR_rmode_even), T, rint##f(x))   \
    EW_1(EW_KEY(OP_rint, IR_rmode_floor), T, floor##f(x)) \
    EW_1(EW_KEY(OP_rint, IR_rmode_ceil), T, ceil##f(x))   \
    EW_1(EW_KEY(OP_rint, IR_rmode_trunc), T, trunc##f(x)) \
    EW_1(EW_KEY(OP_sqrt, 0), T, sqrt##f(x))               \
    EW_2(EW_KEY(OP_add, 0), T, x + y)                     \
    EW_2(EW_KEY(OP_sub, 0), T, x - y)                     \
    EW_2(EW_KEY(OP_mul, 0), T, x *y)                      \
    EW_2(EW_KEY(OP_div, 0), T, x / y)                     \
    EW_2(EW_KEY(OP_rem, 0), T, fmod##f(x, y))             \
    EW_2(EW_KEY(OP_max, 0), T, EW_MAX(x, y))              \
    EW_2(EW_KEY(OP_min, 0), T, EW_MIN(x, y))              \
    EW_CMP()                                              \
    EW_SELECT()                                           \
    EW_END()

EW_FLOAT(f32, float, f)
EW_FLOAT(f64, double, )

/* f16 and bf16 as bits: the ops that do not compute. */
EW_BEGIN(h, uint16_t)
EW_1(EW_KEY(OP_neg, 0), ew_T, x ^ 0x8000)
EW_1(EW_KEY(OP_abs, 0), ew_T, x & 0x7fff)
EW_SELECT()
EW_END()

void ir_canon_nan(ig_dtype dtype, void *data, int64_t n) {
    if (dtype == IG_f32) {
        float *x = data;
        for (int64_t k = 0; k < n; k++)
            if (x[k] != x[k]) x[k] = (float)NAN;
    } else if (dtype == IG_f64) {
        double *x = data;
        for (int64_t k = 0; k < n; k++)
            if (x[k] != x[k]) x[k] = (double)NAN;
    } else if (rt_is_float(dtype)) {
        const uint16_t inf = dtype == IG_f16 ? 0x7c00 : 0x7f80,
                       nan = dtype == IG_f16 ? 0x7e00 : 0x7fc0;
        uint16_t *x = data;
        for (int64_t k = 0; k < n; k++)
            if ((x[k] & 0x7fff) > inf) x[k] = nan;
    }
}

/* --- Choosing --------------------------------------------------------------------------------- */

static bool ew_fma(const ir_ew *e) {
    if (e->from == IG_f32)
        ir_fma_f32(e->cls, e->n, e->in[0], 1, e->in[1], 1, e->in[2], e->out);
    else
        ir_fma_f64(e->cls, e->n, e->in[0], 1, e->in[1], 1, e->in[2], e->out);
    return true;
}

/* Bits as they are, but the bits of a NaN become visible here (numerics rule 2). */
static bool ew_bitcast(const ir_ew *e) {
    size_t n = (size_t)e->n * rt_dtype_bytes(e->from);
    if (n && e->out != e->in[0]) memcpy(e->out, e->in[0], n);
    ir_canon_nan(e->from, e->out, e->n);
    return true;
}

static bool ew_half(const ir_ew *e);

static bool ew_run(const ir_ew *e, int key) {
    switch (e->from) {
#define EW_CALL_b(name, bytes) ew_b(e, key)
#define EW_CALL_i(name, bytes) ew_##name(e, key)
#define EW_CALL_u(name, bytes) ew_##name(e, key)
#define EW_CALL_f(name, bytes) EW_CALL_f_##bytes(name)
#define EW_CALL_f_2(name)      (ew_h(e, key) || ew_half(e))
#define EW_CALL_f_4(name)      (e->op == OP_fma ? ew_fma(e) : ew_##name(e, key))
#define EW_CALL_f_8(name)      EW_CALL_f_4(name)
#define DT(name, code, bytes, kind, ctype) \
    case IG_##name:                        \
        return EW_CALL_##kind(name, bytes);
#include "ingot/dtypes.def"
#undef DT
    default: return false;
    }
}

/* Run a 16-bit float op through f32 in chunks. */
static bool ew_half(const ir_ew *e) {
    float wide[3][EW_CHUNK];
    ir_ew f = *e;
    f.from = IG_f32;
    f.to = e->to == e->from ? IG_f32 : e->to; /* cmp gives bool */
    for (int64_t at = 0; at < e->n; at += EW_CHUNK) {
        char *out = (char *)e->out + (size_t)at * rt_dtype_bytes(e->to);
        f.n = e->n - at < EW_CHUNK ? e->n - at : EW_CHUNK;
        for (int k = 0; k < ir_op_tab[e->op].arity; k++) {
            ir_convert(e->from, IG_f32, f.n, (const uint16_t *)e->in[k] + at, wide[k]);
            f.in[k] = wide[k];
        }
        f.out = f.to == IG_f32 ? (void *)wide[0] : out;
        if (!ew_run(&f, ew_key(&f))) return false;
        if (f.to == IG_f32) ir_convert(IG_f32, e->to, f.n, wide[0], out);
    }
    return true;
}

bool ir_ew_run(const ir_ew *e) {
    if (e->op == OP_convert) return ir_convert(e->from, e->to, e->n, e->in[0], e->out), true;
    if (e->op == OP_bitcast) return ew_bitcast(e);
    return ew_run(e, ew_key(e));
}

ig_status ir_ref_ew(const ir_ref_call *c) {
    int64_t n = ir_ref_numel(&c->out[0]);
    ig_dtype from = (ig_dtype)c->in[c->nin - 1].dtype;
    ir_ew e = {.cls = c->cls, .op = c->op, .attr = c->attr, .from = from, .n = n};
    const ir_body *body;
    void *owned;
    if (!n) return NULL;
    e.to = (ig_dtype)c->out[0].dtype;
    e.out = c->out[0].data;
    for (int k = 0; k < c->nin && k < 3; k++) e.in[k] = c->in[k].data;
    if (ir_ew_run(&e)) return NULL;
    RT_TRY(ir_body_find(c, c->op, from, &body, &owned));
    ir_body_run(body, n, e.in, &e.out);
    ir_body_drop(c->alloc, owned);
    return NULL;
}
