/* math.h - what the files of transcendental bodies share: one-line emitters and the formats of f32
 * and f64.
 *
 * A body is a run of elementwise ops on values of one shape.  Constants are written as hexadecimal
 * doubles; a constant of an f32 body must be an f32 value, so that nothing is rounded when it is
 * emitted. */
#ifndef IR_MATH_H
#define IR_MATH_H
#include "ir/ir.h"

/* --- Formats ---------------------------------------------------------------------------------- */

/* An IEEE format with the integers of its width.  Adding `magic` rounds a small number to an
 * integer, nearest even, and leaves it in the low bits of the sum. */
typedef struct math_fmt {
    ig_dtype real, uint;
    int mant, bias; /* fraction bits, exponent bias */
    double magic;   /* 1.5 * 2^mant */
    double min;     /* smallest normal number */
} math_fmt;
const math_fmt *math_format(const ir_builder *b, ir_ref x);

/* --- Emitters: operands first, `k` a constant of x's type ------------------------------------- */

/* The constant with these bits, of x's shape and the given element type. */
ir_ref math_bits(ir_builder *b, ir_ref x, ig_dtype dtype, uint64_t bits);
/* The constant k of x's shape and type: a float, and an integer modulo 2^n. */
ir_ref math_k(ir_builder *b, ir_ref x, double k);
ir_ref math_ik(ir_builder *b, ir_ref x, uint64_t k);

static inline ir_ref math_add(ir_builder *b, ir_ref x, ir_ref y) {
    return ir_emit2(b, OP_add, NULL, x, y);
}
static inline ir_ref math_sub(ir_builder *b, ir_ref x, ir_ref y) {
    return ir_emit2(b, OP_sub, NULL, x, y);
}
static inline ir_ref math_mul(ir_builder *b, ir_ref x, ir_ref y) {
    return ir_emit2(b, OP_mul, NULL, x, y);
}
static inline ir_ref math_div(ir_builder *b, ir_ref x, ir_ref y) {
    return ir_emit2(b, OP_div, NULL, x, y);
}
static inline ir_ref math_neg(ir_builder *b, ir_ref x) { return ir_emit1(b, OP_neg, NULL, x); }
static inline ir_ref math_not(ir_builder *b, ir_ref x) { return ir_emit1(b, OP_lnot, NULL, x); }
static inline ir_ref math_abs(ir_builder *b, ir_ref x) { return ir_emit1(b, OP_abs, NULL, x); }
static inline ir_ref math_fma(ir_builder *b, ir_ref x, ir_ref y, ir_ref z) {
    return ir_emit3(b, OP_fma, NULL, x, y, z);
}
static inline ir_ref math_select(ir_builder *b, ir_ref c, ir_ref x, ir_ref y) {
    return ir_emit3(b, OP_select, NULL, c, x, y);
}
static inline ir_ref math_addk(ir_builder *b, ir_ref x, double k) {
    return math_add(b, x, math_k(b, x, k));
}
static inline ir_ref math_subk(ir_builder *b, ir_ref x, double k) {
    return math_sub(b, x, math_k(b, x, k));
}
static inline ir_ref math_mulk(ir_builder *b, ir_ref x, double k) {
    return math_mul(b, x, math_k(b, x, k));
}
/* x * k + z */
static inline ir_ref math_fmak(ir_builder *b, ir_ref x, double k, ir_ref z) {
    return math_fma(b, x, math_k(b, x, k), z);
}

static inline ir_ref math_cmp(ir_builder *b, ir_cmpop op, ir_ref x, ir_ref y) {
    ir_attr_cmpop a = {.op = (uint8_t)op};
    return ir_emit2(b, OP_cmp, &a, x, y);
}
static inline ir_ref math_lt(ir_builder *b, ir_ref x, ir_ref y) {
    return math_cmp(b, IR_cmpop_lt, x, y);
}
static inline ir_ref math_eq(ir_builder *b, ir_ref x, ir_ref y) {
    return math_cmp(b, IR_cmpop_eq, x, y);
}
static inline ir_ref math_ltk(ir_builder *b, ir_ref x, double k) {
    return math_lt(b, x, math_k(b, x, k));
}
static inline ir_ref math_gtk(ir_builder *b, ir_ref x, double k) {
    return math_lt(b, math_k(b, x, k), x);
}
static inline ir_ref math_eqk(ir_builder *b, ir_ref x, double k) {
    return math_eq(b, x, math_k(b, x, k));
}

/* Bit operations on integers and bools. */
static inline ir_ref math_bit(ir_builder *b, ir_bitop op, ir_ref x, ir_ref y) {
    ir_attr_bitop a = {.op = (uint8_t)op};
    return ir_emit2(b, OP_bit, &a, x, y);
}
static inline ir_ref math_and(ir_builder *b, ir_ref x, ir_ref y) {
    return math_bit(b, IR_bitop_band, x, y);
}
static inline ir_ref math_or(ir_builder *b, ir_ref x, ir_ref y) {
    return math_bit(b, IR_bitop_bor, x, y);
}
static inline ir_ref math_xor(ir_builder *b, ir_ref x, ir_ref y) {
    return math_bit(b, IR_bitop_bxor, x, y);
}
static inline ir_ref math_shift(ir_builder *b, ir_shop op, ir_ref x, ir_ref n) {
    ir_attr_shop a = {.op = (uint8_t)op};
    return ir_emit2(b, OP_shift, &a, x, n);
}
static inline ir_ref math_shl(ir_builder *b, ir_ref x, int n) {
    return math_shift(b, IR_shop_left, x, math_ik(b, x, (uint64_t)n));
}
static inline ir_ref math_shr(ir_builder *b, ir_ref x, int n) {
    return math_shift(b, IR_shop_right, x, math_ik(b, x, (uint64_t)n));
}

static inline ir_ref math_convert(ir_builder *b, ir_ref x, ig_dtype to) {
    ir_attr_dtype a = {.dtype = (uint8_t)to};
    return ir_emit1(b, OP_convert, &a, x);
}
static inline ir_ref math_cast(ir_builder *b, ir_ref x, ig_dtype to) {
    ir_attr_dtype a = {.dtype = (uint8_t)to};
    return ir_emit1(b, OP_bitcast, &a, x);
}

/* c[0] + c[1] x + ... + c[n-1] x^(n-1), by Horner's rule. */
ir_ref math_poly(ir_builder *b, ir_ref x, const double *c, int n);
/* The same in a tree (Estrin): more ops, but fewer that wait for each other. */
ir_ref math_poly_tree(ir_builder *b, ir_ref x, const double *c, int n);
/* x between lo and hi; a NaN stays. */
ir_ref math_clamp(ir_builder *b, ir_ref x, double lo, double hi);
/* The sign bit of x as an integer, and x with its sign flipped by such an integer. */
ir_ref math_sign(ir_builder *b, ir_ref x);
ir_ref math_flip(ir_builder *b, ir_ref x, ir_ref sign);
/* p ? k : x */
ir_ref math_selectk(ir_builder *b, ir_ref p, double k, ir_ref x);

#define MATH_N(c) ((int)(sizeof(c) / sizeof *(c)))

/* --- Bodies: x and y are f32 or f64; usual_ as for ir_math_emit ------------------------------- */

ir_ref math_exp(ir_builder *b, ir_ref x);
ir_ref math_expm1(ir_builder *b, ir_ref x);
ir_ref math_log(ir_builder *b, ir_ref x, ir_ref *usual_);
ir_ref math_log1p(ir_builder *b, ir_ref x, ir_ref *usual_);
ir_ref math_sin(ir_builder *b, ir_ref x, ir_ref *usual_); /* math_trig.c */
ir_ref math_cos(ir_builder *b, ir_ref x, ir_ref *usual_);
ir_ref math_atan2(ir_builder *b, ir_ref y, ir_ref x);
ir_ref math_tanh(ir_builder *b, ir_ref x); /* math_special.c */
ir_ref math_erf(ir_builder *b, ir_ref x);
ir_ref math_pow(ir_builder *b, ir_ref x, ir_ref y); /* math_pow.c */

/* --- Shared reductions (math.c) --------------------------------------------------------------- */

/* For |r| <= ln(2)/2: q with e^r = 1 + r q, and p with e^(r + low) = 1 + r + p. */
ir_ref math_exp_factor(ir_builder *b, ir_ref r);
ir_ref math_exp_rest(ir_builder *b, ir_ref r, ir_ref low);
/* Round x * k to an integer n: *bits_ is an integer with n + bias in its low bits (NULL: not
 * wanted), the result is n. */
ir_ref math_round(ir_builder *b, ir_ref x, double k, int bias, ir_ref *bits_);
/* The number with biased exponent `bits` (low bits, the rest is shifted out) and fraction 0. */
ir_ref math_pow2(ir_builder *b, ir_ref bits, const math_fmt *f);
/* x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for positive finite x; denormals too when
 * asked. */
ir_ref math_split(ir_builder *b, ir_ref x, bool denormals, ir_ref *e_);
/* 1 / ln(2); ln(2) in two parts, the first so short that its product with an exponent is exact. */
double math_log2e(const math_fmt *f);
double math_ln2_hi(const math_fmt *f);
double math_ln2_lo(const math_fmt *f);
#endif
