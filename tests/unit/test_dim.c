/* test_dim.c - dims: one normal form for equal polynomials, exact division, ranges, evaluation. */
#include "ir/ir.h"
#include "tests/unit/suite.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static ir_module *m;
static ir_dim B, C, S; /* B in 1..4096, C in 2..64, S in 0..unbounded */

static void setup(void) {
    ck_assert_ptr_null(ir_module_new(ig_allocator_default(), "dims", &m));
    B = ir_add_symbol(m, "B", 1, 4096);
    C = ir_add_symbol(m, "C", 2, 64);
    S = ir_add_symbol(m, "S", 0, INT64_MAX);
    ck_assert(B < 0 && C < 0 && S < 0 && B != C && C != S);
}

static void teardown(void) { ir_module_free(m); }

static ir_dim add(ir_dim a, ir_dim b) { return ir_dim_add(m, a, b); }
static ir_dim sub(ir_dim a, ir_dim b) { return ir_dim_sub(m, a, b); }
static ir_dim mul(ir_dim a, ir_dim b) { return ir_dim_mul(m, a, b); }
static ir_dim quot(ir_dim a, ir_dim b) { return ir_dim_floordiv(m, a, b); }

/* The printed text; a fixed set of buffers, so that several may be compared in one line. */
static const char *text(ir_dim d) {
    static char buf[4][256];
    static int at;
    rt_str s;
    rt_str_init(&s, m->alloc);
    ir_dim_print(m, d, &s);
    char *out = strncpy(buf[at = (at + 1) % 4], rt_str_text(&s), sizeof buf[0] - 1);
    rt_str_free(&s);
    return out;
}

START_TEST(constants_need_no_module) {
    ck_assert_int_eq(ir_dim_add(NULL, 2, 3), 5);
    ck_assert_int_eq(ir_dim_sub(NULL, 3, 3), 0);
    ck_assert_int_eq(ir_dim_mul(NULL, 6, 7), 42);
    ck_assert_int_eq(ir_dim_floordiv(NULL, 7, 2), 3);
    ck_assert_int_eq(ir_dim_mod(NULL, 7, 2), 1);
    ck_assert_int_eq(ir_dim_min(NULL, 7, 2), 2);
    ck_assert_int_eq(ir_dim_max(NULL, 7, 2), 7);
    ck_assert_int_eq(ir_dim_sub(NULL, 2, 3), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_floordiv(NULL, 2, 0), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_mod(NULL, 2, 0), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_add(NULL, INT64_MAX, 1), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_mul(NULL, INT64_MAX / 2, 3), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_add(NULL, B, 1), IR_DIM_BAD);
}
END_TEST

START_TEST(equal_polynomials_are_one_dim) {
    ck_assert_int_eq(mul(add(B, 1), 2), add(mul(2, B), 2));
    ck_assert_int_eq(mul(add(B, C), sub(B, C)), sub(mul(B, B), mul(C, C)));
    ck_assert_int_eq(mul(add(B, C), add(B, C)), add(add(mul(B, B), mul(C, C)), mul(2, mul(C, B))));
    ck_assert_int_eq(sub(add(B, 5), B), 5);
    ck_assert_int_eq(sub(add(B, C), C), B);
    ck_assert_int_eq(sub(B, B), 0);
    ck_assert_int_eq(mul(B, 0), 0);
    ck_assert_int_eq(mul(B, 1), B);
    ck_assert_int_eq(sub(B, add(B, 1)), IR_DIM_BAD);
    ck_assert(add(B, 1) != add(B, 2));
}
END_TEST

START_TEST(text_is_canonical) {
    ck_assert_str_eq(text(add(1, mul(B, 2))), "2*B+1");
    ck_assert_str_eq(text(mul(quot(add(B, 3), 4), 4)), "4*floordiv(B+3,4)");
    ck_assert_str_eq(text(sub(mul(B, mul(B, C)), 7)), "B*B*C-7");
    ck_assert_str_eq(text(sub(0, B)), "0-B");
    ck_assert_str_eq(text(sub(3, mul(2, S))), "0-2*S+3");
    ck_assert_str_eq(text(12), "12");
    ck_assert_str_eq(text(ir_dim_max(m, S, B)), "max(B,S)");
    ck_assert_str_eq(text(ir_dim_mod(m, add(S, 9), 4)), "mod(S+1,4)");
    /* The order of atoms does not depend on which was made first. */
    ir_dim late = quot(S, 2), later = quot(S, 3);
    ck_assert_str_eq(text(add(later, late)), text(add(late, later)));
    ck_assert_str_eq(text(add(quot(C, 9), quot(B, 9))), "floordiv(B,9)+floordiv(C,9)");
}
END_TEST

START_TEST(division_is_exact_where_it_divides) {
    ck_assert_int_eq(quot(mul(B, 12), 4), mul(B, 3));
    ck_assert_int_eq(quot(mul(B, mul(C, 6)), mul(C, 3)), mul(B, 2));
    ck_assert_int_eq(quot(mul(add(B, 1), add(C, S)), add(B, 1)), add(C, S));
    ck_assert_int_eq(quot(add(mul(B, 4), 3), 4), B);
    ck_assert_int_eq(quot(add(mul(C, B), 1), C), B); /* C >= 2 */
    ck_assert_int_eq(quot(B, 5000), 0);
    ck_assert_int_eq(quot(add(B, 7), 4), add(quot(add(B, 3), 4), 1));
    ck_assert_int_eq(quot(add(mul(2, S), 1), 4), quot(S, 2));
    ck_assert_int_eq(quot(quot(S, 3), 4), quot(S, 12));
    ck_assert_int_eq(quot(quot(mul(2, S), 3), 2), quot(S, 3));
    ck_assert_int_eq(quot(S, S), 1);
    ck_assert_int_eq(quot(0, S), 0);
    ck_assert_int_eq(quot(B, 0), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_mod(m, mul(B, 8), 4), 0);
    ck_assert_int_eq(ir_dim_mod(m, mul(B, C), C), 0);
    ck_assert_int_eq(ir_dim_mod(m, add(mul(B, 8), 3), 4), 3);
    ck_assert_int_eq(ir_dim_mod(m, C, 65), C);
    ck_assert_int_eq(ir_dim_mod(m, B, 1), 0);
}
END_TEST

START_TEST(min_and_max_are_decided_by_ranges) {
    ck_assert_int_eq(ir_dim_min(m, B, add(B, 3)), B);
    ck_assert_int_eq(ir_dim_max(m, B, add(B, 3)), add(B, 3));
    ck_assert_int_eq(ir_dim_min(m, B, 4096), B);
    ck_assert_int_eq(ir_dim_max(m, B, 1), B);
    ck_assert_int_eq(ir_dim_max(m, C, 5000), 5000);
    ck_assert_int_eq(ir_dim_min(m, B, C), ir_dim_min(m, C, B));
    ck_assert(ir_dim_min(m, B, C) != B && ir_dim_min(m, B, C) != C);
}
END_TEST

START_TEST(order_is_proved) {
    ck_assert(ir_dim_le(NULL, 3, 3) && ir_dim_le(NULL, 3, 4) && !ir_dim_le(NULL, 4, 3));
    ck_assert(!ir_dim_le(NULL, B, 4096) && !ir_dim_le(m, IR_DIM_BAD, B) &&
              !ir_dim_le(m, B, IR_DIM_BAD));
    ck_assert(ir_dim_le(m, B, 4096) && ir_dim_le(m, 1, B) && !ir_dim_le(m, B, 4095));
    ck_assert(ir_dim_le(m, B, mul(B, C)) && !ir_dim_le(m, mul(B, C), B)); /* C >= 2 */
    ck_assert(ir_dim_le(m, mul(S, B), mul(S, mul(B, C))));
    ck_assert(ir_dim_le(m, mul(quot(add(B, 15), 16), 16), add(B, 15)));
    ck_assert(ir_dim_le(m, B, mul(quot(add(B, 15), 16), 16)));
    ck_assert(ir_dim_le(m, mul(64, quot(add(mul(40, B), 63), 64)), mul(256, B)));
    ck_assert(!ir_dim_le(m, S, B) && !ir_dim_le(m, B, S));
}
END_TEST

static void check_range(ir_dim d, int64_t lo, int64_t hi) {
    int64_t l, h;
    ir_dim_range(m, d, &l, &h);
    ck_assert_int_eq(l, lo);
    ck_assert_int_eq(h, hi);
}

START_TEST(ranges_bound) {
    check_range(7, 7, 7);
    check_range(B, 1, 4096);
    check_range(mul(B, C), 2, 4096 * 64);
    check_range(sub(mul(B, 2), 1), 1, 8191);
    check_range(sub(C, B), 0, 63);
    check_range(S, 0, INT64_MAX);
    check_range(mul(S, S), 0, INT64_MAX);
    check_range(add(S, 1), 1, INT64_MAX);
    check_range(sub(S, 5), 0, INT64_MAX);
    check_range(quot(B, 3), 0, 1365);
    check_range(ir_dim_mod(m, B, 16), 0, 15);
    check_range(ir_dim_min(m, B, C), 1, 64);
    check_range(ir_dim_max(m, B, C), 2, 4096);
    check_range(quot(S, B), 0, INT64_MAX);
}
END_TEST

START_TEST(eval_checks) {
    int64_t v, at[3] = {10, 3, INT64_MAX};
    ck_assert(ir_dim_eval(m, add(mul(B, B), sub(0, C)), at, &v) && v == 97);
    ck_assert(ir_dim_eval(m, 5, at, &v) && v == 5);
    ck_assert(!ir_dim_eval(m, sub(C, B), at, &v)); /* negative */
    ck_assert(!ir_dim_eval(m, mul(S, 2), at, &v)); /* overflow */
    ck_assert(!ir_dim_eval(m, add(S, B), at, &v)); /* overflow */
    ck_assert(ir_dim_eval(m, quot(B, C), at, &v) && v == 3);
    at[1] = 0;
    ck_assert(!ir_dim_eval(m, quot(B, C), at, &v)); /* division by zero */
    ck_assert(!ir_dim_eval(m, IR_DIM_BAD, at, &v));
}
END_TEST

START_TEST(bad_passes_through) {
    ck_assert_int_eq(add(IR_DIM_BAD, 1), IR_DIM_BAD);
    ck_assert_int_eq(sub(1, IR_DIM_BAD), IR_DIM_BAD);
    ck_assert_int_eq(mul(IR_DIM_BAD, B), IR_DIM_BAD);
    ck_assert_int_eq(mul(IR_DIM_BAD, 0), IR_DIM_BAD);
    ck_assert_int_eq(quot(B, IR_DIM_BAD), IR_DIM_BAD);
    ck_assert_int_eq(ir_dim_min(m, IR_DIM_BAD, IR_DIM_BAD), IR_DIM_BAD);
    ck_assert_str_eq(text(IR_DIM_BAD), "?");
    ck_assert_int_eq(mul(mul(B, INT64_MAX), 2), IR_DIM_BAD);
}
END_TEST

/* Growth is cut off long before it costs anything. */
START_TEST(size_is_bounded) {
    ir_dim d = add(B, 1), e = B;
    int i;
    for (i = 0; i < 100 && d != IR_DIM_BAD; i++) d = mul(d, d);
    ck_assert_int_lt(i, 12);
    for (i = 0; i < 100 && e != IR_DIM_BAD; i++) e = quot(add(mul(e, C), S), add(e, 2));
    ck_assert_int_lt(i, 100);
    ir_dim f = S;
    for (i = 0; i < 1000 && f != IR_DIM_BAD; i++) f = add(1, quot(S, add(f, 1)));
    ck_assert_int_lt(i, 65);
}
END_TEST

/* --- Random expressions: every rewriting keeps the value ---------------------------------- */

#define POOL 24
static ir_dim pool[POOL];
static int64_t value[POOL]; /* under `at`; -1: negative, overflowed or unusable */
static uint64_t seed = 88172645463325252u;

static uint32_t draw(uint32_t n) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

/* One random step: the dim, and its value computed directly. */
static void step(int k) {
    uint32_t op = draw(7), i = draw((uint32_t)k), j = draw((uint32_t)k);
    ir_dim a = pool[i], b = pool[j];
    int64_t x = value[i], y = value[j], v;
    switch (op) {
    case 0: pool[k] = add(a, b), v = x + y; break;
    case 1: pool[k] = sub(a, b), v = x - y; break;
    case 2: pool[k] = mul(a, b), v = x * y; break;
    case 3: pool[k] = quot(a, b), v = y > 0 ? x / y : -1; break;
    case 4: pool[k] = ir_dim_mod(m, a, b), v = y > 0 ? x % y : -1; break;
    case 5: pool[k] = ir_dim_min(m, a, b), v = x < y ? x : y; break;
    default: pool[k] = ir_dim_max(m, a, b), v = x > y ? x : y; break;
    }
    if (x < 0 || y < 0 || v > 1000000000) v = -1;
    value[k] = v;
}

START_TEST(random_expressions_keep_their_value) {
    int checked = 0;
    for (int round = 0; round < 2000; round++) {
        int64_t at[3] = {1 + draw(40), 2 + draw(62), draw(50)}, got, lo, hi;
        for (int k = 0; k < POOL; k++) {
            if (k < 3)
                pool[k] = k == 0 ? B : k == 1 ? C : S, value[k] = at[k];
            else if (k < 7)
                pool[k] = value[k] = 1 + draw(k == 6 ? 30 : 5);
            else
                step(k);
            if (value[k] < 0 || pool[k] == IR_DIM_BAD) {
                pool[k] = B, value[k] = at[0]; /* not a dim: begin again */
                continue;
            }
            ck_assert_msg(ir_dim_eval(m, pool[k], at, &got), "%s has no value", text(pool[k]));
            ck_assert_msg(got == value[k], "%s is %ld, not %ld", text(pool[k]), (long)got,
                          (long)value[k]);
            ir_dim_range(m, pool[k], &lo, &hi);
            ck_assert_msg(lo <= got && got <= hi, "%s = %ld is outside %ld..%ld", text(pool[k]),
                          (long)got, (long)lo, (long)hi);
            checked++;
        }
    }
    ck_assert_int_gt(checked, 20000);
}
END_TEST

/* Another module declares the symbols in another order: the same text, and back the same dim. */
START_TEST(import_keeps_the_meaning) {
    ir_module *other, *shell;
    ck_assert_ptr_null(ir_module_new(m->alloc, "other", &other));
    ir_add_symbol(other, "Z", 0, 9);
    ir_dim d = add(mul(quot(add(S, B), 3), ir_dim_min(m, B, C)), sub(ir_dim_mod(m, S, 7), 2));
    ir_dim e = ir_dim_import(other, m, d);
    ck_assert(e != IR_DIM_BAD);
    ck_assert_uint_eq(other->symbols.n, 4);
    ck_assert_int_eq(ir_dim_import(m, other, e), d);
    ck_assert_int_eq(ir_dim_import(other, m, 17), 17);
    ck_assert_int_eq(ir_dim_import(other, m, IR_DIM_BAD), IR_DIM_BAD);
    ck_assert_ptr_null(ir_module_shell(m, &shell)); /* dims keep their numbers in a shell */
    ck_assert_int_eq(ir_dim_import(shell, m, d), d);
    ck_assert_int_eq(ir_dim_mul(shell, ir_dim_add(shell, B, 1), 2), mul(add(B, 1), 2));
    ir_module_free(shell);
    ir_module_free(other);
}
END_TEST

START_TEST(terms_can_be_read) {
    const ir_dim_term *t;
    ck_assert_uint_eq(ir_dim_terms(m, sub(mul(3, mul(B, C)), 1), &t), 2);
    ck_assert(t[0].coef == 3 && t[0].natom == 2 && t[0].atom[0]->kind == DIM_SYM);
    ck_assert(t[0].atom[0]->sym == 0 && t[0].atom[1]->sym == 1);
    ck_assert(t[1].coef == -1 && t[1].natom == 0);
    ck_assert_uint_eq(ir_dim_terms(m, quot(S, 5), &t), 1);
    ck_assert(t[0].atom[0]->kind == DIM_FLOORDIV && t[0].atom[0]->a == S && t[0].atom[0]->b == 5);
    ck_assert_uint_eq(ir_dim_terms(m, IR_DIM_BAD, &t), 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("dim");
    TCase *c = tcase_create("dim");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, constants_need_no_module);
    tcase_add_test(c, equal_polynomials_are_one_dim);
    tcase_add_test(c, text_is_canonical);
    tcase_add_test(c, division_is_exact_where_it_divides);
    tcase_add_test(c, min_and_max_are_decided_by_ranges);
    tcase_add_test(c, order_is_proved);
    tcase_add_test(c, ranges_bound);
    tcase_add_test(c, eval_checks);
    tcase_add_test(c, bad_passes_through);
    tcase_add_test(c, size_is_bounded);
    tcase_add_test(c, random_expressions_keep_their_value);
    tcase_add_test(c, import_keeps_the_meaning);
    tcase_add_test(c, terms_can_be_read);
    suite_add_tcase(s, c);
    return suite_run(s);
}
