/* half.c - 16-bit floats in integer ops (numerics rule 13): the same bits on every target, and
 * never a library call.
 *
 * f16 -> f32 moves the 15 low bits up by 13 and rebiases the exponent by 112; denormals borrow
 * one exponent step and give it back in a float subtraction, which is exact.  f32 -> f16 rounds
 * to nearest even by adding half an ulp minus one plus the lowest kept bit; results below 2^-14
 * are rounded by adding 0.5, whose ulp is the denormal step of f16.  bf16 is the upper half of
 * f32.  The bits are handled as u32, one lane a value. */
#include "codegen/kernel.h"
#include "runtime/base/plant.h"

#define HALF_NAN 0x7e00
#define BF16_NAN 0x7fc0

static ir_ref half_u32(cg_kernel *k, int64_t x) { return cg_int(k, IG_u32, x); }
static ir_ref half_and(cg_kernel *k, ir_ref x, int64_t m) {
    return cg_bit(k, IR_bitop_band, x, half_u32(k, m));
}
static ir_ref half_add(cg_kernel *k, ir_ref x, int64_t m) {
    return cg_bin(k, OP_add, x, half_u32(k, m));
}

static ir_ref half_unpack_f16(cg_kernel *k, ir_ref h) {
    ir_ref o = cg_shift(k, IR_shop_left, half_and(k, h, 0x7fff), 13);
    ir_ref e = half_and(k, o, 0x0f800000), base = half_add(k, o, 112 << 23);
    ir_ref top = half_add(k, base, 112 << 23); /* inf and NaN */
    ir_ref one = cg_bits(k, half_add(k, base, 1 << 23), IG_f32);
    ir_ref low = cg_bits(k, cg_bin(k, OP_sub, one, cg_flt(k, IG_f32, 0x1p-14)), IG_u32);
    ir_ref r = cg_select(k, cg_cmp(k, IR_cmpop_eq, e, half_u32(k, 0x0f800000)), top, base);
    r = cg_select(k, cg_cmp(k, IR_cmpop_eq, e, half_u32(k, 0)), low, r);
    ir_ref sign = cg_shift(k, IR_shop_left, half_and(k, h, 0x8000), 16);
    return cg_bits(k, cg_bit(k, IR_bitop_bor, r, sign), IG_f32);
}

static ir_ref half_pack_f16(cg_kernel *k, ir_ref bits) {
    ir_ref mag = half_and(k, bits, 0x7fffffff);
    ir_ref odd = half_and(k, cg_shift(k, IR_shop_right, mag, 13), 1);
    ir_ref mid = half_add(k, cg_bin(k, OP_add, mag, odd),
                          -(INT64_C(112) << 23) + 0xfff + (INT64_C(1) << 32));
    mid = cg_shift(k, IR_shop_right, mid, 13);
    ir_ref half = cg_flt(k, IG_f32, 0.5);
    ir_ref sum = cg_bin(k, OP_add, cg_bits(k, mag, IG_f32), half);
    ir_ref magic = half_u32(k, 0x3f000000);
    ir_ref low = cg_bin(k, OP_sub, cg_bits(k, sum, IG_u32), magic);
    ir_ref r = cg_select(k, cg_cmp(k, IR_cmpop_lt, mag, half_u32(k, 113 << 23)), low, mid);
    ir_ref inf = half_u32(k, 0x7c00);
    r = cg_select(k, cg_cmp(k, IR_cmpop_le, half_u32(k, 0x47800000), mag), inf, r);
    r = cg_bit(k, IR_bitop_bor, r, half_and(k, cg_shift(k, IR_shop_right, bits, 16), 0x8000));
    ir_ref nan = half_u32(k, HALF_NAN);
    return cg_select(k, cg_cmp(k, IR_cmpop_lt, half_u32(k, 0x7f800000), mag), nan, r);
}

static ir_ref half_pack_bf16(cg_kernel *k, ir_ref bits) {
    ir_ref odd = half_and(k, cg_shift(k, IR_shop_right, bits, 16), 1);
    ir_ref r = cg_shift(k, IR_shop_right, half_add(k, cg_bin(k, OP_add, bits, odd), 0x7fff), 16);
    if (RT_PLANTED(bf16_truncates)) r = cg_shift(k, IR_shop_right, bits, 16);
    ir_ref nan = half_and(k, bits, 0x7fffffff);
    nan = cg_cmp(k, IR_cmpop_lt, half_u32(k, 0x7f800000), nan);
    return cg_select(k, nan, half_u32(k, BF16_NAN), r);
}

/* Remember the bits of a value, so that storing it does not round again. */
static void half_remember(cg_kernel *k, ig_dtype d, ir_ref wide, ir_ref bits) {
    cg_pack_ref p = {d, wide, bits};
    if (!cg_failed(k) && !rt_vec_push(k->b.m->alloc, &k->packs, p))
        ir_build_error(&k->b, rt_fail_memory());
}

#define HALF_LOOK_BACK 64 /* how many pairs are searched: a store follows its rounding closely */

ir_ref cg_pack16(cg_kernel *k, ig_dtype d, ir_ref x) {
    uint32_t n = k->packs.n, last = n > HALF_LOOK_BACK ? n - HALF_LOOK_BACK : 0;
    for (uint32_t i = n; i-- > last;)
        if (k->packs.data[i].wide.i == x.i && k->packs.data[i].d == d) return k->packs.data[i].bits;
    ir_ref bits = cg_bits(k, x, IG_u32);
    return d == IG_f16 ? half_pack_f16(k, bits) : half_pack_bf16(k, bits);
}

ir_ref cg_unpack16(cg_kernel *k, ig_dtype d, ir_ref bits) {
    ir_ref r = d == IG_f16 ? half_unpack_f16(k, bits)
                           : cg_bits(k, cg_shift(k, IR_shop_left, bits, 16), IG_f32);
    half_remember(k, d, r, bits);
    return r;
}

ir_ref cg_round(cg_kernel *k, ig_dtype d, ir_ref x) {
    if (cg_reg(d) == d) return x;
    return cg_unpack16(k, d, cg_pack16(k, d, x));
}

/* Truncate towards zero and make the last bit sticky: odd whenever something was lost. */
ir_ref cg_to_odd(cg_kernel *k, ir_ref x) {
    ir_ref near = cg_cast(k, x, IG_f32), back = cg_cast(k, near, IG_f64);
    ir_ref bits = cg_bits(k, near, IG_u32), one = half_u32(k, 1), zero = half_u32(k, 0);
    ir_ref over = cg_un(k, OP_abs, back);
    over = cg_cmp(k, IR_cmpop_lt, cg_un(k, OP_abs, x), over);
    bits = cg_bin(k, OP_sub, bits, cg_select(k, over, one, zero));
    bits = cg_bit(k, IR_bitop_bor, bits, cg_select(k, cg_cmp(k, IR_cmpop_ne, back, x), one, zero));
    return cg_bits(k, bits, IG_f32);
}
