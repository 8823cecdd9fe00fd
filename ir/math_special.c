/* math_special.c - bodies of tanh and erf.
 *
 * Both are odd, are x + x p(x^2) near 0, and come close to 1 so fast that the complement needs
 * little precision.
 *
 * tanh: 1 - 2 / (e^(2|x|) + 1) from 0.55 on, where the subtraction halves the error of the
 * quotient.  The denominator is one fma from the parts of exp: s q r + (s + 1).  Near 0 f32 has a
 * polynomial, f64 a rational function (tanh has a pole at i pi / 2, so that a polynomial would be
 * twice as long); the two cases of f64 share the division.
 *
 * erf: 1 - e^(-g(|x|)), g = -log(erfc) fitted as a polynomial for the error of erf itself, i.e.
 * with the weight erfc / erf: where erf is nearly 1 the fit may be poor (after N. Juffa's erff).
 * e^(-g) is at most 0.2, so that its errors count little. */
#include "ir/math.h"

/* s = 2^n, r, q with e^x = s (1 + r q), for -80 < x < 80. */
typedef struct special_exp {
    ir_ref s, rs, q;
} special_exp;

/* Parts of e^(k x), k = 1 or 2. */
static special_exp special_exp_parts(ir_builder *b, ir_ref x, int k) {
    const math_fmt *f = math_format(b, x);
    special_exp e;
    ir_ref bits, n = math_round(b, x, k * math_log2e(f), f->bias, &bits);
    if (k == 2) x = math_add(b, x, x);
    ir_ref r = math_fmak(b, n, -math_ln2_hi(f), x);
    r = math_fmak(b, n, -math_ln2_lo(f), r);
    e.s = math_pow2(b, bits, f);
    e.rs = math_mul(b, r, e.s);
    e.q = math_exp_factor(b, r);
    return e;
}

static ir_ref special_min(ir_builder *b, ir_ref x, double k) {
    return math_selectk(b, math_gtk(b, x, k), k, x);
}

/* --- tanh ------------------------------------------------------------------------------------- */

/* tanh a = a + a z p(z) on [0, 0.56], z = a^2, to 2^-29.4 */
static ir_ref special_tanh_f32(ir_builder *b, ir_ref a, ir_ref den) {
    static const double p[] = {-0x1.555548p-2, 0x1.110c8ap-3, -0x1.b90f48p-5, 0x1.5866a4p-6,
                               -0x1.963d0ap-8};
    ir_ref one = math_k(b, a, 1), z = math_mul(b, a, a);
    ir_ref far = math_sub(b, one, math_div(b, math_k(b, a, 2), den));
    ir_ref cube = math_mul(b, a, z);
    ir_ref near = math_fma(b, cube, math_poly(b, z, p, MATH_N(p)), a);
    return math_select(b, math_ltk(b, a, 0x1.19999ap-1), near, far);
}

/* tanh a = a + a z p(z) / q(z) on [0, 0.63] to 2^-57.0 */
static ir_ref special_tanh_f64(ir_builder *b, ir_ref a, ir_ref den) {
    static const double p[] = {-0x1.5555555555555p-2, -0x1.4fd940886a7e6p-6,
                               -0x1.a1af8940df992p-13};
    static const double q[] = {1, 0x1.d89255b32d8d1p-2, 0x1.7d99aa88d7a94p-6,
                               0x1.b11c36a4555fbp-13};
    ir_ref z = math_mul(b, a, a), near = math_ltk(b, a, 0.625);
    ir_ref num = math_mul(b, a, z);
    num = math_mul(b, num, math_poly(b, z, p, MATH_N(p)));
    num = math_select(b, near, num, math_k(b, a, -2));
    den = math_select(b, near, math_poly(b, z, q, MATH_N(q)), den);
    ir_ref base = math_select(b, near, a, math_k(b, a, 1));
    return math_add(b, base, math_div(b, num, den));
}

ir_ref math_tanh(ir_builder *b, ir_ref x) {
    bool wide = math_format(b, x)->real == IG_f64;
    ir_ref a = math_abs(b, x);
    special_exp e = special_exp_parts(b, special_min(b, a, wide ? 20 : 10), 2);
    ir_ref den = math_fma(b, e.q, e.rs, math_addk(b, e.s, 1));
    ir_ref y = wide ? special_tanh_f64(b, a, den) : special_tanh_f32(b, a, den);
    return math_flip(b, y, math_sign(b, x));
}

/* --- erf -------------------------------------------------------------------------------------- */

/* -g on [0.92, 4] to 2^-28.9 of erf. */
static const double special_erf_f32[] = {-0x1.9a6308p-13, -0x1.20af58p+0, -0x1.463cc4p-1,
                                         -0x1.a9b420p-4,  0x1.6c2a42p-6,  -0x1.8ee080p-9,
                                         0x1.9ae792p-13};

/* -g on [1, 5.95] to 2^-57.9 of erf. */
static const double special_erf_f64[] = {
    0x1.346024aa9d900p-25, -0x1.20dd7cfbefdc8p+0,  -0x1.45f2a522a0e66p-1,  -0x1.a5007f5f91989p-4,
    0x1.39e1e52b04147p-6,  0x1.3c9bc3b39001fp-13,  -0x1.a537ecab16412p-10, 0x1.f83f161246756p-12,
    0x1.58d9d2ee1095bp-14, -0x1.3eb466d65fdb9p-13, 0x1.703e41043351cp-14,  -0x1.245cec61bd0d1p-15,
    0x1.695d5cccfac1ep-17, -0x1.6a97f4c52f6d8p-19, 0x1.2c175ccb17491p-21,  -0x1.9b4da18f461e4p-24,
    0x1.d124a13b1ac48p-27, -0x1.ade5189dbd619p-30, 0x1.3f87f11a8b7afp-33,  -0x1.74b8212139330p-37,
    0x1.4874e32aed43ep-41, -0x1.9b09a585bca76p-46, 0x1.455a8bd41a5e6p-51,  -0x1.e9a191d5c0e1fp-58};

ir_ref math_erf(ir_builder *b, ir_ref x) {
    /* erf x = x + x p(x^2) up to 0.92 and 1, to 2^-25.5 and 2^-55.8 */
    static const double p32[] = {0x1.06eba6p-3,  -0x1.8126dcp-2, 0x1.ce18ecp-4,
                                 -0x1.b6767ep-6, 0x1.46c29ep-8,  -0x1.3825d6p-11};
    static const double p64[] = {
        0x1.06eba8214db68p-3,   -0x1.812746b0379bdp-2,  0x1.ce2f21a040d17p-4,
        -0x1.b82ce311fa934p-6,  0x1.565bccf92b22dp-8,   -0x1.c02db03dd5634p-11,
        0x1.f9a2baa8d854fp-14,  -0x1.f4ca4d6d097efp-17, 0x1.b97fd3c47f1e8p-20,
        -0x1.5c072672014d6p-23, 0x1.d71b0bbdfe2bcp-27,  -0x1.abae3f2afddf3p-31};
    bool wide = math_format(b, x)->real == IG_f64;
    ir_ref a = math_abs(b, x), z = math_mul(b, x, x);
    ir_ref p = wide ? math_poly(b, z, p64, MATH_N(p64)) : math_poly(b, z, p32, MATH_N(p32));
    ir_ref near = math_fma(b, x, p, x);
    /* at the upper end erf rounds to 1 */
    ir_ref g = special_min(b, a, wide ? 5.95 : 4);
    g = wide ? math_poly(b, g, special_erf_f64, MATH_N(special_erf_f64))
             : math_poly(b, g, special_erf_f32, MATH_N(special_erf_f32));
    special_exp e = special_exp_parts(b, g, 1);
    ir_ref far = math_sub(b, math_k(b, x, 1), e.s);
    far = math_fma(b, math_neg(b, e.q), e.rs, far);
    far = math_flip(b, far, math_sign(b, x));
    return math_select(b, math_ltk(b, a, wide ? 1 : 0x1.d70a3ep-1), near, far);
}
