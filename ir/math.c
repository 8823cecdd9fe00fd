/* math.c - bodies of transcendental functions: dispatch, emitters, exp, expm1, log, log1p, Philox.
 *
 * A transcendental function is defined once, as a straight line of elementwise ops.  The reference
 * evaluates that line op by op, every target emits it: so they agree bit for bit, and accuracy is a
 * property of this folder alone (docs/math.md has the measured table and the hash of every body).
 *
 * Laws for bodies.
 *  1. No branches: both sides of a condition are computed and selected.  What is not selected may
 *     be any garbage.  A body may name one condition as usual (ir_math_emit): its selects stand in
 *     a row, and kernels branch around what only their third operands need.
 *  2. The bits of a NaN never reach a result that is not a NaN, so that a target need not make them
 *     canonical when a body casts a float to its bits.
 *  3. fma may round once or twice (numerics rule 12).  A product that must be exact has factors
 *     short enough to be exact without fma; elsewhere fma only saves half an ulp.
 *  4. Floats become integers by adding 1.5 * 2^mant, which rounds to nearest even and leaves the
 *     integer in the low bits: one addition instead of a saturating conversion, and 64-bit integers
 *     need no instruction of their own.
 *  5. Constants are exact in the type that they are used in.
 *  6. No two arguments of one call emit: C leaves their order open, and the order of ops is part of
 *     a body's printed form and hash.
 *
 * exp: n = rint(x / ln 2), r = x - n ln 2 in two steps (Cody and Waite), e^r = 1 + r (1 + r c(r))
 * with a minimax c, and the result is scaled by 2^(n/2) twice: the second product rounds into the
 * denormals or overflows to infinity by itself.  The last step is one fma, s + (r s) q, so that q's
 * rounding counts for |r| <= 0.35 only.
 * expm1: the same with the 1 taken from the scale, 2^n - 1, and r carried in two parts.
 * log: x = 2^e (1 + f), what is not a positive normal number being the unusual case.  f32:
 * f - f^2/2 + f^3 p(f), p a tree, as a chain of eight would be waited for.  f64: s = f / (2 + f),
 * log(1 + f) = 2 s + s^3 p(s^2) in the arrangement of FreeBSD's e_log.c (Sun Microsystems, 1993).
 * log1p: the same on u = 1 + x with the rounding error of u brought in as c / u.
 *
 * Polynomials are minimax fits (Remez) of our own, for the error measure of the final result, then
 * their coefficients were moved by single ulps to the best rounded polynomial. */
#include "ir/math.h"

#include <math.h>
#include <string.h>

/* --- Emitters --------------------------------------------------------------------------------- */

const math_fmt *math_format(const ir_builder *b, ir_ref x) {
    static const math_fmt f32 = {IG_f32, IG_u32, 23, 127, 0x1.8p23, 0x1p-126};
    static const math_fmt f64 = {IG_f64, IG_u64, 52, 1023, 0x1.8p52, 0x1p-1022};
    return ir_type_of(b, x).dtype == IG_f64 ? &f64 : &f32;
}

ir_ref math_bits(ir_builder *b, ir_ref x, ig_dtype dtype, uint64_t bits) {
    ir_type t = ir_type_of(b, x);
    size_t size = rt_dtype_bytes(dtype);
    uint8_t lane[UINT8_MAX * sizeof bits];
    if (b->error) return (ir_ref){0};
    t.dtype = (uint8_t)dtype;
    for (size_t k = 0; k <= t.lanes; k++)
        if (!k || k < t.lanes) memcpy(lane + k * size, &bits, size);
    if (t.lanes) return ir_const(b, t, lane, t.lanes * size);
    ir_ref scalar = ir_const(b, ir_scalar_type(dtype), lane, size);
    if (!t.rank) return scalar;
    ir_attr_bcast a = {.dims = {.n = t.rank}};
    memcpy(a.dims.d, t.dim, sizeof t.dim);
    return ir_emit1(b, OP_broadcast, &a, scalar);
}

ir_ref math_k(ir_builder *b, ir_ref x, double k) {
    ig_dtype d = (ig_dtype)ir_type_of(b, x).dtype;
    float narrow = (float)k;
    uint64_t bits = 0;
    if (d == IG_f64)
        memcpy(&bits, &k, sizeof k);
    else
        memcpy(&bits, &narrow, sizeof narrow);
    return math_bits(b, x, d, bits);
}

ir_ref math_ik(ir_builder *b, ir_ref x, uint64_t k) {
    return math_bits(b, x, (ig_dtype)ir_type_of(b, x).dtype, k);
}

ir_ref math_poly(ir_builder *b, ir_ref x, const double *c, int n) {
    ir_ref y = math_k(b, x, c[n - 1]);
    for (int k = n - 2; k >= 0; k--) y = math_fma(b, y, x, math_k(b, x, c[k]));
    return y;
}

/* Pairs, then pairs of pairs: (c0 + c1 x) + x^2 (c2 + c3 x) ... */
ir_ref math_poly_tree(ir_builder *b, ir_ref x, const double *c, int n) {
    enum { MOST = 32 };
    ir_ref y[MOST] = {{0}};
    for (int k = 0; k < n && k < MOST; k++) y[k] = math_k(b, x, c[k]);
    while (n > 1) {
        for (int k = 0; 2 * k < n; k++)
            y[k] = 2 * k + 1 < n ? math_fma(b, y[2 * k + 1], x, y[2 * k]) : y[2 * k];
        n = (n + 1) / 2;
        if (n > 1) x = math_mul(b, x, x);
    }
    return y[0];
}

ir_ref math_selectk(ir_builder *b, ir_ref p, double k, ir_ref x) {
    return math_select(b, p, math_k(b, x, k), x);
}

ir_ref math_clamp(ir_builder *b, ir_ref x, double lo, double hi) {
    x = math_selectk(b, math_ltk(b, x, lo), lo, x);
    return math_selectk(b, math_gtk(b, x, hi), hi, x);
}

/* The sign bit alone. */
static uint64_t math_sign_bit(const math_fmt *f) {
    return UINT64_C(1) << (f->real == IG_f64 ? 63 : 31);
}

ir_ref math_sign(ir_builder *b, ir_ref x) {
    const math_fmt *f = math_format(b, x);
    ir_ref i = math_cast(b, x, f->uint);
    return math_and(b, i, math_ik(b, i, math_sign_bit(f)));
}

ir_ref math_flip(ir_builder *b, ir_ref x, ir_ref sign) {
    const math_fmt *f = math_format(b, x);
    return math_cast(b, math_xor(b, math_cast(b, x, f->uint), sign), f->real);
}

ir_ref math_round(ir_builder *b, ir_ref x, double k, int bias, ir_ref *bits_) {
    const math_fmt *f = math_format(b, x);
    ir_ref z = math_fmak(b, x, k, math_k(b, x, f->magic + bias));
    if (bits_) *bits_ = math_cast(b, z, f->uint);
    return math_subk(b, z, f->magic + bias);
}

ir_ref math_pow2(ir_builder *b, ir_ref bits, const math_fmt *f) {
    return math_cast(b, math_shl(b, bits, f->mant), f->real);
}

/* --- exp and expm1 ---------------------------------------------------------------------------- */

double math_log2e(const math_fmt *f) {
    return f->real == IG_f64 ? 0x1.71547652b82fep+0 : 0x1.715476p+0;
}
/* 15 and 33 bits. */
double math_ln2_hi(const math_fmt *f) { return f->real == IG_f64 ? 0x1.62e42fefp-1 : 0x1.62e4p-1; }
double math_ln2_lo(const math_fmt *f) {
    return f->real == IG_f64 ? 0x1.473de6af278edp-34 : 0x1.7f7d1cp-20;
}

/* e^r = 1 + r + r^2 c(r) for |r| <= ln(2)/2; gives c(r). */
static ir_ref math_exp_tail(ir_builder *b, ir_ref r) {
    /* e^r to 2^-27.9 and 2^-56.3 */
    static const double f32[] = {0x1.fffffep-2, 0x1.555480p-3, 0x1.5556a4p-5, 0x1.1247bap-7,
                                 0x1.6c33ecp-10};
    static const double f64[] = {0x1p-1,
                                 0x1.555555555554dp-3,
                                 0x1.555555555373dp-5,
                                 0x1.11111111129d6p-7,
                                 0x1.6c16c17bc53bcp-10,
                                 0x1.a01a019ca380ap-13,
                                 0x1.a019acb78848bp-16,
                                 0x1.71de25f98fd2ap-19,
                                 0x1.289f3a06b4768p-22,
                                 0x1.af13fe2c206a3p-26};
    bool wide = math_format(b, r)->real == IG_f64;
    return wide ? math_poly(b, r, f64, MATH_N(f64)) : math_poly(b, r, f32, MATH_N(f32));
}

ir_ref math_exp_factor(ir_builder *b, ir_ref r) {
    ir_ref c = math_exp_tail(b, r);
    return math_fma(b, c, r, math_k(b, r, 1));
}

ir_ref math_exp_rest(ir_builder *b, ir_ref r, ir_ref low) {
    ir_ref c = math_exp_tail(b, r), z = math_mul(b, r, r);
    return math_fma(b, z, c, math_fma(b, low, r, low));
}

ir_ref math_exp(ir_builder *b, ir_ref x) {
    const math_fmt *f = math_format(b, x);
    bool wide = f->real == IG_f64;
    ir_ref bits;
    /* beyond these the result is 0 and infinity, and n would not fit its bits */
    x = math_clamp(b, x, wide ? -746 : -104, wide ? 710 : 89);
    ir_ref n = math_round(b, x, math_log2e(f), 2 * f->bias, &bits);
    ir_ref r = math_fmak(b, n, -math_ln2_hi(f), x);
    r = math_fmak(b, n, -math_ln2_lo(f), r);
    ir_ref q = math_exp_factor(b, r);
    /* n = (n >> 1) + (n - (n >> 1)), each with its own bias */
    ir_ref half = math_shr(b, bits, 1);
    ir_ref s1 = math_pow2(b, half, f), s2 = math_pow2(b, math_sub(b, bits, half), f);
    return math_mul(b, math_fma(b, q, math_mul(b, r, s1), s1), s2);
}

ir_ref math_expm1(ir_builder *b, ir_ref x) {
    const math_fmt *f = math_format(b, x);
    bool wide = f->real == IG_f64;
    ir_ref bits, a = math_clamp(b, x, wide ? -38 : -18, wide ? 710 : 89);
    ir_ref n = math_round(b, a, math_log2e(f), f->bias - 1, &bits);
    ir_ref h = math_fmak(b, n, -math_ln2_hi(f), a);
    ir_ref lo = math_mulk(b, n, math_ln2_lo(f));
    ir_ref r = math_sub(b, h, lo);
    ir_ref rl = math_sub(b, math_sub(b, h, r), lo);
    ir_ref p = math_exp_rest(b, r, rl);
    /* half of 2^n (r + p) + (2^n - 1), so that n = 128 has a scale */
    ir_ref s = math_pow2(b, bits, f);
    ir_ref t = math_fma(b, s, r, math_subk(b, s, 0.5));
    ir_ref y = math_fma(b, s, p, t);
    y = math_add(b, y, y);
    /* x itself where x^2 / 2 is below its last bit: also keeps denormals and -0 */
    return math_select(b, math_ltk(b, math_abs(b, x), wide ? 0x1p-54 : 0x1p-25), x, y);
}

/* --- log and log1p ---------------------------------------------------------------------------- */

/* Cut x at sqrt(1/2): *e_ is what is left of its exponent after `bias`, 2^mant included. */
static ir_ref math_cut(ir_builder *b, ir_ref x, ir_ref bias, ir_ref *e_) {
    const math_fmt *f = math_format(b, x);
    bool wide = f->real == IG_f64;
    uint64_t one = wide ? UINT64_C(0x3ff) << 52 : 0x3f800000;
    uint64_t off = wide ? UINT64_C(0x3fe6a09e667f3bcd) : 0x3f3504f3; /* sqrt(1/2) */
    ir_ref i = math_cast(b, x, f->uint);
    ir_ref u = math_add(b, i, math_ik(b, i, one - off));
    ir_ref e = math_shr(b, u, f->mant);
    e = math_or(b, e, math_ik(b, u, (uint64_t)(f->bias + f->mant) << f->mant));
    *e_ = math_sub(b, math_cast(b, e, f->real), bias);
    ir_ref m = math_and(b, u, math_ik(b, u, (UINT64_C(1) << f->mant) - 1));
    return math_subk(b, math_cast(b, math_add(b, m, math_ik(b, m, off)), f->real), 1);
}

/* The bias of a normal number, and how much more a denormal has that was scaled. */
static double math_cut_bias(const math_fmt *f) { return ldexp(1, f->mant) + f->bias; }
static ir_ref math_scale(ir_builder *b, ir_ref x) {
    return math_mulk(b, x, ldexp(1, math_format(b, x)->mant + 1));
}

ir_ref math_split(ir_builder *b, ir_ref x, bool denormals, ir_ref *e_) {
    const math_fmt *f = math_format(b, x);
    double k = math_cut_bias(f);
    ir_ref bias = math_k(b, x, k);
    if (denormals) {
        ir_ref tiny = math_ltk(b, x, f->min);
        x = math_select(b, tiny, math_scale(b, x), x);
        bias = math_selectk(b, tiny, k + f->mant + 1, bias);
    }
    return math_cut(b, x, bias, e_);
}

/* The same for the logarithm of any x.  Usual is a positive normal number: of its bits plus the
 * least one's, as a signed number, only those are above twice the least.  Where x has no logarithm,
 * or none that is finite, neither has 2^e: e is made -inf, inf or NaN, f is some number in its
 * range.  *small_ (NULL: none) is made 0 there. */
static ir_ref math_split_any(ir_builder *b, ir_ref x, ir_ref *small_, ir_ref *e_, ir_ref *usual_) {
    const math_fmt *f = math_format(b, x);
    ir_ref i = math_cast(b, x, f->real == IG_f64 ? IG_i64 : IG_i32);
    ir_ref least = math_ik(b, i, UINT64_C(1) << f->mant);
    ir_ref two = math_ik(b, i, (UINT64_C(2) << f->mant) - 1);
    ir_ref usual = *usual_ = math_lt(b, two, math_add(b, i, least));
    double k = math_cut_bias(f);
    ir_ref bias = math_k(b, x, k), zero = math_k(b, x, 0);
    ir_ref tiny = math_ltk(b, x, f->min);
    ir_ref scaled = math_select(b, tiny, math_scale(b, x), x);
    ir_ref edge = math_selectk(b, tiny, k + f->mant + 1, bias);
    edge = math_selectk(b, math_eq(b, x, zero), INFINITY, edge);
    edge = math_selectk(b, math_eqk(b, x, INFINITY), -INFINITY, edge);
    ir_ref in_domain = math_cmp(b, IR_cmpop_le, zero, x);
    edge = math_select(b, in_domain, edge, math_k(b, x, NAN));
    x = math_select(b, usual, x, scaled);
    bias = math_select(b, usual, bias, edge);
    if (small_) *small_ = math_select(b, usual, *small_, zero);
    return math_cut(b, x, bias, e_);
}

/* log(2^e (1 + f)) + small */
static ir_ref math_log_f32(ir_builder *b, ir_ref e, ir_ref f, ir_ref small) {
    /* log(1 + f) = f + f^2 q(f) to 2^-27.3 */
    static const double q[] = {-0x1p-1,        0x1.555554p-2,  -0x1.000228p-2,
                               0x1.99a010p-3,  -0x1.5471f8p-3, 0x1.22d99ap-3,
                               -0x1.0d8822p-3, 0x1.056166p-3,  -0x1.38b66ap-4};
    const math_fmt *t = math_format(b, f);
    ir_ref z = math_mul(b, f, f);
    ir_ref c = math_poly_tree(b, f, q + 1, MATH_N(q) - 1);
    ir_ref y = math_fma(b, z, math_fma(b, c, f, math_k(b, f, q[0])), small);
    return math_fmak(b, e, math_ln2_hi(t), math_add(b, f, y));
}

static ir_ref math_log_f64(ir_builder *b, ir_ref e, ir_ref f, ir_ref small) {
    /* log(1 + f) = f - f^2/2 + s (f^2/2 + z R(z)), s = f / (2 + f), z = s^2, to 2^-58.5 */
    static const double c[] = {0x1.5555555555593p-1, 0x1.999999997f9f7p-2, 0x1.249249422a5e3p-2,
                               0x1.c71c51d7b5cc6p-3, 0x1.746649b573ca5p-3, 0x1.39a094e70f74dp-3,
                               0x1.2f1186324ac67p-3};
    const math_fmt *t = math_format(b, f);
    ir_ref s = math_div(b, f, math_addk(b, f, 2));
    ir_ref z = math_mul(b, s, s);
    ir_ref half = math_mul(b, math_mulk(b, f, 0.5), f);
    ir_ref g = math_fma(b, z, math_poly(b, z, c, MATH_N(c)), half);
    ir_ref y = math_sub(b, half, math_fma(b, s, g, small));
    return math_fmak(b, e, math_ln2_hi(t), math_sub(b, f, y));
}

static ir_ref math_log_core(ir_builder *b, ir_ref e, ir_ref f, ir_ref small) {
    bool wide = math_format(b, f)->real == IG_f64;
    return wide ? math_log_f64(b, e, f, small) : math_log_f32(b, e, f, small);
}

ir_ref math_log(ir_builder *b, ir_ref x, ir_ref *usual_) {
    ir_ref e, f = math_split_any(b, x, NULL, &e, usual_);
    return math_log_core(b, e, f, math_mulk(b, e, math_ln2_lo(math_format(b, x))));
}

ir_ref math_log1p(ir_builder *b, ir_ref x, ir_ref *usual_) {
    const math_fmt *t = math_format(b, x);
    ir_ref one = math_k(b, x, 1), e;
    ir_ref u = math_add(b, x, one), v = math_sub(b, u, one);
    ir_ref c = math_sub(b, one, math_sub(b, u, v));
    c = math_add(b, c, math_sub(b, x, v)); /* 1 + x = u + c */
    c = math_div(b, c, u);
    ir_ref f = math_split_any(b, u, &c, &e, usual_);
    ir_ref y = math_log_core(b, e, f, math_fmak(b, e, math_ln2_lo(t), c));
    return math_select(b, math_ltk(b, math_abs(b, x), t->real == IG_f64 ? 0x1p-54 : 0x1p-25), x, y);
}

/* --- Philox ----------------------------------------------------------------------------------- */

/* The two words of x * k. */
static ir_ref math_mul_wide(ir_builder *b, ir_ref x, uint32_t k, ir_ref *lo_) {
    ir_ref wide = math_convert(b, x, IG_u64);
    ir_ref p = math_mul(b, wide, math_ik(b, wide, k));
    *lo_ = math_convert(b, p, IG_u32);
    return math_convert(b, math_shr(b, p, 32), IG_u32);
}

/* Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). */
void ir_philox_emit(ir_builder *b, const ir_ref in[4], ir_ref out_[4]) {
    enum { ROUNDS = 10 };
    ir_ref k0 = in[0], k1 = in[1];
    ir_ref zero = math_ik(b, in[2], 0), x[4] = {in[2], in[3], zero, zero};
    for (int i = 0; i < ROUNDS; i++) {
        ir_ref lo0, lo1;
        ir_ref hi0 = math_mul_wide(b, x[0], UINT32_C(0xD2511F53), &lo0);
        ir_ref hi1 = math_mul_wide(b, x[2], UINT32_C(0xCD9E8D57), &lo1);
        x[0] = math_xor(b, math_xor(b, hi1, x[1]), k0);
        x[2] = math_xor(b, math_xor(b, hi0, x[3]), k1);
        x[1] = lo1;
        x[3] = lo0;
        if (i == ROUNDS - 1) break;
        k0 = math_add(b, k0, math_ik(b, k0, UINT32_C(0x9E3779B9)));
        k1 = math_add(b, k1, math_ik(b, k1, UINT32_C(0xBB67AE85)));
    }
    for (int i = 0; i < 4; i++) out_[i] = x[i];
}

/* --- Dispatch --------------------------------------------------------------------------------- */

static ir_ref math_body(ir_builder *b, ir_opcode op, const ir_ref *in, ir_ref *usual_) {
    switch (op) {
    case OP_exp: return math_exp(b, in[0]);
    case OP_expm1: return math_expm1(b, in[0]);
    case OP_log: return math_log(b, in[0], usual_);
    case OP_log1p: return math_log1p(b, in[0], usual_);
    case OP_sin: return math_sin(b, in[0], usual_);
    case OP_cos: return math_cos(b, in[0], usual_);
    case OP_tanh: return math_tanh(b, in[0]);
    case OP_erf: return math_erf(b, in[0]);
    case OP_pow: return math_pow(b, in[0], in[1]);
    case OP_atan2: return math_atan2(b, in[0], in[1]);
    default: return (ir_ref){0};
    }
}

bool ir_math_has(ir_opcode op, ig_dtype dtype) {
    switch (op) {
    case OP_exp:
    case OP_expm1:
    case OP_log:
    case OP_log1p:
    case OP_sin:
    case OP_cos:
    case OP_tanh:
    case OP_erf:
    case OP_pow:
    case OP_atan2: return rt_is_float(dtype);
    default: return false;
    }
}

ir_ref ir_math_emit(ir_builder *b, ir_opcode op, const ir_ref *in, ir_ref *usual_) {
    ig_dtype d = (ig_dtype)ir_type_of(b, in[0]).dtype;
    ir_ref x[2], usual = {0};
    if (!usual_) usual_ = &usual;
    *usual_ = usual;
    if (b->error) return (ir_ref){0};
    if (!ir_math_has(op, d)) {
        ir_build_error(b, rt_fail(b->m->alloc, IG_INTERNAL, "%s has no body at %s",
                                  ir_op_tab[op].name, ig_dtype_name(d)));
        return (ir_ref){0};
    }
    if (d == IG_f32 || d == IG_f64) return math_body(b, op, in, usual_);
    for (int k = 0; k < ir_op_tab[op].arity; k++) x[k] = math_convert(b, in[k], IG_f32);
    return math_convert(b, math_body(b, op, x, usual_), d);
}
