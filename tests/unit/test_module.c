/* test_module.c - tables, interning, weights, symbols, shells; every allocation failing once. */
#include "ir/ir.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ir_module *m;
static void setup(void) { ck_assert_ptr_null(ir_module_new(ig_allocator_default(), "mlp", &m)); }
static void teardown(void) { ir_module_free(m); }

START_TEST(ops_are_found_by_name) {
    for (int i = 0; i < OP_END; i++) {
        const ir_op_info *o = &ir_op_tab[i];
        ck_assert_int_eq(ir_op_find(o->name, strlen(o->name)), i);
        ck_assert(o->version >= 1 && o->attr < ATTR_END && strchr("tkb", o->level));
        for (int k = 0; k < i; k++) ck_assert_str_ne(ir_op_tab[k].name, o->name);
    }
    ck_assert_int_eq(ir_op_find("ad", 2), OP_END);
    ck_assert_int_eq(ir_op_find("addx", 4), OP_END);
    ck_assert_int_eq(ir_op_find("add\0\0\0\0\0", 8), OP_END);
    ck_assert_int_eq(ir_op_find("", 0), OP_END);
    ck_assert(ir_is_elementwise(OP_add) && ir_is_elementwise(OP_select) &&
              !ir_is_elementwise(OP_reduce));
    ck_assert(ir_op_tab[OP_add].commutes && !ir_op_tab[OP_sub].commutes &&
              ir_op_tab[OP_store].effect);
    ck_assert_uint_eq(ir_op_tab[OP_concat].arity, IR_ARITY_V);
    ck_assert_uint_eq(ir_op_tab[OP_fma].linear, 7);
}
END_TEST

START_TEST(attribute_fields_are_described) {
    for (int k = 0; k < ATTR_END; k++) {
        const ir_attr_info *a = &ir_attr_tab[k];
        for (uint32_t i = 0; i < a->nfield; i++) {
            ck_assert_uint_lt(a->field[i].offset, a->size);
            ck_assert_int_lt(a->field[i].kind, FIELD_END);
        }
    }
    ck_assert_uint_eq(ir_attr_tab[ATTR_none].nfield, 0);
    const ir_attr_info *c = &ir_attr_tab[ATTR_cumred];
    ck_assert_uint_eq(c->nfield, 4);
    ck_assert_str_eq(c->field[3].name, "exclusive");
    ck_assert_uint_eq(c->field[1].offset, offsetof(ir_attr_cumred, axis));
    ck_assert_int_eq(c->field[0].kind, FIELD_redop);
    const char *const *names = ir_enum_names(FIELD_redop);
    ck_assert_str_eq(names[IR_redop_argmin], "argmin");
    ck_assert_ptr_null(names[IR_redop_argmin + 1]);
    ck_assert_ptr_null(ir_enum_names(FIELD_dims));
}
END_TEST

START_TEST(strings_and_locs_are_one) {
    const char *a = ir_intern_str(m, "conv1", 4);
    ck_assert_str_eq(a, "conv");
    ck_assert_ptr_eq(a, ir_intern_str(m, "conv", 4));
    ck_assert_ptr_ne(a, ir_intern_str(m, "conv1", 5));
    ck_assert_str_eq(ir_intern_str(m, "", 0), "");
    ir_loc x = ir_intern_loc(m, "mlp.c", 12);
    ck_assert_uint_eq(x.i, ir_intern_loc(m, "mlp.c", 12).i);
    ck_assert_uint_ne(x.i, ir_intern_loc(m, "mlp.c", 13).i);
    ck_assert_str_eq(ir_loc_get(m, x).file, "mlp.c");
    ck_assert_uint_eq(ir_loc_get(m, x).line, 12);
    ck_assert_uint_eq(ir_intern_loc(m, NULL, 3).i, 0);
    ck_assert_ptr_null(ir_loc_get(m, (ir_loc){0}).file);
    for (int i = 0; i < 5000; i++) {
        char s[16];
        int n = snprintf(s, sizeof s, "s%d", i % 2500);
        const char *p = ir_intern_str(m, s, (size_t)n);
        ck_assert_str_eq(p, s);
        ck_assert_ptr_eq(p, ir_intern_str(m, s, (size_t)n));
    }
}
END_TEST

START_TEST(attributes_are_one) {
    ck_assert_uint_eq(ir_intern_attr(m, ATTR_none, NULL).i, 0);
    ck_assert_int_eq(ir_attr_kind_of(m, (ir_attr){0}), ATTR_none);
    ir_attr_dims d = {.dims = {2, {3, 4}}}, e = {.dims = {2, {3, 4, 99}}}; /* 99 is beyond n */
    ir_attr x = ir_intern_attr(m, ATTR_dims, &d);
    ck_assert_uint_eq(x.i, ir_intern_attr(m, ATTR_dims, &e).i);
    const ir_attr_dims *kept = ir_attr_get(m, x);
    ck_assert(kept->dims.n == 2 && kept->dims.d[0] == 3 && kept->dims.d[1] == 4);
    e.dims.d[1] = 5;
    ck_assert_uint_ne(x.i, ir_intern_attr(m, ATTR_dims, &e).i);
    /* Data is compared and kept by content, symbols by name. */
    char bytes[8] = "abcdefg", name[] = "w1";
    ir_attr_const c = {.type = ir_scalar_type(IG_i64), .data = {bytes, 8}};
    ir_attr k = ir_intern_attr(m, ATTR_const, &c);
    char same[8] = "abcdefg";
    c.data.bytes = same;
    ck_assert_uint_eq(k.i, ir_intern_attr(m, ATTR_const, &c).i);
    bytes[0] = same[0] = 'x';
    ck_assert_uint_ne(k.i, ir_intern_attr(m, ATTR_const, &c).i);
    ck_assert_int_eq(((const char *)((const ir_attr_const *)ir_attr_get(m, k))->data.bytes)[0],
                     'a');
    ir_attr_sym s = {.name = name}, s2 = {.name = "w1"};
    ir_attr w = ir_intern_attr(m, ATTR_sym, &s);
    ck_assert_uint_eq(w.i, ir_intern_attr(m, ATTR_sym, &s2).i);
    name[0] = 'q';
    ck_assert_str_eq(((const ir_attr_sym *)ir_attr_get(m, w))->name, "w1");
    ck_assert_uint_ne(w.i, ir_intern_attr(m, ATTR_sym, NULL).i);
    /* The same bytes under another kind are another attribute. */
    ir_attr_index i1 = {.index = 1};
    ir_attr_lanes l1 = {.lanes = 1};
    ck_assert_uint_ne(ir_intern_attr(m, ATTR_index, &i1).i, ir_intern_attr(m, ATTR_lanes, &l1).i);
    ck_assert_ptr_nonnull(ir_attr_get(m, (ir_attr){UINT32_MAX}));
}
END_TEST

START_TEST(weights_are_checked) {
    float x[6] = {1, 2, 3, 4, 5, 6};
    ir_type t = ir_tensor_type(IG_f32, 2, (ir_dim[]){2, 3});
    ck_assert_ptr_null(ir_add_weight(m, "w", t, x, true));
    const ir_weight *w = ir_find_weight(m, "w");
    ck_assert(w && w->owned && w->bytes == 24 && w->data != x && !memcmp(w->data, x, 24));
    ck_assert_ptr_null(ir_add_weight(m, "v", t, x, false));
    ck_assert(ir_find_weight(m, "v")->data == x);
    ck_assert_ptr_null(ir_find_weight(m, "absent"));
    ig_status s = ir_add_weight(m, "w", t, x, true);
    ck_assert_int_eq(ig_status_code(s), IG_INVALID);
    ig_status_free(s);
    ir_type dynamic = ir_tensor_type(IG_f32, 1, (ir_dim[]){ir_add_symbol(m, "B", 1, 9)});
    s = ir_add_weight(m, "d", dynamic, x, true);
    ck_assert_int_eq(ig_status_code(s), IG_SHAPE);
    ig_status_free(s);
    ir_type huge = ir_tensor_type(IG_f64, 2, (ir_dim[]){INT64_MAX / 2, 2});
    s = ir_add_weight(m, "h", huge, x, false);
    ck_assert_int_eq(ig_status_code(s), IG_SHAPE);
    ig_status_free(s);
}
END_TEST

START_TEST(types_compare_and_print) {
    ir_dim B = ir_add_symbol(m, "B", 1, 9);
    ck_assert_int_eq(ir_add_symbol(m, "B", 3, 4), B);
    ck_assert_int_eq(m->symbols.data[0].hi, 9);
    ir_type t = ir_tensor_type(IG_f32, 2, (ir_dim[]){B, 784}), v = ir_vec_type(IG_f32, 16);
    ir_type p = ir_mem_type(IG_bool), z = ir_scalar_type(IG_bf16);
    rt_str s;
    rt_str_init(&s, m->alloc);
    ir_type_print(m, &t, &s);
    rt_str_puts(&s, " ");
    ir_type_print(m, &v, &s);
    rt_str_puts(&s, " ");
    ir_type_print(m, &p, &s);
    rt_str_puts(&s, " ");
    ir_type_print(m, &z, &s);
    ck_assert_str_eq(rt_str_text(&s), "f32[B,784] vec<16 x f32> mem<bool> bf16[]");
    rt_str_free(&s);
    ir_type u = t;
    ck_assert(ir_type_eq(&t, &u) && !ir_type_eq(&t, &v) && !ir_type_is_static(&t));
    u.dtype = IG_i32;
    ck_assert(!ir_type_eq(&t, &u) && ir_same_dims(&t, &u));
    ck_assert_int_eq(ir_type_numel(m, &t), ir_dim_mul(m, 784, B));
    int64_t n;
    size_t bytes;
    ck_assert(!ir_type_bytes(&t, &n, &bytes));
    ck_assert(ir_type_bytes(&z, &n, &bytes) && n == 1 && bytes == 2);
}
END_TEST

START_TEST(a_shell_keeps_everything_but_functions) {
    float x[2] = {1, 2};
    m->class = IR_CLASS_NOFMA;
    m->unchecked = true;
    m->nstate = 3;
    ir_dim C = ir_add_symbol(m, "C", 2, 5), B = ir_add_symbol(m, "B", 1, 9);
    ir_dim d = ir_dim_floordiv(m, ir_dim_add(m, B, C), 3);
    ir_loc l = ir_intern_loc(m, "a.c", 7);
    ck_assert_ptr_null(ir_add_weight(m, "w", ir_tensor_type(IG_f32, 1, (ir_dim[]){2}), x, true));
    ir_module *n;
    ck_assert_ptr_null(ir_module_shell(m, &n));
    ck_assert_str_eq(n->name, "mlp");
    ck_assert(n->class == IR_CLASS_NOFMA && n->unchecked && n->nstate == 3 && n->funcs.n == 0);
    ck_assert_uint_eq(n->symbols.n, 2);
    ck_assert_str_eq(n->symbols.data[0].name, "C");
    ck_assert_int_eq(n->symbols.data[1].hi, 9);
    ck_assert(ir_find_weight(n, "w")->data == ir_find_weight(m, "w")->data);
    ck_assert(!ir_find_weight(n, "w")->owned);
    ck_assert_int_eq(ir_dim_floordiv(n, ir_dim_add(n, B, C), 3), d);
    ck_assert_str_eq(ir_loc_get(n, l).file, "a.c");
    ir_module_free(n);
}
END_TEST

/* --- Failing allocator: the n-th request fails, for every n ------------------------------- */

/* Something of everything; false when memory ran out on the way. */
static bool build_some(const ig_allocator *a) {
    ir_module *x, *y = NULL;
    float w[4] = {0};
    bool ok = false;
    ig_status s = ir_module_new(a, "sweep", &x);
    if (s) return ig_status_free(s), false;
    ir_dim B = ir_add_symbol(x, "B", 1, 100), S = ir_add_symbol(x, "S", 1, 100), d = S;
    for (int i = 0; i < 30; i++) d = ir_dim_add(x, d, ir_dim_floordiv(x, B, i + 2));
    ir_attr_dims dims = {.dims = {1, {d}}};
    ir_attr_const c = {.type = ir_scalar_type(IG_i64), .data = {"12345678", 8}};
    ok = d != IR_DIM_BAD;
    ok &= ir_intern_attr(x, ATTR_dims, &dims).i != UINT32_MAX;
    ok &= ir_intern_attr(x, ATTR_const, &c).i != UINT32_MAX;
    for (int i = 0; i < 40; i++) ok &= ir_intern_loc(x, "file.c", (uint32_t)i).i != 0;
    s = ir_add_weight(x, "w", ir_tensor_type(IG_f32, 1, (ir_dim[]){4}), w, true);
    ok &= s == NULL;
    ig_status_free(s);
    s = ir_module_shell(x, &y);
    ok &= s == NULL;
    ig_status_free(s);
    if (y) ok &= ir_dim_import(y, x, d) == d;
    ir_module_free(y);
    ir_module_free(x);
    return ok;
}

START_TEST(no_allocation_failure_leaks_or_crashes) {
    bool ok = false;
    for (long n = 0; !ok; n++) {
        counting f = COUNTING(n);
        ig_allocator a = {counting_resize, &f};
        ok = build_some(&a);
        ck_assert_int_eq((long)f.live, 0);
        ck_assert_int_lt(n, 100000);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("module");
    TCase *c = tcase_create("module");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, ops_are_found_by_name);
    tcase_add_test(c, attribute_fields_are_described);
    tcase_add_test(c, strings_and_locs_are_one);
    tcase_add_test(c, attributes_are_one);
    tcase_add_test(c, weights_are_checked);
    tcase_add_test(c, types_compare_and_print);
    tcase_add_test(c, a_shell_keeps_everything_but_functions);
    tcase_add_test(c, no_allocation_failure_leaks_or_crashes);
    suite_add_tcase(s, c);
    return suite_run(s);
}
