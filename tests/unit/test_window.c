/* test_window.c - convolutions and pooling against torch 2.15 (float64, channels first, operands
 * permuted).  Elements are small integers, so that every sum is exact in any order and the results
 * are the same numbers: a row holds the shape of y and sum(y[i] * (i mod 101 + 1)) of y and of the
 * gradients of sum(y * c) by x and by the filters.  Means are compared times the size of the
 * window. */
#include "eager.h"

enum { CONV, CONV_T, MAX, MEAN };
typedef struct window_row {
    int kind, axes;
    int64_t batch, dim[3], taps[3], in, out;
    int groups, stride[3], dilation[3], pad[3];
    int64_t shape[5], y, dx, df;
} window_row;

static const window_row rows[] = {
    {CONV, 1, 2, {9}, {3}, 3, 4, 1, {1}, {1}, {0}, {2, 7, 4}, -7833, -25925, -8235},
    {CONV, 1, 2, {12}, {4}, 2, 5, 1, {3}, {2}, {2}, {2, 4, 5}, -23142, -4540, -2360},
    {CONV,
     2,
     2,
     {7, 8},
     {3, 3},
     3,
     16,
     1,
     {1, 1},
     {1, 1},
     {1, 1},
     {2, 7, 8, 16},
     -271812,
     274507,
     510997},
    {CONV,
     2,
     2,
     {9, 7},
     {3, 2},
     4,
     17,
     1,
     {2, 1},
     {1, 2},
     {1, 0},
     {2, 5, 5, 17},
     396263,
     908099,
     192516},
    {CONV,
     2,
     2,
     {8, 8},
     {1, 1},
     5,
     6,
     1,
     {2, 2},
     {1, 1},
     {0, 0},
     {2, 4, 4, 6},
     32278,
     -11114,
     -8671},
    {CONV,
     2,
     2,
     {8, 6},
     {3, 3},
     6,
     6,
     6,
     {1, 1},
     {1, 1},
     {1, 1},
     {2, 8, 6, 6},
     -23748,
     -219289,
     -186856},
    {CONV,
     2,
     2,
     {8, 6},
     {3, 3},
     6,
     9,
     3,
     {2, 2},
     {1, 1},
     {1, 1},
     {2, 4, 3, 9},
     25973,
     -14389,
     -23028},
    {CONV,
     2,
     2,
     {5, 5},
     {5, 5},
     2,
     3,
     1,
     {1, 1},
     {1, 1},
     {2, 2},
     {2, 5, 5, 3},
     -27482,
     -160507,
     -205926},
    {CONV,
     2,
     1,
     {6, 6},
     {3, 3},
     70,
     33,
     1,
     {2, 2},
     {1, 1},
     {1, 1},
     {1, 3, 3, 33},
     92409,
     -1600634,
     1048621},
    {CONV,
     3,
     2,
     {4, 5, 3},
     {2, 3, 2},
     2,
     3,
     1,
     {1, 2, 1},
     {1, 1, 1},
     {1, 0, 1},
     {2, 5, 2, 4, 3},
     93148,
     -199561,
     -71335},
    {CONV_T, 1, 2, {5}, {3}, 3, 4, 1, {2}, {1}, {1}, {2, 9, 4}, 3121, 3707, -5209},
    {CONV_T,
     2,
     2,
     {4, 5},
     {3, 3},
     3,
     16,
     1,
     {2, 2},
     {1, 1},
     {1, 1},
     {2, 7, 9, 16},
     225527,
     363880,
     10811},
    {CONV_T,
     2,
     2,
     {4, 3},
     {2, 4},
     4,
     6,
     2,
     {3, 2},
     {2, 1},
     {0, 1},
     {2, 12, 6, 6},
     66270,
     1814,
     -40884},
    {CONV_T,
     2,
     2,
     {3, 3},
     {3, 3},
     5,
     5,
     5,
     {2, 2},
     {1, 1},
     {0, 0},
     {2, 7, 7, 5},
     -140329,
     87724,
     -10488},
    {MAX, 1, 2, {9}, {3}, 4, 4, 1, {2}, {1}, {0}, {2, 4, 4}, 1283643, 2428, 0},
    {MAX,
     2,
     2,
     {8, 7},
     {3, 2},
     17,
     17,
     1,
     {2, 1},
     {1, 1},
     {1, 1},
     {2, 4, 8, 17},
     196574427,
     8497,
     0},
    {MAX, 2, 2, {8, 8}, {2, 2}, 3, 3, 1, {2, 2}, {1, 1}, {0, 0}, {2, 4, 4, 3}, 11609963, 2398, 0},
    {MAX,
     3,
     2,
     {4, 5, 6},
     {2, 3, 2},
     2,
     2,
     1,
     {2, 2, 2},
     {1, 1, 1},
     {0, 1, 1},
     {2, 2, 3, 4, 2},
     14506494,
     2273,
     0},
    {MEAN, 1, 2, {9}, {4}, 4, 4, 1, {2}, {1}, {2}, {2, 5, 4}, -2214, 421, 0},
    {MEAN, 2, 2, {8, 7}, {2, 2}, 17, 17, 1, {2, 1}, {1, 1}, {1, 0}, {2, 5, 6, 17}, -391, -5286, 0},
    {MEAN, 2, 2, {5, 5}, {4, 4}, 3, 3, 1, {1, 1}, {1, 1}, {2, 2}, {2, 6, 6, 3}, 18778, -50224, 0},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* Numbers between -11 and 11; for the largest of a window all different. */
static ig_tensor *fill(const window_row *r, ig_dtype d, ig_dims dims, int64_t seed) {
    int64_t n = 1;
    static double x[32768];
    for (int i = 0; i < dims.n; i++) n *= dims.d[i];
    ck_assert(n <= 32768);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (double)((i * 37 + seed * 11) * (i % 13 + 1) % 23 - 11);
        if (r->kind == MAX && seed == 1) x[i] = (double)(i * 7919 % 10007 - 5000);
    }
    return ig_cast(ig_tensor_from(IG_f64, dims, x), d);
}

static int64_t check(ig_tensor *t) {
    double sum = 0;
    ig_tensor *x = ig_flatten(ig_cast(t, IG_f64));
    const double *v = ig_data(x);
    for (int64_t i = 0; i < ig_numel(x); i++) sum += v[i] * (double)(i % 101 + 1);
    return (int64_t)sum;
}

static ig_tensor *run(const window_row *r, ig_tensor *x, ig_tensor *f) {
    ig_window w = {.groups = r->groups};
    ig_dims size = {.n = r->axes};
    double taps = 1;
    for (int i = 0; i < r->axes; i++) {
        w.stride[i] = r->stride[i], w.dilation[i] = r->dilation[i];
        w.before[i] = w.after[i] = r->pad[i];
        size.d[i] = r->taps[i], taps *= (double)r->taps[i];
    }
    switch (r->kind) {
    case CONV: return ig_conv(x, f, NULL, w);
    case CONV_T: return ig_conv_transposed(x, f, NULL, w);
    case MAX: return ig_max_pool(x, size, w);
    default: return ig_mul(ig_mean_pool(x, size, w), taps);
    }
}

static void traced(void *user, ig_tensor *const *in, ig_tensor **out) {
    out[0] = ig_sum(ig_mul(run(user, in[0], in[2]), in[1]), IG_ALL_AXES);
}

/* The compiled gradient is that of the eager tape, byte for byte. */
static void compiled_is_eager(const window_row *r, ig_tensor *const *in, ig_tensor *const *want) {
    bool filters = r->kind <= CONV_T;
    ig_tensor *got[2];
    ig_module *m, *g;
    OK(ig_trace(traced, (void *)r, 2 + filters, in, 1, &(ig_trace_options){.name = "loss"}, &m));
    OK(ig_grad(m, filters ? "0,2" : "0", &g));
    OK(ig_module_compile(g, NULL));
    OK(ig_module_run(g, 2 + filters, in, 1 + filters, got));
    for (int k = 0; k <= filters; k++) ck_assert_msg(ig_equal(got[k], want[k]), "gradient %d", k);
    ig_module_free(g);
    ig_module_free(m);
}

START_TEST(values_and_gradients) {
    const window_row *r = &rows[_i];
    for (int k = 0; k < 2; k++) {
        ig_dtype d = k ? IG_f32 : IG_f64;
        ig_dims xd = {.n = r->axes + 2, .d = {r->batch}}, fd = {.n = r->axes + 2}, yd = {0};
        for (int i = 0; i < r->axes; i++) xd.d[i + 1] = r->dim[i], fd.d[i] = r->taps[i];
        xd.d[r->axes + 1] = r->in;
        fd.d[r->axes] = r->in / r->groups, fd.d[r->axes + 1] = r->out;
        yd.n = r->axes + 2;
        for (int i = 0; i < yd.n; i++) yd.d[i] = r->shape[i];
        bool filters = r->kind <= CONV_T;
        ig_tensor *in[3] = {fill(r, d, xd, 1), fill(r, d, yd, 3)}, *y = NULL;
        if (filters) in[2] = fill(r, d, fd, 2);
        IG_GRAD_SCOPE {
            ig_watch(in[0]);
            if (filters) ig_watch(in[2]);
            y = run(r, in[0], in[2]);
            ig_backward(ig_sum(ig_mul(y, in[1]), IG_ALL_AXES));
        }
        ck_assert_msg(!ig_is_poison(y) && !ig_error(), "%s", ig_error_text());
        for (int i = 0; i < yd.n; i++) ck_assert_int_eq(ig_dim(y, i), r->shape[i]);
        ck_assert_int_eq(check(y), r->y);
        ig_tensor *grad[2] = {ig_grad_of(in[0]), filters ? ig_grad_of(in[2]) : NULL};
        ck_assert_int_eq(check(grad[0]), r->dx);
        if (grad[1]) ck_assert_int_eq(check(grad[1]), r->df);
        compiled_is_eager(r, in, grad);
        eager_end();
    }
}
END_TEST

/* A bias, and a window in a trace whose sizes are symbols. */
static void dynamic(void *user, ig_tensor *const *in, ig_tensor **out) {
    ig_window w = {.stride = {2, 2}, .before = {1, 1}, .after = {1, 1}};
    (void)user;
    out[0] = ig_conv(in[0], in[1], in[2], w);
}

START_TEST(sizes_that_are_symbols) {
    ig_module *m;
    window_row r = {.kind = CONV};
    ig_tensor *in[3] = {fill(&r, IG_f32, IG_DIMS(2, 7, 9, 3), 1),
                        fill(&r, IG_f32, IG_DIMS(3, 3, 3, 5), 2), fill(&r, IG_f32, IG_DIMS(5), 3)};
    OK(ig_trace(dynamic, NULL, 3, in, 1,
                &(ig_trace_options){.name = "conv", .dims = "[B,H,W,3], [3,3,3,5], [5]"}, &m));
    OK(ig_module_compile(m, NULL));
    for (int64_t b = 1; b < 4; b++)
        for (int64_t h = 1; h < 20; h += 3) {
            ig_tensor *got;
            ig_window w = {.stride = {2, 2}, .before = {1, 1}, .after = {1, 1}};
            in[0] = fill(&r, IG_f32, IG_DIMS(b, h, 20 - h, 3), 1);
            OK(ig_module_run(m, 3, in, 1, &got));
            ck_assert(ig_equal(got, ig_add(ig_conv(in[0], in[1], NULL, w), in[2])));
        }
    ig_module_free(m);
    eager_end();
}
END_TEST

/* Relations that come again are compiled; the bits are those of the reference. */
START_TEST(eager_relations_are_compiled) {
    window_row r = {.kind = CONV};
    const ig_window w = {.stride = {1, 2}, .before = {1, 1}, .after = {1, 1}};
    ig_tensor *x = ig_normal(ig_rng(1), IG_f32, IG_DIMS(1, 9, 11, 20), 0, 1), *y[4];
    ig_tensor *f = ig_normal(ig_rng(2), IG_f32, IG_DIMS(3, 3, 20, 33), 0, 1);
    ig_tensor *table = fill(&r, IG_f32, IG_DIMS(40, 50), 1);
    ig_tensor *at = ig_randint(ig_rng(3), IG_i32, IG_DIMS(900), 0, 44);
    for (int k = 0; k < 4; k++) {
        ig_eager_count before = ig_eager_counts(NULL);
        y[k] = ig_conv(x, f, NULL, w);
        ck_assert(ig_equal(y[k], y[0]));
        ck_assert_int_eq((int)(ig_eager_counts(NULL).reference - before.reference), k == 0);
        ck_assert(ig_equal(ig_ein("E[n,d] = T[I[n],d]", table, at), ig_embedding(table, at)));
    }
    eager_end();
}
END_TEST

/* The text of a call: names of extents, and what is said when they do not fit. */
START_TEST(relations_in_calls) {
    window_row r = {.kind = CONV};
    ig_tensor *x = fill(&r, IG_f32, IG_DIMS(2, 3, 8, 6), 1),
              *w = fill(&r, IG_f32, IG_DIMS(4, 3, 3, 3), 2);
    ig_tensor *y = ig_ein("Y[n,o,y,x] += X[n,c,y*2+r-1:H,x*2+q-1:W] * W[o,c,r,q] over (r,q,c) "
                          "where y in 0..H/2, x in 0..W/2",
                          x, w);
    ig_tensor *last = ig_conv(ig_transpose(x, IG_AXES(0, 2, 3, 1)),
                              ig_transpose(w, IG_AXES(2, 3, 1, 0)), NULL,
                              (ig_window){.stride = {2, 2}, .before = {1, 1}});
    ck_assert(ig_equal(y, ig_transpose(last, IG_AXES(0, 3, 1, 2))));
    WANT(ig_ein("S[v] += X[n] where v in 0..3, v = I[n]", VECTOR(IG_f32, 1, 2, 4, 8, 16),
                VECTOR(IG_u8, 2, 0, 2, 9, 0)),
         IG_f32, IG_DIMS(3), 18, 0, 5);
    WANT(ig_ein("L[i] += X[j] where j <= i, i in 0..4", VECTOR(IG_i32, 1, 2, 4, 8)), IG_i32,
         IG_DIMS(4), 1, 3, 7, 15);
    ig_ein("Y[n] += X[n,c,y,x] * W[n,c,r,q]", x, w);
    WANT_ERROR(IG_FORMAT, "ein",
               "4 elements along axis 0 of W (operand 1), but 2 along axis 0 of X",
               "\n    Y[n] += ", "^");
    ig_ein("Y[n,o,y,x] += X[n,c,y+r-1,x+q] * W[o,c,r,q]", x, w);
    WANT_ERROR(IG_FORMAT, "y = 0 would read outside", "where y in 0..N");
    ig_ein("E[n,d] = T[I[n],d]", x, w);
    WANT_ERROR(IG_FORMAT, "operand 0 has 4 axes");
    ig_ein("E[n] = T[I[n]]", VECTOR(IG_f32, 1, 2), VECTOR(IG_f32, 1, 2));
    WANT_ERROR(IG_DTYPE, "must have integers");
    eager_end();
}
END_TEST

START_TEST(mistakes) {
    ig_tensor *x = ig_zeros(IG_f32, IG_DIMS(1, 4, 4, 6)),
              *f = ig_zeros(IG_f32, IG_DIMS(3, 3, 6, 4));
    ig_conv(x, f, NULL, (ig_window){.stride = {-1}});
    WANT_ERROR(IG_RANGE, "conv", "stride -1");
    ig_conv(x, f, NULL, (ig_window){.before = {0, -1}});
    WANT_ERROR(IG_RANGE, "padding -1");
    ig_conv(x, f, NULL, (ig_window){.groups = 2});
    WANT_ERROR(IG_SHAPE, "f32[1,4,4,6]", "f32[3,3,6,4]", "2 groups");
    ig_conv(x, f, NULL, (ig_window){.dilation = {2, 1}});
    WANT_ERROR(IG_SHAPE, "3 taps", "axis 1");
    ig_conv(x, ig_zeros(IG_f32, IG_DIMS(3, 6, 4)), NULL, (ig_window){0});
    WANT_ERROR(IG_SHAPE, "f32[3,6,4]");
    ig_conv(ig_zeros(IG_f32, IG_DIMS(4, 4)), f, NULL, (ig_window){0});
    WANT_ERROR(IG_SHAPE, "f32[4,4]", "a batch");
    ig_max_pool(x, IG_DIMS(2), (ig_window){0});
    WANT_ERROR(IG_INVALID, "max_pool", "2 extents");
    ig_mean_pool(x, IG_DIMS(2, 0), (ig_window){0});
    WANT_ERROR(IG_RANGE, "mean_pool", "taps");
    eager_end();
}
END_TEST

int main(void) {
    Suite *s = suite_create("window");
    TCase *t = tcase_create("window");
    tcase_add_loop_test(t, values_and_gradients, 0, ROWS);
    tcase_add_test(t, sizes_that_are_symbols);
    tcase_add_test(t, eager_relations_are_compiled);
    tcase_add_test(t, relations_in_calls);
    tcase_add_test(t, mistakes);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return suite_run(s);
}
