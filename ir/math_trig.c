/* math_trig.c - bodies of sin, cos and atan2.
 *
 * sin and cos share all but a constant: |x| = n pi/2 + r, |r| <= pi/4, both polynomials are
 * evaluated and the parity of n selects.  r comes in two parts r + t, t below half an ulp of r.
 *
 * Near: |x| up to 12800 (f32) or 2^15 (f64): Cody and Waite with pi/2 in four or three parts, all
 * but the last so short that their products with n are exact; the last subtraction that rounds
 * leaves its error in t.
 *
 * Far, f32, in f64: x / (2 pi) modulo 1.  Let x >= 2^(E + 23): then x is a multiple of 2^E and 1 /
 * (2 pi) may be replaced by frac(2^E / (2 pi)) 2^-E.  That is kept in three parts of 29, 23 and 53
 * bits; products with the first two are exact and lose their integers by rint, the third product is
 * small.  Five values of E, 22 binades apart, cover f32.
 *
 * Far, f64: Payne and Hanek (1983) in 64-bit integers.  192 bits of 1 / (2 pi), from the exponent
 * of x on, are picked from a table of words by a ladder of selects (a barrel shifter), multiplied
 * by the 53-bit significand to a 128-bit fraction of a turn, which is made into r + t.  The f64
 * closest to a multiple of pi/2 is 2^-61 away (Muller, Elementary Functions, table 10), so 65 bits
 * are left.
 *
 * The two reductions meet in three selects on `near`, which is the usual case: kernels compute the
 * far one only where a vector has an element that is far.
 *
 * atan2: q = min(|x|, |y|) / max(|x|, |y|), atan q = q + q^3 p(q^2) on [0, 1], then one of 0, pi/2,
 * pi is added and signs are set.  f32 computes in f64 and rounds once. */
#include "ir/math.h"

#include <math.h>

/* a = n pi/2 + r + t; bits: an integer whose two low bits are those of n + quarter. */
typedef struct trig_turn {
    ir_ref r, t, bits;
} trig_turn;

/* --- Near ------------------------------------------------------------------------------------- */

static trig_turn trig_near(ir_builder *b, ir_ref a, int quarter) {
    /* pi/2 in parts of 11, 11, 11 and 24 bits, or 37, 37 and 53 */
    static const double f32[] = {0x1.92p+0, 0x1.fb4p-12, 0x1.444p-24, 0x1.68c234p-39};
    static const double f64[] = {0x1.921fb54440p+0, 0x1.68c234c4cp-39, 0x1.98a2e03707345p-77};
    bool wide = math_format(b, a)->real == IG_f64;
    const double *part = wide ? f64 : f32, turn = wide ? 0x1.45f306dc9c883p-1 : 0x1.45f306p-1;
    int last = wide ? 2 : 3;
    trig_turn u;
    ir_ref n = math_round(b, a, turn, quarter, &u.bits), r = a;
    for (int k = 0; k < last - 1; k++) r = math_fmak(b, n, -part[k], r);
    u.r = math_fmak(b, n, -part[last - 1], r);
    u.t = math_fmak(b, n, -part[last - 1], math_sub(b, r, u.r));
    u.t = math_fmak(b, n, -part[last], u.t);
    return u;
}

/* --- Far, f32 --------------------------------------------------------------------------------- */

/* 2^-E frac(2^E / (2 pi)) for E = 0, 22, 44, 66, 88. */
static const double trig_turns[5][3] = {
    {0x1.45f306cp-3, 0x1.c9c88p-31, 0x1.529fc2757d1f5p-54},
    {0x1.b72722p-25, 0x1.529fcp-54, 0x1.3abe8fa9a6ee0p-77},
    {0x1.054a7fp-48, 0x1.3abe8p-77, 0x1.f534ddc0db629p-98},
    {0x1.f84eafap-67, 0x1.f534ep-98, -0x1.1f924eb53361ep-121},
    {0x1.e8fa9a6p-89, 0x1.dc0db8p-118, -0x1.d6a66c3bc6fbep-142}};

/* x - rint(x) */
static ir_ref trig_frac(ir_builder *b, ir_ref x) {
    ir_attr_rmode even = {.mode = IR_rmode_even};
    return math_sub(b, x, ir_emit1(b, OP_rint, &even, x));
}

static trig_turn trig_far_f32(ir_builder *b, ir_ref a, int quarter) {
    ir_ref w = math_convert(b, a, IG_f64), c[3], bits;
    for (int i = 0; i < 3; i++) c[i] = math_k(b, w, trig_turns[0][i]);
    for (int k = 1; k < 5; k++) {
        ir_ref here = math_ltk(b, w, ldexp(1, 22 * k + 23));
        for (int i = 0; i < 3; i++)
            c[i] = math_select(b, here, c[i], math_k(b, w, trig_turns[k][i]));
    }
    /* multiples of 2^-52 up to 1/2: the sum is exact */
    ir_ref u = trig_frac(b, math_mul(b, w, c[0]));
    u = math_add(b, u, trig_frac(b, math_mul(b, w, c[1])));
    ir_ref v = math_mul(b, w, c[2]);
    ir_ref n = math_round(b, math_add(b, u, v), 4, quarter, &bits);
    u = math_add(b, math_fmak(b, n, -0.25, u), v);
    ir_ref r = math_mulk(b, u, 0x1.921fb54442d18p+2);
    ir_ref high = math_convert(b, r, IG_f32);
    ir_ref low = math_convert(b, math_sub(b, r, math_convert(b, high, IG_f64)), IG_f32);
    return (trig_turn){high, low, math_convert(b, bits, IG_u32)};
}

/* --- Far, f64 --------------------------------------------------------------------------------- */

/* Bits of 1 / (2 pi) after TRIG_PAD zeros, the highest bit of a word first. */
enum { TRIG_PAD = 37, TRIG_WORDS = 19 };
static const uint64_t trig_words[TRIG_WORDS] = {
    0x000000000145f306, 0xdc9c882a53f84eaf, 0xa3ea69bb81b6c52b, 0x3278872083fca2c7,
    0x57bd778ac36e48dc, 0x74849ba5c00c925d, 0xd413a32439fc3bd6, 0x3962534e7dd1046b,
    0xea5d768909d338e0, 0x4d68befc827323ac, 0x7306a673e93908bf, 0x177bf250763ff12f,
    0xffbc0b301fde5e23, 0x16b414da3eda6cfd, 0x9e4f96136e9e8c7e, 0xcd3cbfd45aea4f75,
    0x8fd7cbe2f67a0e73, 0xef14a525d4d7f6bf, 0x623f1aba10ac0660};

/* 192 bits of the string from bit `at` < 1024 on, highest word first. */
static void trig_window(ir_builder *b, ir_ref at, ir_ref out_[3]) {
    ir_ref w[TRIG_WORDS];
    int n = TRIG_WORDS;
    for (int k = 0; k < n; k++) w[k] = math_ik(b, at, trig_words[k]);
    for (int step = 8; step; step /= 2) {
        ir_ref on = math_and(b, at, math_ik(b, at, 64 * (uint64_t)step));
        ir_ref stay = math_eq(b, on, math_ik(b, at, 0));
        n -= step;
        for (int k = 0; k < n; k++) w[k] = math_select(b, stay, w[k], w[k + step]);
    }
    ir_ref shift = math_and(b, at, math_ik(b, at, 63));
    ir_ref back = math_sub(b, math_ik(b, at, 64), shift); /* a shift by 64 gives 0 */
    for (int k = 0; k < 3; k++) {
        out_[k] = math_shift(b, IR_shop_left, w[k], shift);
        out_[k] = math_or(b, out_[k], math_shift(b, IR_shop_right, w[k + 1], back));
    }
}

static ir_ref trig_low(ir_builder *b, ir_ref x) {
    return math_and(b, x, math_ik(b, x, UINT32_MAX));
}

/* The high word of x * y, x below 2^53. */
static ir_ref trig_mul_high(ir_builder *b, ir_ref x, ir_ref y) {
    ir_ref x0 = trig_low(b, x), x1 = math_shr(b, x, 32), y0 = trig_low(b, y),
           y1 = math_shr(b, y, 32);
    ir_ref mid = math_mul(b, x0, y1), mid2 = math_mul(b, x1, y0), high = math_mul(b, x1, y1);
    mid = math_add(b, mid, math_shr(b, math_mul(b, x0, y0), 32));
    mid2 = math_add(b, mid2, trig_low(b, mid));
    high = math_add(b, high, math_shr(b, mid, 32));
    return math_add(b, high, math_shr(b, mid2, 32));
}

/* The number bits * 2^ulp, bits below 2^32, less `bias`. */
static ir_ref trig_limb(ir_builder *b, ir_ref bits, int ulp, double bias) {
    ir_ref base = math_ik(b, bits, (uint64_t)(1023 + 52 + ulp) << 52);
    return math_subk(b, math_cast(b, math_or(b, bits, base), IG_f64), ldexp(1, ulp + 52) + bias);
}

/* The signed fraction (hi, lo) 2^-128 of pi/2 as r + t. */
static void trig_to_real(ir_builder *b, ir_ref hi, ir_ref lo, trig_turn *u) {
    const double half = 0x1.921fb54442d18p+0, half_lo = 0x1.1a62633145c07p-54;
    ir_ref top = math_xor(b, hi, math_ik(b, hi, UINT64_C(1) << 63));
    ir_ref a0 = trig_limb(b, math_shr(b, top, 32), -32, 0.5),
           a1 = trig_limb(b, trig_low(b, hi), -64, 0);
    ir_ref a2 = trig_limb(b, math_shr(b, lo, 32), -96, 0),
           a3 = trig_limb(b, trig_low(b, lo), -128, 0);
    ir_ref h = math_add(b, a0, a1), l = math_sub(b, a1, math_sub(b, h, a0));
    l = math_add(b, l, math_add(b, a2, a3));
    ir_ref s = math_add(b, h, l), e = math_sub(b, l, math_sub(b, s, h));
    u->r = math_mulk(b, s, half);
    u->t = math_fmak(b, s, half, math_neg(b, u->r));
    u->t = math_fmak(b, e, half, math_fmak(b, s, half_lo, u->t));
}

static trig_turn trig_far_f64(ir_builder *b, ir_ref a, int quarter) {
    ir_ref i = math_cast(b, a, IG_u64), w[3];
    ir_ref m = math_and(b, i, math_ik(b, i, (UINT64_C(1) << 52) - 1)), at = math_shr(b, i, 52);
    m = math_or(b, m, math_ik(b, i, UINT64_C(1) << 52));
    at = math_sub(b, at, math_ik(b, i, 1023 + 52 - TRIG_PAD));
    trig_window(b, at, w);
    /* 128 bits of m w modulo 1 turn */
    ir_ref mid = math_mul(b, m, w[1]), lo = math_add(b, mid, trig_mul_high(b, m, w[2]));
    ir_ref hi = math_mul(b, m, w[0]);
    hi = math_add(b, hi, trig_mul_high(b, m, w[1]));
    hi = math_add(b, hi, math_convert(b, math_lt(b, lo, mid), IG_u64));
    /* the nearest count of quarter turns, and the rest as a signed fraction */
    trig_turn u;
    u.bits = math_shr(b, math_add(b, hi, math_ik(b, hi, UINT64_C(1) << 61)), 62);
    if (quarter) u.bits = math_add(b, u.bits, math_ik(b, u.bits, (uint64_t)quarter));
    hi = math_shl(b, hi, 2);
    hi = math_or(b, hi, math_shr(b, lo, 62));
    trig_to_real(b, hi, math_shl(b, lo, 2), &u);
    u.r = math_add(b, u.r, math_sub(b, a, a)); /* NaN for infinities */
    return u;
}

/* --- sin and cos ------------------------------------------------------------------------------ */

static ir_ref trig_sin(ir_builder *b, const trig_turn *u, ir_ref s) {
    /* sin r = r + r^3 p(r^2) to 2^-27.8 and 2^-57.5 */
    static const double f32[] = {-0x1.555544p-3, 0x1.1106d4p-7, -0x1.992244p-13};
    static const double f64[] = {-0x1.5555555555547p-3,  0x1.111111110f531p-7,
                                 -0x1.a01a019ba6815p-13, 0x1.71de351a0fb12p-19,
                                 -0x1.ae5e1c5276141p-26, 0x1.5d7d6b5f5a8f0p-33};
    bool wide = math_format(b, s)->real == IG_f64;
    ir_ref p = wide ? math_poly(b, s, f64, MATH_N(f64)) : math_poly(b, s, f32, MATH_N(f32));
    return math_add(b, u->r, math_fma(b, math_mul(b, u->r, s), p, u->t));
}

static ir_ref trig_cos(ir_builder *b, ir_ref s) {
    /* cos r = 1 - r^2/2 + ... to 2^-32.3 and 2^-62.2 */
    static const double f32[] = {1, -0.5, 0x1.55554ap-5, -0x1.6c0be6p-10, 0x1.99c8cep-16};
    static const double f64[] = {1,
                                 -0.5,
                                 0x1.5555555555549p-5,
                                 -0x1.6c16c16c14c77p-10,
                                 0x1.a01a019c3746ep-16,
                                 -0x1.27e4f7b238f30p-22,
                                 0x1.1ee9b0b6aebdap-29,
                                 -0x1.8f90254cf0727p-37};
    bool wide = math_format(b, s)->real == IG_f64;
    /* r t counts for less than 0.4 ulp */
    return wide ? math_poly(b, s, f64, MATH_N(f64)) : math_poly(b, s, f32, MATH_N(f32));
}

/* sin(x + quarter pi/2), quarter 0 or 1. */
static ir_ref trig_sincos(ir_builder *b, ir_ref x, int quarter, ir_ref *usual_) {
    const math_fmt *f = math_format(b, x);
    bool wide = f->real == IG_f64;
    ir_ref a = math_abs(b, x);
    trig_turn u = trig_near(b, a, quarter);
    trig_turn v = wide ? trig_far_f64(b, a, quarter) : trig_far_f32(b, a, quarter);
    ir_ref near = *usual_ = math_ltk(b, a, wide ? 0x1p15 : 12800);
    u.r = math_select(b, near, u.r, v.r);
    u.t = math_select(b, near, u.t, v.t);
    u.bits = math_select(b, near, u.bits, v.bits);
    ir_ref s = math_mul(b, u.r, u.r), one = math_ik(b, u.bits, 1);
    ir_ref odd = math_eq(b, math_and(b, u.bits, one), one);
    ir_ref even = trig_sin(b, &u, s);
    ir_ref y = math_select(b, odd, trig_cos(b, s), even);
    /* bit 1 of the count, and the sign of x for sin, are the sign */
    ir_ref sign = math_shl(b, u.bits, wide ? 62 : 30);
    if (!quarter) sign = math_xor(b, sign, math_cast(b, x, f->uint));
    sign = math_and(b, sign, math_ik(b, sign, UINT64_C(1) << (wide ? 63 : 31)));
    return math_flip(b, y, sign);
}

ir_ref math_sin(ir_builder *b, ir_ref x, ir_ref *usual_) { return trig_sincos(b, x, 0, usual_); }
ir_ref math_cos(ir_builder *b, ir_ref x, ir_ref *usual_) { return trig_sincos(b, x, 1, usual_); }

/* --- atan2 ------------------------------------------------------------------------------------ */

/* atan2 on f64 values; p is atan's polynomial. */
static ir_ref trig_atan2(ir_builder *b, ir_ref y, ir_ref x, const double *p, int n) {
    const double half = 0x1.921fb54442d18p+0, half_lo = 0x1.1a62633145c07p-54;
    ir_ref ax = math_abs(b, x), ay = math_abs(b, y), zero = math_k(b, x, 0);
    ir_ref steep = math_lt(b, ax, ay);
    ir_ref num = math_select(b, steep, ax, ay), den = math_select(b, steep, ay, ax);
    ir_ref q = math_div(b, num, den);
    q = math_selectk(b, math_eq(b, num, den), 1, q); /* both infinite */
    q = math_select(b, math_eqk(b, den, 0), num, q); /* both 0, or NaN over 0 */
    ir_ref z = math_mul(b, q, q);
    ir_ref a = math_mul(b, q, z);
    a = math_fma(b, a, math_poly(b, z, p, n), q);
    /* steep, left: 0 + a, pi - a, pi / 2 - a, pi / 2 + a */
    ir_ref sign = math_sign(b, x);
    ir_ref left = math_cmp(b, IR_cmpop_ne, sign, math_ik(b, sign, 0));
    ir_ref base = math_selectk(b, steep, half, math_selectk(b, left, 2 * half, zero));
    ir_ref low = math_selectk(b, steep, half_lo, math_selectk(b, left, 2 * half_lo, zero));
    ir_ref down = math_xor(b, steep, left);
    a = math_select(b, down, math_neg(b, a), a);
    a = math_add(b, base, math_add(b, low, a));
    return math_flip(b, a, math_sign(b, y));
}

ir_ref math_atan2(ir_builder *b, ir_ref y, ir_ref x) {
    /* atan q = q + q^3 p(q^2) on [0, 1] to 2^-31.2 and 2^-57.0 */
    static const double f32[] = {
        -0x1.55555104156dfp-2, 0x1.9997e033f2a97p-3, -0x1.247373a2b45efp-3, 0x1.c4f1e2df6e89fp-4,
        -0x1.68e7032342babp-4, 0x1.1422d1afe29cap-4, -0x1.6e19bcdfd6be3p-5, 0x1.714b49c2cf8d1p-6,
        -0x1.df9761e751af9p-8, 0x1.23f975cc60a25p-10};
    static const double f64[] = {
        -0x1.5555555555526p-2,  0x1.9999999995549p-3,  -0x1.249249237e1e1p-3,
        0x1.c71c717f9369ep-4,   -0x1.745d11aae106cp-4, 0x1.3b1366754269bp-4,
        -0x1.110e501776c1ap-4,  0x1.e1bb9ae394e0cp-5,  -0x1.ae5e434451ea0p-5,
        0x1.82da410fffd9cp-5,   -0x1.59a28bbd92f2bp-5, 0x1.2c2b8feb68c3ap-5,
        -0x1.e9f197e134c02p-6,  0x1.6832d5ec76014p-6,  -0x1.c77dc6facecf4p-7,
        0x1.d7a085edfa6f0p-8,   -0x1.7a210de93b100p-9, 0x1.b3d9214b04404p-11,
        -0x1.3f19eb4d9c2d8p-13, 0x1.bbc146f1b0ec6p-17};
    if (math_format(b, x)->real == IG_f64) return trig_atan2(b, y, x, f64, MATH_N(f64));
    ir_ref wy = math_convert(b, y, IG_f64), wx = math_convert(b, x, IG_f64);
    return math_convert(b, trig_atan2(b, wy, wx, f32, MATH_N(f32)), IG_f32);
}
