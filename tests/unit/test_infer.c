/* test_infer.c - the type rules: what each accepts, what it gives, and what it says otherwise. */
#include "ir/ir.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static ir_module *m;
static ir_dim B, S; /* B in 1..64, S in 4..9 */

static void setup(void) {
    ck_assert_ptr_null(ir_module_new(ig_allocator_default(), "infer", &m));
    B = ir_add_symbol(m, "B", 1, 64);
    S = ir_add_symbol(m, "S", 4, 9);
}
static void teardown(void) { ir_module_free(m); }

/* "f32[2,B]", "vec<16 x f32>", "mem<u8>": one type, read from the start of s. */
static ir_type type(const char *s) {
    ir_type t = {0};
    if (!strncmp(s, "vec<", 4)) {
        t.lanes = (uint8_t)strtol(s + 4, (char **)&s, 10);
        s += 3;
    } else if (!strncmp(s, "mem<", 4)) {
        t.mem = 1;
        s += 4;
    }
    size_t n = strcspn(s, "[>");
    t.dtype = (uint8_t)rt_dtype_find(s, n);
    ck_assert_msg(t.dtype, "test text %s", s);
    for (s += n + 1; !t.lanes && !t.mem && *s != ']';) {
        if (*s == 'B' || *s == 'S')
            t.dim[t.rank++] = *s++ == 'B' ? B : S;
        else
            t.dim[t.rank++] = strtol(s, (char **)&s, 10);
        if (*s == ',') s++;
    }
    return t;
}

static int parse_types(const char *s, ir_type *out) {
    int n = 0;
    while (*s) {
        while (*s == ' ') s++;
        if (!*s) break;
        out[n++] = type(s);
        s += !strncmp(s, "vec<", 4) ? strcspn(s, ">") + 1 : strcspn(s, "]>") + 1;
    }
    return n;
}

/* The result types as text, or the message. */
static const char *infer_in(ir_module *module, ir_opcode op, const void *attr, const char *in) {
    static char text[1024];
    static const uint64_t zero[64];
    ir_type types[80], out[IR_MAX_RESULTS];
    ir_infer c = {.m = module, .op = op, .in = types, .attr = attr ? attr : zero, .out = out};
    c.nin = parse_types(in, types);
    if (!ir_infer_types(&c)) {
        ck_assert_int_ne(c.code, IG_OK);
        ck_assert_int_gt((int)strlen(c.message), 0);
        return strcpy(text, c.message);
    }
    rt_str s;
    rt_str_init(&s, ig_allocator_default());
    for (int k = 0; k < c.nout; k++) {
        if (k) rt_str_puts(&s, " ");
        ir_type_print(m, &out[k], &s);
    }
    strncpy(text, rt_str_text(&s), sizeof text - 1);
    rt_str_free(&s);
    return text;
}
static const char *infer(ir_opcode op, const void *attr, const char *in) {
    return infer_in(m, op, attr, in);
}

#define GIVES(op, attr, in, want) ck_assert_str_eq(infer(op, attr, in), want)
#define SAYS(op, attr, in, part)                            \
    do {                                                    \
        const char *got_ = infer(op, attr, in);             \
        ck_assert_msg(strstr(got_, part), "got: %s", got_); \
    } while (0)
#define A(kind, ...) (&(ir_attr_##kind){__VA_ARGS__, .end_ = 0})
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

START_TEST(elementwise) {
    GIVES(OP_add, NULL, "f32[2,B] f32[2,B]", "f32[2,B]");
    GIVES(OP_add, NULL, "vec<16 x f32> vec<16 x f32>", "vec<16 x f32>");
    GIVES(OP_neg, NULL, "u8[]", "u8[]");
    GIVES(OP_max, NULL, "bool[3] bool[3]", "bool[3]");
    GIVES(OP_exp, NULL, "bf16[0]", "bf16[0]");
    GIVES(OP_lnot, NULL, "bool[2]", "bool[2]");
    GIVES(OP_bit, A(bitop, IR_bitop_bxor), "i64[2] i64[2]", "i64[2]");
    GIVES(OP_cmp, A(cmpop, IR_cmpop_lt), "f16[B] f16[B]", "bool[B]");
    GIVES(OP_select, NULL, "bool[2] f32[2] f32[2]", "f32[2]");
    GIVES(OP_fma, NULL, "f64[1] f64[1] f64[1]", "f64[1]");
    SAYS(OP_add, NULL, "f32[64,32] f32[32,64]",
         "f32[64,32] and f32[32,64] differ in axis 0: 64 and 32");
    SAYS(OP_add, NULL, "f32[B] f32[S]", "differ in axis 0: B and S");
    SAYS(OP_add, NULL, "f32[2] f32[1,2]", "rank 1 and rank 2");
    SAYS(OP_add, NULL, "f32[2] i32[2]", "different element types");
    SAYS(OP_add, NULL, "bool[2] bool[2]", "integers or floats");
    SAYS(OP_add, NULL, "f32[2]", "takes 2 operands, not 1");
    SAYS(OP_neg, NULL, "f32[2] f32[2]", "takes 1 operand, not 2");
    SAYS(OP_add, NULL, "mem<f32> mem<f32>", "load from it");
    SAYS(OP_add, NULL, "vec<4 x f32> f32[]", "lanes");
    SAYS(OP_exp, NULL, "i32[2]", "floats are needed");
    SAYS(OP_lnot, NULL, "f32[2]", "integers or bool");
    SAYS(OP_shift, NULL, "f32[2] f32[2]", "integers are needed");
    SAYS(OP_shift, A(shop, 77), "i32[2] i32[2]", "no such shift");
    SAYS(OP_cmp, A(cmpop, 4), "f32[2] f32[2]", "no such comparison");
    SAYS(OP_rint, A(rmode, 4), "f32[2]", "no such rounding");
    SAYS(OP_bitcount, A(count, 3), "i32[2]", "no such count");
    SAYS(OP_bit, A(bitop, 3), "i32[2] i32[2]", "no such bit");
    SAYS(OP_select, NULL, "f32[2] f32[2] f32[2]", "condition is f32[2]");
    SAYS(OP_select, NULL, "bool[] f32[2] f32[2]", "different shapes");
}
END_TEST

START_TEST(conversions) {
    GIVES(OP_convert, A(dtype, IG_bool), "f32[B]", "bool[B]");
    GIVES(OP_convert, A(dtype, IG_i64), "vec<8 x u8>", "vec<8 x i64>");
    GIVES(OP_bitcast, A(dtype, IG_u32), "f32[3]", "u32[3]");
    GIVES(OP_bitcast, A(dtype, IG_bf16), "f16[3]", "bf16[3]");
    SAYS(OP_convert, A(dtype, IG_DTYPE_END), "f32[]", "no such element type");
    SAYS(OP_convert, A(dtype, 0), "f32[]", "no such element type");
    SAYS(OP_bitcast, A(dtype, IG_u64), "f32[3]", "4 and 8 bytes");
    SAYS(OP_bitcast, A(dtype, IG_u8), "bool[3]", "use convert");
}
END_TEST

START_TEST(sources) {
    float four[4] = {0};
    GIVES(OP_const, A(const, type("f32[2,2]"), {four, 16}), "", "f32[2,2]");
    GIVES(OP_const, A(const, type("vec<4 x f32>"), {four, 16}), "", "vec<4 x f32>");
    GIVES(OP_const, A(const, type("f32[0,7]"), {NULL, 0}), "", "f32[0,7]");
    SAYS(OP_const, A(const, type("f32[2,2]"), {four, 12}), "", "needs 16 bytes of data, not 12");
    SAYS(OP_const, A(const, type("f32[B]"), {four, 16}), "", "must be numbers");
    SAYS(OP_const, A(const, type("mem<f32>"), {four, 16}), "", "element type");
    GIVES(OP_iota, A(iota, IG_i64, DIMS(B, 3), 1), "", "i64[B,3]");
    GIVES(OP_dim, A(extent, B), "", "i64[]");
    SAYS(OP_iota, A(iota, IG_bool, DIMS(3), 0), "", "not bool");
    SAYS(OP_iota, A(iota, IG_i64, DIMS(3), 1), "", "axis 1 of a value of rank 1");
    SAYS(OP_iota, A(iota, IG_i64, DIMS(3), -1), "", "axis -1");
    SAYS(OP_iota, A(iota, IG_i64), "", "a scalar has no axis");
    GIVES(OP_rng_bits, A(rng, DIMS(B), IR_width_u64), "u32[2]", "u64[B]");
    SAYS(OP_rng_bits, A(rng, DIMS(B), IR_width_u64), "u32[3]", "must be u32[2]");
    float w[2] = {0};
    ck_assert_ptr_null(ir_add_weight(m, "w", type("f32[2]"), w, true));
    GIVES(OP_weight, A(sym, "w"), "", "f32[2]");
    SAYS(OP_weight, A(sym, "v"), "", "no weight @v");
    SAYS(OP_weight, A(sym, NULL), "", "no weight");
}
END_TEST

START_TEST(movement) {
    GIVES(OP_reshape, A(dims, DIMS(6)), "f32[2,3]", "f32[6]");
    GIVES(OP_reshape, A(dims, DIMS(3, B, 2)), "f32[B,6]", "f32[3,B,2]");
    GIVES(OP_reshape, A(dims, {0}), "f32[1]", "f32[]");
    GIVES(OP_reshape, A(dims, DIMS(0, 5)), "f32[7,0]", "f32[0,5]");
    SAYS(OP_reshape, A(dims, DIMS(7)), "f32[2,3]", "f32[2,3] has 6 elements, f32[7] has 7");
    SAYS(OP_reshape, A(dims, DIMS(S)), "f32[B]", "products");
    GIVES(OP_transpose, A(perm, AXES(1, 2, 0)), "f32[2,3,B]", "f32[3,B,2]");
    SAYS(OP_transpose, A(perm, AXES(1, 1)), "f32[2,3]", "each of its 2 axes once");
    SAYS(OP_transpose, A(perm, AXES(0)), "f32[2,3]", "permutation of 1 axes");
    GIVES(OP_broadcast, A(bcast, DIMS(4, 3), AXES(1)), "f32[3]", "f32[4,3]");
    GIVES(OP_broadcast, A(bcast, DIMS(4, B), AXES(0, 1)), "f32[4,1]", "f32[4,B]");
    GIVES(OP_broadcast, A(bcast, DIMS(4)), "f32[]", "f32[4]");
    SAYS(OP_broadcast, A(bcast, DIMS(4, 3), AXES(0)), "f32[3]",
         "axis 0 has 3 elements, result axis 0 has 4");
    SAYS(OP_broadcast, A(bcast, DIMS(4, 3), AXES(1, 0)), "f32[3,4]", "increasing");
    SAYS(OP_broadcast, A(bcast, DIMS(4, 3), AXES(2)), "f32[3]", "axis 2 of a value of rank 2");
    GIVES(OP_concat, A(axis, 1), "f32[2,3] f32[2,B] f32[2,0]", "f32[2,B+3]");
    SAYS(OP_concat, A(axis, 1), "f32[2,3] f32[3,3]", "differ in axis 0: 2 and 3");
    SAYS(OP_concat, A(axis, 0), "", "nothing to join");
    SAYS(OP_concat, A(axis, 2), "f32[2,3]", "axis 2");
    GIVES(OP_reverse, A(axes, AXES(0, 1)), "f32[2,3]", "f32[2,3]");
    SAYS(OP_reverse, A(axes, AXES(1, 0)), "f32[2,3]", "increasing order");
    SAYS(OP_reverse, A(axes, {.n = 9}), "f32[2,3]", "9 axes");
}
END_TEST

START_TEST(windows) {
    GIVES(OP_slice, A(slice, DIMS(1), DIMS(7), INTS(2)), "f32[8]", "f32[3]");
    GIVES(OP_slice, A(slice, DIMS(1), DIMS(8), INTS(3)), "f32[8]", "f32[3]");
    GIVES(OP_slice, A(slice, DIMS(1), DIMS(B), INTS(1)), "f32[B]", "f32[B-1]");
    GIVES(OP_slice, A(slice, DIMS(0), DIMS(4), INTS(1)), "f32[S]", "f32[4]");
    GIVES(OP_slice, A(slice, DIMS(0), DIMS(0), INTS(1)), "f32[0]", "f32[0]");
    GIVES(OP_slice, A(slice, DIMS(0), DIMS(B), INTS(1)), "f32[64]", "f32[B]");
    SAYS(OP_slice, A(slice, DIMS(0), DIMS(5), INTS(1)), "f32[S]", "0 to 5 is not within 0 to S");
    SAYS(OP_slice, A(slice, DIMS(2), DIMS(1), INTS(1)), "f32[8]", "2 to 1 is not within 0 to 8");
    SAYS(OP_slice, A(slice, DIMS(0), DIMS(9), INTS(1)), "f32[8]", "0 to 9");
    SAYS(OP_slice, A(slice, DIMS(0), DIMS(8), INTS(0)), "f32[8]", "steps are at least 1");
    SAYS(OP_slice, A(slice, DIMS(0), DIMS(8)), "f32[8]", "0 steps");
    SAYS(OP_slice, A(slice, DIMS(0, 0), DIMS(8), INTS(1)), "f32[8]", "rank 1");
    GIVES(OP_pad, A(pad, DIMS(1), DIMS(B), INTS(0)), "f32[3] f32[]", "f32[B+4]");
    GIVES(OP_pad, A(pad, DIMS(0), DIMS(0), INTS(2)), "f32[3] f32[]", "f32[7]");
    GIVES(OP_pad, A(pad, DIMS(0), DIMS(0), INTS(2)), "f32[0] f32[]", "f32[0]");
    GIVES(OP_pad, A(pad, DIMS(0), DIMS(0), INTS(1)), "f32[B] f32[]", "f32[2*B-1]");
    SAYS(OP_pad, A(pad, DIMS(0), DIMS(0), INTS(-1)), "f32[3] f32[]", "never negative");
    SAYS(OP_pad, A(pad, DIMS(0), DIMS(0), INTS(0)), "f32[3] f64[]", "scalar of the same type");
    GIVES(OP_dslice, A(dims, DIMS(2, 3)), "f32[4,3] i64[] i64[]", "f32[2,3]");
    SAYS(OP_dslice, A(dims, DIMS(2, 4)), "f32[4,3] i64[] i64[]", "axis 1: a window of 4");
    SAYS(OP_dslice, A(dims, DIMS(2, 3)), "f32[4,3] i64[]", "1 start indices");
    SAYS(OP_dslice, A(dims, DIMS(2, 3)), "f32[4,3] i64[] i32[]", "convert it to an i64");
    SAYS(OP_dslice, NULL, "", "give the tensor");
    GIVES(OP_dupdate, A(dupd, IR_setop_add), "f32[S] f32[2] i64[]", "f32[S]");
    SAYS(OP_dupdate, A(dupd, IR_setop_add), "bool[4] bool[2] i64[]", "op=set takes any type");
    SAYS(OP_dupdate, NULL, "f32[4] f32[5] i64[]", "does not fit");
    SAYS(OP_dupdate, NULL, "f32[4] f64[4] i64[]", "element types");
    SAYS(OP_dupdate, NULL, "f32[4] f32[4,1] i64[]", "rank 1 and rank 2");
}
END_TEST

START_TEST(reductions) {
    GIVES(OP_reduce, A(reduce, IR_redop_sum, AXES(0, 2)), "f16[2,B,3]", "f16[B]");
    GIVES(OP_reduce, A(reduce, IR_redop_max), "bool[2]", "bool[2]");
    GIVES(OP_reduce, A(reduce, IR_redop_argmax, AXES(1)), "f32[2,3]", "i64[2]");
    GIVES(OP_reduce, A(reduce, IR_redop_any, AXES(0)), "bool[B]", "bool[]");
    SAYS(OP_reduce, A(reduce, IR_redop_sum, AXES(0)), "bool[B]",
         "sum of bool[B]: integers or floats");
    SAYS(OP_reduce, A(reduce, IR_redop_all, AXES(0)), "f32[B]", "all of f32[B]: bool needed");
    SAYS(OP_reduce, A(reduce, IR_redop_argmin, AXES(0, 1)), "f32[2,2]", "exactly one axis");
    SAYS(OP_reduce, A(reduce, IR_redop_argmin, AXES(0)), "f32[0]", "which is empty");
    SAYS(OP_reduce, A(reduce, 8, AXES(0)), "f32[2]", "no such reduction");
    SAYS(OP_reduce, A(reduce, IR_redop_sum, AXES(1)), "f32[2]", "axis 1 of a value of rank 1");
    GIVES(OP_cumred, A(cumred, IR_redop_prod, 1), "f32[2,B]", "f32[2,B]");
    SAYS(OP_cumred, A(cumred, IR_redop_argmax, 0), "f32[2]", "one of sum, prod");
    SAYS(OP_cumred, A(cumred, IR_redop_sum, 1), "f32[2]", "axis 1");
    SAYS(OP_cumred, A(cumred, IR_redop_sum, 0), "bool[2]", "convert first");
}
END_TEST

static const char *ein(const char *text, const char *in) {
    ir_attr_ein a = {0};
    static char msg[512];
    if (!ir_ein_parse(NULL, text, strlen(text), &a.rel, msg, sizeof msg)) return msg;
    return infer(OP_ein, &a, in);
}

START_TEST(contractions) {
    ck_assert_str_eq(ein("y[b,o] += x[b,i]*w[i,o]", "f32[B,64] f32[64,10]"), "f32[B,10]");
    ck_assert_str_eq(ein("y[i] max= a[i,j]", "i8[3,4]"), "i8[3]");
    ck_assert_str_eq(ein("y[] += a[i]*b[i]*c[i]*d[i]", "u8[3] u8[3] u8[3] u8[3]"), "u8[]");
    const char *s = ein("y[b,o] += x[b,i]*w[i,o]", "f32[B,64] f32[65,10]");
    ck_assert_msg(strstr(s, "f32[B,64] axis 1 and f32[65,10] axis 0") && strstr(s, "64 and 65"),
                  "%s", s);
    ck_assert_ptr_nonnull(strstr(ein("y[i] += a[i,j]", "f32[2,3]"), "a reduce, not an ein"));
    ck_assert_ptr_nonnull(
        strstr(ein("y[i] += a[i]*b[i]", "f32[2] f32[2] f32[2]"), "2 operands, 3"));
    ck_assert_ptr_nonnull(strstr(ein("y[i] += a[i]*b[i]", "f32[2] f64[2]"), "element types"));
    ck_assert_ptr_nonnull(
        strstr(ein("y[i] += a[i]*b[i]", "bool[2] bool[2]"), "integers or floats"));
    ck_assert_ptr_nonnull(strstr(ein("y[i] += a[i]*b[i]", "f32[2] f32[2,2]"), "1 subscripts"));
}
END_TEST

START_TEST(index_tensors) {
    const ir_axes one = {1, {1}}, two = {2, {0, 2}};
    GIVES(OP_gather, A(gather, one, 1, IR_oob_clamp), "f32[B,7,3] i32[B,5]", "f32[B,5,3]");
    GIVES(OP_gather, A(gather, two, 0, IR_oob_fill), "bool[B,7,3] i64[] i64[]", "bool[7]");
    SAYS(OP_gather, A(gather, one, 1, IR_oob_drop), "f32[2,7] i32[2]", "clamp or oob=fill");
    SAYS(OP_gather, A(gather, one, 2, IR_oob_fill), "f32[2,7] i32[2]", "2 batch axes");
    SAYS(OP_gather, A(gather, one, 1, IR_oob_fill), "f32[2,7] i32[3]", "batch axis 0: 2 and 3");
    SAYS(OP_gather, A(gather, one, 0, IR_oob_fill), "f32[2,7] u8[3]", "convert them to i32");
    SAYS(OP_gather, A(gather, two, 0, IR_oob_fill), "f32[2,7,3] i32[3]", "1 index tensors for 2");
    SAYS(OP_gather, A(gather, two, 0, IR_oob_fill), "f32[2,7,3] i32[3] i64[3]", "one type");
    SAYS(OP_gather, A(gather, one, 0, IR_oob_clamp), "f32[2,0] i32[3]", "may be empty");
    SAYS(OP_gather, A(gather, one, 0, IR_oob_fill), "f32[2] i32[3]", "axis 1");
    SAYS(OP_gather, A(gather, one, 0, IR_oob_fill), "f32[1,1,1,1,1] i32[1,1,1,1,1]", "the limit");
    GIVES(OP_scatter, A(scatter, IR_putop_add, one, 0, IR_oob_drop), "f32[B,7] f32[4,B] i32[4]",
          "f32[B,7]");
    SAYS(OP_scatter, A(scatter, IR_putop_add, one, 0, IR_oob_drop), "f32[B,7] f32[B,4] i32[4]",
         "these indices take f32[4,B]");
    SAYS(OP_scatter, A(scatter, IR_putop_add, one, 0, IR_oob_drop), "bool[2,7] bool[4,2] i32[4]",
         "op=add takes");
    SAYS(OP_scatter, A(scatter, IR_putop_add, one, 0, IR_oob_fill), "f32[2,7] f32[4,2] i32[4]",
         "clamp or oob=drop");
    SAYS(OP_scatter, A(scatter, 9, one, 0, IR_oob_drop), "f32[2,7] f32[4,2] i32[4]", "no such way");
    GIVES(OP_sort, A(sort, 0, 1, 0), "f32[B] i64[B]", "f32[B] i64[B]");
    SAYS(OP_sort, A(sort, 1, 1, 0), "f32[B] i64[B]", "axis 1");
    SAYS(OP_sort, A(sort, 0, 3, 0), "f32[B] i64[B]", "3 keys of 2");
    SAYS(OP_sort, A(sort, 0, 1, 0), "f32[B] i64[3]", "one shape");
    SAYS(OP_sort, A(sort, 0, 1, 0), "f32[2] f32[2] f32[2] f32[2] f32[2]", "takes 1 to 4");
}
END_TEST

START_TEST(kernel_level) {
    GIVES(OP_load, A(lanes, 0), "mem<f32> i64[]", "f32[]");
    GIVES(OP_load, A(lanes, 16), "mem<bool> i64[]", "vec<16 x bool>");
    GIVES(OP_load, A(lanes, 8), "mem<f32> vec<8 x i64>", "vec<8 x f32>");
    SAYS(OP_load, A(lanes, 4), "mem<f32> vec<8 x i64>", "index of 8 lanes");
    SAYS(OP_load, A(lanes, 0), "mem<f32> vec<8 x i64>", "index of 8 lanes");
    SAYS(OP_load, A(lanes, 1), "mem<f32> i64[]", "1 lanes");
    SAYS(OP_load, A(lanes, -16), "mem<f32> i64[]", "-16 lanes");
    SAYS(OP_load, A(lanes, 0), "f32[] i64[]", "memory is needed");
    SAYS(OP_load, A(lanes, 0), "mem<f32> i32[]", "i64 scalar or vector");
    GIVES(OP_store, NULL, "mem<f32> i64[] vec<4 x f32>", "");
    GIVES(OP_store, NULL, "mem<f32> vec<4 x i64> vec<4 x f32>", "");
    SAYS(OP_store, NULL, "mem<f32> vec<4 x i64> f32[]", "4 lanes and a value of 0");
    SAYS(OP_store, NULL, "mem<f32> i64[] f64[]", "cannot be stored");
    GIVES(OP_stream, NULL, "mem<f32> i64[] vec<4 x f32>", "");
    SAYS(OP_stream, NULL, "mem<f32> i64[] f32[]", "a run of lanes");
    SAYS(OP_stream, NULL, "mem<f32> vec<4 x i64> vec<4 x f32>", "a run of lanes");
    GIVES(OP_aligned, NULL, "mem<f32>", "bool[]");
    SAYS(OP_aligned, NULL, "f32[]", "no memory");
    GIVES(OP_prefetch, NULL, "mem<f32> i64[]", "");
    SAYS(OP_prefetch, NULL, "mem<f32> vec<4 x i64>", "an index of 4 lanes");
    SAYS(OP_prefetch, NULL, "f32[] i64[]", "memory is needed");
    GIVES(OP_for, A(for, IR_loop_seq, 1), "i64[] i64[] f32[] vec<4 x f32>", "f32[] vec<4 x f32>");
    SAYS(OP_for, A(for, IR_loop_seq, 0), "i64[] i64[]", "step of at least 1");
    SAYS(OP_for, A(for, IR_loop_seq, 1), "i64[]", "bounds");
    GIVES(OP_kif, NULL, "bool[]", "");
    SAYS(OP_kif, NULL, "i64[]", "bool scalar");
    GIVES(OP_alloc, A(alloc, IG_f32, 64), "", "mem<f32>");
    SAYS(OP_alloc, A(alloc, IG_f32, 0), "", "0 elements");
    GIVES(OP_splat, A(lanes, 16), "f32[]", "vec<16 x f32>");
    SAYS(OP_splat, A(lanes, 16), "f32[2]", "not a scalar");
    GIVES(OP_viota, A(lanes, 4), "", "vec<4 x i64>");
    GIVES(OP_vhalf, A(index, 1), "vec<16 x f32>", "vec<8 x f32>");
    GIVES(OP_vhalf, A(index, 0), "vec<2 x f32>", "f32[]");
    SAYS(OP_vhalf, A(index, 2), "vec<16 x f32>", "half 2");
    SAYS(OP_vhalf, A(index, 0), "f32[]", "not a vector");
    GIVES(OP_deal, A(deal, 1, 1, 4), "vec<16 x f32> vec<16 x f32>", "vec<16 x f32>");
    GIVES(OP_deal, A(deal, 0, 4, 8), "vec<8 x f32> vec<8 x f32>", "vec<8 x f32>");
    SAYS(OP_deal, A(deal, 0, 4, 4), "vec<8 x f32> vec<8 x f32>", "8 lanes are not dealt");
    SAYS(OP_deal, A(deal, 0, 1, 16), "vec<8 x f32> vec<8 x f32>", "segments of 16");
    SAYS(OP_deal, A(deal, 0, 1, 4), "vec<8 x f32> vec<4 x f32>", "differ");
    GIVES(OP_vtest, A(bitop, IR_bitop_bor), "vec<16 x bool>", "bool[]");
    SAYS(OP_vtest, A(bitop, IR_bitop_bxor), "vec<16 x bool>", "band or bor");
    SAYS(OP_vtest, A(bitop, IR_bitop_band), "vec<16 x i32>", "bools");
    SAYS(OP_vtest, A(bitop, IR_bitop_band), "bool[]", "not a vector");
    GIVES(OP_vzip, NULL, "vec<4 x u32> vec<4 x u32>", "vec<8 x u32>");
    SAYS(OP_vzip, NULL, "vec<4 x u32> vec<8 x u32>", "differ");
    SAYS(OP_vzip, NULL, "u32[] u32[]", "not a vector");
    GIVES(OP_extract, A(index, 15), "vec<16 x f32>", "f32[]");
    SAYS(OP_extract, A(index, 16), "vec<16 x f32>", "lane 16");
    GIVES(OP_ksym, A(index, 1), "", "i64[]");
    SAYS(OP_ksym, A(index, 2), "", "no dim symbol number 2");
    GIVES(OP_kin, A(port, 0, IG_u8), "", "mem<u8>");
    GIVES(OP_kws, A(dtype, IG_f32), "i64[]", "mem<f32>");
    SAYS(OP_kws, A(dtype, IG_f32), "i32[]", "byte offset");
    SAYS(OP_kweight, A(wport, "none", IG_f32), "", "no weight @none");
}
END_TEST

START_TEST(calls) {
    ir_builder b;
    ir_build_begin(&b, m, "f", IR_FN, IR_BUILD_RAW);
    ir_ref x = ir_param(&b, type("f32[B]"), "x");
    ir_ref r[2] = {x, ir_emit1(&b, OP_neg, NULL, x)};
    ck_assert_ptr_null(ir_build_end(&b, 2, r, NULL));
    GIVES(OP_call, A(call, "f"), "f32[B]", "f32[B] f32[B]");
    SAYS(OP_call, A(call, "f"), "f32[S]", "operand 0 of @f is f32[S] but the parameter is f32[B]");
    SAYS(OP_call, A(call, "f"), "f32[B] f32[B]", "takes 1 operands, not 2");
    SAYS(OP_call, A(call, "g"), "f32[B]", "no function @g");
    SAYS(OP_launch, A(call, "f"), "f32[B]", "not a kernel");
}
END_TEST

START_TEST(sizes_are_checked) {
    const ir_dim big = INT64_C(1) << 40;
    SAYS(OP_broadcast, A(bcast, DIMS(big, big)), "f32[]", "too large");
    SAYS(OP_broadcast, A(bcast, DIMS(INT64_C(1) << 62)), "f32[]", "too large");
    SAYS(OP_iota, A(iota, IG_i64, DIMS(big, big, B), 0), "", "too large");
    SAYS(OP_pad, A(pad, DIMS(INT64_MAX), DIMS(INT64_MAX), INTS(0)), "f32[3] f32[]", "too large");
    SAYS(OP_iota, A(iota, IG_i64, {.n = 9}, 0), "", "the limit is 8");
    SAYS(OP_reshape, A(dims, DIMS(IR_DIM_BAD)), "f32[3]", "not a valid extent");
}
END_TEST

START_TEST(eager_needs_no_module) {
    ck_assert_str_eq(infer_in(NULL, OP_add, NULL, "f32[2,3] f32[2,3]"), "f32[2,3]");
    ck_assert_str_eq(infer_in(NULL, OP_slice, A(slice, DIMS(1), DIMS(7), INTS(2)), "f32[8]"),
                     "f32[3]");
    ck_assert_str_eq(infer_in(NULL, OP_concat, A(axis, 0), "f32[8] f32[2]"), "f32[10]");
    ck_assert_str_eq(infer_in(NULL, OP_pad, A(pad, DIMS(1), DIMS(2), INTS(1)), "f32[3] f32[]"),
                     "f32[8]");
    ck_assert_ptr_nonnull(strstr(infer_in(NULL, OP_dim, A(extent, -5), ""), "valid extent"));
    ck_assert_ptr_nonnull(
        strstr(infer_in(NULL, OP_iota, A(iota, IG_i64, DIMS(-5), 0), ""), "valid extent"));
    ck_assert_ptr_nonnull(strstr(infer_in(NULL, OP_weight, A(sym, "w"), ""), "no weight"));
    ck_assert_ptr_nonnull(strstr(infer_in(NULL, OP_add, NULL, "f32[2] f32[3]"), "2 and 3"));
}
END_TEST

/* Whatever operands and attribute bytes come, a rule answers, and says why when it refuses. */
START_TEST(no_rule_trusts_its_input) {
    static const char *const some[] = {"f32[]",   "i64[]",      "bool[3]",
                                       "u32[2]",  "f32[2,B,3]", "vec<16 x f32>",
                                       "mem<i8>", "f16[0]",     "i64[2,2]"};
    const int nsome = (int)(sizeof some / sizeof *some);
    uint64_t seed = 1, attr[64];
    for (int round = 0; round < 20000; round++) {
        char in[256] = "";
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ir_opcode op = (ir_opcode)(seed >> 33) % OP_END;
        ir_attr_kind kind = (ir_attr_kind)ir_op_tab[op].attr;
        bool pointers = false;
        for (uint32_t k = 0; k < ir_attr_tab[kind].nfield; k++) {
            ir_field_kind f = ir_attr_tab[kind].field[k].kind;
            pointers |= f == FIELD_sym || f == FIELD_data;
        }
        for (int i = 0; i < 64; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint64_t r = seed >> 20;
            attr[i] = pointers     ? 0
                      : r % 3 == 0 ? r & 0x0101030201020103
                      : r % 3 == 1 ? r % 5
                                   : seed;
            for (int k = 0; k < 8;
                 k++) /* a negative dim must be one of the module's: loaders check it */
                if ((int64_t)attr[i] < 0) attr[i] &= INT64_MAX;
        }
        int n = (int)(seed >> 40) % 5;
        for (int k = 0; k < n; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            strcat(strcat(in, some[(seed >> 33) % (uint64_t)nsome]), " ");
        }
        infer(op, attr, in);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("infer");
    TCase *t = tcase_create("infer");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, elementwise);
    tcase_add_test(t, conversions);
    tcase_add_test(t, sources);
    tcase_add_test(t, movement);
    tcase_add_test(t, windows);
    tcase_add_test(t, reductions);
    tcase_add_test(t, contractions);
    tcase_add_test(t, index_tensors);
    tcase_add_test(t, kernel_level);
    tcase_add_test(t, calls);
    tcase_add_test(t, sizes_are_checked);
    tcase_add_test(t, eager_needs_no_module);
    tcase_add_test(t, no_rule_trusts_its_input);
    suite_add_tcase(s, t);
    return suite_run(s);
}
