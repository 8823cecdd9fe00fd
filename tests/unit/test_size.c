/* test_size.c - what reading costs: large modules of small ops, of every common kind, are read from
 * their text and from their file within the bound that readers keep to (docs/format.md,
 * docs/ir-text.md). */
#include "ir/file.h"
#include "tests/unit/hostile.h"
#include "tests/unit/suite.h"

#define OPS 20000

static const ig_allocator *A(void) { return ig_allocator_default(); }

/* Ops that differ only in their operands. */
static ir_ref chain(ir_builder *b, ir_ref x, long i) {
    ir_ref back = i > 7 ? (ir_ref){x.i - 5} : x;
    return i % 3 ? ir_emit2(b, i % 2 ? OP_add : OP_mul, NULL, x, back)
                 : ir_emit1(b, OP_neg, NULL, x);
}

static ir_ref slice(ir_builder *b, ir_ref x, long i) {
    ir_attr_slice a = {.lo = {2, {i, 0}}, .hi = {2, {i + 1, 8}}, .step = {2, {1, 1}}};
    return i ? ir_emit1(b, OP_slice, &a, ir_param_ref(b->f, 0)) : x;
}

static ir_ref shape(ir_builder *b, ir_ref x, long i) {
    ir_attr_dims a = {.dims = {3, {1 + i, 4, 2}}};
    ir_ref in[1] = {ir_param_ref(b->f, 1)};
    if (i % 2) return ir_emit1(b, OP_reshape, &(ir_attr_dims){.dims = {1, {OPS * 8}}}, in[0]);
    ir_attr_slice cut = {.lo = {1, {0}}, .hi = {1, {8 * (i + 1)}}, .step = {1, {1}}};
    return i % 4 ? ir_emit1(b, OP_slice, &cut, in[0])
           : i   ? ir_emit1(b, OP_reshape, &a, ir_emit1(b, OP_slice, &cut, in[0]))
                 : x;
}

static ir_ref constant(ir_builder *b, ir_ref x, long i) {
    ir_ref c = ir_const_f(b, IG_f32, 0.001 * (double)i);
    return i ? c : x;
}

static ir_ref contract(ir_builder *b, ir_ref x, long i) {
    static const char text[] = "y[i,j] += a[i,k]*b[k,j] over (k)";
    ir_attr_ein a = {0};
    char message[100];
    ck_assert(ir_ein_parse(NULL, text, sizeof text - 1, &a.rel, message, sizeof message));
    ir_ref w = ir_param_ref(b->f, 2);
    return i ? ir_emit2(b, OP_ein, &a, i > 1 ? x : w, w) : x;
}

static ir_ref loops(ir_builder *b, ir_ref x, long i) {
    ir_type types[2] = {ir_scalar_type(IG_i64), ir_scalar_type(IG_f32)};
    ir_ref n = ir_param_ref(b->f, 3), in[3] = {n, n, ir_param_ref(b->f, 4)}, p[2];
    if (i % 4) return x;
    uint32_t op = ir_op_begin(b, OP_for, &(ir_attr_for){.kind = IR_loop_seq, .step = 1}, 3, in, 1);
    ir_region_begin(b, op, 0, 2, types, p);
    ir_ref y = ir_emit2(b, OP_add, NULL, p[1], p[1]);
    y = ir_emit2(b, OP_mul, NULL, y, p[1]);
    ir_region_end(b, 1, &y);
    return ir_op_end(b, op);
}

typedef struct form {
    const char *name;
    ir_ref (*emit)(ir_builder *b, ir_ref x, long i);
    ir_func_kind kind;
    int functions; /* the ops are spread over so many */
} form;

static const form forms[] = {{"one function of elementwise ops", chain, IR_FN, 1},
                             {"200 functions of elementwise ops", chain, IR_FN, 200},
                             {"slices, each its own attribute", slice, IR_FN, 1},
                             {"shapes, each its own type", shape, IR_FN, 1},
                             {"constants, each its own", constant, IR_FN, 1},
                             {"contractions", contract, IR_FN, 1},
                             {"loops", loops, IR_KERNEL, 1}};

/* A module of OPS ops or a few more, each with its line when `locs`. */
static ir_module *make(const form *f, bool locs) {
    ir_module *m;
    int64_t rows = OPS, n = rows * 8;
    ck_assert_ptr_null(ir_module_new(A(), "large", &m));
    for (int k = 0; k < f->functions; k++) {
        ir_builder b;
        char name[32];
        snprintf(name, sizeof name, "part%d", k);
        ir_build_begin(&b, m, name, f->kind, IR_BUILD_RAW);
        ir_ref x;
        if (f->kind == IR_FN) {
            x = ir_param(&b, ir_tensor_type(IG_f32, 2, (ir_dim[]){rows, 8}), "x");
            ir_param(&b, ir_tensor_type(IG_f32, 1, &n), "flat");
            ir_param(&b, ir_tensor_type(IG_f32, 2, (ir_dim[]){8, 8}), "w");
        } else {
            x = ir_param(&b, ir_scalar_type(IG_f32), "x");
            ir_param(&b, ir_scalar_type(IG_bool), "p");
            ir_param(&b, ir_scalar_type(IG_bool), "q");
            ir_param(&b, ir_scalar_type(IG_i64), "n");
            ir_param(&b, ir_scalar_type(IG_f32), "y");
        }
        for (long i = 0; i < OPS / f->functions; i++) {
            if (locs) b.loc = ir_intern_loc(m, "large.c", (uint32_t)i + 1);
            x = f->emit(&b, x, i);
        }
        ck_assert_ptr_null(ir_build_end(&b, f->kind == IR_FN ? 1 : 0, &x, NULL));
    }
    return m;
}

static void check_same(const ir_module *a, const ir_module *b) {
    rt_str x, y;
    rt_str_init(&x, A());
    rt_str_init(&y, A());
    ir_print(a, &x, IR_PRINT_LOCS);
    ir_print(b, &y, IR_PRINT_LOCS);
    ck_assert(x.n == y.n && !memcmp(x.data, y.data, x.n));
    rt_str_free(&x);
    rt_str_free(&y);
}

/* Read it from text or file, and say what it cost. */
static void check_reading(const ir_module *m, const char *name, bool file, bool locs) {
    counting c = COUNTING(LONG_MAX);
    ig_allocator a = {counting_resize, &c};
    ir_module *back;
    char what[100];
    rt_str s;
    rt_str_init(&s, A());
    if (file)
        ck_assert_ptr_null(ir_save(m, NULL, 0, &s));
    else
        ir_print(m, &s, IR_PRINT_LOCS);
    ig_status e = file ? ir_load(&a, s.data, s.n, &back) : ir_parse(&a, "t", s.data, s.n, &back);
    snprintf(what, sizeof what, "%s%s, %s", file ? "file" : "text", locs ? " with lines" : "",
             name);
    hostile_tell_peak(what, s.n, c.peak, hostile_is_refusal(e));
    ck_assert_msg(!e, "%s", ig_status_text(e));
    check_same(m, back);
    ir_module_free(back);
    ck_assert_uint_eq(c.live, 0);
    rt_str_free(&s);
}

START_TEST(large_modules_are_read) {
    const form *f = &forms[_i];
    for (int locs = 0; locs < 2; locs++) {
        ir_module *m = make(f, locs);
        uint32_t n = 0;
        for (uint32_t i = 0; i < m->funcs.n; i++) n += m->funcs.data[i]->ops.n;
        ck_assert_uint_ge(n, OPS);
        check_reading(m, f->name, false, locs);
        check_reading(m, f->name, true, locs);
        ir_module_free(m);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("size");
    TCase *t = tcase_create("size");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, large_modules_are_read, 0, (int)(sizeof forms / sizeof forms[0]));
    suite_add_tcase(s, t);
    return suite_run(s);
}
