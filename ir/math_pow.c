/* math_pow.c - body of pow.
 *
 * x^y = 2^(y log2 |x|), then the sign and the many special cases of C's annex F by selects.
 *
 * f32 computes in f64: log2 to 2^-37.8, so that y log2 |x| <= 152 is off by 2^-30, and one rounding
 * at the end.
 *
 * f64 needs log2 to about 2^-65: the scheme of FreeBSD's e_pow.c (Sun Microsystems, 1993), in pairs
 * of f64 whose first half is cut to 26 bits, so that products of first halves are exact without
 * fma.  s = f / (2 + f), then log(1 + f) = 2/3 s (3 + s^2 + s^4 l(s^2)).  Unlike there f is in
 * [sqrt(1/2) - 1, sqrt(2) - 1] and l is longer, in place of a second table entry. */
#include "ir/math.h"

#include <math.h>

/* The upper 26 bits of an f64's significand. */
static ir_ref pow_cut(ir_builder *b, ir_ref x) {
    ir_ref i = math_cast(b, x, IG_u64);
    return math_cast(b, math_and(b, i, math_ik(b, i, ~((UINT64_C(1) << 27) - 1))), IG_f64);
}

/* a^y for positive finite a, on f64 values that were f32: to 2^-28. */
static ir_ref pow_f32(ir_builder *b, ir_ref a, ir_ref y) {
    /* log2((1 + s) / (1 - s)) = s l(s^2) to 2^-37.8; 2^r on [-1/2, 1/2] to 2^-29.0 */
    static const double l[] = {0x1.71547652bee70p+1, 0x1.ec709d122937fp-1, 0x1.2777806cf86cap-1,
                               0x1.a58d472b6c2c8p-2, 0x1.5ced4dd8d9bf8p-2};
    static const double p[] = {0x1.000000026258bp+0, 0x1.62e430c82a7b6p-1, 0x1.ebfbdadb0b7b9p-3,
                               0x1.c6aed46082150p-5, 0x1.3b2dbc6eb695ap-7, 0x1.5f45979eb0942p-10,
                               0x1.41d308da38aa7p-13};
    const math_fmt *t = math_format(b, a);
    ir_ref e, bits, f = math_split(b, a, false, &e);
    ir_ref s = math_div(b, f, math_addk(b, f, 2));
    ir_ref log2 = math_fma(b, s, math_poly(b, math_mul(b, s, s), l, MATH_N(l)), e);
    ir_ref x = math_clamp(b, math_mul(b, y, log2), -200, 200);
    ir_ref n = math_round(b, x, 1, t->bias, &bits);
    ir_ref scale = math_pow2(b, bits, t);
    return math_mul(b, math_poly(b, math_sub(b, x, n), p, MATH_N(p)), scale);
}

/* log2 a as hi (26 bits) + lo. */
static ir_ref pow_log2(ir_builder *b, ir_ref a, ir_ref *lo_) {
    static const double l[] = {
        0x1.3333333333330p-1, 0x1.b6db6db6dc878p-2, 0x1.555555541e7fdp-2,
        0x1.1745d2269c1b3p-2, 0x1.d89d139aa0505p-3, 0x1.99b12242642efp-3,
        0x1.66a52a9fea621p-3, 0x1.7058a1862ec72p-3}; /* 2^-70 of the logarithm */
    const double k = 0x1.ec709dc3a03fdp-1, k_hi = 0x1.ec709ep-1,
                 k_lo = -0x1.e2fe0145b01f5p-28; /* 2 / (3 ln 2) */
    ir_ref e, f = math_split(b, a, true, &e);
    ir_ref v = math_addk(b, f, 2), vh = pow_cut(b, v), vl = math_sub(b, f, math_subk(b, vh, 2));
    ir_ref inv = math_div(b, math_k(b, f, 1), v);
    ir_ref s = math_mul(b, f, inv), sh = pow_cut(b, s);
    ir_ref sl = math_sub(b, f, math_mul(b, sh, vh));
    sl = math_sub(b, sl, math_mul(b, sh, vl));
    sl = math_mul(b, inv, sl);
    /* 3 + s^2 + s^4 l */
    ir_ref z = math_mul(b, s, s), zh = math_mul(b, sh, sh);
    ir_ref r = math_mul(b, z, z);
    r = math_mul(b, r, math_poly(b, z, l, MATH_N(l)));
    r = math_fma(b, sl, math_add(b, sh, s), r);
    ir_ref th = pow_cut(b, math_add(b, math_addk(b, zh, 3), r));
    ir_ref tl = math_sub(b, r, math_sub(b, math_subk(b, th, 3), zh));
    /* times s, times 2 / (3 ln 2), plus e */
    ir_ref u = math_mul(b, sh, th), w = math_fma(b, sl, th, math_mul(b, tl, s));
    ir_ref ph = pow_cut(b, math_add(b, u, w)), pl = math_sub(b, w, math_sub(b, ph, u));
    ir_ref qh = math_mulk(b, ph, k_hi);
    ir_ref ql = math_fmak(b, ph, k_lo, math_mulk(b, pl, k));
    ir_ref hi = pow_cut(b, math_add(b, math_add(b, qh, ql), e));
    *lo_ = math_sub(b, ql, math_sub(b, math_sub(b, hi, e), qh));
    return hi;
}

/* 2^(h + l), |l| far below |h|. */
static ir_ref pow_exp2(ir_builder *b, ir_ref h, ir_ref l) {
    const double ln2 = 0x1.62e42fefa39efp-1, ln2_hi = 0x1.62e43p-1, ln2_lo = -0x1.05c610ca86c39p-29;
    const math_fmt *t = math_format(b, h);
    ir_ref sum = math_add(b, h, l), kept = math_clamp(b, sum, -1100, 1100), bits;
    ir_ref fits = math_eq(b, sum, kept);
    h = math_select(b, fits, h, kept);
    l = math_select(b, fits, l, math_k(b, l, 0));
    h = math_sub(b, h, math_round(b, kept, 1, 2 * t->bias, &bits));
    ir_ref d = math_add(b, h, l), dl = math_sub(b, l, math_sub(b, d, h));
    /* times ln 2 */
    ir_ref dh = pow_cut(b, d), u = math_mulk(b, dh, ln2_hi);
    ir_ref w = math_mulk(b, math_add(b, math_sub(b, d, dh), dl), ln2);
    w = math_fmak(b, dh, ln2_lo, w);
    ir_ref z = math_add(b, u, w), zl = math_sub(b, w, math_sub(b, z, u));
    ir_ref p = math_exp_rest(b, z, zl);
    ir_ref half = math_shr(b, bits, 1);
    ir_ref s1 = math_pow2(b, half, t), s2 = math_pow2(b, math_sub(b, bits, half), t);
    return math_mul(b, math_fma(b, math_add(b, z, p), s1, s1), s2);
}

static ir_ref pow_f64(ir_builder *b, ir_ref a, ir_ref y) {
    ir_ref lo, hi = pow_log2(b, a, &lo);
    ir_ref yh = pow_cut(b, y);
    ir_ref l = math_mul(b, y, lo);
    l = math_fma(b, math_sub(b, y, yh), hi, l);
    return pow_exp2(b, math_mul(b, yh, hi), l);
}

static ir_ref pow_rint(ir_builder *b, ir_ref x) {
    ir_attr_rmode trunc = {.mode = IR_rmode_trunc};
    return ir_emit1(b, OP_rint, &trunc, x);
}

/* The result for x from p = |x|^y of the general case. */
static ir_ref pow_edges(ir_builder *b, ir_ref x, ir_ref y, ir_ref p) {
    ir_ref a = math_abs(b, x), ay = math_abs(b, y);
    ir_ref zero = math_k(b, x, 0), one = math_k(b, x, 1), inf = math_k(b, x, INFINITY);
    ir_ref endless = math_eq(b, ay, inf);
    /* a is 0 or infinite, or y is infinite: 0 or infinity */
    ir_ref edge = math_or(b, math_eq(b, a, zero), endless), shrinks = math_lt(b, a, one);
    edge = math_or(b, edge, math_eq(b, a, inf));
    shrinks = math_xor(b, shrinks, math_lt(b, y, zero));
    p = math_select(b, edge, math_select(b, shrinks, zero, inf), p);
    /* an odd y keeps the sign of x */
    ir_ref whole = math_eq(b, pow_rint(b, y), y), half = math_mulk(b, y, 0.5);
    ir_ref odd = math_and(b, whole, math_cmp(b, IR_cmpop_ne, pow_rint(b, half), half));
    ir_ref sign = math_sign(b, x);
    p = math_flip(b, p, math_select(b, odd, sign, math_ik(b, sign, 0)));
    /* a negative finite x has only powers of whole numbers */
    ir_ref below = math_lt(b, x, zero), fine = math_eq(b, x, x);
    below = math_and(b, below, math_lt(b, a, inf));
    fine = math_and(b, fine, math_eq(b, y, y));
    fine = math_and(b, fine, math_or(b, whole, math_not(b, below)));
    p = math_select(b, fine, p, math_k(b, x, NAN));
    /* 1 whatever the other operand is, even NaN */
    ir_ref unit = math_and(b, math_eq(b, a, one), endless);
    unit = math_or(b, unit, math_eq(b, y, zero));
    unit = math_or(b, unit, math_eq(b, x, one));
    return math_select(b, unit, one, p);
}

ir_ref math_pow(ir_builder *b, ir_ref x, ir_ref y) {
    ir_ref a = math_abs(b, x);
    if (math_format(b, x)->real == IG_f64) return pow_edges(b, x, y, pow_f64(b, a, y));
    ir_ref wide = math_convert(b, a, IG_f64);
    ir_ref p = pow_f32(b, wide, math_convert(b, y, IG_f64));
    return pow_edges(b, x, y, math_convert(b, p, IG_f32));
}
