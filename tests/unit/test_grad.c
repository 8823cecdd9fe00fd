/* test_grad.c - gradients of eager code: the bits are those of the compiled gradient and of the
 * gradient of a loaded module; what is recorded is found again; errors name both lines. */
#include "eager.h"
#include <unistd.h>

enum { ROWS = 6, IN = 5, HIDDEN = 16, OUT = 3, PARAMS = 4 };

typedef struct net {
    ig_tensor *p[PARAMS];
} net;

static net net_new(ig_dtype d) {
    static const char *name[PARAMS] = {"w1", "b1", "w2", "b2"};
    ig_dims dims[PARAMS] = {IG_DIMS(IN, HIDDEN), IG_DIMS(HIDDEN), IG_DIMS(HIDDEN, OUT),
                            IG_DIMS(OUT)};
    ig_tensor *rng = ig_rng(3);
    net n;
    for (int k = 0; k < PARAMS; k++)
        n.p[k] = ig_keep(ig_name(ig_normal(rng, d, dims[k], 0, 0.5), name[k]));
    return n;
}

static void net_free(net *n) {
    for (int k = 0; k < PARAMS; k++) ig_free(n->p[k]);
}

static ig_tensor *net_loss(const net *n, ig_tensor *x, ig_tensor *y) {
    ig_tensor *h = ig_gelu(ig_add(ig_matmul(x, n->p[0]), n->p[1]));
    ig_tensor *z = ig_log_softmax(ig_add(ig_matmul(h, n->p[2]), n->p[3]), -1);
    ig_tensor *hit = ig_one_hot(y, OUT, ig_dtype_of(x));
    return ig_add(ig_neg(ig_mean(ig_sum(ig_mul(z, hit), 1), IG_ALL_AXES)),
                  ig_mul(ig_sum(ig_square(n->p[0]), IG_ALL_AXES), 0.01));
}

static void net_traced(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = net_loss(user, in[0], in[1]);
}

static void make_batch(ig_dtype d, ig_tensor **in, uint64_t seed, int64_t rows) {
    ig_tensor *rng = ig_rng(seed);
    in[0] = ig_uniform(rng, d, IG_DIMS(rows, IN), -1, 1);
    in[1] = ig_randint(rng, IG_i64, IG_DIMS(rows), 0, OUT);
}

static ig_tensor *net_backward(const net *n, ig_tensor *const *in) {
    ig_tensor *loss = NULL;
    IG_GRAD_SCOPE {
        for (int k = 0; k < PARAMS; k++) ig_watch(n->p[k]);
        loss = net_loss(n, in[0], in[1]);
        ig_backward(loss);
    }
    return loss;
}

static void net_clear(const net *n) {
    for (int k = 0; k < PARAMS; k++) ig_grad_clear(n->p[k]);
}

/* --- Bits ------------------------------------------------------------------------------------ */

static const ig_dtype bits_types[] = {IG_f32, IG_f64, IG_bf16, IG_f16};

START_TEST(eager_compiled_and_loaded_gradients_are_the_same_bytes) {
    ig_dtype d = bits_types[_i];
    net n = net_new(d);
    ig_tensor *in[2 + PARAMS], *want[1 + PARAMS], *got[1 + PARAMS];
    ig_module *m, *g, *lifted;
    char path[] = "/tmp/ingot_grad_XXXXXX";
    close(mkstemp(path));
    make_batch(d, in, 7, ROWS);
    OK(ig_trace(net_traced, &n, 2, in, 1, &(ig_trace_options){.name = "loss", .dims = "[B,5], [B]"},
                &m));
    OK(ig_module_save(m, path));
    ig_module_free(m);
    OK(ig_module_load(path, &m));
    unlink(path);
    OK(ig_value_and_grad(m, "@w1,@b1,@w2,@b2", &g));
    OK(ig_module_run(g, 2, in, 1 + PARAMS, want));
    OK(ig_lift(g, "@w1,@b1,@w2,@b2", &lifted));
    OK(ig_module_compile(lifted, NULL));
    for (int k = 0; k < PARAMS; k++) in[2 + k] = n.p[k];
    OK(ig_module_run(lifted, 2 + PARAMS, in, 1 + PARAMS, got));
    ig_module_free(lifted);
    for (int k = 0; k <= PARAMS; k++) ck_assert(ig_equal(want[k], got[k]));
    for (int round = 0; round < 3; round++) { /* op by op, then compiled */
        ck_assert(ig_equal(net_backward(&n, in), want[0]));
        for (int k = 0; k < PARAMS; k++)
            ck_assert_msg(ig_equal(ig_grad_of(n.p[k]), want[1 + k]), "%d in round %d", k, round);
        net_clear(&n);
    }
    ig_grad_count count = ig_grad_counts(NULL);
    ck_assert(count.derived == 1 && count.compiled == 1 && count.plain == 1 && count.native == 2);
    ig_module_free(g), ig_module_free(m);
    net_free(&n);
    eager_end();
}
END_TEST

/* Where nothing can be compiled gradient functions run op by op, on kernels or the reference. */
START_TEST(without_a_compiler_the_bits_are_the_same) {
    setenv("IG_LLVM_PLUGIN", "/nonexistent/libingot-llvm.so", 1);
    if (_i) setenv("IG_EAGER", "reference", 1);
    net n = net_new(IG_f32);
    ig_tensor *in[2], *want[1 + PARAMS];
    ig_module *m, *g;
    make_batch(IG_f32, in, 7, ROWS);
    OK(ig_trace(net_traced, &n, 2, in, 1, NULL, &m));
    OK(ig_value_and_grad(m, "@w1,@b1,@w2,@b2", &g));
    OK(ig_module_run(g, 2, in, 1 + PARAMS, want));
    for (int round = 0; round < 3; round++) {
        ck_assert(ig_equal(net_backward(&n, in), want[0]));
        for (int k = 0; k < PARAMS; k++) ck_assert(ig_equal(ig_grad_of(n.p[k]), want[1 + k]));
        net_clear(&n);
    }
    ig_grad_count count = ig_grad_counts(NULL);
    ck_assert(count.derived == 1 && count.compiled == 0 && count.plain == 3 && count.native == 0);
    ig_module_free(g), ig_module_free(m);
    net_free(&n);
    eager_end();
}
END_TEST

START_TEST(other_shapes_are_other_functions) {
    net n = net_new(IG_f32);
    for (int round = 0; round < 3; round++)
        for (int64_t rows = 1; rows <= 3; rows++) IG_SCOPE {
                ig_tensor *in[2];
                make_batch(IG_f32, in, 7, rows);
                net_backward(&n, in);
                ck_assert(ig_has_grad(n.p[0]));
                net_clear(&n);
                ck_assert(!ig_has_grad(n.p[0]));
            }
    ig_grad_count count = ig_grad_counts(NULL);
    ck_assert(count.derived == 3 && count.compiled == 3 && count.plain == 3 && count.native == 6);
    net_free(&n);
    eager_end();
}
END_TEST

/* --- Accumulation ---------------------------------------------------------------------------- */

START_TEST(gradients_add_up_until_cleared) {
    ig_tensor *x = VECTOR(IG_f64, 3, -2), *y = VECTOR(IG_f64, 1, 4);
    IG_GRAD_SCOPE {
        ig_watch(x);
        ig_watch(y);
        ig_tensor *p = ig_mul(x, y);
        ck_assert(ig_item_f64(ig_sum(p, 0)) == -5); /* reading is allowed */
        ck_assert(!ig_tracing());
        ig_backward(ig_sum(p, 0));
        WANT(ig_grad_of(x), IG_f64, IG_DIMS(2), 1, 4);
        ig_backward(ig_sum(ig_mul(p, ig_grad_of(x)), 0)); /* the gradient is a constant here */
        WANT(ig_grad_of(x), IG_f64, IG_DIMS(2), 1 + 1, 4 + 16);
        WANT(ig_grad_of(y), IG_f64, IG_DIMS(2), 3 + 3, -2 - 8);
        ig_grad_clear(x);
        ig_backward(ig_sum(p, 0));
    }
    WANT(ig_grad_of(x), IG_f64, IG_DIMS(2), 1, 4);
    WANT(ig_grad_of(y), IG_f64, IG_DIMS(2), 9, -12);
    IG_GRAD_SCOPE { /* a tensor may be assigned behind, and watched again */
        ig_watch(x);
        ig_backward(ig_sum(ig_square(x), 0));
        ig_assign(x, VECTOR(IG_f64, 1, 1));
        ig_watch(x);
        ig_backward(ig_sum(ig_mul(ig_square(x), 5), 0));
    }
    WANT(ig_grad_of(x), IG_f64, IG_DIMS(2), 1 + 6 + 10, 4 - 4 + 10);
    eager_end();
}
END_TEST

/* --- In a trace ------------------------------------------------------------------------------ */

static bool accumulate;

static void step(void *user, ig_tensor *const *in, ig_tensor **out) {
    net *n = user;
    if (!accumulate) net_clear(n);
    out[0] = net_backward(n, in);
    for (int k = 0; k < PARAMS; k++)
        ig_assign(n->p[k], ig_sub(n->p[k], ig_mul(ig_grad_of(n->p[k]), 0.1f)));
}

static void train(net *n, ig_module *m, int steps) {
    for (int i = 0; i < steps; i++) IG_SCOPE {
            ig_tensor *in[2], *out;
            make_batch(IG_f32, in, (uint64_t)i, i == 1 ? 2 : ROWS);
            if (m)
                OK(ig_module_run(m, 2, in, 1, &out));
            else
                step(n, in, &out);
        }
}

START_TEST(an_eager_step_traces_into_one_module) {
    net eager = net_new(IG_f32), traced = net_new(IG_f32);
    ig_tensor *in[2];
    ig_module *m;
    accumulate = _i;
    if (accumulate) { /* there are gradients when the trace begins */
        make_batch(IG_f32, in, 50, ROWS);
        net_backward(&eager, in), net_backward(&traced, in);
    }
    train(&eager, NULL, 4);
    make_batch(IG_f32, in, 7, ROWS);
    OK(ig_trace(step, &traced, 2, in, 1,
                &(ig_trace_options){.name = "step", .dims = "[B,5], [B]; B in 1..64"}, &m));
    ck_assert(ig_has_grad(traced.p[0]) == accumulate);
    ck_assert_int_eq(ig_module_get_info(m).nstate, accumulate ? 2 * PARAMS : PARAMS);
    train(&traced, m, 2);
    OK(ig_module_compile(m, NULL));
    for (int i = 2; i < 4; i++) IG_SCOPE {
            ig_tensor *out;
            make_batch(IG_f32, in, (uint64_t)i, ROWS);
            OK(ig_module_run(m, 2, in, 1, &out));
        }
    for (int k = 0; k < PARAMS; k++) {
        ck_assert_msg(ig_equal(eager.p[k], traced.p[k]), "parameter %d", k);
        if (accumulate) ck_assert(ig_equal(ig_grad_of(eager.p[k]), ig_grad_of(traced.p[k])));
    }
    ig_module_free(m);
    net_free(&eager), net_free(&traced);
    eager_end();
}
END_TEST

static ig_tensor *second_x;

/* Two gradients in one scope, the second of a loss that uses the first. */
static void twice(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    IG_GRAD_SCOPE {
        ig_watch(second_x);
        ig_tensor *p = ig_mul(second_x, in[0]);
        ig_backward(ig_sum(ig_mul(p, p), 0));
        ig_backward(ig_sum(ig_mul(p, ig_grad_of(second_x)), 0));
    }
    out[0] = ig_grad_of(second_x);
    ig_grad_clear(second_x);
}

START_TEST(gradients_are_constants_in_a_trace_too) {
    second_x = ig_name(VECTOR(IG_f64, 3, -2), "x");
    ig_tensor *y = VECTOR(IG_f64, 1, 4), *eager, *out;
    ig_module *m;
    twice(NULL, &y, &eager);
    WANT(eager, IG_f64, IG_DIMS(2), 6 + 6, -64 - 256);
    OK(ig_trace(twice, NULL, 1, &y, 1, NULL, &m));
    OK(ig_module_run(m, 1, &y, 1, &out));
    ck_assert(ig_equal(eager, out));
    ig_module_free(m);
    eager_end();
}
END_TEST

/* A module called in the scope is part of what is differentiated. */
static void cube(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(ig_mul(in[0], in[0]), in[0]);
}
static void cube_sum(void *user, ig_tensor *const *in, ig_tensor **out) {
    cube(user, in, out);
    out[0] = ig_sum(out[0], IG_ALL_AXES);
}

START_TEST(backward_goes_through_modules) {
    ig_tensor *x = VECTOR(IG_f64, 3, -2), *y;
    ig_module *m, *sum, *g;
    OK(ig_trace(cube, NULL, 1, &x, 1, &(ig_trace_options){.dims = "[N]"}, &m));
    OK(ig_trace(cube_sum, NULL, 1, &x, 1, NULL, &sum));
    OK(ig_grad(sum, NULL, &g)); /* second order: backward of a gradient */
    OK(ig_module_compile(m, NULL));
    IG_GRAD_SCOPE {
        ig_watch(x);
        OK(ig_module_run(m, 1, &x, 1, &y));
        ig_backward(ig_sum(y, 0));
    }
    WANT(ig_grad_of(x), IG_f64, IG_DIMS(2), 27, 12);
    ig_grad_clear(x);
    IG_GRAD_SCOPE {
        ig_watch(x);
        OK(ig_module_run(g, 1, &x, 1, &y));
        ig_backward(ig_sum(y, 0));
    }
    WANT(ig_grad_of(x), IG_f64, IG_DIMS(2), 18, -12);
    ig_module_free(g), ig_module_free(sum), ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Errors ---------------------------------------------------------------------------------- */

#define AT(line) line_text(line)
static const char *line_text(int line) {
    static char text[8][32];
    static int at;
    char *s = text[at++ % 8];
    snprintf(s, sizeof *text, "test_grad.c:%d", line);
    return s;
}

/* x squared until it is 10 or more. */
static void is_small(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_lt(in[0], 10.0);
}

static void squared(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[0], in[0]);
}

static void grown(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_while(is_small, squared, NULL, 1, in, 100, out);
}

static void grown_gradient(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *x = ig_add(in[0], 0.0), *y;
    IG_GRAD_SCOPE {
        ig_watch(x);
        grown(user, &x, &y);
        ig_backward(y);
    }
    out[0] = ig_grad_of(x);
}

START_TEST(loops_and_ops_with_several_results) {
    ig_tensor *x = ig_scalar(IG_f64, 1.5), *y, *g;
    ig_module *m = NULL, *d = NULL, *traced = NULL;
    ig_status s = ig_trace(grown, NULL, 1, &x, 1, NULL, &m);
    if (!s) s = ig_grad(m, NULL, &d);
    if (!s) s = ig_module_run(d, 1, &x, 1, &g);
    ck_assert_msg(!s, "%s", s ? ig_status_text(s) : "");
    WANT(g, IG_f64, IG_SCALAR, 136.6875); /* of x^8 */
    for (int i = 0; i < 3; i++) {
        grown_gradient(NULL, &x, &y);
        ck_assert(ig_equal(y, g));
    }
    OK(ig_trace(grown_gradient, NULL, 1, &x, 1, NULL, &traced));
    OK(ig_module_run(traced, 1, &x, 1, &y));
    ck_assert(ig_equal(y, g));
    ig_module_free(traced);
    ig_module_free(m);
    ig_module_free(d);

    x = VECTOR(IG_f64, 3, 1, 5, 2, 4);
    IG_GRAD_SCOPE {
        ig_watch(x);
        ig_tensor *at = ig_argsort(x, 0);
        y = ig_add(ig_mul(ig_sort(x, 0), VECTOR(IG_f64, 1, 2, 3, 4, 5)), ig_take_along(x, at, 0));
        ig_backward(ig_sum(y, 0));
    }
    WANT(ig_grad_of(x), IG_f64, IG_DIMS(5), 4, 2, 6, 3, 5);
    eager_end();
}
END_TEST

START_TEST(errors_name_both_lines) {
    ig_tensor *x = VECTOR(IG_f32, 1, 2), *k = VECTOR(IG_i32, 1, 2), *loss = NULL, *y;
    int at[4];
    ig_backward(x);
    WANT_ERROR(IG_INVALID, "no gradient scope is open", "IG_GRAD_SCOPE");
    at[0] = __LINE__ + 1;
    ig_grad_begin();
    ig_backward(x);
    WANT_ERROR(IG_INVALID, "no tensor is watched", AT(at[0]));
    ig_watch(k);
    WANT_ERROR(IG_DTYPE, "i32[2]", "floats only");
    at[1] = __LINE__ + 1;
    ig_watch(x);
    at[2] = __LINE__ + 1;
    y = ig_mul(x, 2);
    ig_backward(y);
    WANT_ERROR(IG_SHAPE, AT(at[2]), "f32[2]", AT(__LINE__ - 1));
    ig_backward(ig_sum(ig_cast(y, IG_i64), 0));
    WANT_ERROR(IG_DTYPE, "i64[]", "floating scalar");
    ig_watch(y);
    WANT_ERROR(IG_INVALID, AT(at[2]), "computed in the gradient scope");
    ig_backward(x);
    WANT_ERROR(IG_INVALID, "not the result of ops", AT(at[0]));
    at[2] = __LINE__ + 1;
    loss = ig_sum(VECTOR(IG_f32, 1, 2), 0);
    ig_backward(loss);
    WANT_ERROR(IG_INVALID, AT(at[2]), "does not depend", AT(at[1]), AT(__LINE__ - 1));
    at[2] = __LINE__ + 1;
    ig_backward(ig_sum(ig_cast(ig_cast(y, IG_i32), IG_f32), 0));
    WANT_ERROR(IG_DTYPE, "integers or bools only", AT(at[2]));
    at[2] = __LINE__ + 1;
    ig_assign(x, 0);
    ig_backward(ig_sum(y, 0));
    WANT_ERROR(IG_INVALID, AT(at[1]), AT(at[2]), AT(__LINE__ - 1), "assigned");
    ig_grad_begin();
    WANT_ERROR(IG_INVALID, "is open since", AT(at[0]));
    loss = ig_sum(y, 0);
    ig_grad_end(); /* of the one that could not begin */
    ig_module *m;
    WANT_STATUS(ig_trace(cube, NULL, 1, &x, 1, NULL, &m), IG_TRACE, "gradient scope is open");
    ig_grad_end();
    ig_backward(loss);
    WANT_ERROR(IG_INVALID, "the last one, begun at", AT(at[0]));
    ig_grad_end();
    WANT_ERROR(IG_INVALID, "no gradient scope is open");
    ig_grad_of(x);
    WANT_ERROR(IG_INVALID, "has no gradient", "ig_backward");
    IG_GRAD_SCOPE {
        ig_watch(x);
        ig_backward(loss);
        WANT_ERROR(IG_INVALID, "not the result of ops recorded");
    }
    eager_end();
}
END_TEST

/* --- Memory ---------------------------------------------------------------------------------- */

static ig_status oom_body(void) {
    net n = net_new(IG_f32);
    ig_tensor *in[2];
    ig_module *m = NULL;
    accumulate = false;
    make_batch(IG_f32, in, 1, 2);
    for (int k = 0; k < 2; k++) net_backward(&n, in);
    ig_status before = ig_error_take();
    if (before) return net_free(&n), before;
    ig_status s = ig_trace(step, &n, 2, in, 1, NULL, &m);
    ig_module_free(m);
    net_free(&n);
    return s;
}

START_TEST(every_allocation_fails_once) {
    setenv("IG_LLVM_PLUGIN", "/nonexistent/libingot-llvm.so", 1); /* compiling has its own sweep */
    eager_sweep("grad", oom_body, getenv("IG_TEST_QUICK") ? 13 : 1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("grad");
    TCase *t = tcase_create("grad");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, eager_compiled_and_loaded_gradients_are_the_same_bytes, 0, 4);
    tcase_add_loop_test(t, without_a_compiler_the_bits_are_the_same, 0, 2);
    tcase_add_test(t, other_shapes_are_other_functions);
    tcase_add_test(t, gradients_add_up_until_cleared);
    tcase_add_loop_test(t, an_eager_step_traces_into_one_module, 0, 2);
    tcase_add_test(t, gradients_are_constants_in_a_trace_too);
    tcase_add_test(t, backward_goes_through_modules);
    tcase_add_test(t, loops_and_ops_with_several_results);
    tcase_add_test(t, errors_name_both_lines);
    tcase_add_test(t, every_allocation_fails_once);
    suite_add_tcase(s, t);
    return eager_main(s);
}
