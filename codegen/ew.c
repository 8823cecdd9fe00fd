/* ew.c - elementwise ops on registers, spelled in what every target has.
 *
 * The kernel ops that come out mean exactly what the hardware does: a division never sees 0 or
 * INT_MIN / -1, a shift never its width, `fma` appears in class fma only, f16 and bf16 are f32 with
 * explicit rounding, and float remainder is integer long division.  So no target calls a library,
 * and none has to know the edge values of ops.def.
 * Transcendental functions are in body.c. */
#include "codegen/kernel.h"
#include "runtime/base/plant.h"

/* --- Integers ------------------------------------------------------------------------------- */

/* The unsigned type of the same width. */
static ig_dtype ew_unsigned(ig_dtype d) {
    for (int u = 1; u < IG_DTYPE_END; u++)
        if (rt_dtype_tab[u].kind == 'u' && rt_dtype_tab[u].bytes == rt_dtype_tab[d].bytes)
            return (ig_dtype)u;
    return d;
}

static int64_t ew_width(ig_dtype d) { return (int64_t)rt_dtype_bytes(d) * 8; }
static int64_t ew_int_min(ig_dtype d) { return (int64_t)(UINT64_MAX << (ew_width(d) - 1)); }

/* x / 0 = 0, x rem 0 = x, INT_MIN / -1 = INT_MIN with remainder 0. */
static ir_ref ew_int_div(cg_kernel *k, ir_opcode op, ig_dtype d, ir_ref x, ir_ref y) {
    ir_ref one = cg_int(k, d, 1), zero = cg_int(k, d, 0);
    ir_ref by_zero = cg_cmp(k, IR_cmpop_eq, y, zero), unsafe = by_zero;
    if (rt_is_signed(d)) {
        ir_ref most = cg_cmp(k, IR_cmpop_eq, x, cg_int(k, d, ew_int_min(d)));
        ir_ref minus = cg_cmp(k, IR_cmpop_eq, y, cg_int(k, d, -1));
        unsafe = cg_bit(k, IR_bitop_bor, by_zero, cg_bit(k, IR_bitop_band, most, minus));
    }
    ir_ref r = cg_bin(k, op, x, cg_select(k, unsafe, one, y));
    if (RT_PLANTED(wrong_division_by_zero)) return r;
    return cg_select(k, by_zero, op == OP_div ? zero : x, r);
}

/* Shift counts are unsigned; past the width nothing is left but the sign. */
static ir_ref ew_shift(cg_kernel *k, const ir_attr_shop *a, ig_dtype d, ir_ref x, ir_ref n) {
    ig_dtype u = ew_unsigned(d);
    int64_t last = ew_width(d) - 1;
    ir_ref most = cg_int(k, u, last), fits = cg_cmp(k, IR_cmpop_le, cg_bits(k, n, u), most);
    ir_ref by = cg_select(k, fits, n, cg_int(k, d, last));
    ir_ref in[2] = {cg_splat(k, x, cg_lanes_of(k, by)), cg_splat(k, by, cg_lanes_of(k, x))};
    ir_ref r = ir_emit(&k->b, OP_shift, a, 2, in);
    return a->op == IR_shop_arith ? r : cg_select(k, fits, r, cg_int(k, d, 0));
}

static ir_ref ew_cmp_bool(cg_kernel *k, ir_cmpop op, ir_ref x, ir_ref y) {
    switch (op) {
    case IR_cmpop_eq: return cg_un(k, OP_lnot, cg_bit(k, IR_bitop_bxor, x, y));
    case IR_cmpop_ne: return cg_bit(k, IR_bitop_bxor, x, y);
    case IR_cmpop_lt: return cg_bit(k, IR_bitop_band, cg_un(k, OP_lnot, x), y);
    default: return cg_bit(k, IR_bitop_bor, cg_un(k, OP_lnot, x), y);
    }
}

/* --- Conversions ---------------------------------------------------------------------------- */

/* A 64-bit integer as an f64 that rounds to few bits as the integer does: what f64 cannot hold
 * sticks to bit 11. */
static ir_ref ew_sticky_f64(cg_kernel *k, ig_dtype d, ir_ref x) {
    ir_ref top = cg_int(k, d, INT64_C(1) << 53), zero = cg_int(k, d, 0);
    ir_ref small = cg_cmp(k, IR_cmpop_le, x, top);
    if (rt_is_signed(d)) {
        ir_ref above = cg_cmp(k, IR_cmpop_le, cg_int(k, d, -(INT64_C(1) << 53)), x);
        small = cg_bit(k, IR_bitop_band, small, above);
    }
    ir_ref lost = cg_cmp(k, IR_cmpop_ne, cg_bit(k, IR_bitop_band, x, cg_int(k, d, 0x7ff)), zero);
    ir_ref kept = cg_bit(k, IR_bitop_band, x, cg_int(k, d, -0x800));
    kept = cg_bit(k, IR_bitop_bor, kept, cg_select(k, lost, cg_int(k, d, 0x800), zero));
    return cg_cast(k, cg_select(k, small, x, kept), IG_f64);
}

/* To f16 or bf16 with one rounding. */
static ir_ref ew_to_half(cg_kernel *k, ig_dtype from, ig_dtype to, ir_ref x) {
    if (cg_reg(from) == IG_f32) return cg_round(k, to, x);
    if (from == IG_f64) return cg_round(k, to, cg_to_odd(k, x));
    /* an integer that f32 would round is above the largest f16, or fits f64 */
    if (to == IG_f16 || ew_width(from) <= 16) return cg_round(k, to, cg_cast(k, x, IG_f32));
    ir_ref wide = ew_width(from) == 64 ? ew_sticky_f64(k, from, x) : cg_cast(k, x, IG_f64);
    return cg_round(k, to, cg_to_odd(k, wide));
}

ir_ref cg_convert(cg_kernel *k, ig_dtype from, ig_dtype to, ir_ref x) {
    ig_dtype rf = cg_reg(from), rt = cg_reg(to);
    if (from == to) return x;
    if (to == IG_bool)
        return cg_cmp(k, IR_cmpop_ne, x, rt_is_float(rf) ? cg_flt(k, rf, 0) : cg_int(k, rf, 0));
    if (from == IG_bool) {
        ir_ref zero = rt_is_float(rt) ? cg_flt(k, rt, 0) : cg_int(k, rt, 0);
        return cg_select(k, x, rt_is_float(rt) ? cg_flt(k, rt, 1) : cg_int(k, rt, 1), zero);
    }
    return rt == to ? cg_cast(k, x, to) : ew_to_half(k, from, to, x);
}

/* Bits of a float become observable: every NaN is the positive quiet one (numerics rule 2). */
static ir_ref ew_float_bits(cg_kernel *k, ig_dtype d, ir_ref x) {
    ig_dtype u = ew_unsigned(d);
    if (cg_reg(d) != d) return cg_cast(k, cg_pack16(k, d, x), IG_u16);
    int64_t nan = d == IG_f32 ? INT64_C(0x7fc00000) : INT64_C(0x7ff8000000000000);
    ir_ref bits = cg_bits(k, x, u), fixed = cg_int(k, u, nan);
    return cg_select(k, cg_cmp(k, IR_cmpop_ne, x, x), fixed, bits);
}

static ir_ref ew_bitcast(cg_kernel *k, ig_dtype from, ig_dtype to, ir_ref x) {
    if (from == to) return x;
    ir_ref u = rt_is_float(from) ? ew_float_bits(k, from, x) : cg_bits(k, x, ew_unsigned(from));
    if (cg_reg(to) != to) return cg_unpack16(k, to, cg_cast(k, u, IG_u32));
    return cg_bits(k, u, to);
}

/* --- Remainder of floats -------------------------------------------------------------------- */

/* The shape of a float type. */
typedef struct ew_float {
    ig_dtype u;
    int64_t mant, exps, chunk;
} ew_float;

static ir_ref ew_u64(cg_kernel *k, int64_t x) { return cg_int(k, IG_u64, x); }

/* Magnitude bits -> exponent (denormals 1) and significand, both u64. */
static void ew_split(cg_kernel *k, const ew_float *f, ir_ref mag, ir_ref *exp_, ir_ref *sig_) {
    ir_ref e = cg_shift(k, IR_shop_right, mag, f->mant);
    ir_ref m = cg_bit(k, IR_bitop_band, mag, ew_u64(k, (INT64_C(1) << f->mant) - 1));
    ir_ref normal = cg_cmp(k, IR_cmpop_ne, e, ew_u64(k, 0));
    *exp_ = cg_select(k, normal, e, ew_u64(k, 1));
    *sig_ = cg_select(k, normal, cg_bit(k, IR_bitop_bor, m, ew_u64(k, INT64_C(1) << f->mant)), m);
}

/* (sig << d) mod by, `chunk` bits at a time: sig, by < 2^(mant + 1), and mant + 1 + chunk <= 64. */
static ir_ref ew_long_rem(cg_kernel *k, const ew_float *f, ir_ref sig, ir_ref d, ir_ref by) {
    ir_ref chunk = ew_u64(k, f->chunk), steps = cg_bin(k, OP_div, d, chunk);
    ir_ref first = cg_bin(k, OP_rem, d, chunk), by_shift[2];
    ir_ref r = cg_bin(k, OP_rem, sig, by);
    int lanes = cg_lanes_of(k, by);
    by_shift[0] = cg_splat(k, r, lanes), by_shift[1] = cg_splat(k, first, lanes);
    r = ir_emit(&k->b, OP_shift, &(ir_attr_shop){.op = IR_shop_left}, 2, by_shift);
    r = cg_bin(k, OP_rem, r, by);
    ir_ref most = cg_cast(k, cg_max_lane(k, steps), IG_i64), carried;
    cg_loop l = cg_for(k, cg_i64(k, 0), most, 1, 1, &r, &carried);
    ir_ref next = cg_bin(k, OP_rem, cg_shift(k, IR_shop_left, carried, f->chunk), by);
    next = cg_select(k, cg_cmp(k, IR_cmpop_lt, cg_cast(k, l.index, IG_u64), steps), next, carried);
    return cg_for_end(k, l, 1, &next);
}

/* r * 2^(e - 1) in units of the smallest denormal, as magnitude bits; r < 2^(mant + 1). */
static ir_ref ew_join(cg_kernel *k, const ew_float *f, ir_ref r, ir_ref e) {
    ir_ref below = cg_bin(k, OP_sub, e, ew_u64(k, 1));
    ir_ref lz = ir_emit1(&k->b, OP_bitcount, &(ir_attr_count){.kind = IR_count_clz}, r);
    ir_ref by = cg_bin(k, OP_min, cg_bin(k, OP_sub, lz, ew_u64(k, 63 - f->mant)), below);
    ir_ref zero = ew_u64(k, 0);
    by = cg_select(k, cg_cmp(k, IR_cmpop_eq, r, zero), zero, by);
    int lanes = cg_lanes_of(k, by);
    ir_ref in[2] = {cg_splat(k, r, lanes), by};
    ir_ref m = ir_emit(&k->b, OP_shift, &(ir_attr_shop){.op = IR_shop_left}, 2, in);
    ir_ref high = cg_shift(k, IR_shop_left, cg_bin(k, OP_sub, below, by), f->mant);
    ir_ref bits = cg_bin(k, OP_add, high, m);
    return cg_select(k, cg_cmp(k, IR_cmpop_eq, r, zero), zero, bits);
}

/* C's fmod, exactly: the remainder of the significands after shifting by the difference of the
 * exponents. */
static ir_ref ew_float_rem(cg_kernel *k, ig_dtype d, ir_ref x, ir_ref y) {
    ew_float f = d == IG_f32 ? (ew_float){IG_u32, 23, 255, 40} : (ew_float){IG_u64, 52, 2047, 11};
    int64_t inf_bits = f.exps << f.mant, nan_bits = inf_bits | INT64_C(1) << (f.mant - 1);
    int64_t sign_bit = (int64_t)(UINT64_C(1) << (ew_width(f.u) - 1));
    int64_t mag_bits = (int64_t)((UINT64_C(1) << (ew_width(f.u) - 1)) - 1);
    ir_ref ux = cg_cast(k, cg_bits(k, x, f.u), IG_u64), uy = cg_cast(k, cg_bits(k, y, f.u), IG_u64);
    ir_ref ax = cg_bit(k, IR_bitop_band, ux, ew_u64(k, mag_bits)), inf = ew_u64(k, inf_bits);
    ir_ref ay = cg_bit(k, IR_bitop_band, uy, ew_u64(k, mag_bits));
    ir_ref bad = cg_cmp(k, IR_cmpop_lt, inf, ay);
    bad = cg_bit(k, IR_bitop_bor, cg_cmp(k, IR_cmpop_le, inf, ax), bad);
    bad = cg_bit(k, IR_bitop_bor, bad, cg_cmp(k, IR_cmpop_eq, ay, ew_u64(k, 0)));
    ir_ref small = cg_cmp(k, IR_cmpop_lt, ax, ay), stop = cg_bit(k, IR_bitop_bor, bad, small);
    ir_ref ex, ey, mx, my;
    ew_split(k, &f, ax, &ex, &mx);
    ew_split(k, &f, ay, &ey, &my);
    ir_ref shift = cg_bin(k, OP_sub, ex, ey);
    shift = cg_select(k, stop, ew_u64(k, 0), shift);
    ir_ref r = ew_long_rem(k, &f, mx, shift, cg_select(k, stop, ew_u64(k, 1), my));
    ir_ref bits = cg_select(k, small, ax, ew_join(k, &f, r, ey));
    bits = cg_bit(k, IR_bitop_bor, bits, cg_bit(k, IR_bitop_band, ux, ew_u64(k, sign_bit)));
    bits = cg_select(k, bad, ew_u64(k, nan_bits), bits);
    return cg_bits(k, cg_cast(k, bits, f.u), d);
}

void cg_philox(cg_kernel *k, const ir_ref in[4], ir_ref out_[4]) {
    ir_ref x[4];
    int lanes = 0;
    for (int i = 0; i < 4; i++)
        if (cg_lanes_of(k, in[i]) > lanes) lanes = cg_lanes_of(k, in[i]);
    for (int i = 0; i < 4; i++) x[i] = cg_splat(k, in[i], lanes);
    ir_philox_emit(&k->b, x, out_);
}

/* --- Dispatch ------------------------------------------------------------------------------- */

/* Whether an op on f16 or bf16 values gives one again without rounding. */
static bool ew_is_exact(ir_opcode op) {
    return op == OP_neg || op == OP_abs || op == OP_max || op == OP_min || op == OP_rint ||
           op == OP_select;
}

/* One kernel op, operands brought to the same lanes. */
static ir_ref ew_plain(cg_kernel *k, ir_opcode op, const void *attr, int nin, const ir_ref *in) {
    ir_ref x[3];
    int lanes = 0;
    for (int i = 0; i < nin; i++)
        if (cg_lanes_of(k, in[i]) > lanes) lanes = cg_lanes_of(k, in[i]);
    for (int i = 0; i < nin; i++) x[i] = cg_splat(k, in[i], lanes);
    return ir_emit(&k->b, op, attr, nin, x);
}

/* The wrong code of a planted miscompile of a float op, or {0}. */
static ir_ref ew_planted(cg_kernel *k, ir_opcode op, ig_dtype d, const ir_ref *in) {
    if (!rt_is_float(d)) return (ir_ref){0};
    if (RT_PLANTED(swapped_operands) && (op == OP_sub || op == OP_div))
        return ew_plain(k, op, NULL, 2, (ir_ref[]){in[1], in[0]});
    if (RT_PLANTED(negated_by_sub) && op == OP_neg)
        return ew_plain(k, OP_sub, NULL, 2, (ir_ref[]){cg_flt(k, d, 0), in[0]});
    if (RT_PLANTED(dropped_nan_fix) && (op == OP_max || op == OP_min)) {
        ir_ref below = ew_plain(k, OP_cmp, &(ir_attr_cmpop){.op = IR_cmpop_lt}, 2, in);
        return cg_select(k, below, in[op == OP_max], in[op != OP_max]);
    }
    if (RT_PLANTED(fused_multiply_add) && op == OP_add) {
        for (int i = 0; i < 2; i++) {
            const ir_op *mul = ir_def_op(k->b.f, in[i]);
            if (!mul || mul->code != OP_mul) continue;
            return ew_plain(k, OP_fma, NULL, 3,
                            (ir_ref[]){ir_op_in(k->b.f, mul, 0), ir_op_in(k->b.f, mul, 1), in[!i]});
        }
    }
    return (ir_ref){0};
}

/* An op whose operands and result have the register type d. */
static ir_ref ew_same(cg_kernel *k, ir_opcode op, const void *attr, ig_dtype d, int nin,
                      const ir_ref *in) {
    if (ir_math_has(op, d)) return cg_math(k, op, d, nin, in);
    ir_ref wrong = ew_planted(k, op, d, in);
    if (wrong.i) return wrong;
    switch (op) {
    case OP_div:
    case OP_rem:
        if (!rt_is_float(d)) return ew_int_div(k, op, d, in[0], in[1]);
        return op == OP_rem ? ew_float_rem(k, d, in[0], in[1]) : ew_plain(k, op, attr, nin, in);
    case OP_max:
    case OP_min:
        if (d != IG_bool) break;
        return cg_bit(k, op == OP_max ? IR_bitop_bor : IR_bitop_band, in[0], in[1]);
    case OP_shift: return ew_shift(k, attr, d, in[0], in[1]);
    case OP_fma:
        if (k->b.m->class == IR_CLASS_FMA) break;
        return cg_bin(k, OP_add, cg_bin(k, OP_mul, in[0], in[1]), in[2]);
    default: break;
    }
    return ew_plain(k, op, attr, nin, in);
}

ir_ref cg_ew(cg_kernel *k, ir_opcode op, const void *attr, ig_dtype d, int nin, const ir_ref *in) {
    if (cg_failed(k)) return (ir_ref){0};
    switch (op) {
    case OP_convert: return cg_convert(k, d, (ig_dtype)((const ir_attr_dtype *)attr)->dtype, in[0]);
    case OP_bitcast: return ew_bitcast(k, d, (ig_dtype)((const ir_attr_dtype *)attr)->dtype, in[0]);
    case OP_cmp:
        if (d == IG_bool)
            return ew_cmp_bool(k, (ir_cmpop)((const ir_attr_cmpop *)attr)->op, in[0], in[1]);
        return ew_plain(k, op, attr, nin, in);
    default: break;
    }
    ir_ref r = ew_same(k, op, attr, cg_reg(d), nin, in);
    return ew_is_exact(op) ? r : cg_round(k, d, r);
}
