/* test_order.c - the orders of reductions and contractions (numerics rules 5 to 7), shown by inputs
 * whose result depends on the order. */
#include "tests/unit/ref_tools.h"
#include <math.h>

#define BIG 16777216.0f /* 2^24: adding 1 to it in f32 changes nothing, adding 2 does */

static int32_t seq[64];
static void setup(void) {
    for (size_t i = 0; i < LEN(seq); i++) seq[i] = (int32_t)i;
}

/* --- reduce ----------------------------------------------------------------------------------- */

static float sum_f32(float *x, int64_t n) {
    float y;
    ir_tensor t = VEC(IG_f32, n, x);
    run(OP_reduce, &(ir_attr_reduce){.op = IR_redop_sum, .axes = {1, {0}}}, 1, &t,
        SCALAR(IG_f32, &y));
    return y;
}

START_TEST(reduce_lanes) {
    /* x0 = 2^24 and sixteen ones: x16 meets x0 in lane 0 and is lost; lanes 1..15 are ones that the
     * tree adds as l0 = (2^24 + 1 = 2^24) + 2 + 4 + 8 */
    float x[17] = {BIG, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    ck_assert_float_eq(sum_f32(x, 17), BIG + 14);
    /* lane 8 is the first to join lane 0 */
    float y[16] = {BIG, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
    ck_assert_float_eq(sum_f32(y, 16), BIG); /* 8 joins 0: lost; 12 joins 4, then 0: lost */
    float z[16] = {BIG, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    ck_assert_float_eq(sum_f32(z, 16), BIG + 2); /* 12 joins 4 first */
}
END_TEST

START_TEST(reduce_tree_of_blocks) {
    enum { B = IR_REDUCE_BLOCK };
    float *x = calloc(7 * B, sizeof *x);
    x[0] = BIG;
    for (int k = 1; k < 7; k++) x[k * B] = 1; /* block 0 is 2^24, the others are 1 */
    ck_assert_float_eq(sum_f32(x, 2 * B), BIG);
    ck_assert_float_eq(sum_f32(x, 3 * B), BIG);     /* (p0 + p1) + p2 */
    ck_assert_float_eq(sum_f32(x, 4 * B), BIG + 2); /* (p0 + p1) + (p2 + p3) */
    ck_assert_float_eq(sum_f32(x, 6 * B), BIG + 4); /* ((p0+p1)+(p2+p3)) + (p4+p5) */
    ck_assert_float_eq(sum_f32(x, 7 * B), BIG + 4); /* .. + ((p4+p5)+p6) = +5, to even */
    x[B] = 0, x[B + 1] = 1;                         /* element 4097 is in lane 1 of block 1 */
    ck_assert_float_eq(sum_f32(x, B + 2), BIG);
    free(x);
}
END_TEST

START_TEST(reduce_identities_and_types) {
    float minus[3] = {-0.0f, -0.0f, -0.0f}, f;
    ck_assert(!signbit(sum_f32(minus, 3))); /* lanes start at +0 */
    ck_assert(sum_f32(NULL, 0) == 0 && !signbit(sum_f32(NULL, 0)));
    ir_tensor empty = VEC(IG_f32, 0, NULL), none = VEC(IG_i8, 0, NULL),
              nothing = VEC(IG_bool, 0, NULL);
    ir_attr_reduce a = {.op = IR_redop_prod, .axes = {1, {0}}};
    int8_t i;
    uint8_t b;
    run(OP_reduce, &a, 1, &empty, SCALAR(IG_f32, &f));
    ck_assert_float_eq(f, 1);
    a.op = IR_redop_max;
    run(OP_reduce, &a, 1, &empty, SCALAR(IG_f32, &f));
    ck_assert(isinf(f) && f < 0);
    run(OP_reduce, &a, 1, &none, SCALAR(IG_i8, &i));
    ck_assert_int_eq(i, -128);
    a.op = IR_redop_min;
    run(OP_reduce, &a, 1, &none, SCALAR(IG_i8, &i));
    ck_assert_int_eq(i, 127);
    a.op = IR_redop_all;
    run(OP_reduce, &a, 1, &nothing, SCALAR(IG_bool, &b));
    ck_assert_int_eq(b, 1);
    a.op = IR_redop_any;
    run(OP_reduce, &a, 1, &nothing, SCALAR(IG_bool, &b));
    ck_assert_int_eq(b, 0);
    int8_t wrap[] = {100, 100, 100};
    ir_tensor w = VEC(IG_i8, 3, wrap);
    a.op = IR_redop_sum;
    run(OP_reduce, &a, 1, &w, SCALAR(IG_i8, &i));
    ck_assert_int_eq(i, 44);
    a.op = IR_redop_prod;
    run(OP_reduce, &a, 1, &w, SCALAR(IG_i8, &i));
    ck_assert_int_eq(i, 64);    /* 10^6 mod 256 */
    uint16_t half[33] = {0}, h; /* 2048 + 1 + 1 in one lane of f16: exact in f32, lost in f16 */
    half[0] = 0x6800, half[16] = half[32] = 0x3c00;
    ir_tensor hs = VEC(IG_f16, 33, half);
    a.op = IR_redop_sum;
    run(OP_reduce, &a, 1, &hs, SCALAR(IG_f16, &h));
    ck_assert_float_eq(rt_f16_to_f32(h), 2050);
}
END_TEST

START_TEST(reduce_axes) {
    int32_t y[8];
    ir_tensor x = tensor(IG_i32, 3, DIMS(2, 3, 2), seq);
    run(OP_reduce, &(ir_attr_reduce){.op = IR_redop_sum, .axes = {2, {0, 2}}}, 1, &x,
        VEC(IG_i32, 3, y));
    EXPECT(y, 0 + 1 + 6 + 7, 2 + 3 + 8 + 9, 4 + 5 + 10 + 11);
    run(OP_reduce, &(ir_attr_reduce){.op = IR_redop_max, .axes = {1, {1}}}, 1, &x,
        tensor(IG_i32, 2, DIMS(2, 2), y));
    EXPECT(y, 4, 5, 10, 11);
    float f[] = {1, (float)NAN, 3, -0.0f, 0.0f, -0.0f}, z[3];
    ir_tensor t = tensor(IG_f32, 2, DIMS(2, 3), f);
    run(OP_reduce, &(ir_attr_reduce){.op = IR_redop_max, .axes = {1, {1}}}, 1, &t,
        VEC(IG_f32, 2, z));
    ck_assert(isnan(z[0]) && z[1] == 0 && !signbit(z[1]));
    run(OP_reduce, &(ir_attr_reduce){.op = IR_redop_min, .axes = {1, {0}}}, 1, &t,
        VEC(IG_f32, 3, z));
    ck_assert(z[0] == 0 && signbit(z[0]) && isnan(z[1]) && z[2] == 0 && signbit(z[2]));
}
END_TEST

static int64_t arg(ir_redop op, ig_dtype d, int64_t n, void *x) {
    int64_t y = -1;
    ir_tensor t = VEC(d, n, x);
    run(OP_reduce, &(ir_attr_reduce){.op = (uint8_t)op, .axes = {1, {0}}}, 1, &t,
        SCALAR(IG_i64, &y));
    return y;
}

START_TEST(argmax_first_and_nan) {
    float tie[] = {1, 3, 2, 3, 0, 0}, nan[] = {1, 5, (float)NAN, 9, (float)NAN},
          zero[] = {-0.0f, 0.0f, -0.0f};
    float low[] = {-(float)INFINITY, -(float)INFINITY};
    ck_assert_int_eq(arg(IR_redop_argmax, IG_f32, 6, tie), 1);
    ck_assert_int_eq(arg(IR_redop_argmin, IG_f32, 6, tie), 4);
    ck_assert_int_eq(arg(IR_redop_argmax, IG_f32, 5, nan), 2);
    ck_assert_int_eq(arg(IR_redop_argmin, IG_f32, 5, nan), 2);
    ck_assert_int_eq(arg(IR_redop_argmax, IG_f32, 3, zero), 0); /* compared as cmp does */
    ck_assert_int_eq(arg(IR_redop_argmin, IG_f32, 3, zero), 0);
    ck_assert_int_eq(arg(IR_redop_argmax, IG_f32, 2, low), 0);
    uint64_t u[] = {1, UINT64_MAX, 5};
    int64_t i[] = {1, -1, 5};
    uint8_t b[] = {0, 1, 1, 0};
    ck_assert_int_eq(arg(IR_redop_argmax, IG_u64, 3, u), 1);
    ck_assert_int_eq(arg(IR_redop_argmin, IG_i64, 3, i), 1);
    ck_assert_int_eq(arg(IR_redop_argmax, IG_bool, 4, b), 1);
    float *far = calloc(3 * IR_REDUCE_BLOCK, sizeof *far); /* beyond the first block */
    far[IR_REDUCE_BLOCK + 5] = far[2 * IR_REDUCE_BLOCK] = 1;
    ck_assert_int_eq(arg(IR_redop_argmax, IG_f32, 3 * IR_REDUCE_BLOCK, far), IR_REDUCE_BLOCK + 5);
    free(far);
}
END_TEST

/* --- cumred ----------------------------------------------------------------------------------- */

START_TEST(cumred_small) {
    int32_t x[] = {1, 2, 3, 4, 5, 6}, y[6];
    ir_tensor t = tensor(IG_i32, 2, DIMS(2, 3), x), o = tensor(IG_i32, 2, DIMS(2, 3), y);
    ir_attr_cumred a = {.op = IR_redop_sum, .axis = 1};
    run(OP_cumred, &a, 1, &t, o);
    EXPECT(y, 1, 3, 6, 4, 9, 15);
    a.exclusive = 1;
    run(OP_cumred, &a, 1, &t, o);
    EXPECT(y, 0, 1, 3, 0, 4, 9);
    a.reverse = 1;
    run(OP_cumred, &a, 1, &t, o);
    EXPECT(y, 5, 3, 0, 11, 6, 0);
    a.exclusive = 0;
    run(OP_cumred, &a, 1, &t, o);
    EXPECT(y, 6, 5, 3, 15, 11, 6);
    a = (ir_attr_cumred){.op = IR_redop_prod, .axis = 0};
    run(OP_cumred, &a, 1, &t, o);
    EXPECT(y, 1, 2, 3, 4, 10, 18);
    a = (ir_attr_cumred){.op = IR_redop_max, .axis = 0, .exclusive = 1};
    run(OP_cumred, &a, 1, &t, o);
    EXPECT(y, INT32_MIN, INT32_MIN, INT32_MIN, 1, 2, 3);
    float m[] = {-0.0f, -0.0f}, z[2]; /* a chain begins with its first element */
    ir_tensor f = VEC(IG_f32, 2, m);
    a = (ir_attr_cumred){.op = IR_redop_sum, .axis = 0};
    run(OP_cumred, &a, 1, &f, VEC(IG_f32, 2, z));
    ck_assert(z[0] == 0 && signbit(z[0]) && z[1] == 0 && signbit(z[1]));
}
END_TEST

START_TEST(cumred_blocks) {
    enum { B = IR_CUMRED_BLOCK, N = 2 * B + 3 };
    float *x = calloc(N, sizeof *x), *y = calloc(N, sizeof *y);
    x[0] = BIG;
    x[B] = x[B + 1] = x[2 * B] = x[2 * B + 1] = x[2 * B + 2] = 1;
    ir_tensor t = VEC(IG_f32, N, x);
    run(OP_cumred, &(ir_attr_cumred){.op = IR_redop_sum}, 1, &t, VEC(IG_f32, N, y));
    ck_assert_float_eq(y[B - 1], BIG);
    ck_assert_float_eq(y[B], BIG);         /* carry + 1 */
    ck_assert_float_eq(y[B + 1], BIG + 2); /* carry + (1 + 1), where a chain would stay at 2^24 */
    ck_assert_float_eq(y[2 * B], BIG + 4); /* carry 2^24 + 2, + 1: half way, to even */
    ck_assert_float_eq(y[2 * B + 1], BIG + 4); /* + 2 */
    ck_assert_float_eq(y[2 * B + 2], BIG + 4); /* + 3 = 5: half way, to even (4) */
    free(x);
    free(y);
}
END_TEST

/* --- ein -------------------------------------------------------------------------------------- */

static void ein(ir_class cls, const char *text, int nin, const ir_tensor *in, ir_tensor out) {
    char msg[256];
    ir_attr_ein a = {0};
    if (!ir_ein_parse(NULL, text, strlen(text), &a.rel, msg, sizeof msg)) ck_abort_msg("%s", msg);
    run_class(cls, OP_ein, &a, nin, in, out);
}

static float dot(ir_class cls, float *x, float *w, int64_t n) {
    float y;
    ir_tensor in[] = {VEC(IG_f32, n, x), VEC(IG_f32, n, w)};
    ein(cls, "y[] += a[i]*b[i]", 2, in, SCALAR(IG_f32, &y));
    return y;
}

START_TEST(ein_blocks) {
    float x[2 * IR_KB + 2] = {BIG}, w[2 * IR_KB + 2];
    for (size_t i = 0; i < LEN(w); i++) w[i] = 1;
    x[1] = x[2] = 1; /* in block 0: lost one by one */
    ck_assert_float_eq(dot(IR_CLASS_FMA, x, w, IR_KB), BIG);
    x[IR_KB] = x[IR_KB + 1] = 1; /* block 1: 2 at once */
    ck_assert_float_eq(dot(IR_CLASS_FMA, x, w, IR_KB + 1), BIG);
    ck_assert_float_eq(dot(IR_CLASS_FMA, x, w, IR_KB + 2), BIG + 2);
    x[2 * IR_KB] = x[2 * IR_KB + 1] =
        1; /* total = (2^24 + 2) + 2, not 2^24 + 4 of a tree: the same here, */
    ck_assert_float_eq(dot(IR_CLASS_FMA, x, w, 2 * IR_KB + 2), BIG + 4);
    x[IR_KB + 1] = x[2 * IR_KB + 1] = 0; /* but (2^24 + 1) + 1 is not 2^24 + (1 + 1) */
    ck_assert_float_eq(dot(IR_CLASS_FMA, x, w, 2 * IR_KB + 2), BIG);
    ck_assert_float_eq(dot(IR_CLASS_NOFMA, x, w, 2 * IR_KB + 2), BIG);
}
END_TEST

START_TEST(ein_fuses_by_class) {
    float a = 1 + 0x1p-12f, x[] = {-(1 + 0x1p-11f), 1 + 0x1p-12f}, w[] = {1, a}, zero[] = {-0.0f},
          one[] = {1};
    ck_assert_float_eq(dot(IR_CLASS_FMA, x, w, 2), 0x1p-24f);
    ck_assert_float_eq(dot(IR_CLASS_NOFMA, x, w, 2), 0);
    float z = dot(IR_CLASS_FMA, zero, one, 1);
    ck_assert(z == 0 && !signbit(z)); /* from +0 */
    ck_assert_float_eq(dot(IR_CLASS_FMA, NULL, NULL, 0), 0);
}
END_TEST

START_TEST(ein_order_belongs_to_the_op) {
    /* x[r,q] = {2^24, 1; -2^24, 1}: (r,q) gives ((2^24 + 1) - 2^24) + 1 = 1, (q,r) gives ((2^24 -
     * 2^24) + 1) + 1 = 2 */
    float x[] = {BIG, 1, -BIG, 1}, w[] = {1, 1, 1, 1}, y;
    ir_tensor in[] = {tensor(IG_f32, 2, DIMS(2, 2), x), tensor(IG_f32, 2, DIMS(2, 2), w)};
    ein(IR_CLASS_FMA, "y[] += a[r,q]*b[r,q] over (r,q)", 2, in, SCALAR(IG_f32, &y));
    ck_assert_float_eq(y, 1);
    ein(IR_CLASS_FMA, "y[] += a[r,q]*b[r,q] over (q,r)", 2, in, SCALAR(IG_f32, &y));
    ck_assert_float_eq(y, 2);
}
END_TEST

START_TEST(ein_shapes) {
    int32_t y[16];
    ir_tensor in[] = {tensor(IG_i32, 2, DIMS(2, 3), seq), tensor(IG_i32, 2, DIMS(3, 2), seq),
                      VEC(IG_i32, 3, seq + 1)};
    ein(IR_CLASS_FMA, "y[m,n] += a[m,k]*b[k,n]", 2, in, tensor(IG_i32, 2, DIMS(2, 2), y));
    EXPECT(y, 10, 13, 28, 40);
    ein(IR_CLASS_FMA, "y[n,m] += a[m,k]*b[k,n]", 2, in, tensor(IG_i32, 2, DIMS(2, 2), y));
    EXPECT(y, 10, 28, 13, 40);
    ein(IR_CLASS_FMA, "y[m,n] += a[m,k]*b[k,n]*c[k]", 3, in, tensor(IG_i32, 2, DIMS(2, 2), y));
    EXPECT(y, 0 * 0 * 1 + 1 * 2 * 2 + 2 * 4 * 3, 0 + 1 * 3 * 2 + 2 * 5 * 3,
           0 + 4 * 2 * 2 + 5 * 4 * 3, 3 * 1 * 1 + 4 * 3 * 2 + 5 * 5 * 3);
    ein(IR_CLASS_FMA, "y[m] max= a[m,k]*b[k]", 2, (ir_tensor[]){in[0], in[2]}, VEC(IG_i32, 2, y));
    EXPECT(y, 6, 15);
    ein(IR_CLASS_FMA, "y[m] *= a[m,k]", 1, in, VEC(IG_i32, 2, y));
    EXPECT(y, 0, 60);
    int8_t b[] = {100, 3}, c[] = {2, 2}, z; /* 200 is -56 modulo 2^8, before max sees it */
    ein(IR_CLASS_FMA, "y[] max= a[i]*b[i]", 2, (ir_tensor[]){VEC(IG_i8, 2, b), VEC(IG_i8, 2, c)},
        SCALAR(IG_i8, &z));
    ck_assert_int_eq(z, 6);
    ein(IR_CLASS_FMA, "y[] max= a[i]*b[i]", 2, (ir_tensor[]){VEC(IG_i8, 0, b), VEC(IG_i8, 0, c)},
        SCALAR(IG_i8, &z));
    ck_assert_int_eq(z, -128);
}
END_TEST

START_TEST(ein_16_bit_accumulates_in_f32) {
    uint16_t x[3] = {0x6800, 0x3c00, 0x3c00}, w[3] = {0x3c00, 0x3c00, 0x3c00}, y; /* 2048, 1, 1 */
    ir_tensor in[] = {VEC(IG_f16, 3, x), VEC(IG_f16, 3, w)};
    ein(IR_CLASS_FMA, "y[] += a[i]*b[i]", 2, in, SCALAR(IG_f16, &y));
    ck_assert_float_eq(rt_f16_to_f32(y), 2050);
}
END_TEST

/* Rows longer than a chunk, every output its own chain: compare with one dot product each. */
START_TEST(ein_rows) {
    enum { K = 5, N = 600 };
    float x[K], w[K * N], col[K], y[N];
    uint32_t s = 1;
    for (int i = 0; i < K; i++) x[i] = (float)(int32_t)(s = s * 1664525u + 1013904223u) * 0x1p-31f;
    for (int i = 0; i < K * N; i++)
        w[i] = (float)(int32_t)(s = s * 1664525u + 1013904223u) * 0x1p-31f;
    ir_tensor in[] = {VEC(IG_f32, K, x), tensor(IG_f32, 2, DIMS(K, N), w)};
    ein(IR_CLASS_FMA, "y[n] += a[k]*b[k,n]", 2, in, VEC(IG_f32, N, y));
    for (int n = 0; n < N; n++) {
        for (int k = 0; k < K; k++) col[k] = w[k * N + n];
        ck_assert(y[n] == dot(IR_CLASS_FMA, x, col, K));
    }
}
END_TEST

int main(void) {
    TCase *t = tcase_create("ref");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, reduce_lanes);
    tcase_add_test(t, reduce_tree_of_blocks);
    tcase_add_test(t, reduce_identities_and_types);
    tcase_add_test(t, reduce_axes);
    tcase_add_test(t, argmax_first_and_nan);
    tcase_add_test(t, cumred_small);
    tcase_add_test(t, cumred_blocks);
    tcase_add_test(t, ein_blocks);
    tcase_add_test(t, ein_fuses_by_class);
    tcase_add_test(t, ein_order_belongs_to_the_op);
    tcase_add_test(t, ein_shapes);
    tcase_add_test(t, ein_16_bit_accumulates_in_f32);
    tcase_add_test(t, ein_rows);
    return run_suite(t);
}
