/* test_ref.c - the reference against expectations worked out by hand: edges of the integer ops, NaN
 * and signed zeros, conversions, movement, random bits, functions.  Orders are in test_order.c. */
#include "tests/unit/ref_tools.h"
#include "tests/unit/suite.h"
#include <math.h>

static const double NaN = NAN;

/* One element through an op: operands and result as raw little-endian bits. */
static uint64_t bits1(ir_class cls, ir_opcode op, const void *attr, ig_dtype from, ig_dtype to,
                      int nin, uint64_t x, uint64_t y, uint64_t z) {
    uint64_t in[3] = {x, y, z}, out = 0;
    ir_tensor t[3];
    for (int k = 0; k < nin; k++) t[k] = SCALAR(op == OP_select && !k ? IG_bool : from, &in[k]);
    run_class(cls, op, attr, nin, t, SCALAR(to, &out));
    return out;
}

static uint64_t of_double(ig_dtype d, double x) {
    uint64_t u = 0;
    float f = (float)x;
    if (d == IG_f64)
        memcpy(&u, &x, 8);
    else if (d == IG_f32)
        memcpy(&u, &f, 4);
    else if (d == IG_f16)
        u = rt_f64_to_f16(x);
    else if (d == IG_bf16)
        u = rt_f64_to_bf16(x);
    else
        u = rt_is_signed(d) ? (uint64_t)(int64_t)x : (uint64_t)x;
    return rt_dtype_bytes(d) == 8 ? u : u & ((UINT64_C(1) << 8 * rt_dtype_bytes(d)) - 1);
}

/* Equal bits; every NaN equals every NaN. */
static void same(ig_dtype d, uint64_t got, uint64_t want, const char *what) {
    ir_canon_nan(d, &got, 1);
    ir_canon_nan(d, &want, 1);
    if (got != want)
        ck_abort_msg("%s at %s: %llx, not %llx", what, ig_dtype_name(d), (unsigned long long)got,
                     (unsigned long long)want);
}

static const ig_dtype floats[] = {IG_f16, IG_bf16, IG_f32, IG_f64};

/* --- Integers --------------------------------------------------------------------------------- */

typedef struct int_case {
    ir_opcode op;
    int mode;
    ig_dtype d;
    int64_t x, y, want;
} int_case;

static const int_case int_tab[] = {
    {OP_add, 0, IG_i8, 127, 1, -128},
    {OP_add, 0, IG_u8, 255, 1, 0},
    {OP_add, 0, IG_i64, INT64_MAX, 1, INT64_MIN},
    {OP_sub, 0, IG_u16, 0, 1, 65535},
    {OP_sub, 0, IG_i32, INT32_MIN, 1, INT32_MAX},
    {OP_mul, 0, IG_u16, 65535, 65535, 1},
    {OP_mul, 0, IG_i16, -32768, -1, -32768},
    {OP_mul, 0, IG_i32, 65536, 65536, 0},
    {OP_mul, 0, IG_u64, -1, -1, 1},
    {OP_neg, 0, IG_i8, -128, 0, -128},
    {OP_neg, 0, IG_u32, 1, 0, 0xffffffff},
    {OP_abs, 0, IG_i16, -32768, 0, -32768},
    {OP_abs, 0, IG_i64, -5, 0, 5},
    {OP_abs, 0, IG_u8, 200, 0, 200},
    {OP_lnot, 0, IG_u8, 0x0f, 0, 0xf0},
    {OP_lnot, 0, IG_i64, 0, 0, -1},
    {OP_lnot, 0, IG_bool, 1, 0, 0},
    {OP_lnot, 0, IG_bool, 0, 0, 1},
    {OP_div, 0, IG_i32, 7, 0, 0},
    {OP_div, 0, IG_u64, 7, 0, 0},
    {OP_div, 0, IG_i32, INT32_MIN, -1, INT32_MIN},
    {OP_div, 0, IG_i64, INT64_MIN, -1, INT64_MIN},
    {OP_div, 0, IG_i8, -128, -1, -128},
    {OP_div, 0, IG_i32, -7, 2, -3},
    {OP_div, 0, IG_u8, 250, 7, 35},
    {OP_rem, 0, IG_i32, 7, 0, 7},
    {OP_rem, 0, IG_u8, 200, 0, 200},
    {OP_rem, 0, IG_i64, INT64_MIN, -1, 0},
    {OP_rem, 0, IG_i8, -128, -1, 0},
    {OP_rem, 0, IG_i32, -7, 2, -1},
    {OP_rem, 0, IG_i32, 7, -2, 1},
    {OP_max, 0, IG_i8, -1, 1, 1},
    {OP_max, 0, IG_u8, 255, 1, 255},
    {OP_min, 0, IG_u64, -1, 1, 1},
    {OP_min, 0, IG_i64, -1, 1, -1},
    {OP_max, 0, IG_bool, 0, 1, 1},
    {OP_min, 0, IG_bool, 0, 1, 0},
    {OP_bitcount, IR_count_pop, IG_i8, -1, 0, 8},
    {OP_bitcount, IR_count_pop, IG_u64, -1, 0, 64},
    {OP_bitcount, IR_count_clz, IG_u8, 0, 0, 8},
    {OP_bitcount, IR_count_clz, IG_i8, 1, 0, 7},
    {OP_bitcount, IR_count_clz, IG_i16, -1, 0, 0},
    {OP_bitcount, IR_count_clz, IG_u64, 0, 0, 64},
    {OP_bitcount, IR_count_ctz, IG_i16, -32768, 0, 15},
    {OP_bitcount, IR_count_ctz, IG_i32, 0, 0, 32},
    {OP_bit, IR_bitop_band, IG_i8, -1, 0x55, 0x55},
    {OP_bit, IR_bitop_bor, IG_u16, 0xff00, 0x00ff, 0xffff},
    {OP_bit, IR_bitop_bxor, IG_i64, -1, 1, -2},
    {OP_bit, IR_bitop_bxor, IG_bool, 1, 1, 0},
    {OP_shift, IR_shop_left, IG_i8, 1, 7, -128},
    {OP_shift, IR_shop_left, IG_u8, 0xff, 8, 0},
    {OP_shift, IR_shop_left, IG_i32, 1, 32, 0},
    {OP_shift, IR_shop_left, IG_i64, 1, 63, INT64_MIN},
    {OP_shift, IR_shop_left, IG_i8, 1, -1, 0}, /* counts are unsigned: 255 */
    {OP_shift, IR_shop_right, IG_i8, -1, 1, 127},
    {OP_shift, IR_shop_right, IG_i32, -1, 31, 1},
    {OP_shift, IR_shop_right, IG_u64, -1, 64, 0},
    {OP_shift, IR_shop_arith, IG_i8, -128, 7, -1},
    {OP_shift, IR_shop_arith, IG_i8, -128, 100, -1},
    {OP_shift, IR_shop_arith, IG_i64, INT64_MAX, 200, 0},
    {OP_shift, IR_shop_arith, IG_u8, 0x80, 3, 0xf0},
    {OP_cmp, IR_cmpop_lt, IG_i8, -1, 1, 1},
    {OP_cmp, IR_cmpop_lt, IG_u8, 255, 1, 0},
    {OP_cmp, IR_cmpop_le, IG_u64, 1, -1, 1},
    {OP_cmp, IR_cmpop_eq, IG_i32, 5, 5, 1},
    {OP_cmp, IR_cmpop_ne, IG_bool, 1, 0, 1},
};

START_TEST(integer_edges) {
    for (size_t i = 0; i < LEN(int_tab); i++) {
        const int_case *c = &int_tab[i];
        uint8_t attr[16] = {(uint8_t)c->mode}; /* every mode attribute is one enumerated field */
        ig_dtype to = c->op == OP_cmp ? IG_bool : c->d;
        uint64_t mask = rt_dtype_bytes(to) == 8 ? ~UINT64_C(0)
                                                : (UINT64_C(1) << 8 * rt_dtype_bytes(to)) - 1;
        uint64_t got = bits1(IR_CLASS_FMA, c->op, attr, c->d, to, ir_op_tab[c->op].arity,
                             (uint64_t)c->x, (uint64_t)c->y, 0);
        if (got != ((uint64_t)c->want & mask))
            ck_abort_msg("%s mode %d of %s: %lld, %lld gives %llx, not %llx", ir_op_tab[c->op].name,
                         c->mode, ig_dtype_name(c->d), (long long)c->x, (long long)c->y,
                         (unsigned long long)got, (unsigned long long)((uint64_t)c->want & mask));
    }
}
END_TEST

/* --- Floats ----------------------------------------------------------------------------------- */

START_TEST(float_edges) {
    static const struct {
        ir_opcode op;
        int mode;
        double x, y, want;
    } tab[] = {{OP_max, 0, 1, NAN, NAN},
               {OP_max, 0, NAN, 1, NAN},
               {OP_min, 0, NAN, -INFINITY, NAN},
               {OP_max, 0, -0.0, 0.0, 0.0},
               {OP_max, 0, 0.0, -0.0, 0.0},
               {OP_min, 0, -0.0, 0.0, -0.0},
               {OP_min, 0, 0.0, -0.0, -0.0},
               {OP_max, 0, -INFINITY, -2, -2},
               {OP_min, 0, 3, 2, 2},
               {OP_rem, 0, -5.5, 2, -1.5},
               {OP_rem, 0, 5.5, -2, 1.5},
               {OP_rem, 0, 5, INFINITY, 5},
               {OP_rem, 0, 5, 0, NAN},
               {OP_rem, 0, -4, 2, -0.0},
               {OP_rem, 0, INFINITY, 2, NAN},
               {OP_rint, 0, 2.5, 0, 2},
               {OP_rint, 0, 3.5, 0, 4},
               {OP_rint, 0, -0.5, 0, -0.0},
               {OP_rint, 1, -0.5, 0, -1},
               {OP_rint, 2, -0.5, 0, -0.0},
               {OP_rint, 2, 0.5, 0, 1},
               {OP_rint, 3, -1.5, 0, -1},
               {OP_rint, 3, 1.5, 0, 1},
               {OP_neg, 0, 0.0, 0, -0.0},
               {OP_abs, 0, -0.0, 0, 0.0},
               {OP_abs, 0, -INFINITY, 0, INFINITY},
               {OP_add, 0, -0.0, 0.0, 0.0},
               {OP_add, 0, -0.0, -0.0, -0.0},
               {OP_sub, 0, 1, 1, 0.0},
               {OP_mul, 0, 0, -1, -0.0},
               {OP_mul, 0, INFINITY, 0, NAN},
               {OP_div, 0, 1, -0.0, -INFINITY},
               {OP_div, 0, 0, 0, NAN},
               {OP_sqrt, 0, 2.25, 0, 1.5},
               {OP_sqrt, 0, -0.0, 0, -0.0},
               {OP_sqrt, 0, -1, 0, NAN}};
    for (size_t k = 0; k < LEN(floats); k++)
        for (size_t i = 0; i < LEN(tab); i++) {
            ig_dtype d = floats[k];
            uint8_t attr[16] = {(uint8_t)tab[i].mode};
            uint64_t got = bits1(IR_CLASS_FMA, tab[i].op, attr, d, d, ir_op_tab[tab[i].op].arity,
                                 of_double(d, tab[i].x), of_double(d, tab[i].y), 0);
            same(d, got, of_double(d, tab[i].want), ir_op_tab[tab[i].op].name);
        }
}
END_TEST

START_TEST(comparisons_of_nan) {
    for (size_t k = 0; k < LEN(floats); k++) {
        ig_dtype d = floats[k];
        uint64_t nan = of_double(d, NaN), one = of_double(d, 1), zero = of_double(d, 0.0),
                 minus = of_double(d, -0.0);
        for (uint8_t mode = 0; mode < 4; mode++) {
            ir_attr_cmpop a = {.op = mode};
            ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_cmp, &a, d, IG_bool, 2, nan, one, 0),
                              mode == IR_cmpop_ne);
            ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_cmp, &a, d, IG_bool, 2, nan, nan, 0),
                              mode == IR_cmpop_ne);
            bool equal = mode == IR_cmpop_eq || mode == IR_cmpop_le;
            ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_cmp, &a, d, IG_bool, 2, minus, zero, 0),
                              equal);
        }
    }
}
END_TEST

/* neg, abs, select move bits; bitcast shows a NaN's bits and therefore canonicalises them. */
START_TEST(bits_of_nan) {
    ir_attr_dtype u32 = {.dtype = IG_u32}, u16 = {.dtype = IG_u16}, f32 = {.dtype = IG_f32};
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_neg, NULL, IG_f32, IG_f32, 1, 0x7fc12345, 0, 0),
                      0xffc12345);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_abs, NULL, IG_f16, IG_f16, 1, 0xfe01, 0, 0), 0x7e01);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_select, NULL, IG_f32, IG_f32, 3, 1, 0xffc12345, 0),
                      0xffc12345);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_bitcast, &u32, IG_f32, IG_u32, 1, 0xffc12345, 0, 0),
                      0x7fc00000);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_bitcast, &u32, IG_f32, IG_u32, 1, 0x80000001, 0, 0),
                      0x80000001);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_bitcast, &u16, IG_bf16, IG_u16, 1, 0xff81, 0, 0),
                      0x7fc0);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_bitcast, &u16, IG_f16, IG_u16, 1, 0xfc01, 0, 0),
                      0x7e00);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_bitcast, &f32, IG_i32, IG_f32, 1, 0x3f800000, 0, 0),
                      0x3f800000);
}
END_TEST

START_TEST(fma_in_both_classes) {
    double a = 1 + 0x1p-12, c = -(1 + 0x1p-11), big = 1 + 0x1p-27, cc = -(1 + 0x1p-26);
    uint64_t x = of_double(IG_f32, a), z = of_double(IG_f32, c);
    same(IG_f32, bits1(IR_CLASS_FMA, OP_fma, NULL, IG_f32, IG_f32, 3, x, x, z),
         of_double(IG_f32, 0x1p-24), "fma");
    same(IG_f32, bits1(IR_CLASS_NOFMA, OP_fma, NULL, IG_f32, IG_f32, 3, x, x, z),
         of_double(IG_f32, 0), "nofma");
    x = of_double(IG_f64, big), z = of_double(IG_f64, cc);
    same(IG_f64, bits1(IR_CLASS_FMA, OP_fma, NULL, IG_f64, IG_f64, 3, x, x, z),
         of_double(IG_f64, 0x1p-54), "fma");
    same(IG_f64, bits1(IR_CLASS_NOFMA, OP_fma, NULL, IG_f64, IG_f64, 3, x, x, z),
         of_double(IG_f64, 0), "nofma");
    /* 16 bits: the f32 fma, then rounding: (1+2^-10)^2 + 0 is 1+2^-9 in f16 */
    x = of_double(IG_f16, 1 + 0x1p-10);
    same(IG_f16, bits1(IR_CLASS_FMA, OP_fma, NULL, IG_f16, IG_f16, 3, x, x, 0),
         of_double(IG_f16, 1 + 0x1p-9), "fma");
}
END_TEST

/* --- Conversions ------------------------------------------------------------------------------ */

START_TEST(all_16_bit_floats_round_trip) {
    static const ig_dtype narrow[] = {IG_f16, IG_bf16}, wide[] = {IG_f32, IG_f64};
    uint16_t x[65536], back[65536];
    double room[65536];
    for (int i = 0; i < 65536; i++) x[i] = (uint16_t)i;
    for (int n = 0; n < 2; n++)
        for (int w = 0; w < 2; w++) {
            ir_tensor t = VEC(narrow[n], 65536, x), u = VEC(wide[w], 65536, room);
            run(OP_convert, &(ir_attr_dtype){.dtype = (uint8_t)wide[w]}, 1, &t, u);
            run(OP_convert, &(ir_attr_dtype){.dtype = (uint8_t)narrow[n]}, 1, &u,
                VEC(narrow[n], 65536, back));
            for (int i = 0; i < 65536; i++) same(narrow[n], back[i], x[i], "round trip");
        }
    ck_assert(rt_f16_to_f32(0x0001) == 0x1p-24f && rt_f16_to_f32(0x03ff) == 1023 * 0x1p-24f);
    ck_assert(rt_f16_to_f32(0x0400) == 0x1p-14f && rt_f16_to_f32(0x7bff) == 65504.0f);
    ck_assert(rt_f16_to_f32(0x3555) == 0x1.554p-2f && isinf(rt_f16_to_f32(0xfc00)));
    ck_assert(rt_bf16_to_f32(0x0001) == 0x1p-133f && rt_bf16_to_f32(0x3f80) == 1.0f);
    ck_assert(rt_bf16_to_f32(0xff7f) == -0x1.fep127f);
}
END_TEST

START_TEST(narrowing_rounds_once_to_even) {
    static const struct {
        ig_dtype to;
        double x;
        uint16_t want;
    } tab[] = {
        {IG_f16, 1 + 0x1p-11, 0x3c00}, /* half way, to even */
        {IG_f16, 1 + 3 * 0x1p-11, 0x3c02},
        {IG_f16, 1 + 0x1p-11 + 0x1p-40, 0x3c01}, /* above half way: not through f32 */
        {IG_f16, -(1 + 0x1p-11 - 0x1p-40), 0xbc00},
        {IG_f16, 65519.99, 0x7bff},
        {IG_f16, 65520, 0x7c00},
        {IG_f16, -1e300, 0xfc00},
        {IG_f16, 0x1p-25, 0x0000}, /* half of the smallest */
        {IG_f16, 0x1.8p-25, 0x0001},
        {IG_f16, 0x1.8p-24, 0x0002},
        {IG_f16, -0x1p-26, 0x8000},
        {IG_f16, 0x1.ff8p-15, 0x03ff},
        {IG_f16, 0x1.ffcp-15, 0x0400}, /* into the normal numbers */
        {IG_f16, 5e-324, 0x0000},
        {IG_bf16, 1 + 0x1p-8, 0x3f80},
        {IG_bf16, 1 + 3 * 0x1p-8, 0x3f82},
        {IG_bf16, 1 + 0x1p-8 + 0x1p-40, 0x3f81},
        {IG_bf16, 0x1.ffp127, 0x7f80},
        {IG_bf16, 0x1.fep127, 0x7f7f},
        {IG_bf16, 0x1p-134, 0x0000},
        {IG_bf16, 0x1.8p-134, 0x0001},
        {IG_bf16, 0x1p-133, 0x0001},
    };
    for (size_t i = 0; i < LEN(tab); i++) {
        ir_attr_dtype a = {.dtype = (uint8_t)tab[i].to};
        same(tab[i].to,
             bits1(IR_CLASS_FMA, OP_convert, &a, IG_f64, tab[i].to, 1, of_double(IG_f64, tab[i].x),
                   0, 0),
             tab[i].want, "from f64");
        if ((float)tab[i].x == tab[i].x)
            same(tab[i].to,
                 bits1(IR_CLASS_FMA, OP_convert, &a, IG_f32, tab[i].to, 1,
                       of_double(IG_f32, tab[i].x), 0, 0),
                 tab[i].want, "from f32");
    }
    ck_assert_uint_eq(rt_f32_to_f16(-(float)NaN), 0x7e00);
    ck_assert_uint_eq(rt_f32_to_bf16(-(float)NaN), 0x7fc0);
}
END_TEST

START_TEST(float_to_integer_saturates) {
    static const struct {
        ig_dtype to;
        double x;
        int64_t want;
    } tab[] = {{IG_i8, 127.9, 127},
               {IG_i8, 128, 127},
               {IG_i8, -128.9, -128},
               {IG_i8, -1e9, -128},
               {IG_u8, -0.9, 0},
               {IG_u8, -5, 0},
               {IG_u8, 255.9, 255},
               {IG_u8, 256, 255},
               {IG_i16, 1e6, 32767},
               {IG_u16, 65536, 65535},
               {IG_i32, -2.9, -2},
               {IG_i32, 2.9, 2},
               {IG_i32, 3e9, INT32_MAX},
               {IG_i32, -3e9, INT32_MIN},
               {IG_u32, 4294967295.0, 4294967295},
               {IG_u32, 1e12, 4294967295},
               {IG_i64, 0x1p63, INT64_MAX},
               {IG_i64, -0x1p63, INT64_MIN},
               {IG_i64, -1e300, INT64_MIN},
               {IG_u64, 0x1p63, INT64_MIN},
               {IG_u64, 0x1p64, -1},
               {IG_u64, -1, 0},
               {IG_i32, INFINITY, INT32_MAX},
               {IG_u8, -INFINITY, 0},
               {IG_bool, 0.5, 1},
               {IG_bool, -0.0, 0}};
    for (size_t i = 0; i < LEN(tab); i++) {
        ir_attr_dtype a = {.dtype = (uint8_t)tab[i].to};
        uint64_t want = (uint64_t)tab[i].want;
        if (rt_dtype_bytes(tab[i].to) < 8)
            want &= (UINT64_C(1) << 8 * rt_dtype_bytes(tab[i].to)) - 1;
        same(tab[i].to,
             bits1(IR_CLASS_FMA, OP_convert, &a, IG_f64, tab[i].to, 1, of_double(IG_f64, tab[i].x),
                   0, 0),
             want, "from f64");
    }
    for (int d = IG_bool; d <= IG_u64; d++)
        for (size_t k = 0; k < LEN(floats); k++) {
            ir_attr_dtype a = {.dtype = (uint8_t)d};
            uint64_t got = bits1(IR_CLASS_FMA, OP_convert, &a, floats[k], (ig_dtype)d, 1,
                                 of_double(floats[k], NaN), 0, 0);
            ck_assert_uint_eq(
                got, d == IG_bool); /* NaN is 0 as an integer, and not 0 as a truth value */
        }
}
END_TEST

START_TEST(integer_to_float_rounds_once) {
    static const struct {
        ig_dtype from;
        uint64_t x;
        ig_dtype to;
        double want;
    } tab[] = {
        {IG_i32, 16777217, IG_f32, 16777216},
        {IG_i32, 16777219, IG_f32, 16777220},
        {IG_u32, 0xffffffff, IG_f32, 4294967296.0},
        {IG_u64, UINT64_MAX, IG_f64, 0x1p64},
        {IG_u64, UINT64_MAX, IG_f32, 0x1p64},
        {IG_i64, (uint64_t)INT64_MIN, IG_f32, -0x1p63},
        {IG_i64, (uint64_t)INT64_MIN, IG_bf16, -0x1p63},
        /* 2^62 + 2^54 is half way between two bf16; one more must round up: f64 would lose it */
        {IG_i64, (UINT64_C(1) << 62) + (UINT64_C(1) << 54), IG_bf16, 0x1p62},
        {IG_i64, (UINT64_C(1) << 62) + (UINT64_C(1) << 54) + 1, IG_bf16, 0x1.02p62},
        {IG_u64, (UINT64_C(1) << 63) + (UINT64_C(1) << 55) + 1, IG_bf16, 0x1.02p63},
        /* 2^62 + 2^38 likewise for f32 */
        {IG_i64, (UINT64_C(1) << 62) + (UINT64_C(1) << 38) + 1, IG_f32, 0x1.000002p62},
        {IG_i32, 2049, IG_f16, 2048},
        {IG_i32, 2051, IG_f16, 2052},
        {IG_u16, 65519, IG_f16, 65504},
        {IG_u16, 65520, IG_f16, INFINITY},
        {IG_i64, (uint64_t)-70000, IG_f16, -INFINITY},
        {IG_bool, 1, IG_bf16, 1},
        {IG_bool, 1, IG_f64, 1},
    };
    for (size_t i = 0; i < LEN(tab); i++) {
        ir_attr_dtype a = {.dtype = (uint8_t)tab[i].to};
        same(tab[i].to,
             bits1(IR_CLASS_FMA, OP_convert, &a, tab[i].from, tab[i].to, 1, tab[i].x, 0, 0),
             of_double(tab[i].to, tab[i].want), "from integer");
    }
    ir_attr_dtype i8 = {.dtype = IG_i8}, u64 = {.dtype = IG_u64}, b = {.dtype = IG_bool};
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_convert, &i8, IG_i32, IG_i8, 1, 300, 0, 0), 44);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_convert, &u64, IG_i8, IG_u64, 1, 0xff, 0, 0),
                      UINT64_MAX);
    ck_assert_uint_eq(bits1(IR_CLASS_FMA, OP_convert, &b, IG_i32, IG_bool, 1, 256, 0, 0), 1);
}
END_TEST

/* --- Movement --------------------------------------------------------------------------------- */

static int32_t seq[64];
static void setup(void) {
    for (size_t i = 0; i < LEN(seq); i++) seq[i] = (int32_t)i;
}

START_TEST(movement) {
    int32_t y[64];
    ir_tensor x = tensor(IG_i32, 2, DIMS(2, 3), seq);
    run(OP_transpose, &(ir_attr_perm){.perm = {2, {1, 0}}}, 1, &x,
        tensor(IG_i32, 2, DIMS(3, 2), y));
    EXPECT(y, 0, 3, 1, 4, 2, 5);
    run(OP_reverse, &(ir_attr_axes){.axes = {1, {1}}}, 1, &x, tensor(IG_i32, 2, DIMS(2, 3), y));
    EXPECT(y, 2, 1, 0, 5, 4, 3);
    run(OP_reverse, &(ir_attr_axes){.axes = {2, {0, 1}}}, 1, &x, tensor(IG_i32, 2, DIMS(2, 3), y));
    EXPECT(y, 5, 4, 3, 2, 1, 0);
    run(OP_broadcast, &(ir_attr_bcast){.dims = {3, {2, 2, 3}}, .axes = {2, {0, 2}}}, 1, &x,
        tensor(IG_i32, 3, DIMS(2, 2, 3), y));
    EXPECT(y, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5);
    ir_tensor one = tensor(IG_i32, 2, DIMS(1, 3), seq + 7);
    run(OP_broadcast, &(ir_attr_bcast){.dims = {2, {2, 3}}, .axes = {2, {0, 1}}}, 1, &one,
        tensor(IG_i32, 2, DIMS(2, 3), y));
    EXPECT(y, 7, 8, 9, 7, 8, 9);
    ir_tensor big = tensor(IG_i32, 2, DIMS(4, 5), seq);
    run(OP_slice, &(ir_attr_slice){.lo = {2, {1, 0}}, .hi = {2, {4, 5}}, .step = {2, {2, 3}}}, 1,
        &big, tensor(IG_i32, 2, DIMS(2, 2), y));
    EXPECT(y, 5, 8, 15, 18);
    ir_tensor pads[] = {x, SCALAR(IG_i32, seq + 9)};
    run(OP_pad, &(ir_attr_pad){.lo = {2, {1, 0}}, .hi = {2, {0, 1}}, .interior = {2, {0, 1}}}, 2,
        pads, tensor(IG_i32, 2, DIMS(3, 6), y));
    EXPECT(y, 9, 9, 9, 9, 9, 9, 0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9);
    ir_tensor parts[] = {x, tensor(IG_i32, 2, DIMS(2, 0), NULL),
                         tensor(IG_i32, 2, DIMS(2, 1), seq + 20)};
    run(OP_concat, &(ir_attr_axis){.axis = 1}, 3, parts, tensor(IG_i32, 2, DIMS(2, 4), y));
    EXPECT(y, 0, 1, 2, 20, 3, 4, 5, 21);
    run(OP_iota, &(ir_attr_iota){.dtype = IG_i32, .dims = {3, {2, 3, 2}}, .axis = 1}, 0, NULL,
        tensor(IG_i32, 3, DIMS(2, 3, 2), y));
    EXPECT(y, 0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2);
}
END_TEST

START_TEST(windows_are_clamped) {
    int32_t y[32];
    int64_t i[] = {-5, 100, 1};
    ir_tensor in[] = {tensor(IG_i32, 2, DIMS(3, 4), seq), SCALAR(IG_i64, &i[0]),
                      SCALAR(IG_i64, &i[1])};
    run(OP_dslice, &(ir_attr_dims){.dims = {2, {2, 3}}}, 3, in, tensor(IG_i32, 2, DIMS(2, 3), y));
    EXPECT(y, 1, 2, 3, 5, 6, 7);
    int32_t u[] = {100, 200};
    ir_tensor up[] = {in[0], tensor(IG_i32, 2, DIMS(2, 1), u), SCALAR(IG_i64, &i[1]),
                      SCALAR(IG_i64, &i[2])};
    run(OP_dupdate, &(ir_attr_dupd){.op = IR_setop_add}, 4, up, tensor(IG_i32, 2, DIMS(3, 4), y));
    EXPECT(y, 0, 1, 2, 3, 4, 105, 6, 7, 8, 209, 10, 11);
    run(OP_dupdate, &(ir_attr_dupd){.op = IR_setop_set}, 4, up, tensor(IG_i32, 2, DIMS(3, 4), y));
    EXPECT(y, 0, 1, 2, 3, 4, 100, 6, 7, 8, 200, 10, 11);
}
END_TEST

/* --- Random bits ------------------------------------------------------------------------------ */

/* Philox4x32-10 as its authors wrote it (Salmon et al. 2011), to carry their vectors over to
 * counters that rng_bits can reach. */
static void philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
        uint64_t p = (uint64_t)0xd2511f53u * c[0], q = (uint64_t)0xcd9e8d57u * c[2];
        uint32_t next[4] = {(uint32_t)(q >> 32) ^ c[1] ^ k0, (uint32_t)q,
                            (uint32_t)(p >> 32) ^ c[3] ^ k1, (uint32_t)p};
        memcpy(c, next, sizeof next);
    }
}

START_TEST(philox_vectors) {
    static const uint32_t vectors[3][10] = {
        /* counter, key, result: Random123's known answers */
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t c[4];
        memcpy(c, vectors[i], sizeof c);
        philox(c, vectors[i][4], vectors[i][5]);
        ck_assert(!memcmp(c, &vectors[i][6], sizeof c));
    }
    enum { N = 4099 };
    uint32_t key[2] = {0, 0}, y[N];
    uint64_t z[N];
    ir_tensor k = VEC(IG_u32, 2, key);
    run(OP_rng_bits, &(ir_attr_rng){.dims = {1, {4}}}, 1, &k, VEC(IG_u32, 4, y));
    ck_assert(!memcmp(y, &vectors[0][6], 16));
    key[0] = 0xa4093822, key[1] = 0x299f31d0;
    run(OP_rng_bits, &(ir_attr_rng){.dims = {1, {N}}}, 1, &k, VEC(IG_u32, N, y));
    run(OP_rng_bits, &(ir_attr_rng){.dims = {1, {N}}, .width = IR_width_u64}, 1, &k,
        VEC(IG_u64, N, z));
    for (uint32_t i = 0; i < N; i++) {
        uint32_t c[4] = {i / 4}, d[4] = {i / 2};
        philox(c, key[0], key[1]);
        philox(d, key[0], key[1]);
        ck_assert_uint_eq(y[i], c[i % 4]);
        ck_assert_uint_eq(z[i], d[i % 2 * 2] | (uint64_t)d[i % 2 * 2 + 1] << 32);
    }
}
END_TEST

/* --- Transcendental functions run as bodies --------------------------------------------------- */

START_TEST(bodies_run_at_every_float_type) {
    ir_ref_ctx *ctx;
    ig_status s = ir_ref_ctx_new(A(), &ctx);
    ck_assert_ptr_null(s);
    for (size_t k = 0; k < LEN(floats); k++)
        for (int op = 0; op < OP_END; op++) {
            enum { N = 700 }; /* more than a chunk */
            ig_dtype d = floats[k];
            if (!ir_math_has((ir_opcode)op, d)) continue;
            uint64_t one[N], x[N], y[N];
            size_t bytes = rt_dtype_bytes(d);
            for (int i = 0; i < N; i++) {
                uint64_t v = of_double(d, i % 7 * 0.25);
                memcpy((char *)x + (size_t)i * bytes, &v, bytes);
            }
            ir_tensor in[] = {VEC(d, N, x), VEC(d, N, x)}, out = VEC(d, N, y);
            int nin = ir_op_tab[op].arity;
            ir_attr_none none = {0};
            s = ir_ref_op_in(ctx, IR_CLASS_FMA, (ir_opcode)op, &none, nin, in, 1, &out);
            if (s) ck_abort_msg("%s", ig_status_text(s));
            for (int i = 0; i < N; i++) { /* the same, one at a time and without a context */
                ir_tensor e[] = {SCALAR(d, (char *)x + (size_t)i * bytes),
                                 SCALAR(d, (char *)x + (size_t)i * bytes)};
                if (i > 8 && i < N - 8) continue;
                run((ir_opcode)op, &none, nin, e, SCALAR(d, one));
                ck_assert(!memcmp(one, (char *)y + (size_t)i * bytes, bytes));
            }
        }
    ir_ref_ctx_free(ctx);
}
END_TEST

/* --- Functions -------------------------------------------------------------------------------- */

static const char program[] =
    "module m class fma state 0 {\n"
    "  dim B in 1..100\n"
    "  fn @scale(%x: f32[B,3], %s: f32[]) -> (f32[B,3], f32[]) {\n"
    "    %1 = broadcast %s dims=[B,3] axes=[]\n"
    "    %2 = mul %x, %1\n"
    "    return %2, %s\n"
    "  }\n"
    "  fn @main(%x: f32[B,3], %s: f32[]) -> (f32[B], f32[B,3], f32[], f32[B,3]) {\n"
    "    %1, %2 = call %x, %s callee=@scale\n"
    "    %3, %4 = call %1, %2 callee=@scale\n"
    "    %5 = reduce %3 op=sum axes=[1]\n"
    "    %6 = neg %3\n"
    "    return %5, %3, %4, %x\n"
    "  }\n"
    "}\n";

static ir_module *parse(const char *text) {
    ir_module *m;
    ig_status s = ir_parse(A(), "test", text, strlen(text), &m);
    if (s) ck_abort_msg("%s", ig_status_text(s));
    s = ir_verify(m);
    if (s) ck_abort_msg("%s", ig_status_text(s));
    return m;
}

START_TEST(functions_call_functions) {
    ir_module *m = parse(program);
    ir_func *f = ir_find_func(m, "main");
    float x[] = {1, 2, 3, 4, 5, 6}, s = 2, y[2], z[6], t, u[6];
    ir_tensor in[] = {tensor(IG_f32, 2, DIMS(2, 3), x), SCALAR(IG_f32, &s)}, out[4];
    int64_t symbols[1];
    ig_status st = ir_bind_dims(f, 2, in, symbols);
    if (st) ck_abort_msg("%s", ig_status_text(st));
    ck_assert_int_eq(symbols[0], 2);
    for (uint32_t k = 0; k < 4; k++) ck_assert_ptr_null(ir_result_shape(f, symbols, k, &out[k]));
    ck_assert(out[0].rank == 1 && out[0].dim[0] == 2 && out[1].dim[1] == 3 && out[2].rank == 0);
    out[0].data = y, out[1].data = z, out[2].data = &t, out[3].data = u;
    st = ir_ref_run(f, A(), symbols, 2, in, 4, out);
    if (st) ck_abort_msg("%s", ig_status_text(st));
    EXPECT(y, 24, 60);
    EXPECT(z, 4, 8, 12, 16, 20, 24);
    EXPECT(u, 1, 2, 3, 4, 5, 6);
    ck_assert_float_eq(t, 2);
    ir_module_free(m);
}
END_TEST

static void expect_error(ig_status s, ig_code code, const char *part) {
    ck_assert_ptr_nonnull(s);
    if (ig_status_code(s) != code || !strstr(ig_status_text(s), part))
        ck_abort_msg("code %d, expected %d with '%s': %s", ig_status_code(s), code, part,
                     ig_status_text(s));
    ig_status_free(s);
}

START_TEST(dims_are_bound_from_arguments) {
    ir_module *m =
        parse("module m class fma state 0 {\n"
              "  dim B in 2..8\n  dim C in 0..50\n  dim D in 1..9\n"
              "  fn @f(%x: f32[2*B+1], %y: f32[B*C], %z: f32[B+C], %w: f32[C,4]) -> (f32[C,4]) {\n"
              "    return %w\n  }\n"
              "  fn @g(%x: f32[B]) -> (f32[D]) {\n"
              "    %1 = iota dtype=f32 dims=[D] axis=0\n    return %1\n  }\n}\n");
    ir_func *f = ir_find_func(m, "f"), *g = ir_find_func(m, "g");
    int64_t s[3];
    ir_tensor in[] = {VEC(IG_f32, 7, NULL), VEC(IG_f32, 15, NULL), VEC(IG_f32, 8, NULL),
                      tensor(IG_f32, 2, DIMS(5, 4), NULL)};
    ck_assert_ptr_null(ir_bind_dims(f, 4, in, s));
    ck_assert(s[0] == 3 && s[1] == 5);
    in[3].dim[1] = 5;
    expect_error(ir_bind_dims(f, 4, in, s), IG_SHAPE, "argument 3");
    in[3].dim[1] = 4, in[1].dim[0] = 16;
    expect_error(ir_bind_dims(f, 4, in, s), IG_SHAPE, "argument 1");
    in[1].dim[0] = 15, in[0].dim[0] = 8;
    expect_error(ir_bind_dims(f, 4, in, s), IG_SHAPE, "argument 0 %x: dim 0 is 8 but 2*B+1 is 7");
    in[0].dim[0] = 19, in[2].dim[0] = 14;
    expect_error(ir_bind_dims(f, 4, in, s), IG_SHAPE, "at most 8");
    in[0].dtype = IG_f64;
    expect_error(ir_bind_dims(f, 4, in, s), IG_DTYPE, "argument 0");
    expect_error(ir_bind_dims(f, 3, in, s), IG_INVALID, "4 arguments");
    ir_tensor x = VEC(IG_f32, 4, NULL);
    expect_error(ir_bind_dims(g, 1, &x, s), IG_SHAPE, "D");
    ir_module_free(m);
}
END_TEST

START_TEST(every_allocation_may_fail) {
    static const char text[] =
        "module m class fma state 0 {\n"
        "  fn @h(%x: f16[3,3]) -> (f16[3,3]) {\n    %1 = exp %x\n    return %1\n  }\n"
        "  fn @f(%x: f16[3,3]) -> (f16[3,3], f16[3], f16[3,3]) {\n"
        "    %1 = call %x callee=@h\n"
        "    %2 = ein %1, %x rel=\"y[a,b] += a[a,c]*b[c,b] over (c)\"\n"
        "    %3 = reduce %2 op=sum axes=[0]\n"
        "    %4 = cumred %2 op=sum axis=0\n"
        "    return %2, %3, %4\n  }\n}\n";
    ir_module *m = parse(text);
    uint16_t x[9] = {0x3c00, 0x3c00}, y[9], z[3], w[9];
    ir_tensor in = tensor(IG_f16, 2, DIMS(3, 3), x);
    ir_tensor out[] = {tensor(IG_f16, 2, DIMS(3, 3), y), VEC(IG_f16, 3, z),
                       tensor(IG_f16, 2, DIMS(3, 3), w)};
    bool done = false;
    for (long n = 0; !done; n++) {
        counting f = COUNTING(n);
        ig_allocator a = {counting_resize, &f};
        ig_status s = ir_ref_run(ir_find_func(m, "f"), &a, NULL, 1, &in, 3, out);
        done = !s;
        if (s) ck_assert_int_eq(ig_status_code(s), IG_MEMORY);
        ig_status_free(s);
        ck_assert_int_eq((long)f.live, 0);
        ck_assert_int_lt(n, 100000);
    }
    ir_module_free(m);
}
END_TEST

int main(void) {
    TCase *t = tcase_create("ref");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, integer_edges);
    tcase_add_test(t, float_edges);
    tcase_add_test(t, comparisons_of_nan);
    tcase_add_test(t, bits_of_nan);
    tcase_add_test(t, fma_in_both_classes);
    tcase_add_test(t, all_16_bit_floats_round_trip);
    tcase_add_test(t, narrowing_rounds_once_to_even);
    tcase_add_test(t, float_to_integer_saturates);
    tcase_add_test(t, integer_to_float_rounds_once);
    tcase_add_test(t, movement);
    tcase_add_test(t, windows_are_clamped);
    tcase_add_test(t, philox_vectors);
    tcase_add_test(t, bodies_run_at_every_float_type);
    tcase_add_test(t, functions_call_functions);
    tcase_add_test(t, dims_are_bound_from_arguments);
    tcase_add_test(t, every_allocation_may_fail);
    return run_suite(t);
}
