/* test_flow.c - ig_if, ig_switch, ig_while and ig_scan: eager, traced, compiled, and what is
 * refused. */
#include "eager.h"

/* The same bits eagerly, from the module by the reference, and compiled. */
static ig_module *want_same(int line, ig_body_fn fn, void *user, const char *dims, int nin,
                            ig_tensor *const *in, int nout) {
    ig_tensor *want[6] = {0}, *got[6] = {0};
    ig_module *m;
    fn(user, in, want);
    ig_status e = ig_trace(fn, user, nin, in, nout, &(ig_trace_options){.dims = dims}, &m);
    ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
    for (int native = 0; native < 2; native++) {
        if (native) {
            e = ig_module_compile(m, NULL);
            ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
        }
        e = ig_module_run(m, nin, in, nout, got);
        ck_assert_msg(!e, "line %d: %s", line, ig_status_text(e));
        for (int i = 0; i < nout; i++)
            ck_assert_msg(ig_equal(want[i], got[i]), "line %d: result %d differs, native %d", line,
                          i, native);
    }
    return m;
}
#define SAME(fn, user, dims, nin, in, nout) want_same(__LINE__, fn, user, dims, nin, in, nout)

/* --- Loops --------------------------------------------------------------------------------- */

static void cell(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor **w = user;
    ig_tensor *h = ig_tanh(ig_add(ig_matmul(in[0], w[0]), ig_matmul(in[1], w[1])));
    out[0] = h;
    out[1] = ig_mul(h, ig_cast(in[2], IG_f32));
    out[2] = in[0];
}

static void network(void *user, ig_tensor *const *in, ig_tensor **out) {
    ck_assert(ig_scan(cell, user, 1, &in[0], 1, &in[1], 2, NULL, out));
    ck_assert(
        ig_scan(cell, user, 1, out, 1, &in[1], 2, &(ig_scan_options){.reverse = true}, out + 3));
}

START_TEST(scans) {
    ig_tensor *w[2] = {ig_name(ig_normal(NULL, IG_f32, IG_DIMS(5, 5), 0, 1), "u"),
                       ig_name(ig_normal(NULL, IG_f32, IG_DIMS(3, 5), 0, 1), "w")};
    ig_tensor *in[2] = {ig_normal(NULL, IG_f32, IG_DIMS(2, 5), 0, 1),
                        ig_normal(NULL, IG_f32, IG_DIMS(7, 2, 3), 0, 1)};
    ig_module *m = SAME(network, w, "[B,5], [N,B,3]; B in 1..9, N in 0..99", 2, in, 6);
    for (int64_t n = 0; n < 20; n += 19) {
        ig_tensor *other[2] = {ig_normal(NULL, IG_f32, IG_DIMS(4, 5), 0, 1),
                               ig_normal(NULL, IG_f32, IG_DIMS(n, 4, 3), 0, 1)};
        ig_tensor *want[6], *got[6];
        network(w, other, want);
        OK(ig_module_run(m, 2, other, 6, got));
        for (int i = 0; i < 6; i++) ck_assert(ig_equal(want[i], got[i]));
        ck_assert_int_eq(ig_dim(got[1], 0), n);
    }
    ig_module_free(m);
    eager_end();
}
END_TEST

static void below(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_lt(ig_sum(in[0], IG_ALL_AXES), *(double *)user);
}

static void grow(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_add(ig_mul(in[0], 1.5), 1);
    out[1] = ig_add(in[1], 1);
}

static void solve(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *init[2] = {in[0], ig_scalar(IG_i64, 0)};
    ig_while(below, grow, user, 2, init, 30, out);
}

START_TEST(whiles) {
    double limit = 500;
    ig_tensor *x = ig_normal(NULL, IG_f64, IG_DIMS(3), 0, 1),
              *big = ig_full(IG_f64, IG_DIMS(3), 1e9);
    ig_tensor *out[2];
    ig_module *m = SAME(solve, &limit, NULL, 1, &x, 2);
    OK(ig_module_run(m, 1, &big, 2, out));
    ck_assert(ig_equal(out[0], big) && ig_item_i64(out[1]) == 0);
    ig_tensor *nan = ig_full(IG_f64, IG_DIMS(3), -1e30); /* it never gets there */
    WANT_STATUS(ig_module_run(m, 1, &nan, 2, out), IG_RANGE, "cap");
    solve(&limit, &nan, out);
    ck_assert(ig_is_poison(out[0]));
    WANT_ERROR(IG_RANGE, "while", "more than 30 times");
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Branches ------------------------------------------------------------------------------ */

static void twice(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_add(in[0], in[0]);
}
static void same(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = in[0];
}
static void minus(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_neg(in[0]);
}

static void choose(void *user, ig_tensor *const *in, ig_tensor **out) {
    static const ig_body_fn body[3] = {twice, same, minus};
    ig_if(ig_gt(ig_sum(in[0], IG_ALL_AXES), 0), twice, minus, user, 1, in, 1, &out[0]);
    ig_switch(in[1], 3, body, user, 1, in, 1, &out[1]);
    ig_if(true, same, minus, user, 1, &out[1], 1, &out[2]);
}

START_TEST(branches) {
    ig_tensor *in[2] = {ig_normal(NULL, IG_f32, IG_DIMS(4), 0, 1), ig_scalar(IG_i64, -5)};
    for (int64_t k = -3; k < 5; k++) {
        in[1] = ig_scalar(IG_i64, k);
        ig_assign(in[0], ig_neg(in[0]));
        ig_module_free(SAME(choose, NULL, NULL, 2, in, 3));
    }
    eager_end();
}
END_TEST

/* A loop in a branch in a loop; what is outside is captured. */
static void inner_step(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_add(ig_mul(in[0], 0.5), *(ig_tensor **)user);
}
static void inner(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_scan(inner_step, user, 1, in, 0, NULL, 0, &(ig_scan_options){.steps = 3}, out);
}
static void outer(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_if(ig_lt(in[2], 2), inner, minus, user, 1, in, 1, out);
    ig_tensor *local = ig_copy(out[0]);
    ig_assign(local, ig_add(local, in[1]));
    out[0] = local;
}
static void nest(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *far = ig_mul(in[0], 3);
    ig_scan(outer, &far, 1, &in[0], 1, &in[1], 0, NULL, out);
}

START_TEST(nests) {
    ig_tensor *in[2] = {ig_normal(NULL, IG_f32, IG_DIMS(4), 0, 1),
                        ig_normal(NULL, IG_f32, IG_DIMS(5, 4), 0, 1)};
    ig_module_free(SAME(nest, NULL, NULL, 2, in, 1));
    eager_end();
}
END_TEST

/* --- What is refused ----------------------------------------------------------------------- */

static void wrong_shape(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_concat(IG_LIST(in[0], in[0]), 0);
}
static void wrong_type(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_cast(in[0], IG_f64);
}
static void looks(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_item_f64(in[0]) > 0 ? in[0] : ig_neg(in[0]);
}
static void assigns(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_assign(*(ig_tensor **)user, in[0]);
    out[0] = in[0];
}
static void leaks(void *user, ig_tensor *const *in, ig_tensor **out) {
    *(ig_tensor **)user = ig_keep(ig_neg(in[0]));
    out[0] = in[0];
}
static void nothing(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user, (void)in, (void)out;
}

typedef struct bad_case {
    ig_body_fn body;
    ig_tensor *held;
    bool use;
} bad_case;

static void bad(void *user, ig_tensor *const *in, ig_tensor **out) {
    bad_case *b = user;
    ig_tensor *local = ig_mul(in[0], 2);
    if (b->body == assigns) b->held = local;
    ig_scan(b->body, &b->held, 1, in, 0, NULL, 0, &(ig_scan_options){.steps = 3}, out);
    if (b->use) out[0] = ig_add(out[0], b->held);
}

static ig_status bad_trace(ig_body_fn body, bool use) {
    bad_case b = {body, NULL, use};
    ig_tensor *x = ig_scalar(IG_f32, 1.5);
    ig_module *m;
    ig_status e = ig_trace(bad, &b, 1, &x, 1, NULL, &m);
    if (body == leaks && b.held) ig_free(b.held);
    ck_assert(e && !m);
    return e;
}

START_TEST(refused) {
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(2)), *out[2];
    ig_scan_options three = {.steps = 3};
    ck_assert(!ig_scan(wrong_shape, NULL, 1, &x, 0, NULL, 0, &three, out));
    WANT_ERROR(IG_SHAPE, "scan", "carried value 0 is f32[4], not f32[2]", "test_flow.c");
    ck_assert(!ig_scan(wrong_type, NULL, 1, &x, 0, NULL, 0, &three, out));
    WANT_ERROR(IG_DTYPE, "carried value 0 is f64[2], not f32[2]");
    ck_assert(!ig_scan(nothing, NULL, 1, &x, 0, NULL, 0, &three, out) && ig_is_poison(out[0]));
    WANT_ERROR(IG_INVALID, "left result 0 NULL");
    ck_assert(!ig_while(same, same, NULL, 1, &x, 0, out));
    WANT_ERROR(IG_DTYPE, "condition is f32[2]");
    ck_assert(!ig_if(x, same, same, NULL, 1, &x, 1, out));
    WANT_ERROR(IG_DTYPE, "compare to make it bool");
    ck_assert(!ig_scan(same, NULL, 1, &x, 1, (ig_tensor *[]){ig_scalar(IG_f32, 1)}, 0, NULL, out));
    WANT_ERROR(IG_SHAPE, "f32[]", "first axis");
    WANT_STATUS(bad_trace(wrong_type, false), IG_DTYPE, "f64[], not f32[]", "test_flow.c");
    WANT_STATUS(bad_trace(looks, false), IG_TRACE, "depends on the arguments");
    WANT_STATUS(bad_trace(assigns, false), IG_TRACE, "carry it");
    WANT_STATUS(bad_trace(leaks, true), IG_TRACE, "body", "as a result");
    eager_end();
}
END_TEST

/* --- Memory -------------------------------------------------------------------------------- */

/* A long loop keeps no more than a short one. */
START_TEST(memory_is_flat) {
    ig_tensor *x = ig_ones(IG_f32, IG_DIMS(1000)), *out[1];
    size_t peak[2];
    for (int k = 0; k < 2; k++) {
        IG_SCOPE {
            ig_scan(minus, NULL, 1, &x, 0, NULL, 0, &(ig_scan_options){.steps = k ? 500 : 5}, out);
        }
        peak[k] = ig_memory_stats(NULL).peak_bytes;
    }
    ck_assert(peak[1] < peak[0] + 20000);
    eager_end();
}
END_TEST

/* What is differentiated is captured: no operand of the loop shows it. */
static void captures(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_add(in[0], *(ig_tensor **)user);
}

static void thrice(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *x = in[0], *y = ig_zeros(IG_f32, IG_DIMS(2));
    (void)user;
    ig_scan(captures, &x, 1, &y, 0, NULL, 0, &(ig_scan_options){.steps = 3}, out);
    out[0] = ig_sum(out[0], IG_ALL_AXES);
}

START_TEST(captured_values_have_derivatives_and_lanes) {
    ig_tensor *x = VECTOR(IG_f32, 2, 5), *y,
              *lanes = ig_reshape(VECTOR(IG_f32, 1, 2, 3, 4), IG_DIMS(2, 2));
    ig_module *m, *n;
    OK(ig_trace(thrice, NULL, 1, &x, 1, NULL, &m));
    OK(ig_grad(m, NULL, &n));
    OK(ig_module_run(n, 1, &x, 1, &y));
    WANT(y, IG_f32, IG_DIMS(2), 3, 3);
    ig_module_free(n);
    OK(ig_vmap(m, "2", NULL, NULL, &n));
    OK(ig_module_run(n, 1, &lanes, 1, &y));
    WANT(y, IG_f32, IG_DIMS(2), 9, 21);
    ig_module_free(n);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Backwards through trips ----------------------------------------------------------------- */

static void turn(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *arg = user;
    out[0] = ig_sin(ig_add(ig_mul(in[0], arg[1]), in[1]));
    out[1] = ig_add(ig_mul(in[0], 0.5), in[1]);
}

static void turn_counted(void *user, ig_tensor *const *in, ig_tensor **out) {
    turn(user, in, out);
    out[2] = ig_add(in[2], 1);
}

static void is_early(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *const *arg = user;
    out[0] = ig_lt(in[2], arg[2]);
}

static void by_while(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *arg[3] = {in[0], in[1], in[2]}, *y[3];
    ig_tensor *init[3] = {in[0], in[1], ig_full(IG_i64, IG_SCALAR, 0)};
    (void)user;
    ig_while(is_early, turn_counted, arg, 3, init, 0, y);
    out[0] = ig_sum(ig_mul(y[0], y[1]), IG_ALL_AXES);
}

static void by_scan(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *arg[2] = {in[0], in[1]}, *y[2];
    ig_scan(turn, arg, 2, in, 0, NULL, 0, &(ig_scan_options){.steps = *(int64_t *)user}, y);
    out[0] = ig_sum(ig_mul(y[0], y[1]), IG_ALL_AXES);
}

/* A while stores few states, and a scan what its steps need: the same bits, however many trips. */
START_TEST(trips_are_computed_again) {
    static const int64_t trips[] = {0, 1, 2, 15, 16, 17, 31, 33, 64, 100, 255, 257, 513, 1100};
    ig_tensor *in[3] = {ig_normal(NULL, IG_f32, IG_DIMS(5), 0, 1),
                        ig_normal(NULL, IG_f32, IG_DIMS(5), 0, 1), NULL};
    ig_module *m, *back, *scan, *wanted;
    in[2] = ig_scalar(IG_i64, 3);
    OK(ig_trace(by_while, NULL, 3, in, 1, NULL, &m));
    OK(ig_value_and_grad(m, NULL, &back));
    OK(ig_module_compile(back, NULL));
    for (size_t i = 0; i < sizeof trips / sizeof *trips; i++) {
        int64_t n = trips[i];
        ig_tensor *want[3], *got[3];
        in[2] = ig_scalar(IG_i64, n);
        OK(ig_trace(by_scan, &n, 2, in, 1, NULL, &scan));
        OK(ig_value_and_grad(scan, NULL, &wanted));
        OK(ig_module_run(wanted, 2, in, 3, want));
        OK(ig_module_run(back, 3, in, 3, got));
        for (int k = 0; k < 3; k++)
            ck_assert_msg(ig_equal(want[k], got[k]), "%d trips: result %d", (int)n, k);
        ig_module_free(wanted);
        ig_module_free(scan);
    }
    ig_module_free(back);
    ig_module_free(m);
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("flow");
    TCase *t = tcase_create("flow");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, scans);
    tcase_add_test(t, whiles);
    tcase_add_test(t, branches);
    tcase_add_test(t, nests);
    tcase_add_test(t, refused);
    tcase_add_test(t, memory_is_flat);
    tcase_add_test(t, captured_values_have_derivatives_and_lanes);
    tcase_add_test(t, trips_are_computed_again);
    suite_add_tcase(s, t);
    return suite_run(s);
}
