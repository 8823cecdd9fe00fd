/* test_eager.c - the eager API against numpy's meaning, worked out by hand. */
#include "eager.h"

#define NAN_ (double)NAN
#define INF_ (double)INFINITY

static ig_tensor *grid(void) { return TENSOR(IG_f32, IG_DIMS(2, 3), 0, 1, 2, 3, 4, 5); }

/* --- Creation ------------------------------------------------------------------------------ */

START_TEST(creation) {
    WANT(ig_zeros(IG_i32, IG_DIMS(2, 2)), IG_i32, IG_DIMS(2, 2), 0, 0, 0, 0);
    WANT(ig_ones(IG_bf16, IG_DIMS(3)), IG_bf16, IG_DIMS(3), 1, 1, 1);
    WANT(ig_full(IG_f64, IG_SCALAR, 2.5), IG_f64, IG_SCALAR, 2.5);
    WANT(ig_full(IG_u8, IG_DIMS(2), 255), IG_u8, IG_DIMS(2), 255, 255);
    WANT(ig_full(IG_bool, IG_DIMS(1), true), IG_bool, IG_DIMS(1), 1);
    WANT_EMPTY(ig_zeros(IG_f32, IG_DIMS(2, 0, 3)), IG_f32, IG_DIMS(2, 0, 3));
    WANT(ig_arange(IG_i64, 2, 11, 3), IG_i64, IG_DIMS(3), 2, 5, 8);
    WANT(ig_arange(IG_i32, 5, 0, -2), IG_i32, IG_DIMS(3), 5, 3, 1);
    WANT(ig_arange(IG_f32, 0.0, 1.0, 0.25), IG_f32, IG_DIMS(4), 0, 0.25, 0.5, 0.75);
    WANT_EMPTY(ig_arange(IG_i32, 3, 3, 1), IG_i32, IG_DIMS(0));
    WANT_EMPTY(ig_arange(IG_f32, 1.0, 0.0, 1.0), IG_f32, IG_DIMS(0));
    WANT(ig_linspace(IG_f64, 0, 1, 5), IG_f64, IG_DIMS(5), 0, 0.25, 0.5, 0.75, 1);
    WANT(ig_linspace(IG_f16, 2, 3, 1), IG_f16, IG_DIMS(1), 2);
    WANT(ig_eye(IG_f32, 2), IG_f32, IG_DIMS(2, 2), 1, 0, 0, 1);
    WANT(ig_eye_at(NULL, IG_i8, 2, 3, 1), IG_i8, IG_DIMS(2, 3), 0, 1, 0, 0, 0, 1);
    WANT(ig_zeros_like(grid()), IG_f32, IG_DIMS(2, 3), 0, 0, 0, 0, 0, 0);
    WANT(ig_full_like(VECTOR(IG_u16, 1, 2), 7), IG_u16, IG_DIMS(2), 7, 7);
    uint8_t raw[3] = {0, 2, 1};
    WANT(ig_tensor_from(IG_bool, IG_DIMS(3), raw), IG_bool, IG_DIMS(3), 0, 1, 1);
    eager_end();
}
END_TEST

static int released;
static void release(void *user, const void *data) { released += data == user; }

START_TEST(borrow) {
    float x[4] = {1, 2, 3, NAN};
    IG_SCOPE {
        ig_tensor *t = ig_borrow(IG_f32, IG_DIMS(2, 2), x, release, x);
        WANT(ig_add(t, 1), IG_f32, IG_DIMS(2, 2), 2, 3, 4, NAN_);
        ck_assert_ptr_nonnull(ig_data(ig_reshape(t, IG_DIMS(4))));
        ck_assert_int_eq(released, 0);
    }
    ck_assert_int_eq(released, 1);
    ig_borrow(IG_f64, IG_DIMS(1), (char *)x + 4, NULL, NULL);
    WANT_ERROR(IG_INVALID, "borrow", "aligned");
    eager_end();
}
END_TEST

/* --- Elementwise --------------------------------------------------------------------------- */

START_TEST(arithmetic) {
    ig_tensor *a = VECTOR(IG_f32, 1, -2, 3), *b = VECTOR(IG_f32, 4, 5, -6);
    WANT(ig_add(a, b), IG_f32, IG_DIMS(3), 5, 3, -3);
    WANT(ig_sub(a, b), IG_f32, IG_DIMS(3), -3, -7, 9);
    WANT(ig_mul(a, b), IG_f32, IG_DIMS(3), 4, -10, -18);
    WANT(ig_div(b, a), IG_f32, IG_DIMS(3), 4, -2.5, -2);
    WANT(ig_rem(VECTOR(IG_f32, 5, -5, 5.5), VECTOR(IG_f32, 3, 3, -2)), IG_f32, IG_DIMS(3), 2, -2,
         1.5);
    WANT(ig_neg(a), IG_f32, IG_DIMS(3), -1, 2, -3);
    WANT(ig_abs(a), IG_f32, IG_DIMS(3), 1, 2, 3);
    WANT(ig_square(a), IG_f32, IG_DIMS(3), 1, 4, 9);
    WANT(ig_sign(VECTOR(IG_f32, -3, -0.0, 0, 2, NAN_)), IG_f32, IG_DIMS(5), -1, 0, 0, 1, NAN_);
    WANT(ig_sign(VECTOR(IG_i16, -3, 0, 2)), IG_i16, IG_DIMS(3), -1, 0, 1);
    WANT(ig_sign(VECTOR(IG_u8, 0, 200)), IG_u8, IG_DIMS(2), 0, 1);
    WANT(ig_maximum(a, 0), IG_f32, IG_DIMS(3), 1, 0, 3);
    WANT(ig_minimum(VECTOR(IG_f32, NAN_, 2), 1.5), IG_f32, IG_DIMS(2), NAN_, 1.5);
    WANT(ig_relu(a), IG_f32, IG_DIMS(3), 1, 0, 3);
    WANT(ig_reciprocal(VECTOR(IG_f32, 4, -0.0)), IG_f32, IG_DIMS(2), 0.25, -INF_);
    WANT(ig_clip(a, -1, 2), IG_f32, IG_DIMS(3), 1, -1, 2);
    WANT(ig_fma(a, b, 1), IG_f32, IG_DIMS(3), 5, -9, -17);
    WANT(ig_floor(VECTOR(IG_f64, 1.5, -1.5)), IG_f64, IG_DIMS(2), 1, -2);
    WANT(ig_ceil(VECTOR(IG_f64, 1.5, -1.5)), IG_f64, IG_DIMS(2), 2, -1);
    WANT(ig_round(VECTOR(IG_f64, 0.5, 1.5, 2.5, -0.5)), IG_f64, IG_DIMS(4), 0, 2, 2, -0.0);
    WANT(ig_trunc(VECTOR(IG_f64, 1.5, -1.5)), IG_f64, IG_DIMS(2), 1, -1);
    eager_end();
}
END_TEST

START_TEST(integers) {
    ig_tensor *a = VECTOR(IG_i32, 7, -7, 5), *b = VECTOR(IG_i32, 2, 2, 0);
    WANT(ig_div(a, b), IG_i32, IG_DIMS(3), 3, -3, 0);
    WANT(ig_rem(a, b), IG_i32, IG_DIMS(3), 1, -1, 5);
    WANT(ig_add(VECTOR(IG_u8, 250), 10), IG_u8, IG_DIMS(1), 4);
    WANT(ig_pow(a, 3), IG_i32, IG_DIMS(3), 343, -343, 125);
    WANT(ig_pow(a, 0), IG_i32, IG_DIMS(3), 1, 1, 1);
    WANT(ig_and(a, 3), IG_i32, IG_DIMS(3), 3, 1, 1);
    WANT(ig_or(VECTOR(IG_u8, 5), 2), IG_u8, IG_DIMS(1), 7);
    WANT(ig_xor(VECTOR(IG_bool, 1, 0), VECTOR(IG_bool, 1, 1)), IG_bool, IG_DIMS(2), 0, 1);
    WANT(ig_not(VECTOR(IG_bool, 1, 0)), IG_bool, IG_DIMS(2), 0, 1);
    WANT(ig_not(VECTOR(IG_i8, 5)), IG_i8, IG_DIMS(1), -6);
    WANT(ig_shl(VECTOR(IG_i32, 3), 4), IG_i32, IG_DIMS(1), 48);
    WANT(ig_shr(VECTOR(IG_i32, -16), 2), IG_i32, IG_DIMS(1), -4);
    WANT(ig_shr(VECTOR(IG_u8, 200), 3), IG_u8, IG_DIMS(1), 25);
    WANT(ig_popcount(VECTOR(IG_u8, 255, 1)), IG_u8, IG_DIMS(2), 8, 1);
    WANT(ig_clz(VECTOR(IG_u16, 1, 0)), IG_u16, IG_DIMS(2), 15, 16);
    WANT(ig_ctz(VECTOR(IG_i64, 8)), IG_i64, IG_DIMS(1), 3);
    eager_end();
}
END_TEST

START_TEST(functions) {
    ig_tensor *x = VECTOR(IG_f64, 0.5, -1, 2);
    WANT_NEAR(1e-15, ig_exp(x), IG_f64, IG_DIMS(3), 1.6487212707001282, 0.36787944117144233,
              7.38905609893065);
    WANT_NEAR(1e-15, ig_tanh(x), IG_f64, IG_DIMS(3), 0.46211715726000973, -0.7615941559557649,
              0.9640275800758169);
    WANT_NEAR(1e-15, ig_sigmoid(x), IG_f64, IG_DIMS(3), 0.6224593312018546, 0.2689414213699951,
              0.8807970779778823);
    WANT_NEAR(1e-15, ig_erf(x), IG_f64, IG_DIMS(3), 0.5204998778130465, -0.8427007929497149,
              0.9953222650189527);
    WANT_NEAR(1e-15, ig_gelu(x), IG_f64, IG_DIMS(3), 0.34573123063700656, -0.15865525393145707,
              1.9544997361036416);
    WANT_NEAR(1e-15, ig_softplus(x), IG_f64, IG_DIMS(3), 0.9740769841801067, 0.31326168751822286,
              2.1269280110429727);
    WANT_NEAR(1e-15, ig_silu(x), IG_f64, IG_DIMS(3), 0.3112296656009273, -0.2689414213699951,
              1.7615941559557646);
    WANT_NEAR(1e-15, ig_tan(x), IG_f64, IG_DIMS(3), 0.5463024898437905, -1.5574077246549023,
              -2.185039863261519);
    WANT_NEAR(1e-15, ig_log(VECTOR(IG_f64, 1, 2)), IG_f64, IG_DIMS(2), 0, 0.6931471805599453);
    WANT_NEAR(1e-15, ig_log1p(VECTOR(IG_f64, 1e-10)), IG_f64, IG_DIMS(1), 9.9999999995e-11);
    WANT_NEAR(1e-15, ig_expm1(VECTOR(IG_f64, 1e-10)), IG_f64, IG_DIMS(1), 1.00000000005e-10);
    WANT_NEAR(1e-15, ig_sqrt(VECTOR(IG_f64, 2, 9)), IG_f64, IG_DIMS(2), 1.4142135623730951, 3);
    WANT_NEAR(1e-15, ig_rsqrt(VECTOR(IG_f64, 4)), IG_f64, IG_DIMS(1), 0.5);
    WANT_NEAR(1e-15, ig_pow(VECTOR(IG_f64, 2, 9), 0.5), IG_f64, IG_DIMS(2), 1.4142135623730951, 3);
    WANT_NEAR(1e-15, ig_atan2(VECTOR(IG_f64, 1), VECTOR(IG_f64, -1)), IG_f64, IG_DIMS(1),
              2.356194490192345);
    WANT_NEAR(1e-15, ig_sin(VECTOR(IG_f64, 1)), IG_f64, IG_DIMS(1), 0.8414709848078965);
    WANT_NEAR(1e-15, ig_cos(VECTOR(IG_f64, 1)), IG_f64, IG_DIMS(1), 0.5403023058681398);
    ig_tensor *odd = VECTOR(IG_f32, NAN_, INF_, -INF_, 1);
    WANT(ig_isnan(odd), IG_bool, IG_DIMS(4), 1, 0, 0, 0);
    WANT(ig_isinf(odd), IG_bool, IG_DIMS(4), 0, 1, 1, 0);
    WANT(ig_isfinite(odd), IG_bool, IG_DIMS(4), 0, 0, 0, 1);
    WANT(ig_isfinite(VECTOR(IG_i32, 1)), IG_bool, IG_DIMS(1), 1);
    WANT(ig_isinf(VECTOR(IG_i32, 1)), IG_bool, IG_DIMS(1), 0);
    eager_end();
}
END_TEST

START_TEST(comparisons) {
    ig_tensor *a = VECTOR(IG_f32, 1, 2, NAN_), *b = VECTOR(IG_f32, 2, 2, 2);
    WANT(ig_eq(a, b), IG_bool, IG_DIMS(3), 0, 1, 0);
    WANT(ig_ne(a, b), IG_bool, IG_DIMS(3), 1, 0, 1);
    WANT(ig_lt(a, b), IG_bool, IG_DIMS(3), 1, 0, 0);
    WANT(ig_le(a, b), IG_bool, IG_DIMS(3), 1, 1, 0);
    WANT(ig_gt(b, a), IG_bool, IG_DIMS(3), 1, 0, 0);
    WANT(ig_ge(b, a), IG_bool, IG_DIMS(3), 1, 1, 0);
    WANT(ig_where(ig_gt(a, 1), a, -1), IG_f32, IG_DIMS(3), -1, 2, -1);
    WANT(ig_where(true, VECTOR(IG_i32, 1, 2), 0), IG_i32, IG_DIMS(2), 1, 2);
    eager_end();
}
END_TEST

START_TEST(promotion) {
    ig_tensor *i = VECTOR(IG_i32, 1, 2), *f = VECTOR(IG_f32, 0.5, 0.5), *h = VECTOR(IG_f16, 2, 4);
    WANT(ig_add(i, f), IG_f32, IG_DIMS(2), 1.5, 2.5);
    WANT(ig_mul(h, i), IG_f16, IG_DIMS(2), 2, 8);
    WANT(ig_add(i, 1), IG_i32, IG_DIMS(2), 2, 3);
    WANT(ig_add(f, 1), IG_f32, IG_DIMS(2), 1.5, 1.5);
    WANT(ig_add(h, 0.5), IG_f16, IG_DIMS(2), 2.5, 4.5);
    WANT(ig_sub(1, f), IG_f32, IG_DIMS(2), 0.5, 0.5);
    WANT(ig_add(1, 2), IG_i64, IG_SCALAR, 3);
    WANT(ig_add(1, 2.5), IG_f32, IG_SCALAR, 3.5);
    ig_add(f, VECTOR(IG_f64, 1, 2));
    WANT_ERROR(IG_DTYPE, "add", "f32[2]", "f64[2]", "ig_cast");
    ig_add(VECTOR(IG_bf16, 1, 2), f);
    WANT_ERROR(IG_DTYPE, "bf16[2]", "f32[2]", "ig_cast");
    ig_add(i, VECTOR(IG_i64, 1, 2));
    WANT_ERROR(IG_DTYPE, "i32[2]", "i64[2]");
    ig_add(VECTOR(IG_bool, 1, 1), f);
    WANT_ERROR(IG_DTYPE, "bool[2]", "f32[2]");
    ig_mul(i, 0.5);
    WANT_ERROR(IG_DTYPE, "0.5", "i32", "cast");
    ig_add(VECTOR(IG_u8, 1), 256);
    WANT_ERROR(IG_RANGE, "256", "u8");
    ig_add(VECTOR(IG_u8, 1), -1);
    WANT_ERROR(IG_RANGE, "-1", "u8");
    ig_exp(i);
    WANT_ERROR(IG_DTYPE, "exp", "i32[2]");
    eager_end();
}
END_TEST

START_TEST(broadcasting) {
    ig_tensor *g = grid();
    WANT(ig_add(g, VECTOR(IG_f32, 10, 20, 30)), IG_f32, IG_DIMS(2, 3), 10, 21, 32, 13, 24, 35);
    WANT(ig_add(g, TENSOR(IG_f32, IG_DIMS(2, 1), 10, 20)), IG_f32, IG_DIMS(2, 3), 10, 11, 12, 23,
         24, 25);
    WANT(ig_mul(TENSOR(IG_f32, IG_DIMS(2, 1), 1, 2), VECTOR(IG_f32, 3, 4)), IG_f32, IG_DIMS(2, 2),
         3, 4, 6, 8);
    WANT_EMPTY(ig_add(ig_zeros(IG_f32, IG_DIMS(0, 3)), VECTOR(IG_f32, 1, 2, 3)), IG_f32,
               IG_DIMS(0, 3));
    WANT_EMPTY(ig_add(ig_zeros(IG_f32, IG_DIMS(0, 1)), VECTOR(IG_f32, 1, 2, 3)), IG_f32,
               IG_DIMS(0, 3));
    WANT(ig_broadcast_to(VECTOR(IG_i32, 1, 2), IG_DIMS(2, 2)), IG_i32, IG_DIMS(2, 2), 1, 2, 1, 2);
    WANT(ig_clip(VECTOR(IG_f32, 1, 5), TENSOR(IG_f32, IG_DIMS(2, 1), 2, 3), 4), IG_f32,
         IG_DIMS(2, 2), 2, 4, 3, 4);
    eager_end();
}
END_TEST

START_TEST(conversions) {
    WANT(ig_cast(VECTOR(IG_f32, 1.9, -1.9, 300, NAN_), IG_i8), IG_i8, IG_DIMS(4), 1, -1, 127, 0);
    WANT(ig_cast(VECTOR(IG_f32, 0, 0.1, NAN_), IG_bool), IG_bool, IG_DIMS(3), 0, 1, 1);
    WANT(ig_cast(VECTOR(IG_bool, 1, 0), IG_f16), IG_f16, IG_DIMS(2), 1, 0);
    WANT(ig_cast(VECTOR(IG_f32, 2049), IG_f16), IG_f16, IG_DIMS(1), 2048);
    WANT(ig_bitcast(VECTOR(IG_f32, 1, -0.0), IG_u32), IG_u32, IG_DIMS(2), 1065353216, 2147483648.0);
    eager_end();
}
END_TEST

/* --- Shape --------------------------------------------------------------------------------- */

START_TEST(shapes) {
    ig_tensor *g = grid();
    WANT(ig_reshape(g, IG_DIMS(3, -1)), IG_f32, IG_DIMS(3, 2), 0, 1, 2, 3, 4, 5);
    WANT(ig_flatten(g), IG_f32, IG_DIMS(6), 0, 1, 2, 3, 4, 5);
    WANT(ig_transpose(g, IG_ALL_AXES), IG_f32, IG_DIMS(3, 2), 0, 3, 1, 4, 2, 5);
    WANT(ig_transpose(g, IG_AXES(-1, 0)), IG_f32, IG_DIMS(3, 2), 0, 3, 1, 4, 2, 5);
    WANT(ig_swap_axes(g, 0, 1), IG_f32, IG_DIMS(3, 2), 0, 3, 1, 4, 2, 5);
    ig_tensor *t = ig_reshape(ig_arange(IG_i32, 0, 24, 1), IG_DIMS(2, 3, 4));
    ck_assert_int_eq(ig_dim(ig_move_axis(t, 0, -1), 0), 3);
    ck_assert_int_eq(ig_dim(ig_move_axis(t, 0, -1), 2), 2);
    ck_assert_int_eq(ig_item_i64(ig_slice(ig_move_axis(t, 2, 0), IG_AT(3), IG_AT(1), IG_AT(2))),
                     23);
    WANT(ig_expand_dims(VECTOR(IG_f32, 1, 2), 0), IG_f32, IG_DIMS(1, 2), 1, 2);
    WANT(ig_expand_dims(VECTOR(IG_f32, 1, 2), IG_AXES(0, -1)), IG_f32, IG_DIMS(1, 2, 1), 1, 2);
    WANT(ig_squeeze(ig_zeros(IG_f32, IG_DIMS(1, 2, 1)), IG_ALL_AXES), IG_f32, IG_DIMS(2), 0, 0);
    WANT(ig_squeeze(ig_zeros(IG_f32, IG_DIMS(1, 2, 1)), -1), IG_f32, IG_DIMS(1, 2), 0, 0);
    WANT(ig_flip(g, 1), IG_f32, IG_DIMS(2, 3), 2, 1, 0, 5, 4, 3);
    WANT(ig_flip(g, IG_ALL_AXES), IG_f32, IG_DIMS(2, 3), 5, 4, 3, 2, 1, 0);
    WANT(ig_pad(VECTOR(IG_f32, 1, 2), IG_DIMS(1), IG_DIMS(2), 9), IG_f32, IG_DIMS(5), 9, 1, 2, 9,
         9);
    WANT(ig_concat(IG_LIST(g, ig_ones(IG_f32, IG_DIMS(1, 3))), 0), IG_f32, IG_DIMS(3, 3), 0, 1, 2,
         3, 4, 5, 1, 1, 1);
    WANT(ig_stack(IG_LIST(VECTOR(IG_i8, 1, 2), VECTOR(IG_i8, 3, 4)), -1), IG_i8, IG_DIMS(2, 2), 1,
         3, 2, 4);
    ig_tensor *part[3];
    ck_assert(ig_split(g, 3, 1, part));
    WANT(part[2], IG_f32, IG_DIMS(2, 1), 2, 5);
    ck_assert(!ig_split(g, 2, 1, part));
    ck_assert(ig_is_poison(part[0]) && ig_is_poison(part[1]));
    WANT_ERROR(IG_SHAPE, "split", "f32[2,3]");
    WANT(ig_repeat(VECTOR(IG_i32, 1, 2), 2, 0), IG_i32, IG_DIMS(4), 1, 1, 2, 2);
    WANT(ig_tile(VECTOR(IG_i32, 1, 2), IG_DIMS(2, 2)), IG_i32, IG_DIMS(2, 4), 1, 2, 1, 2, 1, 2, 1,
         2);
    WANT(ig_roll(VECTOR(IG_i32, 1, 2, 3, 4), 1, 0), IG_i32, IG_DIMS(4), 4, 1, 2, 3);
    WANT(ig_roll(VECTOR(IG_i32, 1, 2, 3, 4), -5, 0), IG_i32, IG_DIMS(4), 2, 3, 4, 1);
    WANT(ig_tril(TENSOR(IG_i32, IG_DIMS(2, 3), 1, 2, 3, 4, 5, 6), 0), IG_i32, IG_DIMS(2, 3), 1, 0,
         0, 4, 5, 0);
    WANT(ig_triu(TENSOR(IG_i32, IG_DIMS(2, 3), 1, 2, 3, 4, 5, 6), 1), IG_i32, IG_DIMS(2, 3), 0, 2,
         3, 0, 0, 6);
    eager_end();
}
END_TEST

/* --- Indexing ------------------------------------------------------------------------------ */

START_TEST(slices) {
    ig_tensor *g = grid(), *v = ig_arange(IG_i32, 0, 10, 1);
    WANT(ig_slice(g, IG_AT(1)), IG_f32, IG_DIMS(3), 3, 4, 5);
    WANT(ig_slice(g, IG_AT(-1), IG_AT(-2)), IG_f32, IG_SCALAR, 4);
    WANT(ig_slice(g, IG_FULL, IG_AT(0)), IG_f32, IG_DIMS(2), 0, 3);
    WANT(ig_slice(g, IG_REST, IG_RANGE(1, IG_OPEN)), IG_f32, IG_DIMS(2, 2), 1, 2, 4, 5);
    WANT(ig_slice(g, IG_NEW, IG_AT(0), IG_NEW), IG_f32, IG_DIMS(1, 1, 3), 0, 1, 2);
    WANT(ig_slice(v, IG_RANGE(2, 5)), IG_i32, IG_DIMS(3), 2, 3, 4);
    WANT(ig_slice(v, IG_RANGE(-3, IG_OPEN)), IG_i32, IG_DIMS(3), 7, 8, 9);
    WANT(ig_slice(v, IG_RANGE(IG_OPEN, -8)), IG_i32, IG_DIMS(2), 0, 1);
    WANT(ig_slice(v, IG_RANGE(8, 100)), IG_i32, IG_DIMS(2), 8, 9);
    WANT(ig_slice(v, IG_RANGE(-100, 2)), IG_i32, IG_DIMS(2), 0, 1);
    WANT_EMPTY(ig_slice(v, IG_RANGE(5, 2)), IG_i32, IG_DIMS(0));
    WANT(ig_slice(v, IG_STEP(1, 8, 3)), IG_i32, IG_DIMS(3), 1, 4, 7);
    WANT(ig_slice(v, IG_STEP(IG_OPEN, IG_OPEN, -4)), IG_i32, IG_DIMS(3), 9, 5, 1);
    WANT(ig_slice(v, IG_STEP(7, 1, -3)), IG_i32, IG_DIMS(2), 7, 4);
    WANT(ig_slice(v, IG_STEP(-2, -5, -1)), IG_i32, IG_DIMS(3), 8, 7, 6);
    WANT(ig_slice(v, IG_STEP(100, IG_OPEN, -5)), IG_i32, IG_DIMS(2), 9, 4);
    WANT_EMPTY(ig_slice(v, IG_STEP(1, 5, -1)), IG_i32, IG_DIMS(0));
    ig_slice(g, IG_AT(2));
    WANT_ERROR(IG_RANGE, "slice", "position 2", "f32[2,3]");
    ig_slice(g, IG_FULL, IG_FULL, IG_FULL);
    WANT_ERROR(IG_SHAPE, "too many");
    eager_end();
}
END_TEST

START_TEST(assignment) {
    ig_tensor *g = grid(), *same = g, *old = ig_copy(g);
    ig_assign_slice(g, 9, IG_AT(0));
    ck_assert_ptr_eq(same, g);
    WANT(g, IG_f32, IG_DIMS(2, 3), 9, 9, 9, 3, 4, 5);
    WANT(old, IG_f32, IG_DIMS(2, 3), 0, 1, 2, 3, 4, 5);
    ig_assign_slice(g, VECTOR(IG_f32, 1, 2), IG_FULL, IG_AT(1));
    WANT(g, IG_f32, IG_DIMS(2, 3), 9, 1, 9, 3, 2, 5);
    ig_assign_slice(g, VECTOR(IG_i32, 7, 8), IG_AT(1), IG_STEP(IG_OPEN, IG_OPEN, -2));
    WANT(g, IG_f32, IG_DIMS(2, 3), 9, 1, 9, 8, 2, 7);
    ig_assign_slice(g, 0, IG_FULL, IG_STEP(0, IG_OPEN, 2));
    WANT(g, IG_f32, IG_DIMS(2, 3), 0, 1, 0, 0, 2, 0);
    ig_assign_slice(g, 5, IG_RANGE(1, 1));
    WANT(g, IG_f32, IG_DIMS(2, 3), 0, 1, 0, 0, 2, 0);
    ig_assign_slice(g, 4, IG_REST);
    WANT(g, IG_f32, IG_DIMS(2, 3), 4, 4, 4, 4, 4, 4);
    ig_assign(g, VECTOR(IG_f32, 1, 2, 3));
    WANT(g, IG_f32, IG_DIMS(2, 3), 1, 2, 3, 1, 2, 3);
    ig_assign_mask(g, ig_gt(g, 1), -1);
    WANT(g, IG_f32, IG_DIMS(2, 3), 1, -1, -1, 1, -1, -1);
    ig_assign_mask(g, VECTOR(IG_bool, 0, 1), VECTOR(IG_f32, 7, 8, 9));
    WANT(g, IG_f32, IG_DIMS(2, 3), 1, -1, -1, 7, 8, 9);
    ig_assign(g, ig_zeros(IG_f32, IG_DIMS(3, 2)));
    WANT_ERROR(IG_SHAPE, "assign", "f32[3,2]");
    ig_assign(g, VECTOR(IG_f64, 1, 2, 3));
    WANT_ERROR(IG_DTYPE, "f64[3]", "ig_cast");
    WANT(g, IG_f32, IG_DIMS(2, 3), 1, -1, -1, 7, 8, 9);
    eager_end();
}
END_TEST

START_TEST(masks) {
    ig_tensor *g = grid();
    WANT(ig_select_mask(g, ig_gt(g, 2)), IG_f32, IG_DIMS(3), 3, 4, 5);
    WANT(ig_select_mask(g, VECTOR(IG_bool, 0, 1)), IG_f32, IG_DIMS(1, 3), 3, 4, 5);
    WANT_EMPTY(ig_select_mask(g, ig_gt(g, 9)), IG_f32, IG_DIMS(0));
    ig_select_mask(g, VECTOR(IG_bool, 0, 1, 1));
    WANT_ERROR(IG_SHAPE, "bool[3]", "f32[2,3]");
    ig_select_mask(g, g);
    WANT_ERROR(IG_DTYPE, "mask");
    eager_end();
}
END_TEST

START_TEST(positions) {
    ig_tensor *g = grid(), *i = ig_scalar(IG_i32, 1), *zero = ig_scalar(IG_i64, 0);
    int64_t at[4] = {2, 0, -1, 1};
    WANT(ig_take(g, at, 4, 1), IG_f32, IG_DIMS(2, 4), 2, 0, 2, 1, 5, 3, 5, 4);
    WANT_EMPTY(ig_take(g, at, 0, 1), IG_f32, IG_DIMS(2, 0));
    ig_take(g, at, 1, 0);
    WANT_ERROR(IG_RANGE, "position 2", "axis 0");
    WANT(ig_window(g, IG_LIST(zero, i), IG_DIMS(2, 2)), IG_f32, IG_DIMS(2, 2), 1, 2, 4, 5);
    ig_assign_window(g, IG_LIST(i, i), TENSOR(IG_f32, IG_DIMS(1, 2), 8, 9));
    WANT(g, IG_f32, IG_DIMS(2, 3), 0, 1, 2, 3, 8, 9);
    ig_assign_window_at(NULL, g, IG_LIST(i, i), IG_ARG(TENSOR(IG_f32, IG_DIMS(1, 2), 1, 1)), true);
    WANT(g, IG_f32, IG_DIMS(2, 3), 0, 1, 2, 3, 9, 10);
    eager_end();
}
END_TEST

/* --- Reductions ---------------------------------------------------------------------------- */

START_TEST(reductions) {
    ig_tensor *g = grid();
    WANT(ig_sum(g, 0), IG_f32, IG_DIMS(3), 3, 5, 7);
    WANT(ig_sum(g, -1), IG_f32, IG_DIMS(2), 3, 12);
    WANT(ig_sum(g, IG_ALL_AXES), IG_f32, IG_SCALAR, 15);
    WANT(ig_sum(g, IG_KEEP(1)), IG_f32, IG_DIMS(2, 1), 3, 12);
    WANT(ig_sum(g, IG_KEEP_ALL), IG_f32, IG_DIMS(1, 1), 15);
    WANT(ig_sum(g, IG_AXES(1, 0)), IG_f32, IG_SCALAR, 15);
    WANT(ig_sum(ig_zeros(IG_f32, IG_DIMS(0, 2)), 0), IG_f32, IG_DIMS(2), 0, 0);
    WANT(ig_sum(VECTOR(IG_bool, 1, 0, 1), 0), IG_i64, IG_SCALAR, 2);
    WANT(ig_prod(VECTOR(IG_i32, 2, 3, 4), 0), IG_i32, IG_SCALAR, 24);
    WANT(ig_max(g, 0), IG_f32, IG_DIMS(3), 3, 4, 5);
    WANT(ig_min(VECTOR(IG_f32, 2, NAN_, 1), 0), IG_f32, IG_SCALAR, NAN_);
    WANT(ig_all(TENSOR(IG_bool, IG_DIMS(2, 2), 1, 1, 1, 0), 1), IG_bool, IG_DIMS(2), 1, 0);
    WANT(ig_any(TENSOR(IG_bool, IG_DIMS(2, 2), 0, 0, 1, 0), 1), IG_bool, IG_DIMS(2), 0, 1);
    WANT(ig_mean(g, 1), IG_f32, IG_DIMS(2), 1, 4);
    WANT(ig_mean(VECTOR(IG_f16, 60000, 60000), 0), IG_f16, IG_SCALAR, 60000);
    WANT(ig_mean(ig_zeros(IG_f32, IG_DIMS(0)), 0), IG_f32, IG_SCALAR, NAN_);
    WANT(ig_var(g, 1), IG_f32, IG_DIMS(2), 0.666666686534881591796875, 0.666666686534881591796875);
    WANT(ig_var_at(NULL, IG_ARG(g), IG_AXES(1), 1), IG_f32, IG_DIMS(2), 1, 1);
    WANT(ig_std(VECTOR(IG_f64, 1, 3), 0), IG_f64, IG_SCALAR, 1);
    WANT(ig_argmax(TENSOR(IG_f32, IG_DIMS(2, 3), 1, 3, 3, NAN_, 9, 0), 1), IG_i64, IG_DIMS(2), 1,
         0);
    WANT(ig_argmin(g, IG_ALL_AXES), IG_i64, IG_SCALAR, 0);
    WANT(ig_argmax(g, IG_KEEP_ALL), IG_i64, IG_DIMS(1, 1), 5);
    WANT_NEAR(1e-15, ig_logsumexp(VECTOR(IG_f64, 1000, 1000), 0), IG_f64, IG_SCALAR,
              1000.6931471805599);
    WANT(ig_logsumexp(VECTOR(IG_f64, -INF_, -INF_), 0), IG_f64, IG_SCALAR, -INF_);
    WANT(ig_cumsum(g, 1), IG_f32, IG_DIMS(2, 3), 0, 1, 3, 3, 7, 12);
    WANT(ig_cumprod(VECTOR(IG_i32, 1, 2, 3, 4), 0), IG_i32, IG_DIMS(4), 1, 2, 6, 24);
    WANT(ig_cummax(VECTOR(IG_i32, 1, 3, 2, 4), 0), IG_i32, IG_DIMS(4), 1, 3, 3, 4);
    WANT(ig_cum_at(NULL, IG_ARG(VECTOR(IG_i32, 1, 2, 3)), IG_CUM_SUM, 0, true, true), IG_i32,
         IG_DIMS(3), 5, 3, 0);
    ig_sum(g, 2);
    WANT_ERROR(IG_RANGE, "sum", "axis 2");
    ig_sum(g, IG_AXES(0, -2));
    WANT_ERROR(IG_INVALID, "twice");
    ig_mean(VECTOR(IG_i32, 1), 0);
    WANT_ERROR(IG_DTYPE, "mean", "ig_cast");
    eager_end();
}
END_TEST

START_TEST(contractions) {
    ig_tensor *g = grid(), *h = ig_transpose(g, IG_ALL_AXES), *v = VECTOR(IG_f32, 1, 2, 3);
    WANT(ig_matmul(g, h), IG_f32, IG_DIMS(2, 2), 5, 14, 14, 50);
    WANT(ig_matmul(g, v), IG_f32, IG_DIMS(2), 8, 26);
    WANT(ig_matmul(v, h), IG_f32, IG_DIMS(2), 8, 26);
    WANT(ig_matmul(v, v), IG_f32, IG_SCALAR, 14);
    ig_tensor *batch = ig_reshape(ig_arange(IG_f32, 0, 12, 1), IG_DIMS(2, 2, 3));
    WANT(ig_matmul(batch, v), IG_f32, IG_DIMS(2, 2), 8, 26, 44, 62);
    WANT(ig_matmul(g, ig_transpose(batch, IG_AXES(0, 2, 1))), IG_f32, IG_DIMS(2, 2, 2), 5, 14, 14,
         50, 23, 32, 86, 122);
    WANT(ig_matmul(ig_reshape(g, IG_DIMS(1, 2, 3)), ig_transpose(batch, IG_AXES(0, 2, 1))), IG_f32,
         IG_DIMS(2, 2, 2), 5, 14, 14, 50, 23, 32, 86, 122);
    WANT(ig_matmul(VECTOR(IG_i32, 2, 3), TENSOR(IG_i32, IG_DIMS(2, 1), 4, 5)), IG_i32, IG_DIMS(1),
         23);
    WANT(ig_matmul(ig_zeros(IG_f32, IG_DIMS(2, 0)), ig_zeros(IG_f32, IG_DIMS(0, 2))), IG_f32,
         IG_DIMS(2, 2), 0, 0, 0, 0);
    WANT(ig_dot(v, v), IG_f32, IG_SCALAR, 14);
    WANT(ig_dot(g, h), IG_f32, IG_DIMS(2, 2), 5, 14, 14, 50);
    WANT(ig_dot(g, 2), IG_f32, IG_DIMS(2, 3), 0, 2, 4, 6, 8, 10);
    ck_assert_int_eq(ig_rank(ig_dot(batch, ig_transpose(batch, IG_AXES(0, 2, 1)))), 4);
    WANT(ig_outer(v, VECTOR(IG_f32, 1, -1)), IG_f32, IG_DIMS(3, 2), 1, -1, 2, -2, 3, -3);
    WANT(ig_ein("y[j] += a[i,j]*b[i]", g, VECTOR(IG_f32, 1, 10)), IG_f32, IG_DIMS(3), 30, 41, 52);
    WANT(ig_ein("y[j] += a[i,j]", g), IG_f32, IG_DIMS(3), 3, 5, 7);
    WANT(ig_ein("y[j,i] += a[i,j]", g), IG_f32, IG_DIMS(3, 2), 0, 3, 1, 4, 2, 5);
    WANT(ig_ein("y[i] max= a[i,j]", g), IG_f32, IG_DIMS(2), 2, 5);
    WANT(ig_ein("y += a[i]*b[i]*c[i]", v, v, v), IG_f32, IG_SCALAR, 36);
    ig_matmul(g, g);
    WANT_ERROR(IG_SHAPE, "matmul", "f32[2,3] vs f32[2,3]", "3 != 2");
    ig_ein("y[j] += a[i,j", g);
    WANT_ERROR(IG_FORMAT, "ein", "^");
    eager_end();
}
END_TEST

START_TEST(composites) {
    ig_tensor *g = grid();
    WANT_NEAR(1e-7, ig_softmax(g, 1), IG_f32, IG_DIMS(2, 3), 0.09003057, 0.24472847, 0.66524096,
              0.09003057, 0.24472847, 0.66524096);
    WANT_NEAR(1e-6, ig_log_softmax(g, 1), IG_f32, IG_DIMS(2, 3), -2.407606, -1.4076059, -0.40760595,
              -2.407606, -1.4076059, -0.40760595);
    WANT(ig_one_hot(VECTOR(IG_i32, 2, 0, 7), 3, IG_f32), IG_f32, IG_DIMS(3, 3), 0, 0, 1, 1, 0, 0, 0,
         0, 0);
    eager_end();
}
END_TEST

START_TEST(sorting) {
    ig_tensor *x = VECTOR(IG_f32, 3, NAN_, -1, 0, -0.0, INF_, 3);
    WANT(ig_sort(x, 0), IG_f32, IG_DIMS(7), -1, -0.0, 0, 3, 3, INF_, NAN_);
    WANT(ig_argsort(x, 0), IG_i64, IG_DIMS(7), 2, 4, 3, 0, 6, 5, 1);
    WANT(ig_argsort_at(NULL, IG_ARG(x), 0, true), IG_i64, IG_DIMS(7), 1, 5, 0, 6, 3, 4, 2);
    WANT(ig_sort(TENSOR(IG_i32, IG_DIMS(2, 3), 3, 1, 2, -1, 5, 0), 0), IG_i32, IG_DIMS(2, 3), -1, 1,
         0, 3, 5, 2);
    WANT(ig_sort(VECTOR(IG_u32, 4294967295.0, 0, 7), 0), IG_u32, IG_DIMS(3), 0, 7, 4294967295.0);
    WANT(ig_sort(VECTOR(IG_f64, 2, 1, NAN_, -5, -5), 0), IG_f64, IG_DIMS(5), -5, -5, 1, 2, NAN_);
    WANT(ig_argsort(VECTOR(IG_i64, 2, 1, 2, 1, 0), 0), IG_i64, IG_DIMS(5), 4, 1, 3, 0, 2);
    WANT(ig_sort(VECTOR(IG_bool, 1, 0, 1), 0), IG_bool, IG_DIMS(3), 0, 1, 1);
    WANT(ig_sort(VECTOR(IG_bf16, 2, -3), 0), IG_bf16, IG_DIMS(2), -3, 2);
    WANT_EMPTY(ig_sort(ig_zeros(IG_f32, IG_DIMS(0)), 0), IG_f32, IG_DIMS(0));
    ig_tensor *top, *at;
    ck_assert(ig_topk(TENSOR(IG_f32, IG_DIMS(2, 4), 1, 4, 4, 2, 9, 8, 7, 6), 2, 1, &top, &at));
    WANT(top, IG_f32, IG_DIMS(2, 2), 4, 4, 9, 8);
    WANT(at, IG_i64, IG_DIMS(2, 2), 1, 2, 0, 1);
    uint64_t big[3] = {UINT64_MAX, 0, (uint64_t)1 << 63};
    const uint64_t *sorted = ig_data(ig_sort(ig_tensor_from(IG_u64, IG_DIMS(3), big), 0));
    ck_assert(sorted[0] == 0 && sorted[1] == (uint64_t)1 << 63 && sorted[2] == UINT64_MAX);
    eager_end();
}
END_TEST

/* --- Index tensors ------------------------------------------------------------------------- */

START_TEST(index_tensors) {
    ig_tensor *x = ig_reshape(ig_arange(IG_i32, 0, 12, 1), IG_DIMS(3, 4));
    ig_tensor *i = VECTOR(IG_i64, 2, 0, -1, 3), *j = VECTOR(IG_u8, 1, 1, 0, 0);
    WANT(ig_gather(x, i, 0), IG_i32, IG_DIMS(4, 4), 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11, 0, 0, 0,
         0);
    WANT(ig_gather(x, TENSOR(IG_i32, IG_DIMS(2, 1), -5, -4), 1), IG_i32, IG_DIMS(3, 2, 1), 0, 0, 0,
         4, 0, 8);
    WANT(ig_embedding(x, ig_scalar(IG_i64, 1)), IG_i32, IG_DIMS(4), 4, 5, 6, 7);
    WANT(ig_take_along(x, TENSOR(IG_i64, IG_DIMS(3, 2), 3, 0, 1, 1, -1, 9), 1), IG_i32,
         IG_DIMS(3, 2), 3, 0, 5, 5, 11, 0);
    WANT(ig_slice(x, IG_PICK(i), IG_PICK(j)), IG_i32, IG_DIMS(4), 9, 1, 8, 0);
    WANT(ig_slice(x, IG_RANGE(1, 3), IG_PICK(j)), IG_i32, IG_DIMS(2, 4), 5, 5, 4, 4, 9, 9, 8, 8);
    WANT(ig_slice(x, IG_PICK(VECTOR(IG_i64, 2)), IG_NEW, IG_PICK(VECTOR(IG_i64, 0, 1))), IG_i32,
         IG_DIMS(2, 1), 8, 9);
    WANT(ig_scatter(x, VECTOR(IG_i64, 1, 1, 7), TENSOR(IG_i32, IG_DIMS(3, 1), 5, 6, 7), 0), IG_i32,
         IG_DIMS(3, 4), 0, 1, 2, 3, 6, 6, 6, 6, 8, 9, 10, 11);
    WANT(ig_scatter_add(ig_zeros(IG_f32, IG_DIMS(3)), VECTOR(IG_i64, 0, 2, 0, -4, 2), 1.5, 0),
         IG_f32, IG_DIMS(3), 3, 0, 3);
    WANT(ig_scatter_max(VECTOR(IG_f32, 1, 2), VECTOR(IG_i64, 0, 0, 1), VECTOR(IG_f32, 3, 2, NAN_),
                        0),
         IG_f32, IG_DIMS(2), 3, NAN_);
    WANT(ig_scatter_mul(VECTOR(IG_i8, 3, 2), VECTOR(IG_i64, 1, 1), 5, 0), IG_i8, IG_DIMS(2), 3, 50);
    WANT(ig_scatter_min(VECTOR(IG_i8, 3, 2), VECTOR(IG_i64, 0), 2, 0), IG_i8, IG_DIMS(2), 2, 2);
    ig_tensor *y = ig_copy(x);
    ig_assign_slice(y, -1, IG_PICK(i), IG_RANGE(1, 3));
    WANT(y, IG_i32, IG_DIMS(3, 4), 0, -1, -1, 3, 4, 5, 6, 7, 8, -1, -1, 11);
    ig_gather(x, VECTOR(IG_f32, 1), 0);
    WANT_ERROR(IG_DTYPE, "gather", "integers are needed");
    ig_slice(x, IG_PICK(i), IG_PICK(VECTOR(IG_i64, 1, 2)));
    WANT_ERROR(IG_SHAPE, "i64[4]", "i64[2]");
    eager_end();
}
END_TEST

/* --- Random -------------------------------------------------------------------------------- */

START_TEST(random_numbers) {
    ig_seed(7);
    ig_tensor *a = ig_uniform(NULL, IG_f32, IG_DIMS(1000), 2, 4),
              *b = ig_uniform(NULL, IG_f32, IG_DIMS(1000), 2, 4);
    ck_assert(!ig_equal(a, b));
    ig_seed(7);
    ck_assert(ig_equal(a, ig_uniform(NULL, IG_f32, IG_DIMS(1000), 2, 4)));
    ck_assert(ig_item_f64(ig_min(a, 0)) >= 2 && ig_item_f64(ig_max(a, 0)) < 4);
    ck_assert(fabs(ig_item_f64(ig_mean(a, 0)) - 3) < 0.1);
    ig_tensor *rng = ig_rng(1);
    ig_tensor *z = ig_normal(rng, IG_f64, IG_DIMS(40, 50), 5, 2);
    ck_assert(fabs(ig_item_f64(ig_mean(z, IG_ALL_AXES)) - 5) < 0.2);
    ck_assert(fabs(ig_item_f64(ig_std(z, IG_ALL_AXES)) - 2) < 0.2);
    ig_tensor *k = ig_randint(rng, IG_i8, IG_DIMS(500), -3, 4);
    ck_assert(ig_item_i64(ig_min(k, 0)) == -3 && ig_item_i64(ig_max(k, 0)) == 3);
    double p = ig_item_f64(ig_sum(ig_bernoulli(rng, IG_DIMS(1000), 0.25), 0)) / 1000;
    ck_assert(p > 0.2 && p < 0.3);
    ig_tensor *perm = ig_permutation(rng, 100);
    ck_assert(ig_equal(ig_sort(perm, 0), ig_arange(IG_i64, 0, 100, 1)));
    ck_assert(!ig_equal(perm, ig_permutation(rng, 100)));
    ck_assert_int_eq(ig_numel(ig_permutation(rng, 0)), 0);
    ig_randint(rng, IG_u8, IG_DIMS(1), 0, 300);
    WANT_ERROR(IG_RANGE, "299", "u8");
    ig_uniform(a, IG_f32, IG_DIMS(1), 0, 1);
    WANT_ERROR(IG_INVALID, "generator");
    eager_end();
}
END_TEST

/* --- Printing ------------------------------------------------------------------------------ */

static void want_text(int line, ig_tensor *t, const char *want) {
    char *text;
    OK(ig_text(t, &text));
    ck_assert_msg(!strcmp(text, want), "line %d: got\n%s\nnot\n%s", line, text, want);
    ig_text_free(text);
}
#define TEXT(t, want) want_text(__LINE__, t, want)

START_TEST(printing) {
    TEXT(ig_scalar(IG_f32, 2.5), "2.5");
    TEXT(ig_scalar(IG_i32, -3), "-3");
    TEXT(ig_scalar(IG_bool, true), "True");
    TEXT(VECTOR(IG_f32, 1, 2.5, -3), "[ 1.   2.5 -3. ]");
    TEXT(VECTOR(IG_f32, 0, 0), "[0. 0.]");
    TEXT(VECTOR(IG_f32, 0.1, 0.2), "[0.1 0.2]");
    TEXT(VECTOR(IG_f64, 1.0 / 3, 2), "[0.33333333 2.        ]");
    TEXT(VECTOR(IG_f32, 1e10, 1), "[1.e+10 1.e+00]");
    TEXT(VECTOR(IG_f64, 1e-5, 0.25), "[1.0e-05 2.5e-01]");
    TEXT(VECTOR(IG_f64, 1e200, -1), "[ 1.e+200 -1.e+000]");
    TEXT(VECTOR(IG_f32, NAN_, INF_, -INF_, 1), "[ nan  inf -inf   1.]");
    TEXT(VECTOR(IG_f16, 0.1, 2), "[0.1 2. ]");
    TEXT(VECTOR(IG_bool, 1, 0), "[ True False]");
    TEXT(VECTOR(IG_i32, 1, -20, 300), "[  1 -20 300]");
    TEXT(grid(), "[[0. 1. 2.]\n [3. 4. 5.]]");
    TEXT(ig_zeros(IG_i8, IG_DIMS(2, 1, 2)), "[[[0 0]]\n\n [[0 0]]]");
    TEXT(ig_zeros(IG_f32, IG_DIMS(0, 3)), "[]");
    TEXT(ig_arange(IG_i32, 0, 1001, 1), "[   0    1    2 ...  998  999 1000]");
    TEXT(ig_full(IG_i32, IG_DIMS(26), 10),
         "[10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10\n 10 10]");
    TEXT(ig_zeros(IG_u8, IG_DIMS(1200, 2)),
         "[[0 0]\n [0 0]\n [0 0]\n ...\n [0 0]\n [0 0]\n [0 0]]");
    eager_end();
}
END_TEST

/* --- Reading, lifetime, sessions ----------------------------------------------------------- */

START_TEST(reading) {
    ig_tensor *g = grid();
    float out[6];
    OK(ig_read(g, out, sizeof out));
    ck_assert(out[5] == 5);
    WANT_STATUS(ig_read(g, out, 20), IG_INVALID, "24", "20");
    ck_assert(ig_item_f32(ig_slice(g, IG_AT(1), IG_AT(1))) == 4);
    ck_assert(ig_item_bool(ig_scalar(IG_i32, 3)));
    ck_assert(isnan(ig_item_f64(g)));
    WANT_ERROR(IG_SHAPE, "item", "f32[2,3]", "6 elements");
    ck_assert(ig_equal(g, ig_copy(g)) && !ig_equal(g, ig_add(g, 1)));
    ck_assert(!ig_equal(VECTOR(IG_f32, 0), VECTOR(IG_f32, -0.0)) &&
              ig_equal(VECTOR(IG_f32, NAN_), VECTOR(IG_f32, NAN_)));
    ck_assert(ig_allclose(g, ig_add(g, 1e-6), 0, 1e-5) && !ig_allclose(g, ig_add(g, 1), 0, 0.5));
    ck_assert(!ig_allclose(VECTOR(IG_f32, NAN_), VECTOR(IG_f32, NAN_), 1, 1));
    ck_assert(ig_allclose_at(NULL, VECTOR(IG_f32, NAN_), VECTOR(IG_f32, NAN_), 1, 1, true));
    ck_assert(ig_allclose(VECTOR(IG_f32, INF_), VECTOR(IG_f32, INF_), 0, 0));
    ck_assert_int_eq(ig_dim(g, -1), 3);
    ck_assert_int_eq(ig_dim(g, 2), -1);
    ck_assert_int_eq(ig_extent(g, 1), 3);
    uint32_t nan_bits = 0xffc12345u;
    const uint32_t *bits = ig_data(ig_bitcast(
        ig_add(ig_bitcast(ig_tensor_from(IG_u32, IG_DIMS(1), &nan_bits), IG_f32), 0), IG_u32));
    ck_assert_uint_eq(bits[0], 0x7fc00000u);
    eager_end();
}
END_TEST

static ig_tensor *inner(ig_tensor *x) {
    IG_SCOPE {
        ig_tensor *y = ig_add(x, 1);
        return ig_keep(ig_mul(y, y));
    }
    return NULL;
}

START_TEST(lifetime) {
    ig_tensor *g = ig_keep(grid());
    size_t before = ig_memory_stats(NULL).live_tensors;
    ig_tensor *kept = inner(g);
    ck_assert_uint_eq(ig_memory_stats(NULL).live_tensors, before + 1);
    WANT(kept, IG_f32, IG_DIMS(2, 3), 1, 4, 9, 16, 25, 36);
    ig_keep(kept);
    ig_free(kept);
    WANT(ig_neg(kept), IG_f32, IG_DIMS(2, 3), -1, -4, -9, -16, -25, -36);
    ig_free(kept);
    ig_memory m = ig_memory_stats(NULL);
    ck_assert(m.peak_bytes >= m.live_bytes && m.allocations > 0);
    for (int i = 0; i < 100; i++) IG_SCOPE {
            ig_softmax(g, 1);
        }
    ck_assert_uint_eq(ig_memory_stats(NULL).live_bytes, m.live_bytes);
    ig_scope_begin();
    ig_tensor *t = ig_add(g, 1);
    ig_scope_begin();
    ig_add(t, 1);
    ig_scope_end();
    WANT(t, IG_f32, IG_DIMS(2, 3), 1, 2, 3, 4, 5, 6);
    ig_scope_end();
    ig_scope_end();
    WANT_ERROR(IG_INVALID, "ig_scope_begin");
    ck_assert_uint_eq(ig_session_free(NULL), 1); /* g was kept */
}
END_TEST

START_TEST(sessions) {
    ig_session *a, *b;
    OK(ig_session_new(NULL, &a));
    OK(ig_session_new(&(ig_session_options){.nofma = true}, &b));
    ck_assert_ptr_null(ig_session_use(a));
    ig_tensor *x = VECTOR(IG_f32, 1);
    ck_assert_ptr_eq(ig_session_use(b), a);
    ck_assert(ig_is_poison(ig_add(x, 1)));
    WANT_ERROR(IG_INVALID, "another session");
    /* 1 - (1 + e)(1 - e): rounded twice in the class without fma */
    double e = ldexp(1, -13);
    ig_tensor *p = ig_fma(VECTOR(IG_f32, 1 + e), VECTOR(IG_f32, 1 - e), -1);
    WANT(p, IG_f32, IG_DIMS(1), 0);
    ig_session_use(a);
    p = ig_fma(VECTOR(IG_f32, 1 + e), VECTOR(IG_f32, 1 - e), -1);
    WANT(p, IG_f32, IG_DIMS(1), -e * e);
    ck_assert_uint_eq(ig_session_free(b), 0);
    ck_assert_uint_eq(ig_session_free(a), 0);
    ck_assert_ptr_null(ig_session_use(NULL));
}
END_TEST

int main(void) {
    Suite *s = suite_create("eager");
    TCase *t = tcase_create("eager");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, creation);
    tcase_add_test(t, borrow);
    tcase_add_test(t, arithmetic);
    tcase_add_test(t, integers);
    tcase_add_test(t, functions);
    tcase_add_test(t, comparisons);
    tcase_add_test(t, promotion);
    tcase_add_test(t, broadcasting);
    tcase_add_test(t, conversions);
    tcase_add_test(t, shapes);
    tcase_add_test(t, slices);
    tcase_add_test(t, assignment);
    tcase_add_test(t, masks);
    tcase_add_test(t, positions);
    tcase_add_test(t, reductions);
    tcase_add_test(t, contractions);
    tcase_add_test(t, composites);
    tcase_add_test(t, sorting);
    tcase_add_test(t, index_tensors);
    tcase_add_test(t, random_numbers);
    tcase_add_test(t, printing);
    tcase_add_test(t, reading);
    tcase_add_test(t, lifetime);
    tcase_add_test(t, sessions);
    suite_add_tcase(s, t);
    return eager_main(s);
}
