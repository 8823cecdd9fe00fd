/* ops.c - elementwise operations: rows that name an op and its attribute, and the few that are made
 * of others. */
#include "frontend/fe.h"
#include <math.h>

/* --- By value ------------------------------------------------------------------------------ */

ig_tensor *fe_ew2(fe_call *c, ir_opcode op, const void *attr, ig_tensor *x, ig_tensor *y) {
    ig_tensor *in[2] = {x, y};
    return fe_ew(c, op, attr, 2, in);
}

ig_tensor *fe_cmp(fe_call *c, ir_cmpop op, ig_tensor *x, ig_tensor *y) {
    ir_attr_cmpop attr = {.op = (uint8_t)op};
    return fe_ew2(c, OP_cmp, &attr, x, y);
}

ig_tensor *fe_bit(fe_call *c, ir_bitop op, ig_tensor *x, ig_tensor *y) {
    ir_attr_bitop attr = {.op = (uint8_t)op};
    return fe_ew2(c, OP_bit, &attr, x, y);
}

ig_tensor *fe_select(fe_call *c, ig_tensor *p, ig_tensor *x, ig_tensor *y) {
    ig_tensor *in[3] = {p, x, y};
    return fe_ew(c, OP_select, NULL, 3, in);
}

/* A number as a scalar of x's type; it is representable by construction. */
static ig_tensor *ops_number(fe_call *c, const ig_tensor *x, double number) {
    if (fe_is_poison(x)) return fe_poison(c);
    if (rt_is_float((ig_dtype)x->dtype)) return fe_float(c, (ig_dtype)x->dtype, number);
    return fe_int(c, (ig_dtype)x->dtype, (int64_t)number);
}

ig_tensor *fe_with(fe_call *c, ir_opcode op, ig_tensor *x, double number) {
    return fe_ew2(c, op, NULL, x, ops_number(c, x, number));
}

/* --- One operand --------------------------------------------------------------------------- */

static ig_tensor *ops_unary(const ig_site *site, const char *name, ir_opcode op, const void *attr,
                            ig_arg x) {
    FE_ENTER(site, name);
    return fe_leave(c, fe_op1(c, op, attr, fe_arg(c, x)));
}

/*   public name, op, attribute */
#define UNARY_ROWS(ROW)                                             \
    ROW(neg, neg, NULL)                                             \
    ROW(abs, abs, NULL)                                             \
    ROW(exp, exp, NULL)                                             \
    ROW(expm1, expm1, NULL)                                         \
    ROW(log, log, NULL)                                             \
    ROW(log1p, log1p, NULL)                                         \
    ROW(sqrt, sqrt, NULL)                                           \
    ROW(sin, sin, NULL)                                             \
    ROW(cos, cos, NULL)                                             \
    ROW(tanh, tanh, NULL)                                           \
    ROW(erf, erf, NULL)                                             \
    ROW(not, lnot, NULL)                                            \
    ROW(stop_gradient, detach, NULL)                                \
    ROW(floor, rint, &(ir_attr_rmode){.mode = IR_rmode_floor})      \
    ROW(ceil, rint, &(ir_attr_rmode){.mode = IR_rmode_ceil})        \
    ROW(round, rint, &(ir_attr_rmode){.mode = IR_rmode_even})       \
    ROW(trunc, rint, &(ir_attr_rmode){.mode = IR_rmode_trunc})      \
    ROW(popcount, bitcount, &(ir_attr_count){.kind = IR_count_pop}) \
    ROW(clz, bitcount, &(ir_attr_count){.kind = IR_count_clz})      \
    ROW(ctz, bitcount, &(ir_attr_count){.kind = IR_count_ctz})

#define UNARY(name, op, attr)                                  \
    ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x) { \
        return ops_unary(site, #name, OP_##op, attr, x);       \
    }
UNARY_ROWS(UNARY)

static ig_tensor *ops_sign(fe_call *c, ig_tensor *x) {
    ig_tensor *zero = ops_number(c, x, 0);
    ig_tensor *less = fe_cmp(c, IR_cmpop_lt, x, zero), *more = fe_cmp(c, IR_cmpop_lt, zero, x);
    ig_tensor *is_zero = fe_cmp(c, IR_cmpop_eq, x, zero);
    ig_tensor *minus =
        fe_is_poison(x) || !(rt_is_float((ig_dtype)x->dtype) || rt_is_signed((ig_dtype)x->dtype))
            ? zero
            : ops_number(c, x, -1);
    ig_tensor *rest = fe_select(c, less, minus, fe_select(c, is_zero, zero, x));
    return fe_select(c, more, ops_number(c, x, 1), rest);
}

static ig_tensor *ops_square(fe_call *c, ig_tensor *x) { return fe_mul(c, x, x); }

/* number / x */
static ig_tensor *ops_under(fe_call *c, double number, ig_tensor *x) {
    return fe_div(c, ops_number(c, x, number), x);
}

static ig_tensor *ops_reciprocal(fe_call *c, ig_tensor *x) { return ops_under(c, 1, x); }

static ig_tensor *ops_rsqrt(fe_call *c, ig_tensor *x) {
    return ops_under(c, 1, fe_op1(c, OP_sqrt, NULL, x));
}

static ig_tensor *ops_tan(fe_call *c, ig_tensor *x) {
    return fe_div(c, fe_op1(c, OP_sin, NULL, x), fe_op1(c, OP_cos, NULL, x));
}

static ig_tensor *ops_sigmoid(fe_call *c, ig_tensor *x) {
    ig_tensor *e = fe_op1(c, OP_exp, NULL, fe_op1(c, OP_neg, NULL, x));
    return ops_under(c, 1, fe_with(c, OP_add, e, 1));
}

static ig_tensor *ops_relu(fe_call *c, ig_tensor *x) { return fe_with(c, OP_max, x, 0); }

static ig_tensor *ops_silu(fe_call *c, ig_tensor *x) { return fe_mul(c, x, ops_sigmoid(c, x)); }

static ig_tensor *ops_gelu(fe_call *c, ig_tensor *x) {
    ig_tensor *e = fe_op1(c, OP_erf, NULL, fe_with(c, OP_mul, x, 0.70710678118654752440));
    return fe_mul(c, fe_with(c, OP_mul, x, 0.5), fe_with(c, OP_add, e, 1));
}

static ig_tensor *ops_softplus(fe_call *c, ig_tensor *x) {
    ig_tensor *e = fe_op1(c, OP_exp, NULL, fe_op1(c, OP_neg, NULL, fe_op1(c, OP_abs, NULL, x)));
    return fe_add(c, fe_with(c, OP_max, x, 0), fe_op1(c, OP_log1p, NULL, e));
}

/* Classification works for integers too: they are finite. */
static ig_tensor *ops_isnan(fe_call *c, ig_tensor *x) { return fe_cmp(c, IR_cmpop_ne, x, x); }

static ig_tensor *ops_isinf(fe_call *c, ig_tensor *x) {
    if (fe_is_poison(x) || !rt_is_float((ig_dtype)x->dtype)) return ops_isnan(c, x);
    return fe_cmp(c, IR_cmpop_eq, fe_op1(c, OP_abs, NULL, x), ops_number(c, x, (double)INFINITY));
}

static ig_tensor *ops_isfinite(fe_call *c, ig_tensor *x) {
    if (fe_is_poison(x) || !rt_is_float((ig_dtype)x->dtype)) return fe_cmp(c, IR_cmpop_eq, x, x);
    return fe_cmp(c, IR_cmpop_lt, fe_op1(c, OP_abs, NULL, x), ops_number(c, x, (double)INFINITY));
}

#define COMPOSITE(name)                                             \
    ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x) {      \
        FE_ENTER(site, #name);                                      \
        ig_tensor *t = fe_arg(c, x);                                \
        return fe_leave(c, fe_is_poison(t) ? t : ops_##name(c, t)); \
    }
COMPOSITE(sign)
COMPOSITE(square)
COMPOSITE(reciprocal)
COMPOSITE(rsqrt)
COMPOSITE(tan)
COMPOSITE(sigmoid)
COMPOSITE(relu)
COMPOSITE(silu)
COMPOSITE(gelu)
COMPOSITE(softplus)
COMPOSITE(isnan)
COMPOSITE(isinf)
COMPOSITE(isfinite)

ig_tensor *ig_cast_at(const ig_site *site, ig_arg x, ig_dtype dtype) {
    FE_ENTER(site, "cast");
    ig_tensor *t = fe_arg(c, x);
    if (!fe_is_poison(t) && (!fe_is_dtype(dtype)))
        t = fe_error(c, IG_DTYPE, "%d is not an element type", (int)dtype);
    return fe_leave(c, fe_is_poison(t) ? t : fe_convert(c, t, dtype));
}

ig_tensor *ig_bitcast_at(const ig_site *site, ig_arg x, ig_dtype dtype) {
    FE_ENTER(site, "bitcast");
    ir_attr_dtype attr = {.dtype = (uint8_t)dtype};
    return fe_leave(c, fe_op1(c, OP_bitcast, &attr, fe_arg(c, x)));
}

/* --- Two operands -------------------------------------------------------------------------- */

static ig_tensor *ops_binary(const ig_site *site, const char *name, ir_opcode op, const void *attr,
                             ig_arg x, ig_arg y) {
    FE_ENTER(site, name);
    ig_arg args[2] = {x, y};
    ig_tensor *in[2];
    return fe_leave(c, fe_promote(c, 2, args, in) ? fe_ew(c, op, attr, 2, in) : NULL);
}

#define CMP(word) \
    &(ir_attr_cmpop) { .op = IR_cmpop_##word }
#define BIT(word) \
    &(ir_attr_bitop) { .op = IR_bitop_##word }

/*   public name, op, attribute, first operand, second operand */
#define BINARY_ROWS(ROW)          \
    ROW(add, add, NULL, x, y)     \
    ROW(sub, sub, NULL, x, y)     \
    ROW(mul, mul, NULL, x, y)     \
    ROW(div, div, NULL, x, y)     \
    ROW(rem, rem, NULL, x, y)     \
    ROW(atan2, atan2, NULL, x, y) \
    ROW(maximum, max, NULL, x, y) \
    ROW(minimum, min, NULL, x, y) \
    ROW(eq, cmp, CMP(eq), x, y)   \
    ROW(ne, cmp, CMP(ne), x, y)   \
    ROW(lt, cmp, CMP(lt), x, y)   \
    ROW(le, cmp, CMP(le), x, y)   \
    ROW(gt, cmp, CMP(lt), y, x)   \
    ROW(ge, cmp, CMP(le), y, x)   \
    ROW(and, bit, BIT(band), x, y) \
    ROW(or, bit, BIT(bor), x, y)   \
    ROW(xor, bit, BIT(bxor), x, y) \
    ROW(shl, shift, &(ir_attr_shop){.op = IR_shop_left}, x, y)

#define BINARY(name, op, attr, first, second)                            \
    ig_tensor *ig_##name##_at(const ig_site *site, ig_arg x, ig_arg y) { \
        return ops_binary(site, #name, OP_##op, attr, first, second);    \
    }
BINARY_ROWS(BINARY)

ig_tensor *ig_shr_at(const ig_site *site, ig_arg x, ig_arg y) {
    FE_ENTER(site, "shr");
    ig_arg args[2] = {x, y};
    ig_tensor *in[2];
    if (!fe_promote(c, 2, args, in)) return fe_leave(c, NULL);
    ir_attr_shop attr = {.op = rt_is_signed((ig_dtype)in[0]->dtype) ? IR_shop_arith
                                                                    : IR_shop_right};
    return fe_leave(c, fe_ew(c, OP_shift, &attr, 2, in));
}

/* x^n of integers by squaring. */
static ig_tensor *ops_int_pow(fe_call *c, ig_tensor *x, uint64_t n) {
    ir_dims dims = fe_dims(c, x);
    ig_tensor *r = fe_fill(c, ops_number(c, x, 1), &dims);
    for (; n && !fe_is_poison(r); n >>= 1) {
        if (n & 1) r = fe_mul(c, r, x);
        if (n > 1) x = fe_mul(c, x, x);
    }
    return r;
}

ig_tensor *ig_pow_at(const ig_site *site, ig_arg x, ig_arg y) {
    FE_ENTER(site, "pow");
    ig_arg args[2] = {x, y};
    ig_tensor *in[2];
    if (x.kind == IG_ARG_TENSOR && (y.kind == IG_ARG_INT || y.kind == IG_ARG_UINT) &&
        fe_is_usable(c, x.v.t, 0) && rt_is_int((ig_dtype)x.v.t->dtype)) {
        if (y.kind == IG_ARG_INT && y.v.i < 0)
            return fe_leave(
                c, fe_error(c, IG_RANGE, "an integer to the power of %lld", (long long)y.v.i));
        return fe_leave(c, ops_int_pow(c, x.v.t, y.v.u));
    }
    return fe_leave(c, fe_promote(c, 2, args, in) ? fe_ew(c, OP_pow, NULL, 2, in) : NULL);
}

/* --- Three operands ------------------------------------------------------------------------ */

ig_tensor *ig_where_at(const ig_site *site, ig_arg p, ig_arg x, ig_arg y) {
    FE_ENTER(site, "where");
    ig_arg args[2] = {x, y};
    ig_tensor *in[3];
    bool ok = fe_promote(c, 2, args, in + 1);
    in[0] = p.kind == IG_ARG_TENSOR ? fe_arg(c, p) : fe_number(c, IG_bool, p);
    return fe_leave(c, ok ? fe_ew(c, OP_select, NULL, 3, in) : NULL);
}

ig_tensor *ig_clip_at(const ig_site *site, ig_arg x, ig_arg lo, ig_arg hi) {
    FE_ENTER(site, "clip");
    ig_arg args[3] = {x, lo, hi};
    ig_tensor *in[3];
    if (!fe_promote(c, 3, args, in)) return fe_leave(c, NULL);
    return fe_leave(c, fe_ew2(c, OP_min, NULL, fe_ew2(c, OP_max, NULL, in[0], in[1]), in[2]));
}

ig_tensor *ig_fma_at(const ig_site *site, ig_arg x, ig_arg y, ig_arg z) {
    FE_ENTER(site, "fma");
    ig_arg args[3] = {x, y, z};
    ig_tensor *in[3];
    return fe_leave(c, fe_promote(c, 3, args, in) ? fe_ew(c, OP_fma, NULL, 3, in) : NULL);
}

/* --- Creation ------------------------------------------------------------------------------ */

ig_tensor *ig_scalar_at(const ig_site *site, ig_dtype dtype, ig_arg value) {
    FE_ENTER(site, "scalar");
    if (value.kind == IG_ARG_TENSOR)
        return fe_leave(c, fe_error(c, IG_INVALID, "a host number is needed"));
    return fe_leave(c, fe_number(c, dtype, value));
}

/* A host number, or a scalar tensor of the type. */
static ig_tensor *ops_value(fe_call *c, ig_dtype dtype, ig_arg value) {
    if (value.kind != IG_ARG_TENSOR) return fe_number(c, dtype, value);
    ig_tensor *t = fe_arg(c, value);
    if (fe_is_poison(t)) return t;
    if (t->dtype != dtype)
        return fe_error(c, IG_DTYPE, "the value is %s, not %s", FE_TYPE(t), ig_dtype_name(dtype));
    return t;
}

ig_tensor *ig_full_at(const ig_site *site, ig_dtype dtype, ig_dims dims, ig_arg value) {
    FE_ENTER(site, "full");
    ir_dims d;
    if (!fe_user_dims(c, dims, false, &d)) return fe_leave(c, NULL);
    return fe_leave(c, fe_fill(c, ops_value(c, dtype, value), &d));
}

ig_tensor *ig_full_like_at(const ig_site *site, ig_arg like, ig_dtype dtype, ig_arg value) {
    FE_ENTER(site, "full_like");
    ig_tensor *x = fe_arg(c, like);
    if (fe_is_poison(x)) return fe_leave(c, x);
    ir_dims d = fe_dims(c, x);
    return fe_leave(
        c, fe_fill(c, ops_value(c, dtype == IG_NONE ? (ig_dtype)x->dtype : dtype, value), &d));
}

/* How many numbers lo + i * step lie before hi; false when there is no end. */
static bool ops_count_int(int64_t lo, int64_t hi, int64_t step, int64_t *n_) {
    uint64_t span = step > 0 ? (uint64_t)hi - (uint64_t)lo : (uint64_t)lo - (uint64_t)hi;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (!step) return false;
    if (step > 0 ? lo >= hi : lo <= hi) span = 0;
    *n_ = (int64_t)(span / stride + (span % stride != 0));
    return *n_ >= 0;
}

static bool ops_count_float(double lo, double hi, double step, int64_t *n_) {
    double n = ceil((hi - lo) / step);
    if (!(step != 0) || isnan(n) || n > 0x1p52) return false;
    *n_ = n > 0 ? (int64_t)n : 0;
    return true;
}

static double ops_double(ig_arg a) {
    return a.kind == IG_ARG_FLOAT ? a.v.f : a.kind == IG_ARG_UINT ? (double)a.v.u : (double)a.v.i;
}

/* lo + i * step in the arithmetic of dtype (16-bit floats: f32). */
static ig_tensor *ops_ramp(fe_call *c, ig_dtype dtype, ig_arg lo, ig_arg step, int64_t n) {
    bool narrow = dtype == IG_f16 || dtype == IG_bf16;
    ig_dtype d = narrow ? IG_f32 : dtype;
    ir_dims dims = {.n = 1, .d = {n}};
    ig_tensor *i = fe_convert(c, fe_iota(c, IG_i64, &dims, 0), d);
    ig_tensor *r = fe_add(c, fe_mul(c, i, fe_number(c, d, step)), fe_number(c, d, lo));
    return narrow ? fe_convert(c, r, dtype) : r;
}

static ig_tensor *ops_arange(fe_call *c, ig_dtype dtype, ig_arg lo, ig_arg hi, ig_arg step) {
    int64_t n;
    if (!fe_is_dtype(dtype) || dtype == IG_bool)
        return fe_error(c, IG_DTYPE, "a numeric element type is needed");
    bool is_float = rt_is_float(dtype);
    if (lo.kind == IG_ARG_TENSOR || hi.kind == IG_ARG_TENSOR || step.kind == IG_ARG_TENSOR)
        return fe_error(c, IG_INVALID,
                        "the bounds and the step are host numbers: the shape depends on them");
    if (!is_float &&
        (lo.kind == IG_ARG_FLOAT || hi.kind == IG_ARG_FLOAT || step.kind == IG_ARG_FLOAT))
        return fe_error(c, IG_DTYPE, "bounds and step of a range of %s are integers",
                        ig_dtype_name(dtype));
    bool ok = is_float ? ops_count_float(ops_double(lo), ops_double(hi), ops_double(step), &n)
                       : ops_count_int(lo.v.i, hi.v.i, step.v.i, &n);
    if (!ok) return fe_error(c, IG_RANGE, "the range has no end: step %g", ops_double(step));
    return ops_ramp(c, dtype, lo, step, n);
}

ig_tensor *ig_arange_at(const ig_site *site, ig_dtype dtype, ig_arg lo, ig_arg hi, ig_arg step) {
    FE_ENTER(site, "arange");
    return fe_leave(c, ops_arange(c, dtype, lo, hi, step));
}

ig_tensor *ig_linspace_at(const ig_site *site, ig_dtype dtype, double lo, double hi, int64_t n) {
    FE_ENTER(site, "linspace");
    if (!fe_is_dtype(dtype) || !rt_is_float(dtype) || n < 0)
        return fe_leave(c, fe_error(c, IG_INVALID, "a float type and n >= 0 are needed"));
    return fe_leave(
        c, ops_ramp(c, dtype, ig_arg_f(lo), ig_arg_f(n > 1 ? (hi - lo) / (double)(n - 1) : 0), n));
}

ig_tensor *ig_eye_at(const ig_site *site, ig_dtype dtype, int64_t n, int64_t m, int k) {
    FE_ENTER(site, "eye");
    ir_dims dims = {.n = 2, .d = {n, m}};
    if (!fe_is_dtype(dtype) || n < 0 || m < 0)
        return fe_leave(c, fe_error(c, IG_INVALID, "an element type and extents >= 0 are needed"));
    ig_tensor *row = fe_iota(c, IG_i64, &dims, 0), *column = fe_iota(c, IG_i64, &dims, 1);
    ig_tensor *on = fe_cmp(c, IR_cmpop_eq, fe_add(c, row, fe_int(c, IG_i64, k)), column);
    return fe_leave(c, fe_convert(c, on, dtype));
}
