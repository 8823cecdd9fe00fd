/* test_transform.c - the public transformations: derivatives and batching of traced and loaded
 * modules, by arguments and weights, in every order, compiled or not. */
#include "eager.h"
#include <unistd.h>

static bool is_quick(void) { return getenv("IG_TEST_QUICK") != NULL; }

static ig_module *traced(ig_trace_fn fn, int nin, ig_tensor *const *in, int nout,
                         const char *dims) {
    ig_module *m;
    OK(ig_trace(fn, NULL, nin, in, nout, &(ig_trace_options){.name = "f", .dims = dims}, &m));
    return m;
}

/* The k-th of nout results. */
static ig_tensor *result(ig_module *m, int nin, ig_tensor *const *in, int k) {
    ig_tensor *out[16];
    int nout = ig_module_get_info(m).nout;
    ck_assert_int_le(nout, 16);
    OK(ig_module_run(m, nin, in, nout, out));
    return out[k];
}

/* A transformation that takes wrt, and frees the module it was made of. */
typedef ig_status (*by_fn)(const ig_module *m, const char *wrt, ig_module **out_);
static ig_module *take(by_fn fn, ig_module *m, const char *wrt) {
    ig_module *n;
    OK(fn(m, wrt, &n));
    ig_module_free(m);
    return n;
}
static ig_module *take_vmap(ig_module *m, const char *lanes, const int *in, const int *out) {
    ig_module *n;
    OK(ig_vmap(m, lanes, in, out, &n));
    ig_module_free(m);
    return n;
}

/* --- Values known by hand ------------------------------------------------------------------ */

/* x0^2 x1 + sin x1 */
static void two(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = ig_slice(in[0], IG_AT(0)), *y = ig_slice(in[0], IG_AT(1));
    out[0] = ig_add(ig_mul(ig_mul(x, x), y), ig_sin(y));
}

START_TEST(derivatives_of_two_variables) {
    ig_tensor *in[2] = {VECTOR(IG_f64, 3, 2), VECTOR(IG_f64, 1, -1)};
    ig_module *m = traced(two, 1, in, 1, NULL), *n;
    const double s = sin(2.0), c = cos(2.0);
    OK(ig_grad(m, NULL, &n));
    ck_assert_str_eq(ig_module_get_info(n).name, "f_grad");
    WANT_NEAR(1e-14, result(n, 1, in, 0), IG_f64, IG_DIMS(2), 12, 9 + c); /* ulps of sin */
    ig_module_free(n);
    OK(ig_value_and_grad(m, "0", &n));
    WANT_NEAR(1e-14, result(n, 1, in, 0), IG_f64, IG_SCALAR, 18 + s); /* ulps of sin */
    WANT_NEAR(1e-14, result(n, 1, in, 1), IG_f64, IG_DIMS(2), 12, 9 + c); /* ulps of sin */
    ig_module_free(n);
    OK(ig_jvp(m, NULL, &n));
    WANT_NEAR(1e-14, result(n, 2, in, 1), IG_f64, IG_SCALAR, 3 - c); /* ulps of sin */
    ig_module_free(n);
    OK(ig_hvp(m, NULL, &n));
    WANT_NEAR(1e-14, result(n, 2, in, 0), IG_f64, IG_DIMS(2), 4 - 6, 6 + s); /* ulps of sin */
    ig_module_free(n);
    OK(ig_hessian(m, NULL, &n));
    WANT_NEAR(1e-14, result(n, 1, in, 0), IG_f64, IG_DIMS(2, 2), 4, 6, 6, -s); /* ulps of sin */
    ig_module_free(n);
    n = take(ig_jacrev, take(ig_grad, m, NULL), NULL);
    WANT_NEAR(1e-14, result(n, 1, in, 0), IG_f64, IG_DIMS(2, 2), 4, 6, 6, -s); /* ulps of sin */
    ig_module_free(n);
    eager_end();
}
END_TEST

/* y[i] = x[i] * sum(z), and sum(z^2) */
static void several(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    out[0] = ig_mul(in[0], ig_sum(in[1], IG_ALL_AXES));
    out[1] = ig_sum(ig_mul(in[1], in[1]), IG_ALL_AXES);
}

START_TEST(jacobians_by_columns_and_by_rows) {
    ig_tensor *in[2] = {VECTOR(IG_f64, 3, 2), VECTOR(IG_f64, 1, -1, 4)};
    ig_module *m = traced(several, 2, in, 2, NULL);
    by_fn fn[2] = {ig_jacfwd, ig_jacrev};
    for (int k = 0; k < 2; k++) {
        ig_module *n;
        OK(fn[k](m, "1,0", &n));
        ck_assert_int_eq(ig_module_get_info(n).nout, 4);
        WANT(result(n, 2, in, 0), IG_f64, IG_DIMS(2, 3), 3, 3, 3, 2, 2, 2);
        WANT(result(n, 2, in, 1), IG_f64, IG_DIMS(2, 2), 4, 0, 0, 4);
        WANT(result(n, 2, in, 2), IG_f64, IG_DIMS(3), 2, -2, 8);
        WANT(result(n, 2, in, 3), IG_f64, IG_DIMS(2), 0, 0);
        ig_module_free(n);
    }
    ig_module_free(m);
    eager_end();
}
END_TEST

/* Ties and edges: what ops.def says of them. */
static void edges(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = in[0], *y = in[1];
    ig_tensor *all[] = {ig_maximum(x, y), ig_minimum(x, y), ig_abs(x), ig_pow(x, y)};
    ig_tensor *sum = ig_add(ig_max(x, IG_ALL_AXES), ig_sum(ig_cummax(y, 0), IG_ALL_AXES));
    for (int k = 0; k < 4; k++) sum = ig_add(sum, ig_sum(ig_mul(all[k], 10.0 * (k == 3)), 0));
    out[0] = ig_add(sum, ig_sum(ig_mul(ig_add(all[0], ig_mul(all[2], 100)), 1), 0));
}

START_TEST(ties_and_edges) {
    ig_tensor *in[2] = {VECTOR(IG_f64, 0, 2, 2), VECTOR(IG_f64, 0, 2, 1)};
    ig_module *m = take(ig_grad, traced(edges, 2, in, 1, NULL), NULL);
    /* pow: 0, 20 x y^.. ; max: halves at ties; abs: 0 at 0; reduced max: a half each */
    /* 1e-12 here: log(2) times 40, by another library's log */
    WANT_NEAR(1e-12, result(m, 2, in, 0), IG_f64, IG_DIMS(3), 0.5, 40.0 + 0.5 + 100 + 0.5,
              10.0 + 1 + 100 + 0.5);
    /* cummax of 0 2 1: 0 once, 2 twice */
    WANT_NEAR(1e-12, result(m, 2, in, 1), IG_f64, IG_DIMS(3), 0.5 + 1, 40 * log(2.0) + 0.5 + 2,
              20 * log(2.0));
    ig_module_free(m);
    eager_end();
}
END_TEST

static void stopped(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = in[0], *y = ig_mul(x, ig_stop_gradient(x));
    out[0] = ig_sum(ig_cast(ig_cast(y, IG_f32), IG_f64), IG_ALL_AXES);
}

START_TEST(stopped_gradients_and_conversions) {
    ig_tensor *x = VECTOR(IG_f64, 3, 2);
    ig_module *m = take(ig_value_and_grad, traced(stopped, 1, &x, 1, NULL), NULL);
    WANT(result(m, 1, &x, 0), IG_f64, IG_SCALAR, 13);
    WANT(result(m, 1, &x, 1), IG_f64, IG_DIMS(2), 3, 2);
    WANT(ig_stop_gradient(x), IG_f64, IG_DIMS(2), 3, 2);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Weights, files ------------------------------------------------------------------------- */

static ig_tensor *net_w, *net_b;

static void make_net(void) {
    net_w = ig_name(TENSOR(IG_f32, IG_DIMS(3, 2), 1, -2, 3, 4, -5, 6), "w");
    net_b = ig_name(VECTOR(IG_f32, 0.5, -1), "b");
}

static void net(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *y = ig_tanh(ig_add(ig_matmul(in[0], net_w), net_b));
    out[0] = ig_sum(ig_mul(y, y), IG_ALL_AXES);
    out[1] = ig_argmax(y, 1);
}

/* The gradients that a user writes by hand, in the order of the rules. */
static void net_by_hand(ig_tensor *x, ig_tensor **dw, ig_tensor **db, ig_tensor **dx) {
    ig_tensor *y = ig_tanh(ig_add(ig_matmul(x, net_w), net_b));
    ig_tensor *d = ig_mul(ig_add(y, y), ig_sub(1, ig_mul(y, y)));
    *dw = ig_matmul(ig_transpose(x, IG_AXES(1, 0)), d);
    *db = ig_sum(d, 0);
    *dx = ig_matmul(d, ig_transpose(net_w, IG_AXES(1, 0)));
}

START_TEST(gradients_of_weights_from_a_file) {
    char path[] = "/tmp/ingot_transform_XXXXXX";
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    close(file);
    make_net();
    ig_tensor *x = TENSOR(IG_f32, IG_DIMS(4, 3), .1, .2, -.3, .4, .5, .6, -.7, .8, .9, 1, -1, .2);
    ig_module *m = traced(net, 1, &x, 2, "[B,3]"), *n;
    OK(ig_module_save(m, path));
    ig_module_free(m);
    OK(ig_module_load(path, &m));
    unlink(path);
    m = take(ig_value_and_grad, m, "@w, @b, 0"); /* the module of the weights is freed */
    ck_assert_int_eq(ig_module_get_info(m).nout, 5);
    ig_tensor *want[3], *got[5], *native[5];
    net_by_hand(x, &want[0], &want[1], &want[2]);
    OK(ig_module_run(m, 1, &x, 5, got));
    OK(ig_module_share(m, &n));
    WANT_STATUS(ig_module_compile(m, NULL), IG_INVALID, "shared");
    ig_module_free(n);
    OK(ig_module_compile(m, NULL));
    OK(ig_module_run(m, 1, &x, 5, native));
    for (int k = 0; k < 5; k++) ck_assert_msg(ig_equal(got[k], native[k]), "result %d", k);
    for (int k = 0; k < 3; k++) ck_assert_msg(ig_equal(got[2 + k], want[k]), "gradient %d", k);
    OK(ig_grad(m, "@*", &n));       /* of a module that is derived and compiled */
    OK(ig_module_compile(m, NULL)); /* which is not shared by that */
    ck_assert_int_eq(ig_module_get_info(n).nout, 2);
    ig_module_free(m);
    ck_assert(!ig_is_poison(result(n, 1, &x, 1)));
    ig_module_free(n);
    eager_end();
}
END_TEST

START_TEST(per_example_gradients) {
    make_net();
    ig_tensor *x =
        TENSOR(IG_f32, IG_DIMS(4, 1, 3), .1, .2, -.3, .4, .5, .6, -.7, .8, .9, 1, -1, .2);
    ig_tensor *one = ig_slice(x, IG_AT(0)), *out;
    ig_module *m = take(ig_grad, traced(net, 1, &one, 2, NULL), "@w"), *n;
    OK(ig_vmap(m, "N in 1..8", NULL, (int[]){1}, &n));
    for (int k = 0; k < 2; k++) {
        OK(ig_module_run(n, 1, &x, 1, &out));
        ck_assert(ig_rank(out) == 3 && ig_dim(out, 0) == 3 && ig_dim(out, 1) == 4);
        for (int i = 0; i < 4; i++) {
            one = ig_slice(x, IG_AT(i));
            ig_tensor *lane = ig_slice(out, IG_FULL, IG_AT(i));
            ck_assert(ig_equal(lane, result(m, 1, &one, 0)));
        }
        OK(ig_module_compile(n, NULL));
    }
    ig_module_free(n);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Dynamic dims --------------------------------------------------------------------------- */

static void running(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *x = in[0], *p = ig_cumprod(x, 0), *odd = ig_slice(x, IG_STEP(0, IG_OPEN, 2));
    ig_tensor *both = ig_concat(IG_LIST(ig_cummax(odd, 0), ig_flip(p, 0)), 0);
    out[0] = ig_sum(ig_mul(both, ig_softmax(both, 1)), IG_ALL_AXES);
}

/* A module for every size gives the bits of one for this size, derived and compiled. */
START_TEST(dynamic_dims) {
    double data[40];
    for (int i = 0; i < 40; i++) data[i] = 0.3 + 0.11 * ((i * 7) % 40) * (i % 3 ? 1 : -1);
    ig_tensor *x = ig_tensor_from(IG_f64, IG_DIMS(4, 4), data), *got;
    ig_module *any = take(ig_grad, traced(running, 1, &x, 1, "[N,4]; N in 1..100"), NULL);
    ig_module *native = take(ig_hvp, traced(running, 1, &x, 1, "[N,4]"), NULL);
    OK(ig_module_compile(native, NULL));
    for (int n = 1; n <= 10; n++) {
        ig_tensor *in[2] = {ig_tensor_from(IG_f64, IG_DIMS(n, 4), data), NULL};
        in[1] = ig_sin(in[0]);
        ig_module *one = take(ig_grad, traced(running, 1, in, 1, NULL), NULL);
        got = result(one, 1, in, 0);
        ck_assert_msg(ig_equal(got, result(any, 1, in, 0)), "gradient of size %d", n);
        ig_module_free(one);
        one = take(ig_hvp, traced(running, 1, in, 1, NULL), NULL);
        got = result(one, 2, in, 0);
        ck_assert_msg(ig_equal(got, result(native, 2, in, 0)), "product of size %d", n);
        ig_module_free(one);
    }
    ig_module_free(native);
    ig_module_free(any);
    eager_end();
}
END_TEST

/* --- State ---------------------------------------------------------------------------------- */

static ig_tensor *rng;

static void noisy(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    ig_tensor *noise = ig_normal(rng, IG_f64, IG_DIMS(3), 0, 1);
    out[0] = ig_sum(ig_mul(ig_mul(in[0], in[0]), noise), IG_ALL_AXES);
}

START_TEST(state_goes_along) {
    ig_tensor *x = VECTOR(IG_f64, 1, 2, 3);
    rng = ig_rng(7);
    ig_module *m = traced(noisy, 1, &x, 1, NULL), *n;
    OK(ig_value_and_grad(m, NULL, &n));
    ck_assert_int_eq(ig_module_get_info(n).nstate, 1);
    rng = ig_rng(7);
    OK(ig_module_bind_state(n, 1, &rng));
    ig_tensor *first = result(n, 1, &x, 1), *second = result(n, 1, &x, 1);
    ck_assert(!ig_equal(first, second)); /* the generator moves on */
    ig_tensor *other = ig_rng(7);
    ig_tensor *noise = ig_normal(other, IG_f64, IG_DIMS(3), 0, 1);
    ck_assert(ig_equal(first, ig_add(ig_mul(noise, x), ig_mul(noise, x))));
    ig_module *v = NULL;
    WANT_STATUS(ig_vmap(n, "3", NULL, NULL, &v), IG_UNSUPPORTED, "state");
    WANT_STATUS(ig_jacfwd(n, NULL, &v), IG_UNSUPPORTED, "state");
    ck_assert_ptr_null(v);
    ig_module_free(n);
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Errors --------------------------------------------------------------------------------- */

static int error_line;

static void counts_hits(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    error_line = __LINE__ + 1;
    ig_tensor *hit = ig_gt(in[0], 0);
    out[0] = ig_sum(ig_cast(hit, IG_f64), IG_ALL_AXES);
    out[1] = ig_exp(in[0]);
}

static void takes_bits(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    error_line = __LINE__ + 1;
    ig_tensor *bits = ig_bitcast(in[0], IG_i64);
    out[0] = ig_sum(ig_bitcast(bits, IG_f64), IG_ALL_AXES);
    out[1] = in[1];
}

static void shapely(void *user, ig_tensor *const *in, ig_tensor **out) {
    (void)user;
    error_line = __LINE__ + 1;
    out[0] = ig_exp(in[0]);
    out[1] = in[1];
}

/* An error of a derivative at error_line of this file. */
static void want_refused(int line, ig_status s, ig_code code, const char *word) {
    ck_assert_msg(s != NULL, "line %d: an error is expected", line);
    ck_assert_msg(ig_status_line(s) == error_line && ig_status_op(s), "line %d: %s", line,
                  ig_status_text(s));
    eager_want_status(line, s, code, &word, 1);
}
#define REFUSED(s, code, word) want_refused(__LINE__, s, code, word)

START_TEST(what_cannot_be_differentiated) {
    ig_tensor *in[2] = {VECTOR(IG_f64, 1, 2), VECTOR(IG_i32, 1, 2)};
    ig_module *m = traced(counts_hits, 2, in, 2, NULL), *n = m;
    REFUSED(ig_grad(m, NULL, &n), IG_DTYPE, "cmp: the result depends");
    ck_assert_ptr_null(n);
    WANT_STATUS(ig_grad(m, "1", &n), IG_DTYPE, "argument 1 is i32");
    WANT_STATUS(ig_grad(m, "2", &n), IG_INVALID, "`2` is neither an argument (0 to 1)");
    WANT_STATUS(ig_grad(m, "@w", &n), IG_INVALID, "no weight @w");
    WANT_STATUS(ig_grad(m, "0,0", &n), IG_INVALID, "twice");
    WANT_STATUS(ig_grad(m, "", &n), IG_INVALID, "empty");
    OK(ig_jvp(m, NULL, &n)); /* forward, zeros are no news */
    ig_module_free(n);
    WANT_STATUS(ig_vmap(m, "three", (int[]){0, -2}, NULL, &n), IG_RANGE, "argument 1");
    WANT_STATUS(ig_vmap(m, "3", (int[]){2, 0}, NULL, &n), IG_RANGE, "axis 0 to 1");
    WANT_STATUS(ig_vmap(m, "3x", NULL, NULL, &n), IG_FORMAT, "3x");
    WANT_STATUS(ig_vmap(m, "N in 5..1", NULL, NULL, &n), IG_FORMAT, "N in 5..1");
    ig_module_free(m);
    m = traced(takes_bits, 2, in, 2, NULL);
    REFUSED(ig_grad(m, NULL, &n), IG_UNSUPPORTED, "bits of a float");
    ig_module_free(m);
    m = traced(shapely, 2, in, 2, NULL);
    REFUSED(ig_grad(m, NULL, &n), IG_SHAPE, "result 0 is f64[2]");
    ig_module_free(m);
    eager_end();
}
END_TEST

/* --- Every order, compiled anywhere --------------------------------------------------------- */

#define X in[0]
#define FUNCTIONS(F)                                                                              \
    F(ig_sum(ig_sin(X), 0))                                                                       \
    F(ig_sum(ig_mul(ig_exp(X), X), 0))                                                            \
    F(ig_prod(X, 0))                                                                              \
    F(ig_logsumexp(X, 0))                                                                         \
    F(ig_sum(ig_mul(ig_softmax(X, 0), ig_cumsum(X, 0)), 0))                                       \
    F(ig_sum(ig_cumprod(X, 0), 0))                                                                \
    F(ig_max(ig_mul(X, X), 0))                                                                    \
    F(ig_sum(ig_mul(ig_cummax(X, 0), X), 0))                                                      \
    F(ig_sum(ig_matmul(ig_reshape(X, IG_DIMS(2, 3)), ig_reshape(X, IG_DIMS(3, 2))), IG_ALL_AXES)) \
    F(ig_sum(ig_tanh(ig_outer(X, X)), IG_ALL_AXES))                                               \
    F(ig_sum(ig_pow(ig_abs(X), 2.5), 0))                                                          \
    F(ig_sum(ig_atan2(X, ig_flip(X, 0)), 0))                                                      \
    F(ig_sum(ig_gelu(X), 0))                                                                      \
    F(ig_sum(ig_softplus(X), 0))                                                                  \
    F(ig_sum(ig_sigmoid(ig_mul(X, 3)), 0))                                                        \
    F(ig_var(X, 0))                                                                               \
    F(ig_sqrt(ig_sum(ig_mul(X, X), 0)))                                                           \
    F(ig_sum(ig_where(ig_gt(X, 0), ig_mul(X, ig_mul(X, X)), ig_sin(X)), 0))                       \
    F(ig_sum(ig_mul(ig_concat(IG_LIST(X, ig_exp(X)), 0), ig_pad(X, IG_DIMS(2), IG_DIMS(4), 1.5)), \
             0))                                                                                  \
    F(ig_div(ig_sum(ig_log1p(ig_mul(X, X)), 0), ig_add(ig_sum(ig_cos(X), 0), 10)))

#define ONE(text) (text),
static void function(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_tensor *all[] = {FUNCTIONS(ONE)};
    out[0] = all[*(int *)user];
}
#define COUNT_ONE(text) +1
enum { ALL = 0 FUNCTIONS(COUNT_ONE), LANES = 3, WIDE = 6 };

/* Apply R (vjp), F (jvp), V (vmap) and C (compile) in an order to function k and run it: on the
 * last result, the Hessian times a vector lane by lane. */
static ig_tensor *in_order(int k, const char *order, ig_tensor *x, ig_tensor *v) {
    ig_tensor *in[4] = {ig_slice(x, IG_AT(0))};
    ig_module *m;
    int n = 1;
    OK(ig_trace(function, &k, 1, in, 1, NULL, &m));
    in[0] = x;
    ig_tensor *one = ig_ones(IG_f64, IG_DIMS(LANES)), *none = ig_zeros(IG_f64, IG_DIMS(LANES));
    for (const char *s = order; *s; s++) {
        if (*s == 'C') OK(ig_module_compile(m, NULL));
        if (*s == 'V') m = take_vmap(m, "3", NULL, NULL);
        if (*s == 'F') in[n++] = v, m = take(ig_jvp, m, "0");
        if (*s == 'R' && n > 1) in[n++] = none; /* of the value; then of the tangent */
        if (*s == 'R') in[n++] = one, m = take(ig_vjp, m, "0");
    }
    int nout = ig_module_get_info(m).nout;
    ig_tensor *y = result(m, n, in, nout - 1);
    ig_module_free(m);
    return y;
}

static double distance(ig_tensor *x, ig_tensor *y) {
    const double *a = ig_data(x), *b = ig_data(y);
    double worst = 0, scale = 1;
    for (int i = 0; i < LANES * WIDE; i++) scale = fmax(scale, fabs(a[i]));
    for (int i = 0; i < LANES * WIDE; i++) worst = fmax(worst, fabs(a[i] - b[i]) / scale);
    return worst;
}

START_TEST(every_order) {
    static const char *const orders[] = {"RFV", "RVF", "VRF", "FRV", "FVR", "VFR"};
    double data[LANES * WIDE], dir[LANES * WIDE];
    for (int i = 0; i < LANES * WIDE; i++) {
        data[i] = 0.3 + 0.23 * ((i * 7) % 18) * (i % 5 == 3 ? -1 : 1);
        dir[i] = ((i * 5) % 11 - 5) * 0.2;
    }
    ig_tensor *x = ig_tensor_from(IG_f64, IG_DIMS(LANES, WIDE), data);
    ig_tensor *v = ig_tensor_from(IG_f64, IG_DIMS(LANES, WIDE), dir), *first = NULL;
    for (int k = 0; k < 6; k++) {
        ig_tensor *y = in_order(_i, orders[k], x, v);
        if (!first) first = y;
        /* 1e-12: grad and vmap in another order add in another order */
        ck_assert_msg(distance(first, y) <= 1e-12, "function %d: %s and %s differ by %g", _i,
                      orders[0], orders[k], distance(first, y));
        for (int at = 0; at < 4 && (!is_quick() || (_i + k) % 6 == 0); at++) {
            char order[5];
            snprintf(order, sizeof order, "%.*sC%s", at, orders[k], orders[k] + at);
            ck_assert_msg(ig_equal(y, in_order(_i, order, x, v)), "function %d: %s is not %s", _i,
                          order, orders[k]);
        }
    }
    eager_end();
}
END_TEST

/* --- Memory --------------------------------------------------------------------------------- */

START_TEST(every_allocation_fails_once) {
    for (long fail = 0;; fail++) {
        eager_oom o = {.fail = -1};
        ig_allocator a = {eager_oom_resize, &o};
        ig_session *s;
        OK(ig_session_new(&(ig_session_options){.alloc = &a}, &s));
        ig_session_use(s);
        ig_tensor *x = VECTOR(IG_f64, 3, 2);
        ig_module *m = traced(two, 1, &x, 1, NULL), *n = NULL;
        o.at = 0;
        o.fail = fail;
        ig_status e = ig_hessian(m, NULL, &n);
        bool reached = o.at > fail;
        o.fail = -1;
        ck_assert((!e || reached) && !e == (n != NULL)); /* a location is not worth an error */
        if (e) ck_assert_msg(ig_status_code(e) == IG_MEMORY, "%ld: %s", fail, ig_status_text(e));
        ig_status_free(e);
        ig_module_free(n);
        ig_module_free(m);
        ck_assert_uint_eq(ig_session_free(s), 0);
        ck_assert_uint_eq(o.live, 0);
        if (!reached) break;
        if (is_quick()) fail += 12;
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("transform");
    TCase *t = tcase_create("transform");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, derivatives_of_two_variables);
    tcase_add_test(t, jacobians_by_columns_and_by_rows);
    tcase_add_test(t, ties_and_edges);
    tcase_add_test(t, stopped_gradients_and_conversions);
    tcase_add_test(t, gradients_of_weights_from_a_file);
    tcase_add_test(t, per_example_gradients);
    tcase_add_test(t, dynamic_dims);
    tcase_add_test(t, state_goes_along);
    tcase_add_test(t, what_cannot_be_differentiated);
    tcase_add_loop_test(t, every_order, 0, ALL);
    tcase_add_test(t, every_allocation_fails_once);
    suite_add_tcase(s, t);
    return eager_main(s);
}
