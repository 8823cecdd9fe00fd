/* test_build.c - the builder: numbering, sticky errors, value numbering, identities, regions,
 * copies. */
#include "ir/ir.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ir_module *m;
static ir_dim B; /* B in 1..64 */
static ir_builder b;
static ir_ref x, y, i, j, p; /* f32[4], f32[4], i32[4], i32[4], bool[4] */

static void setup(void) {
    ck_assert_ptr_null(ir_module_new(ig_allocator_default(), "build", &m));
    B = ir_add_symbol(m, "B", 1, 64);
}
static void teardown(void) {
    ir_build_abort(&b);
    ir_module_free(m);
}

static ir_type vec4(ig_dtype d) { return ir_tensor_type(d, 1, (ir_dim[]){4}); }

static void begin(unsigned flags) {
    ir_build_begin(&b, m, "f", IR_FN, flags);
    x = ir_param(&b, vec4(IG_f32), "x");
    y = ir_param(&b, vec4(IG_f32), "y");
    i = ir_param(&b, vec4(IG_i32), "i");
    j = ir_param(&b, vec4(IG_i32), "j");
    p = ir_param(&b, vec4(IG_bool), "p");
}

static ir_func *end(ir_ref r) {
    ir_func *f;
    ig_status s = ir_build_end(&b, 1, &r, &f);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    return f;
}

#define E1(op, a)    ir_emit1(&b, OP_##op, NULL, a)
#define E2(op, a, c) ir_emit2(&b, OP_##op, NULL, a, c)
#define DIMS(...)                                                                   \
    {                                                                               \
        .n = sizeof((ir_dim[]){__VA_ARGS__}) / sizeof(ir_dim), .d = { __VA_ARGS__ } \
    }
#define AXES(...)                                                   \
    {                                                               \
        .n = sizeof((uint8_t[]){__VA_ARGS__}), .a = { __VA_ARGS__ } \
    }
#define INTS(...)                                                                     \
    {                                                                                 \
        .n = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .v = { __VA_ARGS__ } \
    }
#define A(kind, ...) (&(ir_attr_##kind){__VA_ARGS__, .end_ = 0})
#define SAME(a, c)   ck_assert_uint_eq((a).i, (c).i)
#define IS(op, r)    ck_assert_uint_eq(ir_def_op(b.f, r)->code, OP_##op)

/* The value of a splat as f64. */
static double splat(ir_ref r) {
    const ir_op *o = ir_def_op(b.f, r);
    while (o && o->code == OP_broadcast) o = ir_def_op(b.f, ir_op_in(b.f, o, 0));
    ck_assert(o && o->code == OP_const);
    const ir_attr_const *c = ir_attr_get(m, o->attr);
    double out;
    ir_tensor in = {.dtype = c->type.dtype, .data = (void *)(uintptr_t)c->data.bytes};
    ir_tensor res = {.dtype = IG_f64, .data = &out};
    ir_attr_dtype a = {.dtype = IG_f64};
    ck_assert_ptr_null(ir_ref_op(m->alloc, m->class, OP_convert, &a, 1, &in, 1, &res));
    return out;
}

START_TEST(a_function_is_numbered_in_order) {
    begin(IR_BUILD_RAW);
    b.loc = ir_intern_loc(m, "mlp.c", 12);
    ir_ref s = E2(add, x, y), t = E2(mul, s, s);
    ir_func *f = end(t);
    ck_assert_uint_eq(f->ops.n, 3);
    ck_assert_uint_eq(f->ops.data[2].code, OP_return);
    ck_assert_uint_eq(f->regions.data[0].end, 3);
    ck_assert_uint_eq(ir_nparam(f), 5);
    ck_assert_str_eq(f->param_names.data[1], "y");
    ck_assert_uint_eq(f->results.n, 1);
    ck_assert_ptr_eq(ir_find_func(m, "f"), f);
    ck_assert_uint_eq(ir_loc_get(m, f->ops.data[1].loc).line, 12);
    ck_assert(s.i == 6 && t.i == 7);
    uint32_t *uses = ir_count_uses(f, m->alloc);
    ck_assert(uses[s.i] == 2 && uses[t.i] == 1 && uses[x.i] == 1 && uses[p.i] == 0);
    rt_free(m->alloc, uses, f->values.n * sizeof *uses);
}
END_TEST

START_TEST(the_first_error_sticks) {
    begin(IR_BUILD_RAW);
    b.loc = ir_intern_loc(m, "mlp.c", 7);
    SAME(E2(add, x, i), ((ir_ref){0}));
    b.loc = ir_intern_loc(m, "mlp.c", 8);
    SAME(E2(add, x, y), ((ir_ref){0}));
    SAME(E2(fma, x, y), ((ir_ref){0}));
    ig_status s = ir_build_end(&b, 1, &x, NULL);
    ck_assert_ptr_nonnull(s);
    ck_assert_int_eq(ig_status_code(s), IG_DTYPE);
    ck_assert_str_eq(ig_status_file(s), "mlp.c");
    ck_assert_int_eq(ig_status_line(s), 7);
    ck_assert_str_eq(ig_status_op(s), "add");
    ck_assert_ptr_nonnull(strstr(ig_status_text(s), "f32[4] and i32[4]"));
    ck_assert_ptr_null(ir_find_func(m, "f"));
    ig_status_free(s);
}
END_TEST

START_TEST(misuse_is_an_error) {
    begin(IR_BUILD_RAW);
    E2(add, x, ((ir_ref){99}));
    ck_assert_ptr_nonnull(b.error);
    ir_build_abort(&b);
    begin(IR_BUILD_RAW);
    E1(neg, x);
    ir_param(&b, vec4(IG_f32), NULL);
    ck_assert_ptr_nonnull(b.error);
    ir_build_abort(&b);
    begin(IR_BUILD_RAW);
    ir_emit(&b, OP_return, NULL, 1, &x);
    ck_assert_ptr_nonnull(b.error);
    ir_build_abort(&b);
    begin(IR_BUILD_RAW);
    ir_region_end(&b, 0, NULL);
    ck_assert_ptr_nonnull(b.error);
    ir_build_abort(&b);
    begin(IR_BUILD_RAW);
    ir_op_begin(&b, OP_add, NULL, 2, (ir_ref[]){x, y}, 1);
    ck_assert_ptr_nonnull(b.error);
}
END_TEST

START_TEST(equal_ops_are_one) {
    begin(IR_BUILD_CSE);
    SAME(E2(add, x, y), E2(add, y, x));
    SAME(E1(exp, x), E1(exp, x));
    SAME(ir_const_f(&b, IG_f32, 2), ir_const_f(&b, IG_f32, 2));
    ck_assert_uint_ne(E2(sub, x, y).i, E2(sub, y, x).i);
    ck_assert_uint_ne(E1(barrier, x).i, E1(barrier, x).i);
    ck_assert_uint_ne(ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_lt), x, y).i,
                      ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_le), x, y).i);
    ck_assert_uint_ne(ir_const_f(&b, IG_f32, 0.0).i, ir_const_f(&b, IG_f32, -0.0).i);
    ir_build_abort(&b);
    begin(IR_BUILD_RAW);
    ck_assert_uint_ne(E2(add, x, y).i, E2(add, x, y).i);
}
END_TEST

START_TEST(float_identities) {
    begin(IR_BUILD_FOLD);
    ir_ref zero = ir_const_like(&b, x, 0.0), minus = ir_const_like(&b, x, -0.0);
    ir_ref one = ir_const_like(&b, x, 1), inf = ir_const_like(&b, x, INFINITY);
    SAME(E2(add, x, minus), x);
    SAME(E2(add, minus, x), x);
    SAME(E2(sub, x, zero), x);
    SAME(E2(mul, one, x), x);
    SAME(E2(div, x, one), x);
    SAME(E2(max, x, E1(neg, inf)), x);
    SAME(E2(min, inf, x), x);
    SAME(E2(max, x, x), x);
    SAME(E1(neg, E1(neg, x)), x);
    ir_ref once = E1(abs, x);
    SAME(E1(abs, once), once);
    SAME(ir_op_in(b.f, ir_def_op(b.f, E1(abs, E1(neg, x))), 0), x);
    IS(neg, E2(mul, x, ir_const_like(&b, x, -1)));
    IS(neg, E2(sub, minus, x));
    /* near misses: these keep their op */
    IS(add, E2(add, x, zero));
    IS(sub, E2(sub, x, minus));
    IS(sub, E2(sub, zero, x));
    IS(sub, E2(sub, x, x));
    IS(mul, E2(mul, x, zero));
    IS(div, E2(div, x, x));
    IS(max, E2(max, x, inf));
    IS(cmp, ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_eq), x, x));
    IS(cmp, ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_le), x, x));
    ck_assert_double_eq(splat(ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_lt), x, x)), 0);
}
END_TEST

START_TEST(integer_identities) {
    begin(IR_BUILD_FOLD);
    ir_ref zero = ir_const_like(&b, i, 0), one = ir_const_like(&b, i, 1);
    ir_ref ones = ir_const_like(&b, i, -1);
    SAME(E2(add, zero, i), i);
    SAME(E2(sub, i, zero), i);
    SAME(E2(mul, i, one), i);
    ck_assert_double_eq(splat(E2(mul, i, zero)), 0);
    ck_assert_double_eq(splat(E2(sub, i, i)), 0);
    ck_assert_double_eq(splat(E2(div, i, zero)), 0);
    IS(neg, E2(mul, i, ones));
    IS(neg, E2(sub, zero, i));
    IS(div, E2(div, i, i));
    SAME(ir_emit2(&b, OP_bit, A(bitop, IR_bitop_band), i, ones), i);
    SAME(ir_emit2(&b, OP_bit, A(bitop, IR_bitop_bor), zero, i), i);
    ck_assert_double_eq(splat(ir_emit2(&b, OP_bit, A(bitop, IR_bitop_bxor), i, i)), 0);
    IS(lnot, ir_emit2(&b, OP_bit, A(bitop, IR_bitop_bxor), i, ones));
    SAME(ir_emit2(&b, OP_shift, A(shop, IR_shop_left), i, zero), i);
    ck_assert_double_eq(splat(ir_emit2(&b, OP_shift, A(shop, IR_shop_right), i, ones)), 0);
    IS(shift, ir_emit2(&b, OP_shift, A(shop, IR_shop_arith), i, ones));
    SAME(E2(max, i, ir_const_like(&b, i, INT32_MIN)), i);
    ck_assert_double_eq(splat(E2(max, i, ir_const_like(&b, i, INT32_MAX))), INT32_MAX);
    ck_assert_double_eq(splat(ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_eq), i, i)), 1);
    SAME(ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_ne), p, ir_const_like(&b, p, 0)), p);
    IS(lnot, ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_eq), p, ir_const_like(&b, p, 0)));
    SAME(ir_emit3(&b, OP_select, NULL, p, i, i), i);
    SAME(ir_emit3(&b, OP_select, NULL, ir_const_like(&b, p, 1), i, j), i);
    SAME(ir_emit3(&b, OP_select, NULL, p, ir_const_like(&b, p, 1), ir_const_like(&b, p, 0)), p);
}
END_TEST

static ir_ref cvt(ig_dtype d, ir_ref r) { return ir_emit1(&b, OP_convert, A(dtype, d), r); }
static ir_ref cast(ig_dtype d, ir_ref r) { return ir_emit1(&b, OP_bitcast, A(dtype, d), r); }

START_TEST(conversions) {
    begin(IR_BUILD_FOLD);
    ir_ref h = cvt(IG_f16, x), k8 = cvt(IG_i8, i);
    SAME(cvt(IG_f32, x), x);
    SAME(cvt(IG_f16, cvt(IG_f32, h)), h);
    SAME(cvt(IG_i8, cvt(IG_f32, k8)), k8);
    ck_assert_uint_ne(cvt(IG_f32, h).i, x.i);              /* narrowing first loses */
    ck_assert_uint_ne(cvt(IG_i32, cvt(IG_f32, i)).i, i.i); /* 24 bits do not hold an i32 */
    ir_ref u = cvt(IG_u8, cvt(IG_f32, k8));                /* saturates, where i8 -> u8 wraps */
    ck_assert_uint_eq(ir_type_of(&b, ir_op_in(b.f, ir_def_op(b.f, u), 0)).dtype, IG_f32);
    u = cvt(IG_u16, cvt(IG_i32, k8));
    SAME(ir_op_in(b.f, ir_def_op(b.f, u), 0), k8);
    SAME(cast(IG_f32, cast(IG_i32, x)), x);
    ck_assert_uint_ne(cast(IG_i32, cast(IG_f32, i)).i, i.i); /* NaNs become one NaN */
    ir_ref whole = cvt(IG_f32, i);
    SAME(ir_emit1(&b, OP_rint, A(rmode, IR_rmode_floor), whole), whole);
}
END_TEST

static ir_ref reshape(ir_ref r, ir_attr_dims a) { return ir_emit1(&b, OP_reshape, &a, r); }
static ir_ref perm(ir_ref r, ir_attr_perm a) { return ir_emit1(&b, OP_transpose, &a, r); }
#define SHAPE(...) \
    (ir_attr_dims) { .dims = DIMS(__VA_ARGS__) }
#define PERM(...) \
    (ir_attr_perm) { .perm = AXES(__VA_ARGS__) }
static ir_ref slice(ir_ref r, ir_attr_slice a) { return ir_emit1(&b, OP_slice, &a, r); }
static ir_ref source(ir_ref r) { return ir_op_in(b.f, ir_def_op(b.f, r), 0); }

START_TEST(movement) {
    ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_FOLD);
    ir_ref t = ir_param(&b, ir_tensor_type(IG_f32, 3, (ir_dim[]){2, 3, 4}), "t");
    ir_ref v = ir_param(&b, ir_tensor_type(IG_f32, 1, (ir_dim[]){20}), "v");
    ir_ref u = ir_param(&b, ir_tensor_type(IG_f32, 1, (ir_dim[]){B}), "u");
    SAME(reshape(t, SHAPE(2, 3, 4)), t);
    SAME(reshape(reshape(t, SHAPE(24)), SHAPE(2, 3, 4)), t);
    SAME(source(reshape(reshape(t, SHAPE(24)), SHAPE(6, 4))), t);
    SAME(perm(t, PERM(0, 1, 2)), t);
    SAME(perm(perm(t, PERM(1, 2, 0)), PERM(2, 0, 1)), t);
    ir_ref w = perm(perm(t, PERM(1, 2, 0)), PERM(1, 2, 0));
    SAME(source(w), t);
    const ir_attr_perm *a = ir_attr_get(m, ir_def_op(b.f, w)->attr);
    ck_assert(a->perm.a[0] == 2 && a->perm.a[1] == 0 && a->perm.a[2] == 1);
    SAME(slice(v, (ir_attr_slice){.lo = DIMS(0), .hi = DIMS(20), .step = INTS(1)}), v);
    /* 2 5 8 11 14 17 -> 5 11 17 */
    w = slice(slice(v, (ir_attr_slice){.lo = DIMS(2), .hi = DIMS(20), .step = INTS(3)}),
              (ir_attr_slice){.lo = DIMS(1), .hi = DIMS(6), .step = INTS(2)});
    SAME(source(w), v);
    const ir_attr_slice *s = ir_attr_get(m, ir_def_op(b.f, w)->attr);
    ck_assert(s->lo.d[0] == 5 && s->hi.d[0] == 18 && s->step.v[0] == 6);
    ck_assert_int_eq(ir_type_of(&b, w).dim[0], 3);
    w = slice(slice(u, (ir_attr_slice){.lo = DIMS(1), .hi = DIMS(B), .step = INTS(1)}),
              (ir_attr_slice){.lo = DIMS(0), .hi = DIMS(ir_dim_sub(m, B, 1)), .step = INTS(2)});
    SAME(source(w), u);
    ir_attr_axes r = {.axes = AXES(0, 2)};
    SAME(ir_emit1(&b, OP_reverse, &r, ir_emit1(&b, OP_reverse, &r, t)), t);
    ir_ref c = ir_const_f(&b, IG_f32, 3);
    ir_ref big = ir_emit1(&b, OP_broadcast, A(bcast, DIMS(1000, 1000)), c);
    ck_assert_double_eq(splat(E2(add, big, big)), 6);
    IS(broadcast, perm(big, PERM(1, 0)));
    SAME(ir_emit2(&b, OP_pad, A(pad, DIMS(0), DIMS(0), INTS(0)), v, c), v);
    SAME(ir_emit(&b, OP_concat, A(axis, 0), 1, &v), v);
    ir_ref z = ir_const_i(&b, IG_i64, 5), dup[3] = {v, v, z};
    SAME(ir_emit(&b, OP_dupdate, NULL, 3, dup), v);
    ck_assert_msg(!b.error, "%s", ig_status_text(b.error));
}
END_TEST

START_TEST(reductions) {
    ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_FOLD);
    ir_ref t = ir_param(&b, ir_tensor_type(IG_f32, 2, (ir_dim[]){1, 4}), "t");
    ir_ref n = ir_param(&b, ir_tensor_type(IG_i32, 2, (ir_dim[]){1, 4}), "n");
    IS(reshape, ir_emit1(&b, OP_reduce, A(reduce, IR_redop_max, AXES(0)), t));
    IS(reshape, ir_emit1(&b, OP_reduce, A(reduce, IR_redop_prod, AXES(0)), t));
    IS(reduce, ir_emit1(&b, OP_reduce, A(reduce, IR_redop_sum, AXES(0)), t)); /* +0 + -0 */
    IS(reshape, ir_emit1(&b, OP_reduce, A(reduce, IR_redop_sum, AXES(0)), n));
    SAME(ir_emit1(&b, OP_reduce, A(reduce, IR_redop_sum), n), n);
    ck_assert_double_eq(splat(ir_emit1(&b, OP_reduce, A(reduce, IR_redop_argmax, AXES(0)), t)), 0);
    ir_attr_ein e = {0};
    ck_assert(ir_ein_parse(NULL, "y[j,i] max= a[i,j]", 18, &e.rel, (char[64]){0}, 64));
    IS(transpose, ir_emit1(&b, OP_ein, &e, t));
    ck_assert_ptr_null(b.error);
}
END_TEST

static ir_ref ein(const char *text, ir_ref r) {
    ir_attr_ein e = {0};
    ck_assert(ir_ein_parse(NULL, text, strlen(text), &e.rel, (char[64]){0}, 64));
    return ir_emit1(&b, OP_ein, &e, r);
}

START_TEST(a_sum_of_one_operand_is_a_reduce) {
    ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_RAW);
    ir_ref t = ir_param(&b, ir_tensor_type(IG_f32, 3, (ir_dim[]){2, 3, 5}), "t");
    ir_ref r = ein("y[i] += a[i,j,k]", t);
    IS(reduce, r);
    SAME(source(r), t);
    r = ein("y[i] += a[i,j,k] over (k,j)", t); /* k is the outer one: it must come first */
    IS(reduce, r);
    IS(transpose, source(r));
    ck_assert_int_eq(ir_type_of(&b, source(r)).dim[1], 5);
    r = ein("y[j,i] += a[i,j,k]", t);
    IS(transpose, r);
    ck_assert(ir_type_of(&b, r).dim[0] == 3 && ir_type_of(&b, r).dim[1] == 2);
    ck_assert_ptr_null(b.error);
}
END_TEST

START_TEST(small_constants_are_evaluated) {
    float four[4] = {1, 2, 3, -0.0f}, *out;
    begin(IR_BUILD_FOLD);
    ir_ref c = ir_const(&b, vec4(IG_f32), four, sizeof four);
    ir_ref r = E2(mul, c, c);
    IS(const, r);
    out = (float *)(uintptr_t)((const ir_attr_const *)ir_attr_get(m, ir_def_op(b.f, r)->attr))
              ->data.bytes;
    ck_assert(out[2] == 9 && out[3] == 0 && !signbit(out[3]));
    IS(add, E2(add, c, x));
    r = ir_emit1(&b, OP_reduce, A(reduce, IR_redop_sum, AXES(0)), c);
    ck_assert_double_eq(splat(r), 6);
    IS(iota, ir_emit0(&b, OP_iota, A(iota, IG_i32, DIMS(4), 0)));
    ck_assert_ptr_null(b.error);
    ir_build_abort(&b);
    begin(IR_BUILD_RAW);
    c = ir_const(&b, vec4(IG_f32), four, sizeof four);
    IS(mul, E2(mul, c, c));
}
END_TEST

START_TEST(constants) {
    begin(IR_BUILD_RAW);
    ck_assert_double_eq(splat(ir_const_f(&b, IG_f16, 65504)), 65504);
    ck_assert(isinf(splat(ir_const_f(&b, IG_f16, 65520))));
    ck_assert_double_eq(splat(ir_const_f(&b, IG_u8, 300)), 255);
    ck_assert_double_eq(splat(ir_const_f(&b, IG_i8, -1e9)), -128);
    ck_assert_double_eq(splat(ir_const_f(&b, IG_i32, NAN)), 0);
    ck_assert_double_eq(splat(ir_const_i(&b, IG_i64, INT64_C(1) << 60)), 0x1p60);
    ck_assert_double_eq(splat(ir_const_i(&b, IG_bool, 7)), 1);
    uint32_t nan = 0xffc12345, want = 0x7fc00000;
    ir_ref r = ir_const(&b, ir_scalar_type(IG_f32), &nan, 4);
    const ir_attr_const *c = ir_attr_get(m, ir_def_op(b.f, r)->attr);
    ck_assert(!memcmp(c->data.bytes, &want, 4));
    uint8_t two = 2, one = 1;
    r = ir_const(&b, ir_scalar_type(IG_bool), &two, 1);
    c = ir_attr_get(m, ir_def_op(b.f, r)->attr);
    ck_assert(!memcmp(c->data.bytes, &one, 1));
    r = ir_const_like(&b, x, 1);
    ck_assert_int_eq(ir_type_of(&b, r).dim[0], 4);
    ck_assert_ptr_null(b.error);
}
END_TEST

/* for (k = 0; k < 10; k++) acc = kif (k < 5) { acc + acc } else { acc * k } */
static ir_ref loop(ir_ref start) {
    ir_ref ten = ir_const_i(&b, IG_i64, 10), zero = ir_const_i(&b, IG_i64, 0), in[2], r;
    ir_type param[2] = {ir_scalar_type(IG_i64), ir_scalar_type(IG_i64)};
    ir_ref range[3] = {zero, ten, start};
    uint32_t f = ir_op_begin(&b, OP_for, A(for, IR_loop_seq, 1), 3, range, 1);
    ir_region_begin(&b, f, 0, 2, param, in);
    ir_ref less = ir_emit2(&b, OP_cmp, A(cmpop, IR_cmpop_lt), in[0], ir_const_i(&b, IG_i64, 5));
    uint32_t k = ir_op_begin(&b, OP_kif, NULL, 1, &less, 2);
    ir_region_begin(&b, k, 0, 0, NULL, NULL);
    r = E2(add, in[1], in[1]);
    ir_region_end(&b, 1, &r);
    ir_region_begin(&b, k, 1, 0, NULL, NULL);
    r = E2(mul, in[1], in[0]);
    ir_region_end(&b, 1, &r);
    r = ir_op_end(&b, k);
    ir_region_end(&b, 1, &r);
    return ir_op_end(&b, f);
}

START_TEST(regions) {
    ir_build_begin(&b, m, "k", IR_KERNEL, IR_BUILD_CSE);
    ir_ref s = ir_param(&b, ir_scalar_type(IG_i64), "s");
    ir_ref r = loop(s);
    ck_assert_msg(!b.error, "%s", ig_status_text(b.error));
    const ir_op *f = ir_def_op(b.f, r);
    ck_assert(f->code == OP_for && f->nout == 1 && f->nregion == 1);
    const ir_region *body = &b.f->regions.data[f->region0];
    ck_assert_uint_eq(body->op, (uint32_t)(f - b.f->ops.data));
    ck_assert_uint_eq(b.f->ops.data[body->end - 1].code, OP_yield);
    ck_assert_uint_eq(body->nparam, 2);
    for (uint32_t k = body->first; k < body->end; k++)
        ck_assert_uint_ne(b.f->ops.data[k].parent, 0);
    ck_assert_uint_gt(r.i, b.f->ops.data[body->end - 2].out0);
    end(r);
}
END_TEST

/* A value of a closed region is not seen again; one of an open region is. */
START_TEST(value_numbering_respects_regions) {
    ir_ref in[1], r, inner[2];
    ir_build_begin(&b, m, "k", IR_KERNEL, IR_BUILD_CSE);
    ir_ref s = ir_param(&b, ir_scalar_type(IG_i64), "s");
    ir_ref c = ir_param(&b, ir_scalar_type(IG_bool), "c");
    ir_ref outer = E1(neg, s);
    uint32_t k = ir_op_begin(&b, OP_kif, NULL, 1, &c, 2);
    for (int n = 0; n < 2; n++) {
        ir_region_begin(&b, k, n, 0, NULL, in);
        SAME(E1(neg, s), outer);
        inner[n] = E2(mul, s, s);
        SAME(E2(mul, s, s), inner[n]);
        ir_region_end(&b, 1, &inner[n]);
    }
    r = ir_op_end(&b, k);
    ck_assert_uint_ne(inner[0].i, inner[1].i);
    ck_assert_uint_ne(E2(mul, s, s).i, inner[1].i);
    E2(add, inner[0], r); /* not visible here */
    ck_assert_ptr_nonnull(b.error);
    ck_assert_ptr_nonnull(strstr(ig_status_text(b.error), "I1"));
}
END_TEST

START_TEST(yields_must_fit) {
    ir_ref in[2], r;
    ir_type param[2] = {ir_scalar_type(IG_i64), ir_scalar_type(IG_f32)};
    for (int bad = 0; bad < 4; bad++) {
        ir_build_begin(&b, m, "k", IR_KERNEL, IR_BUILD_RAW);
        ir_ref s = ir_param(&b, ir_scalar_type(IG_i64), "s");
        ir_ref v = ir_param(&b, ir_scalar_type(IG_f32), "v");
        ir_ref c = ir_param(&b, ir_scalar_type(IG_bool), "c");
        if (bad < 2) {
            uint32_t f = ir_op_begin(&b, OP_for, A(for, IR_loop_seq, 1), 3, (ir_ref[]){s, s, v}, 1);
            ir_region_begin(&b, f, 0, bad ? 2 : 1, param, in);
            r = bad ? s : v;
            ir_region_end(&b, 1, &r);
            ir_op_end(&b, f);
        } else {
            uint32_t k = ir_op_begin(&b, OP_kif, NULL, 1, &c, 2);
            ir_region_begin(&b, k, 0, 0, NULL, NULL);
            ir_region_end(&b, 1, &s);
            ir_region_begin(&b, k, 1, 0, NULL, NULL);
            ir_region_end(&b, bad == 2, &v);
            ir_op_end(&b, k);
        }
        ck_assert_ptr_nonnull(b.error);
        ck_assert_ptr_nonnull(strstr(ig_status_text(b.error), "I5"));
        ir_build_abort(&b);
    }
    ir_build_begin(&b, m, "k", IR_KERNEL, IR_BUILD_RAW);
    ir_ref c = ir_param(&b, ir_scalar_type(IG_bool), "c");
    ir_region_begin(&b, ir_op_begin(&b, OP_kif, NULL, 1, &c, 2), 0, 0, NULL, NULL);
    ig_status st = ir_build_end(&b, 0, NULL, NULL);
    ck_assert_ptr_nonnull(strstr(ig_status_text(st), "still open"));
    ig_status_free(st);
}
END_TEST

static void print(const ir_func *f, rt_str *out) {
    rt_str_init(out, ig_allocator_default());
    ir_print_func(f, out, IR_PRINT_LOCS);
    ck_assert(!out->failed);
}

/* Copy every op of f into a function of the same name in module `to`. */
static ir_func *copy(const ir_func *f, ir_module *to) {
    ir_ref *map = calloc(f->values.n, sizeof *map);
    ir_build_begin(&b, to, f->name, f->kind, IR_BUILD_RAW);
    for (uint32_t k = 0; k < ir_nparam(f); k++)
        map[ir_param_ref(f, k).i] =
            ir_param(&b, ir_import_type(to, f->module, *ir_val_type(f, ir_param_ref(f, k))),
                     f->param_names.data[k]);
    const ir_op *ret = ir_return_op(f);
    for (uint32_t o = 0; o < f->ops.n - 1; o++)
        ir_copy_op(&b, f, o, map);
    ir_loc_rec at = ir_loc_get(f->module, ret->loc);
    b.loc = ir_intern_loc(to, at.file, at.line);
    ir_ref results[8];
    for (uint32_t k = 0; k < ret->nin; k++) results[k] = map[ir_op_in(f, ret, k).i];
    ir_func *out;
    ig_status s = ir_build_end(&b, ret->nin, results, &out);
    ck_assert_msg(!s, "%s", ig_status_text(s));
    free(map);
    return out;
}

START_TEST(copies_are_equal) {
    rt_str one, two;
    ir_module *other;
    ck_assert_ptr_null(ir_module_new(ig_allocator_default(), "other", &other));
    ck_assert(ir_add_symbol(other, "A", 2, 3) < 0); /* so that symbol numbers differ */
    ir_build_begin(&b, m, "k", IR_KERNEL, IR_BUILD_RAW);
    b.loc = ir_intern_loc(m, "loop.c", 3);
    ir_ref s = ir_param(&b, ir_scalar_type(IG_i64), "s");
    ir_func *f = end(loop(s)), *g = copy(f, other);
    print(f, &one);
    print(g, &two);
    ck_assert_str_eq(rt_str_text(&one), rt_str_text(&two));
    rt_str_free(&one);
    rt_str_free(&two);
    ir_build_begin(&b, m, "t", IR_FN, IR_BUILD_RAW);
    x = ir_param(&b, ir_tensor_type(IG_f32, 1, (ir_dim[]){B}), "x");
    f = end(ir_emit1(&b, OP_broadcast, A(bcast, DIMS(ir_dim_mul(m, B, 2), B), AXES(1)), x));
    g = copy(f, other);
    print(f, &one);
    print(g, &two);
    ck_assert_str_eq(rt_str_text(&one), rt_str_text(&two));
    rt_str_free(&one);
    rt_str_free(&two);
    ir_module_free(other);
}
END_TEST

/* --- Every allocation fails once ------------------------------------------------------------- */

typedef struct {
    int left, live;
} faulty;
static void *faulty_resize(void *user, void *ptr, size_t old_size, size_t new_size, size_t align) {
    faulty *f = user;
    (void)old_size, (void)align;
    if (!new_size) {
        if (ptr) f->live--;
        free(ptr);
        return NULL;
    }
    if (f->left-- <= 0) return NULL;
    void *q = align > 16 ? aligned_alloc(align, (new_size + align - 1) / align * align)
                         : realloc(ptr, new_size);
    if (align > 16 && ptr) {
        memcpy(q, ptr, old_size < new_size ? old_size : new_size);
        free(ptr);
    }
    if (!ptr && q) f->live++;
    return q;
}

static ig_status build_all(const ig_allocator *a) {
    ir_module *keep = m;
    ig_status s = ir_module_new(a, "oom", &m);
    if (!s) {
        begin(IR_BUILD_OPT);
        for (int k = 0; k < 20 && !b.error; k++) {
            ir_ref c = ir_const_like(&b, x, k);
            x = E2(add, E2(mul, x, c), E1(neg, y));
            y = ir_emit1(&b, OP_reshape, A(dims, DIMS(2, 2)), y);
            y = ir_emit1(&b, OP_reshape, A(dims, DIMS(4)), y);
            ir_const(&b, ir_tensor_type(IG_f32, 1, (ir_dim[]){100}), (float[100]){0}, 400);
        }
        s = ir_build_end(&b, 1, &x, NULL);
    }
    if (!s) {
        ir_build_begin(&b, m, "k", IR_KERNEL, IR_BUILD_OPT);
        ir_ref r = loop(ir_param(&b, ir_scalar_type(IG_i64), "s"));
        s = ir_build_end(&b, 1, &r, NULL);
    }
    ir_module_free(m);
    m = keep;
    return s;
}

START_TEST(no_allocation_is_trusted) {
    for (int n = 0;; n++) {
        faulty f = {.left = n};
        ig_allocator a = {faulty_resize, &f};
        ig_status s = build_all(&a);
        ck_assert_msg(!s || ig_status_code(s) == IG_MEMORY, "%s", ig_status_text(s));
        bool done = !s;
        ig_status_free(s);
        ck_assert_msg(f.live == 0, "%d blocks leaked when allocation %d fails", f.live, n);
        if (done) break;
        ck_assert_int_lt(n, 100000);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("build");
    TCase *t = tcase_create("build");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_function_is_numbered_in_order);
    tcase_add_test(t, the_first_error_sticks);
    tcase_add_test(t, misuse_is_an_error);
    tcase_add_test(t, equal_ops_are_one);
    tcase_add_test(t, float_identities);
    tcase_add_test(t, integer_identities);
    tcase_add_test(t, conversions);
    tcase_add_test(t, movement);
    tcase_add_test(t, reductions);
    tcase_add_test(t, a_sum_of_one_operand_is_a_reduce);
    tcase_add_test(t, small_constants_are_evaluated);
    tcase_add_test(t, constants);
    tcase_add_test(t, regions);
    tcase_add_test(t, value_numbering_respects_regions);
    tcase_add_test(t, yields_must_fit);
    tcase_add_test(t, copies_are_equal);
    tcase_add_test(t, no_allocation_is_trusted);
    suite_add_tcase(s, t);
    return suite_run(s);
}
